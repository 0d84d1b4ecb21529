"""The compass search against the whole grid, and word error rate against a count by hand."""

from collections.abc import Callable

import pytest

from asr_kd.decode.tuning import Point, tune, word_error_rate
from asr_kd.recipe import Scales

GRID = Scales()


@pytest.mark.parametrize("centre", [(8, 0.0), (10.6, 0.5), (12, 1.0), (15.2, 0.4), (13, 0.5)])
def test_finds_the_grid_minimum_of_a_valley_with_few_searches(centre: tuple[float, float]) -> None:
    def error_rate(point: Point) -> float:
        x, y = point.lm_scale - centre[0], point.word_penalty - centre[1]
        return 0.3 + 0.001 * x**2 + 0.01 * y**2 + 0.002 * x * y

    visited = tune(GRID, 12.0, error_rate)
    every = [Point(a, b) for a in GRID.lm_scale for b in GRID.word_penalty]
    assert next(iter(visited)) == min(every, key=error_rate)
    assert all(rate == error_rate(point) for point, rate in visited.items())
    assert len(visited) <= len(every) / 2


def test_an_optimum_at_the_edge_is_reported(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("WARNING", "asr_kd")
    best = next(iter(tune(GRID, 12.0, lambda point: point.lm_scale + point.word_penalty)))
    assert best == Point(min(GRID.lm_scale), 0.0)
    assert "lm_scale" in caplog.text and "word_penalty" not in caplog.text


def test_a_grid_of_one_point_is_searched_once() -> None:
    assert tune(Scales(lm_scale=(9,), word_penalty=(0.5,)), 12.0, lambda point: 0.1) == {Point(9, 0.5): 0.1}


def test_word_error_rate_pools_utterances_and_counts_missing_ones_as_deleted() -> None:
    references = {"u": ["a", "b", "c"], "v": ["d"], "w": ["e", "f"]}
    hypotheses = {"u": ["a", "x", "c", "y"], "v": []}
    assert word_error_rate(references, hypotheses) == pytest.approx((1 + 1 + 1 + 2) / 6)


def test_a_sample_that_misleads_costs_searches_of_all_but_not_the_minimum() -> None:
    def valley(centre: float) -> Callable[[Point], float]:
        return lambda point: 0.3 + 0.001 * (point.lm_scale - centre) ** 2 + 0.02 * point.word_penalty

    sampled: list[Point] = []

    def misleading(point: Point) -> float:
        sampled.append(point)
        return valley(14)(point)

    visited = tune(GRID, 12.0, valley(10), misleading)
    assert next(iter(visited)) == Point(10, 0.0)
    assert {point.lm_scale % 2 for point in sampled} == {0} and Point(14, 0.0) in sampled
    assert {point.lm_scale for point in visited} == {15, 14, 13, 12, 11, 10, 9}


def test_a_sample_that_leads_well_saves_searches_of_all() -> None:
    def valley(point: Point) -> float:
        return 0.3 + 0.001 * (point.lm_scale - 16) ** 2 + 0.02 * point.word_penalty

    assert len(tune(GRID, 12.0, valley, valley)) == 4  # the minimum, its two neighbours, and one penalty
