"""Search of the graph in pieces, as the frames come: asr_kd.decode.search for a stream."""

from dataclasses import dataclass
from pathlib import Path

import kaldi_decoder
import kaldifst
import numpy as np

from asr_kd.errors import UserError


@dataclass(frozen=True)
class BestPath:
    """words: word ids; pdfs: (T,) int32 tied states; `complete`: it ends where a sentence may end."""

    words: list[int]
    pdfs: np.ndarray
    complete: bool


@dataclass(frozen=True)
class SearchGraph:
    """An HCLG and the width of its search: beam in scaled cost, max_active states a frame."""

    fst: kaldifst.StdConstFst
    acoustic_scale: float
    beam: float
    max_active: int

    @staticmethod
    def read(path: Path, acoustic_scale: float, beam: float, max_active: int) -> "SearchGraph":
        fst = kaldifst.StdConstFst.read(str(path))
        if fst is None:
            raise UserError(f"{path}: not a search graph; export it again")
        return SearchGraph(fst, acoustic_scale, beam, max_active)

    def start(self) -> "Search":
        return Search(self)


class Search:
    """One utterance on its way through the graph; kaldi-decoder's one-best search."""

    def __init__(self, graph: SearchGraph) -> None:
        self.frames = 0
        self._scale = np.float32(graph.acoustic_scale)
        options = kaldi_decoder.FasterDecoderOptions(beam=graph.beam, max_active=graph.max_active)
        self._decoder = kaldi_decoder.FasterDecoder(graph.fst, options)
        self._decoder.init_decoding()

    def advance(self, scores: np.ndarray) -> None:
        """Search on through the next (T, num_pdfs) float32 log-likelihoods."""
        if len(scores):
            self._decoder.advance_decoding(kaldi_decoder.DecodableCtc(scores * self._scale, self.frames))
            self.frames += len(scores)

    def best_path(self, at_end: bool = True) -> BestPath:
        """The best path so far; at the end of the utterance the cost of ending there counts."""
        found, path = self._decoder.get_best_path(at_end) if self.frames else (False, None)
        if not found:
            return BestPath([], np.zeros(0, np.int32), False)
        _, labels, words, _ = kaldifst.get_linear_symbol_sequence(path)
        return BestPath(words, np.array(labels, np.int32) - 1, self._decoder.reached_final())
