"""Word lattices: what a search kept beside its best path, as an acceptor of words with one path a sentence.

A decoder's lattice holds every alignment of every sentence. As in Kaldi's lattice-determinize-pruned, only the best
alignment of each sentence is kept, and only sentences within the lattice's beam of the best: OpenFst's determinisation
with a weight threshold, which prunes as it goes.
"""

import struct
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import kaldifst
import numpy as np

from asr_kd.wfst.graph import Graph, arc_array, from_rows

ACCEPTOR = 0x10000  # OpenFst's property; determinisation prunes as it goes only where it is known
MOST_STATES = 2000  # of a word lattice, made from the best sentences on
LATTICE_ARC = np.dtype([("ilabel", "<i4"), ("olabel", "<i4"), ("graph", "<f4"), ("acoustic", "<f4"), ("dest", "<i4")])
LATTICE_STATE = struct.Struct("<ffq")  # final costs of graph and acoustics, number of arcs
HEADER = struct.Struct("<iiQqqq")  # version, flags, properties, start, states, arcs


@dataclass(frozen=True)
class WordLattice:
    """fst: deterministic acyclic acceptor of word ids, a sentence's weight its cost less `offset`."""

    fst: kaldifst.StdVectorFst
    offset: float = 0.0

    @staticmethod
    def determinised(paths: Graph, beam: float, offset: float = 0.0) -> "WordLattice":
        """paths: acyclic, its output labels words or 0, its weights costs less `offset`; input labels do not matter.

        Sentences that cost more than the best one and `beam` are left out, and the dearest where there are too many.
        """
        arcs = paths.arcs.copy()
        arcs["ilabel"] = arcs["olabel"]
        fst = Graph(paths.start, paths.final, paths.source, arcs).to_fst()
        kaldifst.rmepsilon(fst)
        fst.properties(ACCEPTOR, True)
        return WordLattice(kaldifst.determinize(fst, weight=f"{beam:g}", nstate=MOST_STATES), offset)

    def nbest(self, count: int) -> list[tuple[tuple[int, ...], float]]:
        """The cheapest distinct sentences and their costs, cheapest first; fewer where the lattice has no more."""
        found = []
        for path in kaldifst.convert_nbest_to_vector(kaldifst.shortest_path(self.fst, n=count)):
            _, words, _, weight = kaldifst.get_linear_symbol_sequence(path)
            found.append((tuple(words), float(weight.value) + self.offset))
        return sorted(found, key=lambda pair: pair[1])

    def oracle(self, reference: Sequence[int]) -> int:
        """Fewest insertions, deletions and substitutions that any sentence of the lattice has; 0 is no word's id, so
        it stands for reference words that the decoder does not know.
        """
        free = Graph.from_fst(self.fst)
        free.arcs["weight"] = 0
        free.final[np.isfinite(free.final)] = 0
        unknown = int(max(free.arcs["ilabel"].max(initial=0), *reference, 0)) + 1
        edits = _edits([word or unknown for word in reference], np.unique(free.arcs["ilabel"]))
        paths = free.to_fst()
        kaldifst.minimize(paths)  # without their costs, many states are alike
        kaldifst.arcsort(paths, "olabel")
        kaldifst.arcsort(edits, "ilabel")
        _, _, _, weight = kaldifst.get_linear_symbol_sequence(kaldifst.shortest_path(kaldifst.compose(paths, edits)))
        return round(weight.value)


def _edits(reference: Sequence[int], vocabulary: np.ndarray) -> kaldifst.StdVectorFst:
    """Acceptor of all sentences over `vocabulary` at the cost of their edits to the reference."""
    words = vocabulary.tolist()
    rows = [(place, place, word, word, 1.0) for place in range(len(reference) + 1) for word in words]  # inserted
    for place, spoken in enumerate(reference):
        rows.append((place, place + 1, 0, 0, 1.0))
        rows += [(place, place + 1, word, word, float(word != spoken)) for word in words]
    return from_rows(0, {len(reference): 0.0}, rows).to_fst()


def lattice_graph(lattice: kaldifst.Lattice) -> Graph:
    """A decoder's lattice as arrays, the costs of graph and acoustics added."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "lattice"
        lattice.write(str(path))
        content = path.read_bytes()
    place = 4  # behind the magic number come two names, each after its length
    for _ in range(2):
        place += 4 + int.from_bytes(content[place : place + 4], "little")
    _, _, _, start, states, _ = HEADER.unpack_from(content, place)
    place += HEADER.size

    final, arcs = np.empty(states, np.float32), []
    for state in range(states):
        graph, acoustic, count = LATTICE_STATE.unpack_from(content, place)
        final[state] = graph + acoustic
        arcs.append(np.frombuffer(content, LATTICE_ARC, count, place + LATTICE_STATE.size))
        place += LATTICE_STATE.size + count * LATTICE_ARC.itemsize
    source = np.repeat(np.arange(states, dtype=np.int32), [len(part) for part in arcs])
    rows = np.concatenate(arcs) if arcs else np.empty(0, LATTICE_ARC)
    costs = rows["graph"] + rows["acoustic"]
    return Graph(start, final, source, arc_array(rows["ilabel"], rows["olabel"], costs, rows["dest"]))
