"""Search of an HCLG for the best word sequence: one interface, kaldi-decoder behind it.

The search is one-best (Kaldi's decode-faster), with a bound on the states of a frame that kaldi-decoder's search for
lattices (asr_kd.decode.lattice_search) does not have.
"""

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import kaldi_decoder
import kaldifst
import numpy as np

from asr_kd.errors import UserError
from asr_kd.wfst.graph import Graph


@dataclass(frozen=True)
class Hypothesis:
    """words: word ids; pdfs: (T,) int32 of the path; costs: negative natural logs, the acoustic one scaled.

    `complete` is False when no final state was reached and the path stops in the middle of the grammar.
    """

    words: list[int]
    pdfs: np.ndarray
    graph_cost: float
    acoustic_cost: float
    complete: bool


class Searcher(Protocol):
    """What every back end offers. Raises ValueError for scores that cannot be searched or that no path survives."""

    def search(self, scores: np.ndarray) -> Hypothesis:
        """scores: (T, num_pdfs) acoustic log-likelihoods."""
        ...


@dataclass(frozen=True)
class KaldiSearcher:
    """Beam search by kaldi-decoder; beam in units of scaled cost, max_active states a frame."""

    graph: kaldifst.StdConstFst
    acoustic_scale: float
    beam: float
    max_active: int

    def search(self, scores: np.ndarray) -> Hypothesis:
        if len(scores) == 0:
            raise ValueError("no frames")
        if not np.isfinite(scores).all():
            raise ValueError("acoustic scores are not finite")
        options = kaldi_decoder.FasterDecoderOptions(beam=self.beam, max_active=self.max_active)
        decoder = kaldi_decoder.FasterDecoder(self.graph, options)
        decoder.decode(kaldi_decoder.DecodableCtc(scores.astype(np.float32) * np.float32(self.acoustic_scale)))
        found, path = decoder.get_best_path()
        if not found:
            raise ValueError("no path survived the beam")
        _, labels, words, weight = kaldifst.get_linear_symbol_sequence(path)
        pdfs = np.array(labels, dtype=np.int32) - 1
        return Hypothesis(words, pdfs, weight.value1, weight.value2, decoder.reached_final())


def load_graph(path: Path, word_penalty: float = 0.0, beginnings: Sequence[int] | None = None) -> kaldifst.StdConstFst:
    """Read an HCLG; every word of it costs `word_penalty` more, beside the unscaled language model (as Kaldi's
    lattice-add-penalty). UserError when the file is missing or damaged.

    beginnings: of a graph over pieces of words, the output labels that begin a word and pay for it; None: all.
    """
    graph = read_graph(path, word_penalty, beginnings)
    if word_penalty == 0:
        return kaldifst.StdConstFst.read(str(path))
    with tempfile.TemporaryDirectory() as folder:
        changed = Path(folder) / path.name
        graph.write(changed)
        return kaldifst.StdConstFst.read(str(changed))


def read_graph(path: Path, word_penalty: float, beginnings: Sequence[int] | None = None) -> Graph:
    """The graph that `load_graph` loads, as arrays."""
    graph = Graph.read(path)
    label = graph.arcs["olabel"]
    graph.arcs["weight"][label > 0 if beginnings is None else np.isin(label, beginnings)] += word_penalty
    return graph


def read_word_symbols(path: Path) -> list[str]:
    """words.txt as a list by word id."""
    try:
        rows = [line.split() for line in path.read_text(encoding="utf-8").splitlines()]
    except FileNotFoundError:
        raise UserError(f"{path}: missing; run --stage 2 (lang)") from None
    return [symbol for symbol, _ in sorted(rows, key=lambda row: int(row[1]))]
