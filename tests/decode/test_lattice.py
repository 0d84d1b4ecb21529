"""Word lattices against every path of a small one, and the widening of the search for them."""

import math
from pathlib import Path

import kaldialign
import numpy as np
import pytest

from asr_kd.decode.lattice import WordLattice
from asr_kd.decode.lattice_search import KaldiLatticeSearcher
from asr_kd.decode.search import KaldiSearcher, load_graph
from asr_kd.wfst.graph import Graph, from_rows

Sentences = dict[tuple[int, ...], float]


def random_paths(seed: int) -> Graph:
    """Acyclic; some arcs without a word, parallel arcs with the same word, several ends."""
    draws = np.random.default_rng([seed, 3])
    pairs = [(state, state + 1) for state in range(9)] * 2
    pairs += [tuple(sorted(draws.choice(10, 2, replace=False).tolist())) for _ in range(8)]
    rows = [(a, b, 5, int(draws.integers(0, 4)), float(draws.integers(0, 12)) / 8) for a, b in pairs]
    return from_rows(0, {9: 0.5, 7: 1.0}, rows)


def enumerated(graph: Graph) -> Sentences:
    found: Sentences = {}

    def walk(state: int, words: tuple[int, ...], cost: float) -> None:
        if np.isfinite(graph.final[state]):
            found[words] = min(found.get(words, math.inf), cost + float(graph.final[state]))
        for arc in graph.arcs[graph.source == state]:
            word = (int(arc["olabel"]),) * bool(arc["olabel"])
            walk(int(arc["dest"]), words + word, cost + float(arc["weight"]))

    walk(graph.start, (), 0.0)
    return found


@pytest.mark.parametrize("seed", range(8))
def test_the_lattice_has_each_cheap_sentence_once_at_its_least_cost(seed: int) -> None:
    graph = random_paths(seed)
    every = enumerated(graph)
    best = min(every.values())
    cheap = {words: cost for words, cost in every.items() if cost <= best + 3}
    lattice = WordLattice.determinised(graph, beam=3.0, offset=100.0)
    found = lattice.nbest(10**4)
    assert len(dict(found)) == len(found)
    for words, cost in found:
        assert cost == pytest.approx(100 + every[words], abs=0.01)
    assert cheap.keys() <= dict(found).keys()
    assert len(found) > 5
    few = [cost for _, cost in lattice.nbest(3)]
    assert few == pytest.approx([100 + cost for cost in sorted(every.values())[:3]], abs=0.01)


@pytest.mark.parametrize("seed", range(8))
def test_oracle_is_the_least_edit_distance_of_any_sentence(seed: int) -> None:
    draws = np.random.default_rng([seed, 4])
    lattice = WordLattice.determinised(random_paths(seed), beam=2.0)
    sentences = [words for words, _ in lattice.nbest(10**4)]
    for _ in range(4):
        reference = draws.integers(0, 5, draws.integers(0, 9)).tolist()  # 0, 4: not in the lattice
        unknown = [word or 99 for word in reference]
        least = min(kaldialign.edit_distance(unknown, list(words))["total"] for words in sentences)
        assert lattice.oracle(reference) == least


def test_a_lattice_of_silence_alone() -> None:
    lattice = WordLattice.determinised(from_rows(0, {1: 0.5}, [(0, 1, 3, 0, 1.0)]), beam=5.0)
    assert lattice.nbest(10) == [((), pytest.approx(1.5))]
    assert lattice.oracle([1, 2]) == 2 and lattice.oracle([]) == 0


# Word w is pdf w - 1 with a self-loop; any number of words.
LOOP = [row for w in (1, 2, 3) for row in ((0, w, w, w, 1.0), (w, w, w, 0, 0.1), (w, 0, 0, 0, 0.0))]


@pytest.fixture
def searcher(tmp_path: Path) -> KaldiSearcher:
    from_rows(0, {0: 0.25}, LOOP).write(tmp_path / "HCLG.fst")
    return KaldiSearcher(load_graph(tmp_path / "HCLG.fst"), 0.5, beam=30.0, max_active=1000)


def test_the_lattices_best_sentence_costs_what_the_search_says(searcher: KaldiSearcher) -> None:
    scores = np.random.default_rng(0).normal(-50, 3, size=(12, 3)).astype(np.float32)
    found = KaldiLatticeSearcher(searcher, (30.0,), 8.0, 1e9).search(scores)
    assert found.lattice is not None
    words, cost = found.lattice.nbest(1)[0]
    assert list(words) == found.best.words
    assert cost == pytest.approx(found.best.graph_cost + found.best.acoustic_cost, abs=1e-3)


def test_no_wider_beam_is_tried_once_the_lattice_is_dense(searcher: KaldiSearcher) -> None:
    scores = np.random.default_rng(1).normal(0, 1, size=(10, 3)).astype(np.float32)

    def density(beams: tuple[float, ...], most: float) -> float:
        return KaldiLatticeSearcher(searcher, beams, 20.0, most).search(scores).density

    narrow, wide = density((1.0,), 1e9), density((20.0,), 1e9)
    assert narrow < wide
    assert density((20.0, 1.0), narrow - 0.1) == narrow
    assert density((20.0, 1.0), narrow) == wide


def test_a_lattice_that_comes_to_no_end_gives_way_to_a_best_path_that_does(tmp_path: Path) -> None:
    rows = [(0, 1, 1, 1, 0.0), (1, 1, 1, 0, 0.0), (0, 2, 2, 2, 5.0), (2, 3, 2, 0, 0.0)]
    from_rows(0, {3: 0.0}, rows).write(tmp_path / "HCLG.fst")
    wide = KaldiSearcher(load_graph(tmp_path / "HCLG.fst"), 1.0, beam=20.0, max_active=100)
    scores = np.zeros((2, 2), np.float32)
    lost = KaldiLatticeSearcher(wide, (2.0,), 2.0, 1e9).search(scores)
    assert lost.best.words == [2] and lost.best.complete and lost.lattice is None
    found = KaldiLatticeSearcher(wide, (2.0, 8.0), 2.0, 1e9).search(scores)
    assert found.lattice is not None and found.lattice.nbest(5) == [((2,), pytest.approx(5.0))]
