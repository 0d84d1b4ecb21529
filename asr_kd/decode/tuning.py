"""Language-model scale and word penalty for the fewest word errors on dev, by compass search over the recipe's grid.

Every point is a search of its own, so points are worth saving: from the one nearest to the acoustic scale the search
looks two steps to either side along both axes, moves to the best, halves its steps when nothing is better, and ends
where no neighbour is (Kolda, Lewis & Torczon 2003). The error surface is smooth with one broad valley, and a visit to
all of an 11 × 3 grid would cost about four times as many points.
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import kaldialign

from asr_kd.recipe import Scales

Words = Mapping[str, Sequence[str]]
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


def tune(scales: Scales, start_scale: float, error_rate: Callable[[Point], float]) -> dict[Point, float]:
    """Error rates of the points visited, the first key being the best (of equals, the earlier visited).

    start_scale: the language-model scale to begin at. Warns when the best scale lies at the edge of the recipe's grid.
    """
    lm_scales, penalties = sorted(set(scales.lm_scale)), sorted(set(scales.word_penalty))
    visited: dict[tuple[int, int], float] = {}

    def visit(i: int, j: int) -> float:
        if not (0 <= i < len(lm_scales) and 0 <= j < len(penalties)):
            return float("inf")
        if (i, j) not in visited:
            visited[i, j] = error_rate(Point(lm_scales[i], penalties[j]))
        return visited[i, j]

    best = (_nearest(lm_scales, start_scale), _nearest(penalties, 0.0))
    visit(*best)
    step = 2
    while step:
        i, j = best
        moved = min([best, (i - step, j), (i + step, j), (i, j - step), (i, j + step)], key=lambda place: visit(*place))
        best, step = (moved, step) if moved != best else (best, step // 2)
    _warn_at_edge("decode lm_scale", lm_scales, best[0])
    _warn_at_edge("decode word_penalty", penalties, best[1])
    order = [best, *(place for place in visited if place != best)]
    return {Point(lm_scales[i], penalties[j]): visited[i, j] for i, j in order}


def _nearest(values: Sequence[float], wanted: float) -> int:
    return min(range(len(values)), key=lambda index: abs(values[index] - wanted))


def _warn_at_edge(key: str, values: Sequence[float], chosen: int) -> None:
    if len(values) > 1 and chosen in (0, len(values) - 1) and values[chosen] != 0:
        log.warning("%s: the best value, %g, lies at the edge of the recipe's grid; widen it", key, values[chosen])
