"""Alignment graphs: every pronunciation and optional silence of one transcript, expanded to triphone HMM states.

What Kaldi's compile-train-graphs makes, kept free of any model: states carry context codes, so that one graph serves
the monophone and every later tree.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from asr_kd.hmm.topology import MAX_STATES, SILENCE_ARCS, ContextCodes, is_silence
from asr_kd.lang.phones import NOISE, SILENCE, PhoneSet


@dataclass(frozen=True)
class TranscriptGraph:
    """States in order; a state's predecessors are itself, the state before it (`forward`), and the listed `joins`.

    codes (S,): context codes. words (S,): number of the word in the transcript, −1 in optional silence. self_arc (S,): index of each state's self-loop among its arcs. forward (S,): whether the
    state before is a predecessor, by arc 1. joins (J, 3): state, predecessor, arc out of the predecessor, sorted by
    state. initial, final: states where a path may begin and end (by arc 1). shortest: fewest frames of any path.
    """

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
        self._context_free = {phone for phone in range(1, len(phone_set)) if is_silence(phone_set, phone)}

    def compile(self, words: Sequence[str]) -> TranscriptGraph:
        return self._expand(self._phone_lattice([self._marked.get(word, self._noise) for word in words]))

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

    def _expand(self, lattice: _PhoneLattice) -> TranscriptGraph:
        """Split each phone instance by the phones that may stand on its two sides, then into HMM states."""
        phones = lattice.phones
        units: list[list[tuple[int, int, int]]] = []  # of a node: (left, right, first state)
        codes: list[int] = []
        words: list[int] = []
        self_arc: list[int] = []
        forward: list[bool] = []
        joins: list[tuple[int, int, int]] = []
        shortest: list[int] = []
        for node, phone in enumerate(phones):
            free = phone in self._context_free
            lefts = {0} if free else {phones[other] for other in lattice.before[node]}
            rights = {0} if free else {phones[other] for other in lattice.after[node]}
            if not free and lattice.initial[node]:
                lefts.add(0)
            if not free and lattice.final[node]:
                rights.add(0)
            here: list[tuple[int, int, int]] = []
            for left in sorted(lefts):
                for right in sorted(rights):
                    first = len(codes)
                    here.append((left, right, first))
                    base = self.codes.encode(left, phone, right)
                    if free:
                        codes.extend(range(base, base + MAX_STATES))
                        self_arc.extend((0, 0, 1, 2, 0))
                        forward.extend([False] * MAX_STATES)
                        joins.extend((first + state, first + before, arc) for state, before, arc in _SILENCE_JOINS)
                    else:
                        codes.extend((base, base + 1, base + 2))
                        self_arc.extend((0, 0, 0))
                        forward.extend((False, True, True))
                    words.extend([lattice.words[node]] * (len(codes) - first))
            units.append(here)
            for left, _, first in here:
                for other in lattice.before[node]:
                    if not free and phones[other] != left:
                        continue
                    last = MAX_STATES - 1 if phones[other] in self._context_free else 2
                    joins.extend(
                        (first, start + last, 1)
                        for _, right, start in units[other]
                        if right == phone or phones[other] in self._context_free
                    )
            states = 3  # a silence of five states can be passed in three: 0, one inner, 4
            shortest.append(states + min((shortest[other] for other in lattice.before[node]), default=0))
            if lattice.initial[node]:
                shortest[node] = states
        initial = [
            first for node, here in enumerate(units) if lattice.initial[node] for left, _, first in here if left == 0
        ]
        final = [
            first + (MAX_STATES - 1 if phones[node] in self._context_free else 2)
            for node, here in enumerate(units)
            if lattice.final[node]
            for _, right, first in here
            if right == 0
        ]
        table = np.array(joins, dtype=np.int64).reshape(-1, 3)
        return TranscriptGraph(
            codes=np.array(codes, dtype=np.int64),
            words=np.array(words, dtype=np.int64),
            self_arc=np.array(self_arc, dtype=np.int64),
            forward=np.array(forward, dtype=bool),
            joins=table[np.argsort(table[:, 0], kind="stable")],
            initial=np.array(initial, dtype=np.int64),
            final=np.array(final, dtype=np.int64),
            shortest=min(shortest[node] for node in range(len(phones)) if lattice.final[node]),
        )


_SILENCE_JOINS = tuple(
    (destination, source, arc)
    for source, destinations in enumerate(SILENCE_ARCS)
    for arc, destination in enumerate(destinations)
    if destination != source and destination < MAX_STATES
)


def flat_path(graph: TranscriptGraph, frames: int, rng: np.random.Generator) -> np.ndarray | None:
    """A uniform alignment for the flat start: (frames,) states along a random path, or None if there are too few frames.

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
