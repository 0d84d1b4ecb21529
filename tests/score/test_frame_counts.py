"""Intervals and p of correct frames, against a bootstrap that picks the utterances one by one."""

from pathlib import Path

import numpy as np
import pytest

from asr_kd.files import write_json
from asr_kd.score.frames import FrameCounts, interval, p_more_correct, read_counts, resample, sampled_accuracy


def draw(shares: tuple[float, ...], utterances: int = 150) -> FrameCounts:
    """Systems 0, 1, … that have such shares of the frames correct, of utterances of unequal length."""
    rng = np.random.default_rng(3)
    frames = rng.integers(20, 400, utterances)
    correct = {str(n): rng.binomial(frames, share).tolist() for n, share in enumerate(shares)}
    return FrameCounts([f"u{n}" for n in range(utterances)], frames.tolist(), correct)


@pytest.fixture(scope="module")
def counts() -> FrameCounts:
    return draw((0.40, 0.405))


@pytest.fixture(scope="module")
def picked(counts: FrameCounts) -> np.ndarray:
    """(2, 4000) accuracies of both systems on 4000 samples."""
    picks = np.random.default_rng(0).integers(len(counts.frames), size=(4000, len(counts.frames)))
    frames = np.array(counts.frames)[picks].sum(1)
    return np.stack([np.array(correct)[picks].sum(1) / frames for correct in counts.correct.values()])


def test_samples_have_as_many_utterances_as_there_are() -> None:
    sums = resample(np.stack([np.ones(7), np.arange(7)]), samples=100, seed=0)
    assert sums.shape == (2, 100) and (sums[0] == 7).all()
    assert len(set(sums[1])) > 10, "samples differ, also beyond the first chunk"
    assert not np.array_equal(sums[1, :36], sums[1, 64:])


def test_intervals_agree_with_picking_utterances(counts: FrameCounts, picked: np.ndarray) -> None:
    found = sampled_accuracy(counts, samples=4000, seed=1)
    for number, system in enumerate(("0", "1")):
        assert found[system].shape == (4000,)
        assert interval(found[system]) == pytest.approx(np.quantile(picked[number], [0.025, 0.975]), abs=8e-4)
        assert np.mean(found[system]) == pytest.approx(sum(counts.correct[system]) / sum(counts.frames), abs=2e-4)


def test_p_agrees_with_picking_utterances(counts: FrameCounts, picked: np.ndarray) -> None:
    worse, better = counts.correct.values()
    p = p_more_correct(better, worse, samples=4000, seed=1)
    assert p == pytest.approx((picked[1] > picked[0]).mean(), abs=0.03)
    assert p_more_correct(worse, better, samples=4000, seed=1) == pytest.approx(1 - p, abs=0.02)
    assert p_more_correct(better, better, samples=100, seed=1) == 0, "a tie is no gain"


def test_the_same_seed_draws_the_same_utterances_for_any_counts(counts: FrameCounts) -> None:
    """A system that has one frame more of each utterance is better by utterances / frames on every sample."""
    more = FrameCounts(counts.utterances, counts.frames, {"more": [hit + 1 for hit in counts.correct["0"]]})
    found, other = (sampled_accuracy(each, samples=200, seed=5) for each in (counts, more))
    frames = resample(np.array([counts.frames]), samples=200, seed=5)[0]
    assert np.allclose(other["more"] - found["0"], len(counts.frames) / frames)
    assert p_more_correct(more.correct["more"], counts.correct["0"], samples=200, seed=5) == 1
    assert not np.array_equal(sampled_accuracy(counts, samples=200, seed=6)["0"], found["0"])


def test_counts_are_read_by_split(tmp_path: Path) -> None:
    split = {"utterances": ["a", "b"], "frames": [9, 4], "correct": {"student": [5, 0]}}
    write_json(tmp_path / "correct.json", {"dev": split})
    found = read_counts(tmp_path / "correct.json")
    assert found == {"dev": FrameCounts(["a", "b"], [9, 4], {"student": [5, 0]})}
    assert found["dev"].same_utterances(FrameCounts(["a", "b"], [9, 4], {}))
    assert not found["dev"].same_utterances(FrameCounts(["a", "c"], [9, 4], {}))
    assert not found["dev"].same_utterances(FrameCounts(["a", "b"], [9, 5], {}))
    assert read_counts(tmp_path / "of_an_earlier_release.json") == {}
