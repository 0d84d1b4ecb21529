"""Search by k2: many utterances at once, on CPU or CUDA, one-best and lattices alike from its pruned intersection.

k2 is imported when a search is made and nowhere else. https://k2-fsa.github.io/k2
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeVar

import numpy as np
import torch

from asr_kd.decode.lattice import WordLattice
from asr_kd.decode.lattice_search import Found
from asr_kd.decode.search import Hypothesis
from asr_kd.errors import UserError
from asr_kd.wfst.epsilon_free import END, EpsilonFree
from asr_kd.wfst.graph import Graph, arc_array

BATCH_SECONDS = 120.0
R = TypeVar("R")


def import_k2() -> Any:
    """The module; UserError with the extra step where it is not installed."""
    try:
        import k2
    except ImportError as error:
        raise UserError(
            f"decode.backend: k2 cannot be imported ({error}); install it as README.md says under Search by k2, "
            "or set decode.backend: null"
        ) from None
    return k2


class K2Graph:
    """An epsilon-free graph on a device, each arc with its number, from which its words and cost are looked up."""

    def __init__(self, graph: EpsilonFree, device: str) -> None:
        k2 = import_k2()
        self.graph, self.device = graph, device
        scores = (-graph.cost).astype(np.float32)
        table = np.stack([graph.source, graph.dest, graph.label, scores.view(np.int32)], axis=1).astype(np.int32)
        if graph.start:  # k2 begins at state 0
            table[:, :2] = _swapped(table[:, :2], graph.start)
            order = np.argsort(table[:, 0], kind="stable")
        else:
            order = np.arange(len(table))
        self.fsa = k2.Fsa.from_fsas([k2.Fsa(torch.from_numpy(np.ascontiguousarray(table[order])))]).to(device)
        numbers = torch.from_numpy(order.astype(np.int32) + 1)  # 0: no arc of the graph
        self.fsa.number = numbers.to(device)


def _swapped(states: np.ndarray, start: int) -> np.ndarray:
    """States with `start` and 0 changing places."""
    return np.where(states == start, 0, np.where(states == 0, start, states))


@dataclass(frozen=True)
class K2Searcher:
    """beam in units of scaled cost, max_active states a frame and utterance: as KaldiSearcher's, k2's `search_beam`
    and `max_active_states`. A small max_active loses accuracy without a word.
    """

    graph: K2Graph
    acoustic_scale: float
    beam: float
    max_active: int
    batch_seconds: float = BATCH_SECONDS

    def search(self, scores: np.ndarray) -> Hypothesis:
        """scores: (T, num_pdfs) acoustic log-likelihoods. Raises ValueError as KaldiSearcher does."""
        return _alone(self.search_batch([scores]))

    def search_batch(self, batch: Sequence[np.ndarray]) -> list[Hypothesis | ValueError]:
        """The best path of each utterance, or why there is none."""
        return self.read(batch, 1.0, lambda lattices, place: lattices.best(place))

    def read(
        self, batch: Sequence[np.ndarray], lattice_beam: float, look: "Callable[[_Lattices, int], R | ValueError]"
    ) -> list[R | ValueError]:
        """What `look` sees in the lattice of each utterance; lattice_beam: how much a path may cost beyond the best."""
        found: list[R | ValueError | None] = [_refused(scores) for scores in batch]
        sound = [number for number, problem in enumerate(found) if problem is None]
        if sound:
            lattices = self._intersect([batch[number] for number in sound], lattice_beam)
            for place, number in enumerate(sound):
                found[number] = look(lattices, place)
        return [result for result in found if result is not None]

    def _intersect(self, batch: Sequence[np.ndarray], lattice_beam: float) -> "_Lattices":
        k2 = import_k2()
        frames = [len(scores) for scores in batch]
        # Column 0 is k2's label 0, which no arc has.
        padded = np.zeros((len(batch), max(frames), batch[0].shape[1] + 1), np.float32)
        for row, scores in zip(padded, batch, strict=True):
            row[: len(scores), 1:] = scores.astype(np.float32) * np.float32(self.acoustic_scale)
        # k2 adds up scores in float32: with each frame's best at 0 they stay small.
        level = padded[:, :, 1:].max(axis=2)
        padded[:, :, 1:] -= level[:, :, None]
        segments = torch.tensor([[number, 0, count] for number, count in enumerate(frames)], dtype=torch.int32)
        dense = k2.DenseFsaVec(torch.from_numpy(padded).to(self.graph.device), segments)
        lattice = k2.intersect_dense_pruned(
            self.graph.fsa,
            dense,
            search_beam=self.beam,
            output_beam=lattice_beam,
            min_active_states=min(30, self.max_active - 1),
            max_active_states=self.max_active,
            allow_partial=True,
        )
        offsets = [-float(row[:count].sum(dtype=np.float64)) for row, count in zip(level, frames, strict=True)]
        return _Lattices(lattice, self.graph.graph, frames, offsets)


@dataclass(frozen=True)
class K2LatticeSearcher:
    """As `one_best` searches, with what the same intersection leaves within `lattice_beam`."""

    one_best: K2Searcher
    lattice_beam: float

    @property
    def batch_seconds(self) -> float:
        return self.one_best.batch_seconds

    def search(self, scores: np.ndarray) -> Found:
        """scores: (T, num_pdfs) acoustic log-likelihoods. Raises ValueError as KaldiSearcher does."""
        return _alone(self.search_batch([scores]))

    def search_batch(self, batch: Sequence[np.ndarray]) -> list[Found | ValueError]:
        """The lattice of each utterance, or why there is none."""
        return self.one_best.read(
            batch, self.lattice_beam, lambda lattices, place: lattices.words(place, self.lattice_beam)
        )


def _alone(found: Sequence[R | ValueError]) -> R:
    (result,) = found
    if isinstance(result, ValueError):
        raise result
    return result


def _refused(scores: np.ndarray) -> ValueError | None:
    if len(scores) == 0:
        return ValueError("no frames")
    return None if np.isfinite(scores).all() else ValueError("acoustic scores are not finite")


@dataclass(frozen=True)
class _Lattices:
    """k2's lattices of a batch, the frames of each, and what the cost of every path of each lacks."""

    fsas: Any
    graph: EpsilonFree
    frames: list[int]
    offsets: list[float]

    @cached_property
    def _tables(self) -> "_Tables":
        return _Tables.of(self.fsas)

    @cached_property
    def _paths(self) -> "_Tables":
        return _Tables.of(import_k2().shortest_path(self.fsas, use_double_scores=True))

    def best(self, place: int) -> Hypothesis | ValueError:
        _, arcs, cost, number = self._paths.of_utterance(place)
        if not len(arcs):
            return ValueError("no path survived the beam")
        order = np.argsort(arcs[:, 0], kind="stable")
        labels, number = arcs[order, 2], number[order]
        known = number[number > 0] - 1
        # The end of a path that breaks off is no arc of the graph, and has the cost of one that was not taken.
        total = float(cost[order][number > 0].sum()) + self.offsets[place]
        words = self.graph.words_of(known)
        graph_cost = float(self.graph.cost[known].sum())
        pdfs = (labels[labels != END] - 1).astype(np.int32)
        return Hypothesis(words[words > 0].tolist(), pdfs, graph_cost, total - graph_cost, bool(number[-1] > 0))

    def words(self, place: int, beam: float) -> Found | ValueError:
        best = self.best(place)
        if isinstance(best, ValueError):
            return best
        paths = self._word_graph(place)
        lattice = WordLattice.determinised(paths, beam, self.offsets[place])
        return Found(best, lattice, paths.num_states / self.frames[place])

    def _word_graph(self, place: int) -> Graph:
        """One utterance's lattice with words as output labels, a state more for each further word of an arc."""
        states, arcs, cost, arc = self._tables.of_utterance(place)
        words = np.zeros((len(arc), 1), np.int32)
        if (found := self.graph.words_of(arc[arc > 0] - 1)).shape[1]:
            words = np.zeros((len(arc), found.shape[1]), np.int32)
            words[arc > 0] = found
        source, dest = arcs[:, 0].copy(), arcs[:, 1]
        sources, rows, extra = [], [], states
        for column in range(1, words.shape[1]):
            more = words[:, column] > 0
            between = extra + np.arange(more.sum(), dtype=np.int32)
            extra += len(between)
            sources.append(source[more])
            rows.append(arc_array(np.array(0), words[more, column - 1], cost[more], between))
            source[more], cost = between, np.where(more, 0.0, cost).astype(np.float32)
        last = np.maximum((words > 0).sum(axis=1) - 1, 0)
        sources.append(source)
        rows.append(arc_array(np.array(0), words[np.arange(len(words)), last], cost, dest))
        final = np.full(extra, np.inf, np.float32)
        final[states - 1] = 0.0
        return Graph(0, final, np.concatenate(sources).astype(np.int32), np.concatenate(rows))


@dataclass(frozen=True)
class _Tables:
    """The arcs of an FsaVec on the CPU, with where each of its automata begins."""

    arcs: np.ndarray
    cost: np.ndarray
    number: np.ndarray
    first_state: np.ndarray
    first_arc: np.ndarray

    @staticmethod
    def of(fsas: Any) -> "_Tables":
        shape = fsas.arcs.shape()
        first_state = shape.row_splits(1).cpu().numpy()
        return _Tables(
            fsas.arcs.values()[:, :3].cpu().numpy(),
            -fsas.scores.detach().cpu().numpy(),
            fsas.number.cpu().numpy(),
            first_state,
            shape.row_splits(2).cpu().numpy()[first_state],
        )

    def of_utterance(self, number: int) -> tuple[int, np.ndarray, np.ndarray, np.ndarray]:
        """States, (arcs, 3) source, destination and label, (arcs,) costs, (arcs,) numbers in the graph from 1 on."""
        rows = slice(int(self.first_arc[number]), int(self.first_arc[number + 1]))
        states = int(self.first_state[number + 1] - self.first_state[number])
        return states, self.arcs[rows], self.cost[rows], self.number[rows]
