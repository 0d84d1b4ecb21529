"""Acoustic scores of the systems: GMM log-likelihoods, or network posteriors over priors."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import accumulate

import numpy as np

from asr_kd import scratch
from asr_kd.features.store import FrameStore
from asr_kd.hmm.scorer import Scorer as GmmScorer
from asr_kd.nn.posteriors import Scorer as NetworkScorer
from asr_kd.workspace import Workspace

Load = Callable[[], "Acoustics"]


@dataclass(frozen=True)
class Acoustics:
    """scores(utterance) → (T, num_pdfs) float32 log-likelihoods up to a constant a frame.

    log_prior: (num_pdfs,) added back to the scores it gives log posteriors (scaled as they are); None for a system
    whose states are not those of the alignment. load: how another process gets the same from files.
    """

    scores: Callable[[str], np.ndarray]
    log_prior: np.ndarray | None
    load: Load | None = None

    def correct(self, scores: np.ndarray, states: np.ndarray) -> int:
        """Frames whose most probable state is the alignment's; states: (T,)."""
        assert self.log_prior is not None
        return int(((scores + self.log_prior).argmax(axis=1) == states).sum())


def gmm_acoustics(scorer: GmmScorer, split: str, log_prior: np.ndarray | None, load: Load | None = None) -> Acoustics:
    return Acoustics(lambda utterance: scorer.scores(split, utterance), log_prior, load)


def network_acoustics(scorer: NetworkScorer, split: str, prior_scale: float, load: Load | None = None) -> Acoustics:
    """log posterior − prior_scale · log prior (the hybrid's scaled likelihood, Bourlard & Morgan 1994)."""
    log_prior = (prior_scale * scorer.log_prior).astype(np.float32)
    return Acoustics(lambda utterance: scorer.log_posteriors(split, utterance) - log_prior, log_prior, load)


def kept(acoustics: Acoustics, frames: dict[str, int], num_pdfs: int) -> Acoustics:
    """The same, with the scores of some utterances computed once for many searches; frames: of each of those.

    They lie in a mapped file, so that of the processes forked after this call each finds what any has computed.
    """
    starts = dict(zip(frames, accumulate(frames.values(), initial=0), strict=False))
    rows = scratch.array((sum(frames.values()), num_pdfs + 1), np.float32)  # the last column: whether they are there
    rows[list(starts.values()), -1] = 0.0

    def scores(utterance: str) -> np.ndarray:
        if utterance not in starts:
            return acoustics.scores(utterance)
        own = rows[starts[utterance] : starts[utterance] + frames[utterance]]
        if not own[0, -1]:
            own[:, :-1] = acoustics.scores(utterance)
            own[0, -1] = 1.0
        return own[:, :-1]

    return replace(acoustics, scores=scores)


def alignment_log_prior(work: Workspace) -> np.ndarray:
    """(num_pdfs,) float32 log share of each tied state in the training alignment, every state counted once more."""
    store = FrameStore(work.alignment("train"))
    counts = np.ones(store.meta["num_pdfs"])
    for utterance in store:
        counts += np.bincount(store[utterance][:, 0], minlength=len(counts))
    return np.log(counts / counts.sum()).astype(np.float32)
