"""The bias that a student lacks for classes it never saw in its transfer set (Hinton et al. 2015, section 3)."""

from collections.abc import Sequence

import numpy as np


def best_offset(scores: np.ndarray, labels: np.ndarray, classes: Sequence[int]) -> tuple[float, int]:
    """What to add to the scores of `classes` so that the fewest arg-maxima differ from the labels, and how many do.

    scores: (N, C) log posteriors or logits; labels: (N,). `classes` is neither empty nor all of them. Exact: the number
    of errors changes only where an image moves into `classes`. Of the best offsets, the middle of the widest range;
    beyond the last image, by one.
    """
    inside = np.zeros(scores.shape[1], bool)
    inside[list(classes)] = True
    best_in, best_out = (np.where(some, scores, -np.inf) for some in (inside, ~inside))
    moves_at = best_out.max(1) - best_in.max(1)
    order = np.argsort(moves_at, kind="stable")
    wrong_in, wrong_out = ((best.argmax(1) != labels)[order] for best in (best_in, best_out))
    # errors[i]: those with the first i images moved in, that is, at offsets from edges[i] to edges[i + 1]
    errors = np.cumsum([0, *wrong_in]) + (wrong_out.sum() - np.cumsum([0, *wrong_out]))
    moves_at = moves_at[order]
    edges = np.array([moves_at[0] - 2, *moves_at, moves_at[-1] + 2])
    widths = np.diff(edges)
    fewest = int(errors[widths > 0].min())
    chosen = int(np.argmax(np.where(errors == fewest, widths, -1)))
    return float(edges[chosen : chosen + 2].mean()), fewest


def with_offset(scores: np.ndarray, classes: Sequence[int], offset: float) -> np.ndarray:
    """A copy of scores (N, C) with `offset` added to those of `classes`."""
    moved = scores.copy()
    moved[:, list(classes)] += offset
    return moved
