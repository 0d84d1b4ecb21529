"""Frame accuracy over utterances: bootstrap samples, intervals and paired comparisons (Bisani & Ney 2004)."""

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

from asr_kd.files import read_json

CHUNK_SAMPLES = 64  # drawn, and multiplied, at once


@dataclass(frozen=True)
class FrameCounts:
    """A split's utterances in order, the frames of each, and how many of them each system has correct."""

    utterances: list[str]
    frames: list[int]
    correct: dict[str, list[int]]

    def same_utterances(self, other: "FrameCounts") -> bool:
        return (self.utterances, self.frames) == (other.utterances, other.frames)


def read_counts(path: Path) -> dict[str, FrameCounts]:
    """Read a correct.json, by split; nothing where there is none, of networks from before it was written."""
    return {split: FrameCounts(**counts) for split, counts in read_json(path).items()} if path.exists() else {}


def resample(counts: np.ndarray, samples: int, seed: int) -> np.ndarray:
    """Sums over as many utterances as there are, drawn with replacement: (rows, utterances) to (rows, samples) float64.

    The same seed draws the same utterances for other counts of as many utterances, which pairs them.
    """
    drawn = _draws(counts.shape[1], samples, seed)
    chunks = (drawn[first : first + CHUNK_SAMPLES].astype(np.float64) for first in range(0, samples, CHUNK_SAMPLES))
    return np.concatenate([counts.astype(np.float64) @ times.T for times in chunks], axis=1)


@lru_cache(maxsize=2)  # dev and test, of all cells of an experiment
def _draws(utterances: int, samples: int, seed: int) -> np.ndarray:
    """How often each utterance is drawn in each sample, (samples, utterances) int32."""
    rng, shares = np.random.default_rng(seed), np.full(utterances, 1 / utterances)
    sizes = [min(CHUNK_SAMPLES, samples - first) for first in range(0, samples, CHUNK_SAMPLES)]
    return np.concatenate([rng.multinomial(utterances, shares, size).astype(np.int32) for size in sizes])


def sampled_accuracy(counts: FrameCounts, samples: int, seed: int) -> dict[str, np.ndarray]:
    """Each system's frame accuracy on bootstrap samples of the utterances, (samples,) fractions; paired as `resample`
    says.
    """
    frames, *correct = resample(np.array([counts.frames, *counts.correct.values()]), samples, seed)
    return {system: row / frames for system, row in zip(counts.correct, correct, strict=True)}


def interval(values: np.ndarray) -> list[float]:
    """The 95 % interval of a figure by its values on bootstrap samples, (samples,): their percentiles."""
    return [float(end) for end in np.percentile(values, (2.5, 97.5))]


def p_more_correct(ours: list[int], theirs: list[int], samples: int, seed: int) -> float:
    """Share of paired bootstrap samples in which more frames are correct than `theirs`; both by utterance."""
    return float((resample(np.array([ours]) - np.array([theirs]), samples, seed) > 0).mean())


def frame_intervals(
    student: dict[str, FrameCounts], teachers: dict[str, FrameCounts], samples: int, seed: int
) -> dict[str, list[float]]:
    """By figure and split, `frame_accuracy.dev`: of the student's frame accuracy; where `teachers` (the members, and
    `ensemble`) are counted on the same utterances, of theirs and of the gain retained over the average member.
    """
    found: dict[str, list[float]] = {}
    for split, counts in student.items():
        ours = sampled_accuracy(counts, samples, seed)["student"]
        found[f"frame_accuracy.{split}"] = interval(ours)
        if split in teachers and teachers[split].same_utterances(counts):
            found |= _ensemble_intervals(split, ours, sampled_accuracy(teachers[split], samples, seed))
    return found


def _ensemble_intervals(split: str, student: np.ndarray, teachers: dict[str, np.ndarray]) -> dict[str, list[float]]:
    """student, and of each system of `teachers`: accuracy on the same bootstrap samples, (samples,).

    The gain retained has no interval where the ensemble gains nothing on some sample: there the quotient has no bound.
    """
    ensemble = teachers["ensemble"]
    mean = np.mean([accuracy for system, accuracy in teachers.items() if system != "ensemble"], axis=0)
    both = {"frame_accuracy": ensemble, "members_mean": mean}
    found = {f"teachers.{name}.{split}": interval(accuracy) for name, accuracy in both.items()}
    if (ensemble > mean).all():
        found[f"gain_retained.{split}"] = interval((student - mean) / (ensemble - mean))
    return found
