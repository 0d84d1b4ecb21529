"""Exact Viterbi alignment of many utterances at once.

All states of a batch of transcript graphs lie side by side in one vector; a step over time is a handful of vector
operations on it, the same on CPU and GPU.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from asr_kd.hmm.transcript import TranscriptGraph

IMPOSSIBLE = -1e30
FEW_JOINS = 2


@dataclass(frozen=True)
class Path:
    """states (frames,): state of each frame in its graph; score: log-likelihood of the path, transitions included."""

    states: np.ndarray
    score: float


def align(
    graphs: Sequence[TranscriptGraph],
    emissions: Sequence[Tensor],
    columns: Sequence[np.ndarray],
    pdfs: Sequence[np.ndarray],
    log_transitions: np.ndarray,
) -> list[Path | None]:
    """Best path of each utterance, None where it has fewer frames than its transcript's shortest path.

    emissions: per utterance (frames, C) log-likelihoods; columns: per utterance (S,) the column of each state;
    pdfs: per utterance (S,) the state's pdf; log_transitions (num_pdfs, arcs).
    """
    possible = [u for u, graph in enumerate(graphs) if len(emissions[u]) >= graph.shortest]
    paths: list[Path | None] = [None] * len(graphs)
    if possible:
        batch = _Batch([graphs[u] for u in possible], [pdfs[u] for u in possible], log_transitions, emissions[0].device)
        found = batch.search([emissions[u] for u in possible], [columns[u] for u in possible])
        for u, path in zip(possible, found, strict=True):
            paths[u] = path
    return paths


class _Batch:
    """The states of several graphs side by side, with weights of their arcs."""

    def __init__(
        self,
        graphs: list[TranscriptGraph],
        pdfs: list[np.ndarray],
        log_transitions: np.ndarray,
        device: torch.device,
    ) -> None:
        sizes = [len(graph) for graph in graphs]
        self.starts = np.concatenate([[0], np.cumsum(sizes)])
        self.device = device
        pdf = np.concatenate(pdfs)
        joins = np.concatenate(
            [graph.joins + np.array([start, start, 0]) for graph, start in zip(graphs, self.starts, strict=False)]
        )
        forward = np.concatenate([graph.forward for graph in graphs])
        stay = log_transitions[pdf, np.concatenate([graph.self_arc for graph in graphs])]
        move = np.where(forward, log_transitions[np.roll(pdf, 1), 1], IMPOSSIBLE)
        self.stay, self.move = self._floats(stay), self._floats(move)
        self._join_tables(joins, log_transitions[pdf[joins[:, 1]], joins[:, 2]])
        self.initial = self._indices(np.concatenate([g.initial + s for g, s in zip(graphs, self.starts, strict=False)]))
        self.final = [self._indices(g.final + s) for g, s in zip(graphs, self.starts, strict=False)]
        self.final_weight = [self._floats(log_transitions[p[g.final], 1]) for g, p in zip(graphs, pdfs, strict=True)]

    def _join_tables(self, joins: np.ndarray, weights: np.ndarray) -> None:
        """Pad the joins of each state to columns: two for all joined states, the rest for the few that have more."""
        states, first, count = np.unique(joins[:, 0], return_index=True, return_counts=True)
        order = np.argsort(-count, kind="stable")
        states, first, count = states[order], first[order], count[order]
        width = int(count.max(initial=0))
        slot = np.arange(width)[:, None]
        row = np.minimum(first + slot, len(joins) - 1)
        before = joins[row, 1]
        weight = np.where(slot < count, weights[row], IMPOSSIBLE)
        many = int((count > FEW_JOINS).sum())
        self.joined = self._indices(states)
        self.few = [(self._indices(before[k]), self._floats(weight[k])) for k in range(min(width, FEW_JOINS))]
        self.many = self._indices(before[FEW_JOINS:, :many]), self._floats(weight[FEW_JOINS:, :many])
        self.before = before
        self.join_of = np.full(len(self.stay), -1)
        self.join_of[states] = np.arange(len(states))

    def search(self, emissions: list[Tensor], columns: list[np.ndarray]) -> list[Path]:
        frames = np.array([len(e) for e in emissions])
        longest, total = int(frames.max()), int(self.starts[-1])
        offsets = np.concatenate([[0], np.cumsum([e.shape[1] for e in emissions])])
        column = self._indices(np.concatenate([c + o for c, o in zip(columns, offsets, strict=False)]))
        padded = torch.zeros((longest, int(offsets[-1])), device=self.device)
        for emission, a, b in zip(emissions, offsets[:-1], offsets[1:], strict=True):
            padded[: len(emission), a:b] = emission
        moves = torch.zeros((longest, total), dtype=torch.bool, device=self.device)
        joins = torch.zeros((longest, len(self.joined)), dtype=torch.uint8, device=self.device)
        ending: dict[int, list[int]] = {}
        for u, length in enumerate(frames):
            ending.setdefault(int(length) - 1, []).append(u)

        alpha = torch.full((total,), IMPOSSIBLE, device=self.device)
        alpha[self.initial] = 0.0
        alpha += padded[0][column]
        last, scores = np.zeros(len(frames), dtype=np.int64), np.zeros(len(frames))
        moved = torch.full_like(alpha, IMPOSSIBLE)
        for t in range(longest):
            if t:
                alpha = self._step(alpha, moved, moves[t], joins[t])
                alpha += padded[t].index_select(0, column)
            for u in ending.get(t, ()):
                score, best = (alpha[self.final[u]] + self.final_weight[u]).max(dim=0)
                last[u], scores[u] = int(self.final[u][best]), float(score)
        return self._trace(moves.cpu().numpy(), joins.cpu().numpy(), frames, last, scores)

    def _step(self, alpha: Tensor, moved: Tensor, move: Tensor, join: Tensor) -> Tensor:
        """One frame: (S,) scores before → (S,) after, writing what was chosen: move (S,), whether to come from the
        state before; join (J,), of the states with joins, 1 + k to come by the k-th, 0 to come by none.
        """
        torch.add(alpha[:-1], self.move[1:], out=moved[1:])
        stayed = alpha + self.stay
        torch.gt(moved, stayed, out=move)
        best = torch.maximum(stayed, moved, out=stayed)
        if len(self.joined):
            score = best.index_select(0, self.joined)
            for number, (before, weight) in enumerate(self.few):
                other = alpha.index_select(0, before).add_(weight)
                join.masked_fill_(other > score, 1 + number)
                score = torch.maximum(score, other, out=other)
            if self.many[0].numel():
                before, weight = self.many
                other, slot = (alpha[before] + weight).max(dim=0)
                some, code = score[: len(other)], join[: len(other)]
                code.copy_(torch.where(other > some, (slot + 1 + FEW_JOINS).to(torch.uint8), code))
                torch.maximum(some, other, out=some)
            best.index_copy_(0, self.joined, score)
        return best

    def _trace(
        self, moves: np.ndarray, joins: np.ndarray, frames: np.ndarray, last: np.ndarray, scores: np.ndarray
    ) -> list[Path]:
        states = np.zeros((int(frames.max()), len(frames)), dtype=np.int64)
        state = last.copy()
        for t in range(int(frames.max()) - 1, -1, -1):
            states[t] = state
            before = state - moves[t, state]
            number = self.join_of[state]
            code = np.where(number >= 0, joins[t, number], 0) if joins.size else np.zeros_like(state)
            joined = code > 0
            before[joined] = self.before[code[joined].astype(np.int64) - 1, number[joined]]
            state = np.where(t < frames, before, state)
        return [Path(states[:length, u] - self.starts[u], float(scores[u])) for u, length in enumerate(frames)]

    def _indices(self, array: np.ndarray) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(array, dtype=np.int64)).to(self.device)

    def _floats(self, array: np.ndarray) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(array, dtype=np.float32)).to(self.device)
