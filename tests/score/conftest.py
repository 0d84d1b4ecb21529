"""A finished experiment in miniature: all files that the score stage reads, with figures to check by hand."""

from pathlib import Path

import numpy as np
import pytest
from lhotse import CutSet, MonoCut, SupervisionSegment

from asr_kd.features.store import write_store
from asr_kd.files import write_json, write_text
from asr_kd.lang.vocabulary import write_words
from asr_kd.pipeline import Job
from asr_kd.recipe import Recipe
from asr_kd.workspace import SPLITS, Workspace

REFERENCES = {
    "spk_a-1": "call anna at nine",
    "spk_a-2": "play some music",
    "spk_b-1": "what is the time",
    "spk_b-2": "turn it off",
}
# Errors in 14 words: gmm-sat 6; baseline 4 (1 insertion, 1 deletion, 2 substitutions); ensemble 2; student 3.
HYPOTHESES = {
    "gmm-sat": ["call anna", "play sum music", "what is a dime", "turn off"],
    "baseline": ["call a hannah at nine", "play some music", "what is the dime", "turn off"],
    "ensemble": ["call anna at nine", "play some music", "what is the dime", "turn off"],
    "student": ["call hannah at nine", "play some music", "what is the dime", "turn off"],
}
FRAME_ACCURACY = {
    "gmm-sat": None,
    "baseline": {"dev": 0.50, "test": 0.52},
    "ensemble": {"dev": 0.54, "test": 0.56},
    "student": {"dev": 0.53, "test": 0.55},
}


def _cuts(split: str) -> CutSet:
    cuts = []
    for key, text in REFERENCES.items():
        name = f"{split}-{key}"
        speech = SupervisionSegment(name, name, start=0, duration=9.0, text=text, speaker=f"{split}-{key[:5]}")
        cuts.append(MonoCut(name, start=0, duration=9.0, channel=0, supervisions=[speech]))
    return CutSet.from_cuts(cuts)


@pytest.fixture
def scored_job(tmp_path: Path) -> Job:
    """An experiment with stages 0–7 done; two members; dev and test hold the same sentences."""
    work = Workspace(tmp_path / "exp")
    for split in SPLITS:
        work.manifest(split).parent.mkdir(parents=True, exist_ok=True)
        _cuts(split).to_file(work.manifest(split))
    write_store(work.alignment("train"), {"u": np.zeros((3, 5), dtype=np.int16)}, {"num_pdfs": 40})
    for system, sentences in HYPOTHESES.items():
        summary = {
            "parameters": 1_500_000,
            "frame_accuracy": FRAME_ACCURACY[system],
            "scales": {"lm_scale": 12, "word_penalty": 0.5},
            "rtf": 0.25,
        }
        write_json(work.decode(system) / "summary.json", summary)
        for split in ("dev", "test"):
            lines = [f"{split}-{key} {words}\n" for key, words in zip(REFERENCES, sentences, strict=True)]
            write_text(work.decode(system) / f"{split}.txt", "".join(lines))
    accuracies = {
        "members_mean": {"dev": 0.51, "test": 0.51},
        "ensemble": FRAME_ACCURACY["ensemble"],
        "members": [],
    }
    write_json(work.root / "models" / "ensemble.json", accuracies)
    epochs = [{"epoch": e, "dev_cross_entropy": 3 - 0.1 * e, "dev_frame_accuracy": 0.4 + 0.01 * e} for e in range(1, 4)]
    for folder in (work.member(0), work.member(1), work.model("student")):
        write_json(folder / "history.json", epochs)
    targets = {"frames": 123456, "top_k": 20, "bytes_per_frame": 88.0, "mean_tail_mass": 0.0123}
    write_json(work.targets / "summary.json", targets)
    language = {split: {"perplexity": 41.5, "oov_rate": 0.034} for split in ("dev", "test")}
    write_json(work.lang / "lang.json", language)
    spoken = {
        word
        for sentences in (REFERENCES.values(), HYPOTHESES["baseline"])
        for text in sentences
        for word in text.split()
    }
    write_words(work.lang / "words.txt", spoken - {"anna", "nine", "music"})
    write_json(work.record("align"), {"seconds": 61.5, "cpu_seconds": 118.0})
    write_json(work.record("score"), {"seconds": 9.0, "cpu_seconds": 9.0})
    return Job(Recipe.model_validate({"name": "mini", "teachers": {"members": 2}}), work)
