"""Language-model scale and word penalty for the fewest word errors on dev, by compass search over the recipe's grid.

Every point is a search of its own, so points are worth saving: from the one nearest to the acoustic scale the search
looks two steps to either side along both axes, moves to the best, halves its steps when nothing is better, and ends
where no neighbour is (Kolda, Lewis & Torczon 2003). The error surface is smooth with one broad valley, and a visit to
all of an 11 × 3 grid would cost about four times as many points. Where there is a sample of dev too, it is what the
double steps are judged by, and all of dev only the single ones.
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import kaldialign

from asr_kd.recipe import Scales

Words = Mapping[str, Sequence[str]]
Place = tuple[int, int]  # in the grid: numbers of the scale and of the penalty
log = logging.getLogger("asr_kd")


@dataclass(frozen=True, order=True)
class Point:
    lm_scale: float
    word_penalty: float


def word_error_rate(references: Words, hypotheses: Words) -> float:
    """Errors of all utterances over the words of all references; a missing hypothesis is empty."""
    errors = sum(
        kaldialign.edit_distance(list(words), list(hypotheses.get(name, [])))["total"]
        for name, words in references.items()
    )
    return errors / max(1, sum(map(len, references.values())))


def tune(
    scales: Scales,
    start_scale: float,
    error_rate: Callable[[Point], float],
    sampled: Callable[[Point], float] | None = None,
) -> dict[Point, float]:
    """Error rates of the points visited, the first key being the best (of equals, the earlier visited).

    start_scale: the language-model scale to begin at. sampled: a cheaper error rate to come near by.
    Warns when the best scale lies at the edge of the recipe's grid.
    """
    grid = sorted(set(scales.lm_scale)), sorted(set(scales.word_penalty))
    best = _nearest(grid[0], start_scale), _nearest(grid[1], 0.0)
    if sampled:
        best, _ = _compass(grid, best, 2, 2, sampled)
    best, visited = _compass(grid, best, 1 if sampled else 2, 1, error_rate)
    _warn_at_edge("decode lm_scale", grid[0], best[0])
    _warn_at_edge("decode word_penalty", grid[1], best[1])
    order = [best, *(place for place in visited if place != best)]
    return {Point(grid[0][i], grid[1][j]): visited[i, j] for i, j in order}


def _compass(
    grid: tuple[Sequence[float], Sequence[float]],
    best: Place,
    step: int,
    last_step: int,
    error_rate: Callable[[Point], float],
) -> tuple[Place, dict[Place, float]]:
    """From `best` in steps of `step`, halved down to `last_step`: the best place, and all that were visited."""
    visited: dict[Place, float] = {}

    def visit(i: int, j: int) -> float:
        if not (0 <= i < len(grid[0]) and 0 <= j < len(grid[1])):
            return float("inf")
        if (i, j) not in visited:
            visited[i, j] = error_rate(Point(grid[0][i], grid[1][j]))
        return visited[i, j]

    visit(*best)
    while step >= last_step:
        i, j = best
        moved = min([best, (i - step, j), (i + step, j), (i, j - step), (i, j + step)], key=lambda place: visit(*place))
        best, step = (moved, step) if moved != best else (best, step // 2)
    return best, visited


def _nearest(values: Sequence[float], wanted: float) -> int:
    return min(range(len(values)), key=lambda index: abs(values[index] - wanted))


def _warn_at_edge(key: str, values: Sequence[float], chosen: int) -> None:
    if len(values) > 1 and chosen in (0, len(values) - 1) and values[chosen] != 0:
        log.warning("%s: the best value, %g, lies at the edge of the recipe's grid; widen it", key, values[chosen])
