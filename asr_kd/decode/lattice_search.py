"""Searches for lattices by kaldi-decoder, behind the interface that every back end offers."""

from dataclasses import dataclass
from typing import Protocol

import kaldi_decoder
import kaldifst
import numpy as np

from asr_kd.decode.lattice import WordLattice, lattice_graph
from asr_kd.decode.search import Hypothesis, KaldiSearcher


@dataclass(frozen=True)
class Found:
    """best: as of the search for one sentence; lattice: None where no path of it came to an end that best has.

    density: states a frame of the decoder's lattice, every alignment counted.
    """

    best: Hypothesis
    lattice: WordLattice | None
    density: float


class LatticeSearcher(Protocol):
    """What every back end offers. Raises ValueError as Searcher does."""

    def search(self, scores: np.ndarray) -> Found:
        """scores: (T, num_pdfs) acoustic log-likelihoods."""
        ...


@dataclass(frozen=True)
class KaldiLatticeSearcher:
    """A lattice by LatticeSimpleDecoder beside the best path of `one_best`.

    That decoder has no max_active: at the same beam it takes twenty times as long over unclear speech as over clear
    (benchmarks/lattices.py). But what it takes goes with the states that a narrower beam leaves in the lattice. So it
    starts with the narrowest of `beams` and goes on to the next only while the lattice found has at most `max_density`
    states a frame. That depends on nothing but the utterance.
    """

    one_best: KaldiSearcher
    beams: tuple[float, ...]
    lattice_beam: float
    max_density: float

    def search(self, scores: np.ndarray) -> Found:
        best = self.one_best.search(scores)
        scaled = scores.astype(np.float32) * np.float32(self.one_best.acoustic_scale)
        # It adds up costs in float32: with each frame's best score at 0 they stay small.
        level = scaled.max(axis=1)
        decodable = kaldi_decoder.DecodableCtc(scaled - level[:, None])
        raw, density = None, 0.0
        for beam in sorted(self.beams):
            config = kaldi_decoder.LatticeSimpleDecoderConfig(beam=beam, lattice_beam=min(beam, self.lattice_beam))
            decoder = kaldi_decoder.LatticeSimpleDecoder(self.one_best.graph, config)
            complete = decoder.decode(decodable)
            found, lattice = decoder.get_raw_lattice()
            if found and (complete or not best.complete):
                raw = lattice
            density = lattice.num_states / len(scores)
            if density > self.max_density:
                break
        return Found(best, self._of_words(raw, -float(level.sum(dtype=np.float64))), density)

    def _of_words(self, raw: kaldifst.Lattice | None, offset: float) -> WordLattice | None:
        return None if raw is None else WordLattice.determinised(lattice_graph(raw), self.lattice_beam, offset)
