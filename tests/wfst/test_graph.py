"""Graphs as arrays: the exchange with kaldifst, and the removal of epsilon states."""

from pathlib import Path

import kaldifst
import numpy as np
import pytest

from asr_kd.errors import UserError
from asr_kd.wfst.graph import Graph, bypass_epsilons, from_rows


def random_graph(seed: int, epsilons: float = 0.3) -> Graph:
    """Acyclic, every state on a path from 0 to the last, weights in steps that float32 holds exactly."""
    draws = np.random.default_rng(seed)
    count = 12
    pairs = [(state, state + 1) for state in range(count - 1)]
    pairs += [tuple(sorted(draws.choice(count, 2, replace=False))) for _ in range(6)]
    rows = []
    for source, dest in pairs:
        label, output = draws.integers(1, 4, 2) if draws.random() > epsilons else (0, 0)
        rows.append((int(source), int(dest), int(label), int(output), float(draws.integers(0, 64)) / 8))
    return from_rows(0, {count - 1: 0.5}, rows)


def language(graph: Graph) -> dict[tuple[tuple[int, ...], tuple[int, ...]], float]:
    """(input, output) → least cost, by walking every path."""
    found: dict[tuple[tuple[int, ...], tuple[int, ...]], float] = {}

    def walk(state: int, read: tuple[int, ...], written: tuple[int, ...], cost: float) -> None:
        if np.isfinite(graph.final[state]):
            key = read, written
            found[key] = min(found.get(key, np.inf), cost + float(graph.final[state]))
        for arc in graph.arcs[graph.source == state]:
            more = (int(arc["ilabel"]),) * bool(arc["ilabel"]), (int(arc["olabel"]),) * bool(arc["olabel"])
            walk(int(arc["dest"]), read + more[0], written + more[1], cost + float(arc["weight"]))

    walk(graph.start, (), (), 0.0)
    return found


def test_exchange_with_kaldifst_keeps_every_arc() -> None:
    graph = random_graph(0)
    fst = graph.to_fst()
    assert fst.num_states == graph.num_states and fst.start == 0
    back = Graph.from_fst(fst)
    order = np.argsort(graph.source, kind="stable")
    assert np.array_equal(back.source, graph.source[order])
    assert np.array_equal(back.arcs, graph.arcs[order])
    assert np.array_equal(back.final, graph.final)


def test_kaldifst_finds_the_same_shortest_path() -> None:
    graph = random_graph(1)
    ok, _, _, weight = kaldifst.get_linear_symbol_sequence(kaldifst.shortest_path(graph.to_fst()))
    assert ok and weight.value == pytest.approx(min(language(graph).values()))


@pytest.mark.parametrize("seed", range(20))
def test_bypassing_epsilons_keeps_the_language_and_its_costs(seed: int) -> None:
    graph = random_graph(seed, epsilons=0.6)
    shorter = bypass_epsilons(graph)
    assert language(shorter) == language(graph)
    out_degree = np.bincount(graph.source, minlength=graph.num_states)
    only = (graph.arcs["ilabel"] == 0) & (out_degree[graph.source] == 1) & (graph.source != graph.start)
    assert shorter.num_states == graph.num_states - only.sum()


def test_a_file_of_another_kind_or_cut_short_is_named(tmp_path: Path) -> None:
    path = tmp_path / "HCLG.fst"
    with pytest.raises(UserError, match=r"HCLG\.fst: missing"):
        Graph.read(path)
    random_graph(0).write(path)
    whole = path.read_bytes()
    path.write_bytes(whole[:-8])
    with pytest.raises(UserError, match="cut short"):
        Graph.read(path)
    path.write_bytes(b"vector" + whole)
    with pytest.raises(UserError, match="not a const FST"):
        Graph.read(path)
