"""Transducers as numpy arrays, exchanged with kaldifst through OpenFst's binary `const` format.

kaldifst composes, determinises and minimises; everything that touches all arcs alike (labels, HMM expansion,
self-loops, weights) is one vectorised expression on these arrays. Weights are costs, negative natural logs.
"""

import struct
import tempfile
from dataclasses import dataclass
from pathlib import Path

import kaldifst
import numpy as np

from asr_kd.errors import UserError
from asr_kd.files import atomic_path

ARC = np.dtype([("ilabel", "<i4"), ("olabel", "<i4"), ("weight", "<f4"), ("dest", "<i4")])
STATE = np.dtype([("final", "<f4"), ("first", "<u4"), ("arcs", "<u4"), ("iepsilons", "<u4"), ("oepsilons", "<u4")])
MAGIC, VERSION, EXPANDED = 2125659606, 2, 1
COUNTS = struct.Struct("<iiQqqq")  # version, flags, properties, start, states, arcs


@dataclass
class Graph:
    """start: a state; final: (states,) float32 cost of ending there, inf elsewhere; source: (arcs,) int32, the state
    each arc leaves; arcs: (arcs,) ARC.
    """

    start: int
    final: np.ndarray
    source: np.ndarray
    arcs: np.ndarray

    @property
    def num_states(self) -> int:
        return len(self.final)

    @staticmethod
    def from_fst(fst: kaldifst.StdVectorFst) -> "Graph":
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "fst"
            kaldifst.StdConstFst(fst).write(str(path))
            return Graph.read(path)

    def to_fst(self) -> kaldifst.StdVectorFst:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "fst"
            self._write(path)
            return kaldifst.StdVectorFst(kaldifst.StdConstFst.read(str(path)))

    @staticmethod
    def read(path: Path) -> "Graph":
        """Read a `const` file; UserError when it is missing or something else."""
        if not path.exists():
            raise UserError(f"{path}: missing; run --stage 7 (decode)")
        with path.open("rb") as file:
            if file.read(len(PREFIX)) != PREFIX:
                raise UserError(f"{path}: not a const FST of tropical arcs; remove it and run --stage 7 (decode)")
            _, _, _, start, num_states, num_arcs = COUNTS.unpack(file.read(COUNTS.size))
            states = np.fromfile(file, STATE, num_states)
            arcs = np.fromfile(file, ARC, num_arcs)
        if len(states) != num_states or len(arcs) != num_arcs:
            raise UserError(f"{path}: cut short; remove it and run --stage 7 (decode)")
        source = np.repeat(np.arange(num_states, dtype=np.int32), states["arcs"])
        return Graph(start, states["final"].copy(), source, arcs)

    def write(self, path: Path) -> None:
        with atomic_path(path) as temporary:
            self._write(temporary)

    def _write(self, path: Path) -> None:
        arcs, source = self.arcs, self.source
        if np.any(source[1:] < source[:-1]):
            order = np.argsort(source, kind="stable")
            arcs, source = arcs[order], source[order]
        states = np.zeros(self.num_states, STATE)
        states["final"] = self.final
        states["arcs"] = self._out_degree(np.ones(len(arcs), bool), source)
        states["first"] = np.cumsum(states["arcs"]) - states["arcs"]
        states["iepsilons"] = self._out_degree(arcs["ilabel"] == 0, source)
        states["oepsilons"] = self._out_degree(arcs["olabel"] == 0, source)
        with path.open("wb") as file:
            file.write(PREFIX + COUNTS.pack(VERSION, 0, EXPANDED, self.start, len(states), len(arcs)))
            states.tofile(file)
            arcs.tofile(file)

    def _out_degree(self, chosen: np.ndarray, source: np.ndarray) -> np.ndarray:
        return np.bincount(source[chosen], minlength=self.num_states)


def arc_array(ilabel: np.ndarray, olabel: np.ndarray, weight: np.ndarray, dest: np.ndarray) -> np.ndarray:
    """(arcs,) ARC from its four columns, each broadcast to `dest`."""
    arcs = np.empty(len(dest), ARC)
    arcs["ilabel"], arcs["olabel"], arcs["weight"], arcs["dest"] = ilabel, olabel, weight, dest
    return arcs


def from_rows(start: int, final: dict[int, float], rows: list[tuple[int, int, int, int, float]]) -> Graph:
    """A graph from `(source, dest, ilabel, olabel, cost)` rows and the final states' costs."""
    table = np.array(rows, dtype=np.float64).reshape(-1, 5)
    costs = np.full(int(max(table[:, :2].max(initial=start), *final)) + 1, np.inf, np.float32)
    costs[list(final)] = list(final.values())
    columns = table[:, :4].astype(np.int32)
    arcs = arc_array(columns[:, 2], columns[:, 3], table[:, 4].astype(np.float32), columns[:, 1])
    return Graph(start, costs, columns[:, 0], arcs)


def bypass_epsilons(graph: Graph) -> Graph:
    """Remove every state whose only way on is one epsilon arc: its predecessors go straight to where that leads.

    The half of Kaldi's fstrmepslocal that never adds an arc; final states and the start stay.
    """
    arcs, source = graph.arcs, graph.source
    leaving = np.bincount(source, minlength=graph.num_states)
    only = (arcs["ilabel"] == 0) & (arcs["olabel"] == 0) & (leaving == 1)[source]
    only &= np.isinf(graph.final[source]) & (source != graph.start)
    target, cost = np.arange(graph.num_states, dtype=np.int32), np.zeros(graph.num_states, np.float32)
    target[source[only]], cost[source[only]] = arcs["dest"][only], arcs["weight"][only]
    while np.any(target != target[target]):
        cost, target = cost + cost[target], target[target]

    kept = np.ones(graph.num_states, bool)
    kept[source[only]] = False
    number = np.cumsum(kept, dtype=np.int32) - 1
    arcs, source = arcs[~only], source[~only]
    arcs["weight"] += cost[arcs["dest"]]
    arcs["dest"] = number[target[arcs["dest"]]]
    return Graph(int(number[graph.start]), graph.final[kept], number[source], arcs)


def _string(text: bytes) -> bytes:
    return struct.pack("<i", len(text)) + text


PREFIX = struct.pack("<i", MAGIC) + _string(b"const") + _string(b"standard")
