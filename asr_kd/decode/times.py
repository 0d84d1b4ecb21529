"""When each recognised word was said: forced alignment of what was recognised, and CTM files (NIST's format)."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from asr_kd.hmm.boundaries import FIRST_BOUNDARY, FRAME_SHIFT
from asr_kd.hmm.gmm import Gmm
from asr_kd.hmm.transcript import TranscriptCompiler
from asr_kd.hmm.transitions import scale_transitions, self_loops
from asr_kd.hmm.viterbi import align


@dataclass(frozen=True)
class SpokenWord:
    """start, duration: seconds; confidence: the word's posterior."""

    word: str
    start: float
    duration: float
    confidence: float


class WordAligner:
    """Aligns words to acoustic scores by the transitions and scales of the search, its language model aside."""

    def __init__(
        self,
        gmm: Gmm,
        compiler: TranscriptCompiler,
        acoustic_scale: float,
        transition_scale: float,
        self_loop_scale: float,
    ) -> None:
        self._tree, self._compiler, self._scale = gmm.tree, compiler, acoustic_scale
        loops = self_loops(gmm.tree)
        self._transitions = scale_transitions(gmm.log_transitions, loops, transition_scale, self_loop_scale)

    def spans(self, scores: np.ndarray, words: Sequence[str]) -> list[tuple[int, int]]:
        """First frame of each word and the frame behind its last; scores: (T, num_pdfs).

        Raises ValueError where the words need more frames than there are.
        """
        if not words:
            return []
        graph = self._compiler.compile(words)
        pdfs = self._tree.pdfs_of_codes(graph.codes)
        unique, columns = np.unique(pdfs, return_inverse=True)
        emission = torch.from_numpy(scores[:, unique].astype(np.float32) * np.float32(self._scale))
        (path,) = align([graph], [emission], [columns], [pdfs], self._transitions)
        if path is None:
            raise ValueError(f"{len(scores)} frames are too few for {' '.join(words)}")
        spoken = graph.words[path.states]
        frames = [np.flatnonzero(spoken == number) for number in range(len(words))]
        return [(int(found[0]), int(found[-1]) + 1) for found in frames]


def spoken_words(
    words: Sequence[str], spans: Iterable[tuple[int, int]], confidences: Iterable[float]
) -> list[SpokenWord]:
    """Frames to seconds; a word begins between the middles of two windows, as in an alignment's word boundaries."""
    return [
        SpokenWord(word, round(start * FRAME_SHIFT + FIRST_BOUNDARY, 4), (end - start) * FRAME_SHIFT, confidence)
        for word, (start, end), confidence in zip(words, spans, confidences, strict=True)
    ]


def ctm_lines(utterance: str, words: Iterable[SpokenWord]) -> str:
    """`utterance channel start duration word confidence` lines."""
    return "".join(f"{utterance} 1 {w.start:.2f} {w.duration:.2f} {w.word} {w.confidence:.4f}\n" for w in words)
