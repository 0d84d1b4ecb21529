"""Alignment graphs: every pronunciation and optional silence of one transcript, expanded to triphone HMM states.

What Kaldi's compile-train-graphs makes, kept free of any model: states carry context codes, so that one graph serves
the monophone and every later tree.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np

from asr_kd.hmm.topology import MAX_STATES, PHONE_ARCS, SILENCE_ARCS, ContextCodes, is_silence
from asr_kd.lang.phones import NOISE, SILENCE, PhoneSet


@dataclass(frozen=True)
class TranscriptGraph:
    """States in order; a state's predecessors are itself, the state before it (`forward`), and the listed `joins`.

    transcript: the words. codes (S,): context codes. words (S,): number of the word in the transcript, −1 in optional
    silence. self_arc (S,): index of each state's self-loop among its arcs. forward (S,): whether the state before is a
    predecessor, by arc 1. joins (J, 3): state, predecessor, arc out of the predecessor, sorted by state. initial,
    final: states where a path may begin and end (by arc 1). shortest: fewest frames of any path.
    """

    transcript: tuple[str, ...]
    codes: np.ndarray
    words: np.ndarray
    self_arc: np.ndarray
    forward: np.ndarray
    joins: np.ndarray
    initial: np.ndarray
    final: np.ndarray
    shortest: int

    def __len__(self) -> int:
        return len(self.codes)


class _PhoneLattice:
    """Phone instances of a transcript and which may follow which."""

    def __init__(self) -> None:
        self.phones: list[int] = []
        self.words: list[int] = []
        self.before: list[list[int]] = []
        self.after: list[list[int]] = []
        self.initial: list[bool] = []
        self.final: list[bool] = []

    def add(self, phone: int, word: int, before: list[int], initial: bool) -> int:
        node = len(self.phones)
        self.phones.append(phone)
        self.words.append(word)
        self.before.append(before)
        self.after.append([])
        self.initial.append(initial)
        self.final.append(False)
        for other in before:
            self.after[other].append(node)
        return node


class TranscriptCompiler:
    """Builds TranscriptGraphs from words; a word without an entry in the lexicon is spoken noise."""

    def __init__(self, phone_set: PhoneSet, pronunciations: Mapping[str, Sequence[tuple[str, ...]]]) -> None:
        self.codes = ContextCodes(len(phone_set))
        self._marked = {
            word: [phone_set.mark(variant) for variant in variants] for word, variants in pronunciations.items()
        }
        self._silence = phone_set.ids[SILENCE]
        self._noise = [[phone_set.ids[NOISE]]]
        self._silences = {phone for phone in range(1, len(phone_set)) if is_silence(phone_set, phone)}

    def compile(self, words: Sequence[str], context: bool = True) -> TranscriptGraph:
        """The graph of one transcript. Without `context`, for the monophone, every phone has left and right 0."""
        lattice = self._phone_lattice([self._marked.get(word, self._noise) for word in words])
        expansion = _Expansion(lattice, self.codes, self._silences, context)
        for node in range(len(lattice.phones)):
            expansion.add_units(node)
            expansion.join_units(node)
        return expansion.graph(tuple(words))

    def _phone_lattice(self, slots: list[list[list[int]]]) -> _PhoneLattice:
        lattice, ends = _PhoneLattice(), list[int]()
        for number, variants in enumerate(slots):
            silence = lattice.add(self._silence, -1, ends, initial=number == 0)
            starts, ends = [*ends, silence], []
            for variant in variants:
                node = lattice.add(variant[0], number, starts, initial=number == 0)
                for phone in variant[1:]:
                    node = lattice.add(phone, number, [node], initial=False)
                ends.append(node)
        silence = lattice.add(self._silence, -1, ends, initial=not slots)
        for node in [*ends, silence]:
            lattice.final[node] = True
        return lattice


class _Expansion:
    """Splits phone instances by the phones that may stand on their two sides (units), and units into HMM states."""

    def __init__(self, lattice: _PhoneLattice, codes: ContextCodes, silences: set[int], context: bool) -> None:
        self.lattice, self.encoder, self.silences, self.context = lattice, codes, silences, context
        self.units: list[list[tuple[int, int, int]]] = []  # of a node: (left, right, first state)
        self.codes: list[int] = []
        self.words: list[int] = []
        self.self_arc: list[int] = []
        self.forward: list[bool] = []
        self.joins: list[tuple[int, int, int]] = []
        self.shortest: list[int] = []

    def _free(self, phone: int) -> bool:
        return not self.context or phone in self.silences

    def _last(self, node: int) -> int:
        """Offset of the node's last state in its units."""
        return MAX_STATES - 1 if self.lattice.phones[node] in self.silences else len(PHONE_ARCS) - 1

    def add_units(self, node: int) -> None:
        lattice, phone = self.lattice, self.lattice.phones[node]
        lefts, rights = [0], [0]
        if not self._free(phone):
            lefts = [lattice.phones[other] for other in lattice.before[node]] + [0] * lattice.initial[node]
            rights = [lattice.phones[other] for other in lattice.after[node]] + [0] * lattice.final[node]
        self.units.append([])
        for left, right in product(sorted(set(lefts)), sorted(set(rights))):
            first, base = len(self.codes), self.encoder.encode(left, phone, right)
            self.units[node].append((left, right, first))
            if phone in self.silences:
                self.self_arc.extend((0, 0, 1, 2, 0))
                self.forward.extend([False] * MAX_STATES)
                self.joins.extend((first + state, first + before, arc) for state, before, arc in _SILENCE_JOINS)
            else:
                self.self_arc.extend((0, 0, 0))
                self.forward.extend((False, True, True))
            states = self._last(node) + 1
            self.codes.extend(range(base, base + states))
            self.words.extend([lattice.words[node]] * states)

    def join_units(self, node: int) -> None:
        """Let the node's units follow those of its predecessors whose context agrees."""
        lattice, phone = self.lattice, self.lattice.phones[node]
        for left, _, first in self.units[node]:
            for other in lattice.before[node]:
                before, last = lattice.phones[other], self._last(other)
                if self._free(phone) or before == left:
                    follows = self.units[other]
                    any_right = self._free(before)
                    self.joins.extend((first, start + last, 1) for _, r, start in follows if any_right or r == phone)
        before_it = [0] if lattice.initial[node] else [self.shortest[other] for other in lattice.before[node]]
        self.shortest.append(min(before_it) + 3)  # silence too can be passed in three frames: states 0, 1 and 4

    def graph(self, transcript: tuple[str, ...]) -> TranscriptGraph:
        nodes = range(len(self.lattice.phones))
        initial = [first for n in nodes if self.lattice.initial[n] for left, _, first in self.units[n] if left == 0]
        final = [
            first + self._last(n)
            for n in nodes
            if self.lattice.final[n]
            for _, right, first in self.units[n]
            if right == 0
        ]
        joins = np.array(self.joins, dtype=np.int64).reshape(-1, 3)
        return TranscriptGraph(
            transcript,
            codes=np.array(self.codes, dtype=np.int64),
            words=np.array(self.words, dtype=np.int64),
            self_arc=np.array(self.self_arc, dtype=np.int64),
            forward=np.array(self.forward, dtype=bool),
            joins=joins[np.argsort(joins[:, 0], kind="stable")],
            initial=np.array(initial, dtype=np.int64),
            final=np.array(final, dtype=np.int64),
            shortest=min(self.shortest[n] for n in nodes if self.lattice.final[n]),
        )


_SILENCE_JOINS = tuple(
    (destination, source, arc)
    for source, destinations in enumerate(SILENCE_ARCS)
    for arc, destination in enumerate(destinations)
    if destination != source and destination < MAX_STATES
)


def flat_path(graph: TranscriptGraph, frames: int, rng: np.random.Generator) -> np.ndarray | None:
    """A uniform alignment for the flat start: (frames,) states along a random path, None if there are too few frames.

    Kaldi's align-equal-compiled: pronunciations and silences are drawn at random, frames are shared out equally.
    """
    state, path = int(rng.choice(graph.final)), list[int]()
    while True:
        path.append(state)
        if graph.forward[state]:
            state -= 1
            continue
        first, end = np.searchsorted(graph.joins[:, 0], (state, state + 1))
        if first == end:
            break
        state = int(graph.joins[rng.integers(first, end), 1])
    path.reverse()
    if frames < len(path):
        return None
    return np.array(path)[np.arange(frames) * len(path) // frames]
