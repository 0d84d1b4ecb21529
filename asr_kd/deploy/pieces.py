"""Where a long recording is cut: at its quietest moments."""

from itertools import pairwise

import numpy as np

HOP = 0.01  # seconds of one value of loudness
LONGEST, SHORTEST, QUIET = 20.0, 5.0, 0.3


def cut(samples: np.ndarray, rate: int) -> list[tuple[int, int]]:
    """(start, end) sample numbers of consecutive pieces of at most 20 s that make up the whole recording.

    While more than 20 s are left, the next cut is in the middle of the quietest 0.3 s that lie between 5 s and 20 s
    after the last cut (the last of equals), and at least 5 s before the end. Loudness is compared, never judged, so
    noise needs no threshold. samples: (n,) at `rate` Hz.
    """
    hop = round(rate * HOP)
    blocks = samples[: len(samples) // hop * hop].reshape(-1, hop)
    longest, shortest, quiet = (round(seconds / HOP) for seconds in (LONGEST, SHORTEST, QUIET))
    cuts = [0]
    if len(blocks) > longest:
        loudness = np.convolve(blocks.var(axis=1), np.ones(quiet), "valid")  # of `quiet` hops from here on
        while (left := len(blocks) - cuts[-1]) > longest:
            first, last = cuts[-1] + shortest, cuts[-1] + min(longest, left - shortest) - quiet
            quietest = last - int(loudness[first : last + 1][::-1].argmin())
            cuts.append(quietest + quiet // 2)
    return list(pairwise([*(start * hop for start in cuts), len(samples)]))
