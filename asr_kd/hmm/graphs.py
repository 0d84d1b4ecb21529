"""The alignment graphs of a whole corpus, packed into one array: as objects they would take more than the features."""

import sys
from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from asr_kd import scratch
from asr_kd.files import atomic_path
from asr_kd.hmm.transcript import TranscriptGraph

SIZES = 5  # before a graph's arrays: states, joins, initial states, final states, shortest path


class PackedGraphs(Mapping[str, TranscriptGraph]):
    """Utterance → graph, cut out of the array when it is asked for."""

    def __init__(self, graphs: Iterable[tuple[str, TranscriptGraph]]) -> None:
        self._numbers: dict[str, int] = {}
        self._transcripts: list[tuple[str, ...]] = []
        self._starts = array("q", [0])
        self._packed = scratch.array((0,), np.int64)
        for utterance, graph in graphs:
            self._numbers[utterance] = len(self._transcripts)
            self._transcripts.append(tuple(map(sys.intern, graph.transcript)))
            self._append(graph)

    def _append(self, graph: TranscriptGraph) -> None:
        sizes = [len(graph), len(graph.joins), len(graph.initial), len(graph.final), graph.shortest]
        states = (graph.codes, graph.words, graph.self_arc, graph.forward)
        values = np.concatenate([sizes, *states, graph.joins.ravel(), graph.initial, graph.final])
        start = self._starts[-1]
        end = start + len(values)
        if end > len(self._packed):
            self._packed = scratch.enlarged(self._packed, max(end, 2 * start))
        self._packed[start:end] = values
        self._starts.append(end)

    def __getitem__(self, utterance: str) -> TranscriptGraph:
        number = self._numbers[utterance]
        values = self._packed[self._starts[number] : self._starts[number + 1]]
        states, joins, initial, final, shortest = values[:SIZES].tolist()
        ends = SIZES + np.cumsum([0, states, states, states, states, 3 * joins, initial, final])
        codes, words, self_arc, forward, joined, first, last = (values[a:b] for a, b in pairwise(ends))
        table = joined.reshape(-1, 3)
        transcript = self._transcripts[number]
        return TranscriptGraph(transcript, codes, words, self_arc, forward.astype(bool), table, first, last, shortest)

    def __iter__(self) -> Iterator[str]:
        return iter(self._numbers)

    def __len__(self) -> int:
        return len(self._numbers)

    def save(self, path: Path) -> None:
        """Write a .npz file with all but the transcripts."""
        with atomic_path(path, durable=False) as temporary, temporary.open("wb") as file:
            names = np.array(list(self._numbers))
            np.savez(file, packed=self._packed[: self._starts[-1]], starts=np.array(self._starts), names=names)

    @staticmethod
    def load(path: Path) -> "PackedGraphs":
        """What `save` wrote; the graphs' transcripts are empty."""
        loaded = PackedGraphs(())
        with np.load(path, allow_pickle=False) as file:
            loaded._packed, loaded._starts = file["packed"], array("q", file["starts"].tolist())
            loaded._numbers = {name: number for number, name in enumerate(file["names"].tolist())}
        loaded._transcripts = [()] * len(loaded._numbers)
        return loaded


class InOrder(Sequence[TranscriptGraph]):
    """The graphs of some utterances, by number."""

    def __init__(self, graphs: Mapping[str, TranscriptGraph], utterances: Sequence[str]) -> None:
        self._graphs, self._utterances = graphs, utterances

    def __getitem__(self, number: Any) -> Any:
        return self._graphs[self._utterances[number]]

    def __len__(self) -> int:
        return len(self._utterances)
