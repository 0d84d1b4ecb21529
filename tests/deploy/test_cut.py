"""Long recordings are cut in their pauses."""

from itertools import pairwise

import numpy as np
import pytest

from asr_kd.deploy.pieces import LONGEST, SHORTEST, cut

RATE = 8000


def speech_with_pauses(speech: list[float], pause: float, level: float) -> tuple[np.ndarray, list[tuple[float, float]]]:
    """Noise for `speech` seconds each with pauses of quieter noise; and when the pauses begin and end."""
    draws, parts, pauses, now = np.random.default_rng(2), list[np.ndarray](), list[tuple[float, float]](), 0.0
    for seconds in speech:
        for length, loudness in ((seconds, 0.3), (pause, level)):
            parts.append(loudness * draws.normal(size=round(length * RATE)))
        now += seconds + pause
        pauses.append((now - pause, now))
    return np.concatenate(parts).astype(np.float32), pauses


@pytest.mark.parametrize("level", [0.0, 1e-4, 0.05])
@pytest.mark.parametrize("offset", [0.0, 0.2])
def test_cuts_lie_in_pauses_however_loud_they_are(level: float, offset: float) -> None:
    samples, pauses = speech_with_pauses([7.3, 6.1, 9.4, 8.2, 3.0, 11.7, 6.6, 9.0], 0.4, level)
    pieces = cut(samples + np.float32(offset), RATE)
    assert pieces[0][0] == 0 and pieces[-1][1] == len(samples)
    assert all(before[1] == after[0] for before, after in pairwise(pieces))
    assert all(SHORTEST <= (end - start) / RATE <= LONGEST for start, end in pieces)
    for _, end in pieces[:-1]:
        assert any(begin <= end / RATE <= over for begin, over in pauses)


@pytest.mark.parametrize("seconds", [0.01, 5.0, 20.0])
def test_what_is_short_stays_whole(seconds: float) -> None:
    samples = np.ones(round(seconds * RATE), np.float32)
    assert cut(samples, RATE) == [(0, len(samples))]


@pytest.mark.parametrize("seconds", [20.1, 25.0, 39.99, 61.2])
def test_sound_without_a_pause_is_cut_all_the_same(seconds: float) -> None:
    samples = np.random.default_rng(0).normal(size=round(seconds * RATE)).astype(np.float32)
    for sound in (samples, np.zeros_like(samples)):
        pieces = cut(sound, RATE)
        assert sum(end - start for start, end in pieces) == len(samples)
        assert all(SHORTEST <= (end - start) / RATE <= LONGEST for start, end in pieces)
