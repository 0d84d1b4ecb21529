"""A GMM training that is interrupted after any iteration goes on to the same bits."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from toy import PHONES, compiler

from asr_kd.hmm import steps
from asr_kd.hmm.checkpoint import STATE, Checkpoint, FinishedSteps
from asr_kd.hmm.speech import Speech
from asr_kd.hmm.training import Trainer
from asr_kd.recipe import GmmStep, Hmm

TRAIN = Callable[[Checkpoint | None], steps.Step]
HMM = Hmm(
    min_occupancy=20,
    mono=GmmStep(iterations=4, realign=(1, 3), gaussians=30),
    tri=GmmStep(iterations=5, realign=(2, 4), leaves=20, gaussians=40),
    lda=GmmStep(iterations=5, realign=(3,), leaves=20, gaussians=40),
    sat=GmmStep(iterations=5, realign=(3,), leaves=20, gaussians=40),
    lda_dim=6,
    lda_context=1,
    mllt_iterations=(2, 3),
    fmllr_iterations=(2, 4),
    fmllr_min_frames=50,
)


@pytest.fixture(scope="module")
def speech() -> Speech:
    """Random walks: what they say does not matter, only that each run says the same."""
    rng = np.random.default_rng(0)
    graphs = [compiler().compile(words) for words in [["bat"], ["a", "tab"], ["bat", "a"], ["tab"]] * 12]
    frames = rng.integers(40, 60, len(graphs))
    features = torch.from_numpy(rng.normal(size=(int(frames.sum()), 5)).cumsum(0) * 0.3).float()
    names = [f"u{number:02d}" for number in range(len(graphs))]
    half = len(graphs) // 2
    starts = np.concatenate([[0], np.cumsum(frames)])
    return Speech(names, ["s0", "s1"], np.repeat([0, 1], half), starts, graphs, features)


@pytest.fixture(scope="module")
def trainings(speech: Speech) -> dict[str, TRAIN]:
    """The four steps, each on the result of the one before."""
    mono = steps.train_mono(speech, compiler(), PHONES, HMM, 0, 1)
    tri = steps.train_tri(speech, mono, PHONES, HMM, 0, 1)
    lda = steps.train_lda(speech, tri, PHONES, HMM, 0, 1)
    return {
        "mono": lambda saved: steps.train_mono(speech, compiler(), PHONES, HMM, 0, 1, saved),
        "tri": lambda saved: steps.train_tri(speech, mono, PHONES, HMM, 0, 1, saved),
        "lda": lambda saved: steps.train_lda(speech, tri, PHONES, HMM, 0, 1, saved),
        "sat": lambda saved: steps.train_sat(speech, lda, PHONES, HMM, 0, 1, saved),
    }


def contents(step: steps.Step, path: Path) -> dict[str, bytes]:
    step.save(path)
    return {str(file.relative_to(path)): file.read_bytes() for file in path.rglob("*") if file.is_file()}


@pytest.mark.parametrize("name", ["mono", "tri", "lda", "sat"])
def test_a_step_goes_on_to_the_same_bits(
    trainings: dict[str, TRAIN], name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    straight = contents(trainings[name](None), tmp_path / "straight")
    monkeypatch.setenv("ASR_KD_CHECKPOINT_SECONDS", "0")
    estimate, done = Trainer.estimate, list[int]()

    def interrupted(trainer: Trainer, gaussians: int) -> None:
        if len(done) % 2:  # every second iteration is begun and not finished
            done.append(0)
            raise KeyboardInterrupt
        estimate(trainer, gaussians)
        done.append(len(trainer.history))

    monkeypatch.setattr(Trainer, "estimate", interrupted)
    for _ in range(20):
        try:
            step = trainings[name](Checkpoint(tmp_path / "checkpoint", "this one"))
            break
        except KeyboardInterrupt:
            continue
    assert [count for count in done if count] == list(range(1, len(step.history) + 1)), "no iteration was made twice"
    assert contents(step, tmp_path / "resumed") == straight


def test_another_steps_state_and_a_damaged_one_are_as_good_as_none(
    trainings: dict[str, TRAIN], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ASR_KD_CHECKPOINT_SECONDS", "0")
    trainings["mono"](Checkpoint(tmp_path, "one"))
    assert Checkpoint(tmp_path, "one").load() is not None
    assert Checkpoint(tmp_path, "other").load() is None
    (tmp_path / STATE).write_bytes((tmp_path / STATE).read_bytes()[:-9])
    assert Checkpoint(tmp_path, "one").load() is None
    Checkpoint(tmp_path, "one").remove()
    assert not tmp_path.exists()


def test_the_state_is_saved_no_oftener_than_asked(trainings: dict[str, TRAIN], tmp_path: Path) -> None:
    trainings["mono"](Checkpoint(tmp_path, "one"))
    assert not (tmp_path / STATE).exists(), "four iterations take no ten minutes"


def test_finished_steps_are_those_whose_files_are_whole(tmp_path: Path) -> None:
    (tmp_path / "mono").mkdir()
    model = tmp_path / "mono" / "model"
    model.write_text("a model")
    FinishedSteps(tmp_path / "steps.json", "one").add("mono", [model])
    assert FinishedSteps(tmp_path / "steps.json", "one").has("mono")
    assert not FinishedSteps(tmp_path / "steps.json", "one").has("tri")
    assert not FinishedSteps(tmp_path / "steps.json", "other").has("mono")
    model.write_text("A model")
    assert not FinishedSteps(tmp_path / "steps.json", "one").has("mono")


def test_states_without_frames_and_floored_variances_are_counted(speech: Speech) -> None:
    constant = Speech(
        speech.utterances, speech.speakers, speech.speaker_of, speech.starts, speech.graphs,
        torch.cat([speech.features, torch.zeros(len(speech.features), 1)], 1),
    )  # fmt: skip
    step = steps.train_mono(constant, compiler(), PHONES, HMM, 0, 1)
    last = step.history[-1]
    used = set(step.gmm.pdf_of.tolist())
    assert used == set(range(step.gmm.num_pdfs)), "a state without frames keeps its Gaussian"
    assert torch.isfinite(step.gmm.variances).all() and torch.isfinite(step.gmm.means).all()
    # The deltas and double deltas of a constant are constant too, in every Gaussian that has frames.
    assert last["floored"] >= 3 * (step.gmm.num_gaussians - last["empty"])
    assert last["empty"] >= 1, "no word of these is <noise>"
