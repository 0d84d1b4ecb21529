"""N-best lists against closed forms and counts by hand."""

import itertools

import numpy as np
import pytest

from asr_kd.decode.lattice import WordLattice
from asr_kd.decode.nbest import NBest, edits, merge
from asr_kd.decode.rescoring import tune_rescoring
from asr_kd.decode.search import Hypothesis
from asr_kd.decode.tuning import Point
from asr_kd.recipe import Scales
from asr_kd.wfst.graph import from_rows


def listed(costs: dict[tuple[int, ...], float], *lm_costs: list[float]) -> NBest:
    lm = np.array(lm_costs or [[0.0] * len(costs)]).T
    return NBest(tuple(costs), np.array(list(costs.values())), lm)


def hypothesis(words: list[int], graph_cost: float, acoustic_cost: float) -> Hypothesis:
    return Hypothesis(words, np.zeros(3, np.int32), graph_cost, acoustic_cost, complete=True)


def test_posteriors_are_shares_of_probability() -> None:
    shares = np.array([0.5, 0.3, 0.2])
    nbest = listed(dict(zip([(1,), (2,), (3,)], 2000 - np.log(shares), strict=True)))
    assert nbest.posteriors == pytest.approx(shares)


def test_merging_adds_what_the_lattice_lost_and_takes_the_lower_cost() -> None:
    lattice = WordLattice.determinised(from_rows(0, {1: 0.0}, [(0, 1, 1, 1, 4.0), (0, 1, 1, 2, 5.0)]), 9.0)
    assert merge(lattice, hypothesis([3], 1.0, 2.0), 10) == [((3,), 3.0), ((1,), 4.0), ((2,), 5.0)]
    assert merge(lattice, hypothesis([2], 3.0, 1.5), 10) == [((1,), 4.0), ((2,), 4.5)]
    assert merge(lattice, hypothesis([2], 3.0, 1.5), 1) == [((1,), 4.0)]
    assert merge(None, hypothesis([2], 3.0, 1.5), 5) == [((2,), 4.5)]


def test_another_model_takes_the_place_of_the_graphs() -> None:
    searched = Point(10.0, 0.5)
    acoustic, words, old, new = np.array([7.0, 9.0]), np.array([1, 2]), np.array([3.0, 1.0]), np.array([0.5, 6.0])
    nbest = listed(dict(zip([(1,), (2, 3)], acoustic + old + 0.5 * words, strict=True)), old.tolist(), new.tolist())
    for point in (searched, Point(15.0, -1.0)):
        expected = acoustic + point.lm_scale / 10 * new + point.word_penalty * words
        assert nbest.rescored_costs(searched, point) == pytest.approx(expected)
    same = listed(dict(zip(nbest.words, nbest.costs, strict=True)), old.tolist(), old.tolist())
    assert same.rescored_costs(searched, searched) == pytest.approx(nbest.costs)
    turned = nbest.with_costs(np.array([2.0, 1.0]))
    assert turned.words == ((2, 3), (1,)) and turned.lm_costs.tolist() == [[1.0, 6.0], [3.0, 0.5]]


def test_scales_of_the_fewest_errors_on_the_grid() -> None:
    draws = np.random.default_rng(0)
    lists, references = {}, {}
    for name in "abcdefgh":
        sentences = {tuple(draws.integers(1, 4, draws.integers(1, 6)).tolist()) for _ in range(12)}
        costs = {words: float(draws.normal()) for words in sorted(sentences)}
        lists[name] = listed(costs, *draws.normal(size=(2, len(costs))).tolist())
        references[name] = draws.integers(0, 4, 5).tolist()
    references["lost"] = [1, 2]
    grid, searched = Scales(lm_scale=(8, 10, 12, 20), word_penalty=(0.0, 0.5, 1.0)), Point(10, 0.5)
    rates = tune_rescoring(lists, references, grid, searched)

    def by_hand(point: Point) -> float:
        wrong = 2
        for name, nbest in lists.items():
            costs = nbest.rescored_costs(searched, point)
            wrong += edits(references[name], nbest.words[int(np.argmin(costs))])
        return wrong / 42

    points = [Point(*pair) for pair in itertools.product(grid.lm_scale, grid.word_penalty)]
    assert rates == {point: pytest.approx(by_hand(point)) for point in points}
    assert rates[next(iter(rates))] == min(rates.values()) < max(rates.values())
