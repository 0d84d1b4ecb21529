"""Forced alignment of a whole split (Kaldi's gmm-align-compiled, exact instead of beam search)."""

import math
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from asr_kd import scratch
from asr_kd.hmm.gmm import Gmm
from asr_kd.hmm.speech import Speech
from asr_kd.hmm.transitions import scale_transitions, self_loops
from asr_kd.hmm.viterbi import align
from asr_kd.memory import give_back

BATCH_CELLS = 16_000_000  # states × frames; a byte of the search and some of scores for each
# Kaldi aligns with acoustic scale 0.1, self-loop scale 0.1, transition scale 1; here the acoustic scale is 1
SELF_LOOP_SCALE, TRANSITION_SCALE = 1.0, 10.0


@dataclass(frozen=True)
class Alignment:
    """codes (N,): context code of each frame of a Speech, −1 in utterances without an alignment; words (N,): number
    of the word in its transcript, −1 in silence; scores (U,): log-likelihood of each utterance's path, NaN without one.
    """

    codes: np.ndarray
    words: np.ndarray
    scores: np.ndarray

    @property
    def failed(self) -> np.ndarray:
        """Numbers of the utterances that have fewer frames than their transcript needs."""
        return np.flatnonzero(np.isnan(self.scores))


class _State:
    """Of the process: what aligns in place of it, given GMM, speech and the boost of silence."""

    elsewhere: Callable[[Gmm, Speech, float], Alignment] | None = None


@contextmanager
def aligned_by(elsewhere: Callable[[Gmm, Speech, float], Alignment] | None) -> Iterator[None]:
    """Within, `elsewhere` does what `align_speech` is asked for by a GMM's likelihoods (see asr_kd.hmm.shards); None:
    this process does.
    """
    before, _State.elsewhere = _State.elsewhere, elsewhere
    try:
        yield
    finally:
        _State.elsewhere = before


def align_speech(
    gmm: Gmm,
    speech: Speech,
    boost_silence: float = 1.0,
    jobs: int = 1,
    network: Callable[[int], Tensor] | None = None,
) -> Alignment:
    """Align every utterance; silence's likelihood is multiplied by `boost_silence`, as Kaldi's gmm-boost-silence.

    network: utterance number → (frames, num_pdfs) log-likelihoods to use in place of the GMM's, over the same tree.
    """
    if network is None and _State.elsewhere:
        return _State.elsewhere(gmm, speech, boost_silence)
    codes, words = (scratch.array((int(speech.starts[-1]),), np.int64) for _ in range(2))
    codes.fill(-1)
    words.fill(-1)
    scores = np.full(len(speech), np.nan)
    boost = np.where(gmm.tree.silence_pdfs(), math.log(boost_silence), 0.0).astype(np.float32)
    transitions = scale_transitions(gmm.log_transitions, self_loops(gmm.tree), TRANSITION_SCALE, SELF_LOOP_SCALE)

    def align_batch(batch: list[int]) -> None:
        graphs, emissions, columns, pdfs = [speech.graphs[u] for u in batch], [], [], []
        for u, graph in zip(batch, graphs, strict=True):
            pdf = gmm.tree.pdfs_of_codes(graph.codes)
            unique, column = np.unique(pdf, return_inverse=True)
            if network is None:
                emission = gmm.log_likelihoods(speech.features[speech.rows(u)], unique)
            else:
                emission = network(u)[:, unique]
            emissions.append(emission + emission.new_tensor(boost[unique]))
            columns.append(column)
            pdfs.append(pdf)
        for u, graph, path in zip(batch, graphs, align(graphs, emissions, columns, pdfs, transitions), strict=True):
            if path is not None and math.isfinite(path.score) and path.score > -1e20:
                codes[speech.rows(u)] = graph.codes[path.states]
                words[speech.rows(u)] = graph.words[path.states]
                scores[u] = path.score

    if network is None:
        gmm.log_likelihoods(speech.features[:1])  # fills the caches that the threads share
    give_back()
    with ThreadPoolExecutor(jobs) as threads:
        list(threads.map(align_batch, _batches(speech)))
    give_back()
    return Alignment(codes, words, scores)


def _batches(speech: Speech) -> list[list[int]]:
    """Utterances of like length together, up to BATCH_CELLS."""
    batches: list[list[int]] = []
    states = frames = 0
    for u in np.argsort(-speech.frames, kind="stable").tolist():
        more = len(speech.graphs[u])
        if not batches or (states + more) * frames > BATCH_CELLS:
            batches.append([])
            states, frames = 0, int(speech.frames[u])  # the longest
        batches[-1].append(u)
        states += more
    return batches
