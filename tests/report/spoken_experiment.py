"""A finished experiment in miniature with sound: two words of noise, untrained networks, and markup in its texts."""

from pathlib import Path

import numpy as np
import soundfile
import torch
from lhotse import CutSet, MonoCut, Recording, SupervisionSegment

from asr_kd.features.store import write_store
from asr_kd.files import write_json, write_text
from asr_kd.lang.phones import PhoneSet
from asr_kd.lang.vocabulary import write_words
from asr_kd.nn.model import AcousticModel
from asr_kd.pipeline import Job
from asr_kd.recipe import Network, Recipe
from asr_kd.workspace import SPLITS, Workspace

RATE, BANDS, NUM_PDFS = 8000, 4, 16
NETWORK = {"left": 1, "right": 1, "layers": 1, "width": 8}
EVIL = "<script>alert(1)</script>"
SPEAKERS = {"utt-1": "ann", "utt-2": "ann", "utt-3": f"<b>{EVIL}</b>"}
REFERENCES = {"utt-1": "call anna", "utt-2": f"play {EVIL}", "utt-3": "play music"}
HYPOTHESES = {
    "baseline": {"utt-1": "call hannah now", "utt-2": f"play {EVIL}", "utt-3": "play"},
    "ensemble": {"utt-1": "call anna", "utt-2": f"play {EVIL}", "utt-3": "play"},
    "student": {"utt-1": "call hannah", "utt-2": f"{EVIL} {EVIL}", "utt-3": "play"},
}
ACCURACY = {"baseline": 0.5, "ensemble": 0.56, "student": 0.54}
RECIPE = {
    "name": "spoken",
    "teachers": {"members": 2, "network": NETWORK},
    "decode": {"systems": ["baseline", "ensemble", "student"]},
}


def spoken_experiment(root: Path) -> Job:
    """Stages 0 to 7 done, over 2 × 3 utterances of half a second; what they say is the same in dev and test."""
    work, draws = Workspace(root), np.random.default_rng(0)
    phones = PhoneSet(("AA", "S"))
    phones.write(work.lang / "phones.txt")
    _write_tree(work.gmm("sat") / "tree.json", phones)
    write_words(work.lang / "words.txt", ["call", "hannah", "music", "play"])
    for split in SPLITS:
        lengths = {name: int(draws.integers(30, 50)) for name in REFERENCES}
        _write_cuts(work, split, lengths, draws)
        rows = {name: draws.normal(size=(length, BANDS)).astype(np.float16) for name, length in lengths.items()}
        write_store(work.features("fbank", split), rows, {"kind": "fbank"})
        alignment = {name: _alignment(length, draws) for name, length in lengths.items()}
        write_store(work.alignment(split), alignment, {"num_pdfs": NUM_PDFS, "tree_hash": "spoken"})
    for seed, folder in enumerate((work.member(0), work.member(1), work.model("student"))):
        model = AcousticModel(Network(**NETWORK), BANDS, NUM_PDFS)
        model.initialise(torch.Generator().manual_seed(seed))
        model.save(folder, {})
        rows = [{"epoch": e, "dev_cross_entropy": 3.5 - e, "dev_frame_accuracy": 0.1 * e} for e in (1, 2)]
        write_json(folder / "history.json", rows)
    for system, texts in HYPOTHESES.items():
        shares = dict.fromkeys(("dev", "test"), ACCURACY[system])
        scales = {"lm_scale": 12, "word_penalty": 0.5}
        summary = {"parameters": 1000, "frame_accuracy": shares, "scales": scales, "rtf": 0.25}
        write_json(work.decode(system) / "summary.json", summary)
        for split in shares:
            lines = "".join(f"{name} {text}\n" for name, text in texts.items())
            write_text(work.decode(system) / f"{split}.txt", lines)
    mean, together = (dict.fromkeys(("dev", "test"), share) for share in (0.51, 0.56))
    members = {"members_mean": mean, "ensemble": together, "members": [mean, mean]}
    write_json(work.root / "models" / "ensemble.json", members)
    targets = {"frames": 120, "top_k": None, "bytes_per_frame": 22.0, "mean_tail_mass": 0.0}
    write_json(work.targets / "summary.json", targets)
    write_json(work.lang / "lang.json", {s: {"perplexity": 4.5, "oov_rate": 0.1} for s in ("dev", "test")})
    write_json(work.record("align"), {"seconds": 61.5, "cpu_seconds": 118.0, "peak_bytes": 3 << 30})
    recipe = Recipe.model_validate({**RECIPE, "description": f"a recipe {EVIL}"})
    write_json(work.root / "recipe.yaml", recipe.model_dump(mode="json"))  # JSON is YAML
    return Job(recipe, work)


def _write_cuts(work: Workspace, split: str, lengths: dict[str, int], draws: np.random.Generator) -> None:
    cuts = []
    for name, length in lengths.items():
        path = work.root / "corpus" / f"{split}-{name}.wav"
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, 0.1 * draws.normal(size=length * RATE // 100 + 120), RATE)
        recording = Recording.from_file(path, recording_id=f"{split}-{name}")
        speech = SupervisionSegment(
            name, recording.id, start=0, duration=recording.duration, text=REFERENCES[name], speaker=SPEAKERS[name]
        )
        cuts.append(MonoCut(name, 0, recording.duration, 0, supervisions=[speech], recording=recording))
    work.manifest(split).parent.mkdir(parents=True, exist_ok=True)
    CutSet.from_cuts(cuts).to_file(work.manifest(split))


def _write_tree(path: Path, phones: PhoneSet) -> None:
    """No questions: a leaf for each of silence's five states and each phone's three."""
    first = {1: 0, 2: 5} | {number: 10 + 3 * ((number - 3) // 4) for number in range(3, len(phones))}
    roots = [[-1] * 5] + [
        [first[number] + state if state < (5 if number < 3 else 3) else -1 for state in range(5)]
        for number in range(1, len(phones))
    ]
    nodes = [[-1, 0, 0, 0, pdf] for pdf in range(NUM_PDFS)]
    write_json(path, {"bases": list(phones.bases), "questions": [], "nodes": nodes, "roots": roots})


def _alignment(length: int, draws: np.random.Generator) -> np.ndarray:
    """Silence, the first word AA, the second S, silence, with random states; columns as in docs/formats.md."""
    part = np.arange(length) * 4 // length
    state = draws.integers(0, 3, length)
    phone = np.array([1, 3, 7, 1])[part]
    pdf = state + np.array([0, 10, 13, 0])[part]
    word = np.array([-1, 0, 1, -1])[part]
    nothing = np.zeros(length)
    return np.stack([pdf, nothing, phone, nothing, state, word], 1).astype(np.int16)
