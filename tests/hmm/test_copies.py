"""Stage 3 with sped-up copies: aligned with the models of the originals, never trained on."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from lhotse import AudioSource, CutSet, MonoCut, Recording, SupervisionSegment
from toy import LEXICON, PHONES, mono_tree, random_gmm

from asr_kd.features.store import FrameStore, write_store
from asr_kd.files import read_json
from asr_kd.hmm import steps
from asr_kd.hmm.aligner import Alignment, align_speech
from asr_kd.hmm.speech import Speech
from asr_kd.lang.lexicon import Lexicon
from asr_kd.pipeline import Job
from asr_kd.recipe import Features, Recipe
from asr_kd.stages import align
from asr_kd.workspace import SPLITS, Workspace

DIM = 4
FRAMES = {"a-1": 40, "a-2": 2, "b-1": 60}  # a-2 is too short for its transcript
Align = Callable[[Path, tuple[float, ...] | None], Workspace]


def cut(utterance: str) -> MonoCut:
    recording = Recording(utterance, [AudioSource("file", [0], "none.wav")], 16000, 16000, 1.0)
    speech = SupervisionSegment(utterance, utterance, 0.0, 1.0, text="bat tab", speaker=utterance[0])
    return MonoCut(utterance, 0.0, 1.0, 0, supervisions=[speech], recording=recording)


def toy_split(work: Workspace, split: str, draws: np.random.Generator) -> None:
    """Cuts, random features, and for every cut the features of a copy at speed 0.5: each frame twice."""
    names = {f"{split}-{name}": count for name, count in FRAMES.items()}
    CutSet.from_cuts(map(cut, names)).to_file(work.manifest(split))
    rows = {name: draws.normal(size=(count, DIM)) for name, count in names.items()}
    copies = {f"{name}_sp0.5": array.repeat(2, axis=0) for name, array in rows.items()}
    write_store(work.features("mfcc", split), rows | copies, {})


@pytest.fixture
def trained_on() -> list[Speech]:
    return []


@pytest.fixture
def run_stage(monkeypatch: pytest.MonkeyPatch, trained_on: list[Speech]) -> Align:
    """Stage 3 on a toy corpus, with a random model in place of the trained one."""
    gmm = random_gmm(mono_tree(), DIM, 1, 0)

    def train(job: Job, speech: Speech, *_: object) -> steps.Step:
        trained_on.append(speech)
        return steps.Step(gmm, [])

    def align_adapted(sat: steps.Step, speech: Speech, *_: object) -> tuple[Alignment, Speech]:
        return align_speech(sat.gmm, speech), speech

    monkeypatch.setattr(align, "train", train)
    monkeypatch.setattr(steps, "align_adapted", align_adapted)

    def run(root: Path, speed: tuple[float, ...] | None) -> Workspace:
        work, draws = Workspace(root), np.random.default_rng(0)
        work.manifest("train").parent.mkdir(parents=True)
        PHONES.write(work.lang / "phones.txt")
        entries = [(word, variant) for word, variants in LEXICON.items() for variant in variants]
        Lexicon.of(entries).write(work.lang / "lexicon.txt")
        for split in SPLITS:
            toy_split(work, split, draws)
        align.run(Job(Recipe(features=Features(speed=speed)), work))
        return work

    return run


def test_models_are_trained_on_the_originals(run_stage: Align, trained_on: list[Speech], tmp_path: Path) -> None:
    run_stage(tmp_path, (0.5,))
    assert trained_on[0].utterances == [f"train-{name}" for name in FRAMES]
    assert trained_on[0].speakers == ["t"]


def test_training_copies_are_aligned_behind_the_originals(run_stage: Align, tmp_path: Path) -> None:
    plain, sped = run_stage(tmp_path / "plain", None), run_stage(tmp_path / "sped", (0.5,))
    for split in SPLITS:
        originals, store = FrameStore(plain.alignment(split)), FrameStore(sped.alignment(split))
        copies = [f"{name}_sp0.5" for name in originals] if split == "train" else []
        assert list(originals) == [f"{split}-a-1", f"{split}-b-1"]
        assert sorted(store) == sorted([*originals, *copies])
        assert all(np.array_equal(store[name], originals[name]) for name in originals)
        for copy in copies:
            spoken = {tuple(row) for row in store[copy].tolist()}
            assert len(store[copy]) == 2 * originals.frames(copy.removesuffix("_sp0.5"))
            assert {word for *_, word in spoken} - {-1} == {0, 1}
    assert read_json(plain.hmm / "failed-train.json") == ["train-a-2"]
    assert set(read_json(sped.hmm / "failed-train.json")) <= {"train-a-2", "train-a-2_sp0.5"}


def test_a_split_that_is_aligned_is_not_aligned_again(
    run_stage: Align, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    work, aligned, align_adapted = run_stage(tmp_path, None), list[str](), steps.align_adapted

    def counted(sat: steps.Step, speech: Speech, *others: Any) -> tuple[Alignment, Speech]:
        aligned.append(speech.utterances[0].partition("-")[0])
        return align_adapted(sat, speech, *others)

    monkeypatch.setattr(steps, "align_adapted", counted)
    again = Job(Recipe(), work)
    align.run(again)
    assert aligned == []
    work.failed_alignments("dev").unlink()
    align.run(again)
    assert aligned == ["dev"] and read_json(work.failed_alignments("dev")) == ["dev-a-2"]
