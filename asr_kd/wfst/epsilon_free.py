"""A search graph without epsilons, for searches in which every arc takes a frame (k2's).

Each way over epsilon arcs to an arc that takes a frame becomes one arc of its own. A library's removal of epsilons
keeps, of several such ways, the cheapest, and so loses all homophones but one; here each keeps its words.
"""

from dataclasses import dataclass

import numpy as np

from asr_kd.wfst.graph import Graph

END = -1


@dataclass(frozen=True)
class EpsilonFree:
    """source, dest, label, cost: one entry an arc, sorted by source; the label END leads to the last state, which has
    no arcs. string: (arcs,) place in `words` and `following` of the arc's first word, 0 for none; following: (n,) the
    place of the next word, 0 after the last.
    """

    start: int
    num_states: int
    source: np.ndarray
    dest: np.ndarray
    label: np.ndarray
    cost: np.ndarray
    string: np.ndarray
    words: np.ndarray
    following: np.ndarray

    def words_of(self, arcs: np.ndarray) -> np.ndarray:
        """arcs: (n,) numbers → (n, most) word ids, 0 behind the last word of each."""
        place, columns = self.string[arcs], []
        while place.any():
            columns.append(self.words[place])
            place = self.following[place]
        return np.stack(columns, axis=1) if columns else np.zeros((len(arcs), 0), np.int32)


def without_epsilons(graph: Graph) -> EpsilonFree:
    """The same sentences at the same costs for the same input. Raises ValueError for a cycle of epsilon arcs."""
    ending = np.flatnonzero(np.isfinite(graph.final)).astype(np.int32)
    silent = graph.arcs["ilabel"] == 0
    over, over_source = graph.arcs[silent], graph.source[silent]
    emitting = graph.arcs[~silent]
    last = graph.num_states
    source = np.concatenate([graph.source[~silent], ending])
    dest = np.concatenate([emitting["dest"], np.full(len(ending), last, np.int32)])
    label = np.concatenate([emitting["ilabel"], np.full(len(ending), END, np.int32)])
    cost = np.concatenate([emitting["weight"], graph.final[ending]])
    word = np.concatenate([emitting["olabel"], np.zeros(len(ending), np.int32)])

    words, following = [np.zeros(1, np.int32), word[word > 0]], [np.zeros(1, np.int32)]
    following.append(np.zeros(len(words[1]), np.int32))
    count = 1 + len(words[1])
    string = np.zeros(len(word), np.int32)
    string[word > 0] = np.arange(1, count)
    layers = [(source, dest, label, cost, string)]
    while len(layers[-1][0]):
        if len(layers) > graph.num_states + 1:
            raise ValueError("the graph has a cycle of epsilon arcs")
        source, dest, label, cost, string = layers[-1]
        arc, after = _joined(over["dest"], source, last + 1)
        string, said = string[after], over["olabel"][arc] > 0
        words.append(over["olabel"][arc[said]])
        following.append(string[said])
        string[said] = np.arange(count, count + said.sum())
        count += int(said.sum())
        layers.append((over_source[arc], dest[after], label[after], over["weight"][arc] + cost[after], string))

    columns = [np.concatenate(parts) for parts in zip(*layers, strict=True)]
    # What only epsilon arcs entered, nothing enters now.
    entered = np.zeros(last + 1, bool)
    entered[columns[1]] = entered[graph.start] = True
    kept = np.flatnonzero(entered[columns[0]])
    # k2 wants the arcs of a state sorted by label as an unsigned number.
    kept = kept[np.lexsort((columns[2][kept].astype(np.uint32), columns[0][kept]))]
    source, dest, label, cost, string = (column[kept] for column in columns)
    table = np.concatenate(words), np.concatenate(following)
    return EpsilonFree(graph.start, last + 1, source, dest, label, cost, string, *table)


def _joined(middle: np.ndarray, source: np.ndarray, states: int) -> tuple[np.ndarray, np.ndarray]:
    """All pairs (i, j) with middle[i] == source[j], as two arrays of indices."""
    order = np.argsort(source, kind="stable")
    count = np.bincount(source, minlength=states)
    first, times = np.cumsum(count) - count, count[middle]
    left = np.repeat(np.arange(len(middle)), times)
    within = np.arange(len(left)) - np.repeat(np.cumsum(times) - times, times)
    return left, order[first[middle][left] + within]
