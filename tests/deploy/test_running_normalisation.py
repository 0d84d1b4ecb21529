"""Normalisation of recordings against that of the experiment, and of streams against its definition."""

import numpy as np
import pytest

from asr_kd.deploy.normalisation import (
    MEMORY_FRAMES,
    START_FRAMES,
    Normalisation,
    RunningNormalisation,
    Statistics,
)
from asr_kd.features.normalise import Moments
from asr_kd.recipe import Normalisation as Recipe

DIM = 5


def speech_like(frames: int, seed: int) -> np.ndarray:
    draws = np.random.default_rng(seed)
    return (draws.normal(size=(frames, DIM)) * np.arange(DIM) + 12).astype(np.float32)  # the first never varies


def make(mean: bool = True, variance: bool = True, global_mean: float = 10.0, global_std: float = 3.0) -> Normalisation:
    return Normalisation("speaker", mean, variance, np.full(DIM, global_mean), np.full(DIM, global_std))


@pytest.mark.parametrize(("mean", "variance"), [(True, True), (True, False), (False, True), (False, False)])
def test_a_recording_is_normalised_as_a_speaker_of_the_experiment(mean: bool, variance: bool) -> None:
    frames = [speech_like(80, 0), speech_like(50, 1)]
    statistics = Statistics.of(frames[0]) + Statistics.of(frames[1])
    moments = Moments.of(frames)
    for array in frames:
        expected = moments.normalise(array, Recipe(mean=mean, variance=variance)).astype(np.float16)
        np.testing.assert_allclose(make(mean, variance).apply(array, statistics), expected, atol=1e-3, rtol=1e-3)


def test_the_average_speaker_counts_as_so_many_frames() -> None:
    frames = speech_like(300, 0)
    found = make().apply(frames, Statistics.of(frames), global_frames=100)
    mean, variance = 0.75 * frames.mean(0) + 0.25 * 10, 0.75 * frames.var(0) + 0.25 * 9
    np.testing.assert_allclose(found, (frames - mean) / np.sqrt(variance), atol=5e-3)


def test_a_stream_is_normalised_by_what_was_heard_so_far() -> None:
    frames, running = speech_like(400, 0), RunningNormalisation(make())
    for end in (10, 25, 200, 400):
        start = {10: 0, 25: 10, 200: 25, 400: 200}[end]
        own = end / (end + START_FRAMES)
        mean = own * frames[:end].mean(0) + (1 - own) * 10
        variance = own * frames[:end].var(0) + (1 - own) * 9
        expected = (frames[start:end] - mean) / np.sqrt(variance)
        np.testing.assert_allclose(running.apply(frames[start:end]), expected, atol=5e-3)


def test_a_stream_forgets_what_is_long_past() -> None:
    running = RunningNormalisation(make())
    for _ in range(20):
        running.apply(speech_like(1000, 0) + 50)
    assert running.heard.count <= MEMORY_FRAMES + 1000
    for number in range(60):
        last = running.apply(speech_like(1000, number))
    assert np.abs(last.mean(0)).max() < 0.2
