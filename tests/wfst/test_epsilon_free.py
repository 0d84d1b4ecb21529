"""The graph without epsilons: the same language at the same costs."""

import numpy as np
import pytest
from test_graph import language, random_graph

from asr_kd.wfst.epsilon_free import END, EpsilonFree, without_epsilons
from asr_kd.wfst.graph import from_rows

Pairs = dict[tuple[tuple[int, ...], tuple[int, ...]], float]


def language_of(graph: EpsilonFree) -> Pairs:
    """(input, output) → least cost, by walking every path to the last state."""
    found: Pairs = {}
    words = [tuple(word for word in row if word) for row in graph.words_of(np.arange(len(graph.source))).tolist()]

    def walk(state: int, read: tuple[int, ...], written: tuple[int, ...], cost: float) -> None:
        for arc in np.flatnonzero(graph.source == state):
            said, total = written + words[arc], cost + float(graph.cost[arc])
            if graph.label[arc] == END:
                assert graph.dest[arc] == graph.num_states - 1
                found[read, said] = min(found.get((read, said), np.inf), total)
            else:
                walk(int(graph.dest[arc]), (*read, int(graph.label[arc])), said, total)

    walk(graph.start, (), (), 0.0)
    return found


@pytest.mark.parametrize("seed", range(20))
def test_language_and_costs_stay(seed: int) -> None:
    graph = random_graph(seed, epsilons=0.5)
    draws = np.random.default_rng(seed)  # words on arcs that take no frame, as disambiguation symbols leave them
    silent = np.flatnonzero(graph.arcs["ilabel"] == 0)
    graph.arcs["olabel"][silent] = draws.integers(0, 3, len(silent))
    free = without_epsilons(graph)
    assert (free.label != 0).all() and (np.diff(free.source) >= 0).all()
    assert language_of(free) == language(graph)


def test_homophones_keep_their_words() -> None:
    rows = [(0, 1, 7, 0, 0.5), (1, 2, 0, 3, 1.0), (1, 2, 0, 4, 2.0), (2, 0, 0, 0, 0.25)]
    found = language_of(without_epsilons(from_rows(0, {2: 0.0}, rows[:3])))
    assert found == {((7,), (3,)): 1.5, ((7,), (4,)): 2.5}
    free = without_epsilons(from_rows(0, {2: 0.0}, rows))
    assert (free.label == 7).sum() == 3  # first, after word 3, after word 4


def test_a_cycle_of_epsilons_is_refused() -> None:
    with pytest.raises(ValueError, match="cycle"):
        without_epsilons(from_rows(0, {1: 0.0}, [(0, 1, 0, 0, 1.0), (1, 0, 0, 0, 1.0), (0, 1, 1, 1, 0.0)]))
