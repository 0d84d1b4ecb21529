"""What a sequence of tied states says of phones and words: an alignment that is not free to choose them.

Archives of pdfs hold no phones, and one pdf serves many contexts. But the transcript's pronunciations allow few
paths, and of those only the ones with the given pdf at every frame are left.
"""

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from asr_kd.hmm.aligner import Alignment, align_speech
from asr_kd.hmm.gmm import Gmm
from asr_kd.hmm.speech import Speech
from asr_kd.hmm.topology import ContextCodes
from asr_kd.hmm.transitions import count_arcs, estimate_transitions, initial_transitions
from asr_kd.hmm.tree import Tree
from asr_kd.hmm.viterbi import IMPOSSIBLE


def follow(speech: Speech, pdfs: Mapping[str, np.ndarray], model: Gmm, jobs: int) -> Alignment:
    """The best path of each transcript whose tied states are the given ones; without one, an utterance has failed.

    pdfs: utterance → (frames,); model: its tree and transition probabilities are used.
    """

    def scores(number: int) -> Tensor:
        given = torch.from_numpy(pdfs[speech.utterances[number]].astype(np.int64))
        return torch.full((len(given), model.num_pdfs), IMPOSSIBLE).scatter_(1, given[:, None], 0.0)

    return align_speech(model, speech, jobs=jobs, network=scores)


def without_gaussians(tree: Tree, log_transitions: np.ndarray | None = None) -> Gmm:
    """A model of tree and transition probabilities alone, which is what a graph needs."""
    if log_transitions is None:
        log_transitions = initial_transitions(tree)
    none = torch.zeros((0, 1))
    return Gmm(tree, torch.zeros(0, dtype=torch.int64), torch.zeros(0), none, none.clone(), log_transitions)


def transitions_of(tree: Tree, speech: Speech, alignment: Alignment) -> np.ndarray:
    """(num_pdfs, arcs) natural log-probabilities from the arcs that the alignment takes, as in GMM training."""
    counts = count_arcs(tree, alignment.codes, speech.starts[1:] - 1)
    with np.errstate(invalid="ignore"):  # a pdf of phones that the lexicon lacks has no arcs to share a count
        return estimate_transitions(tree, counts, initial_transitions(tree))


def alignment_rows(
    tree: Tree, speech: Speech, alignment: Alignment, pdfs: Mapping[str, np.ndarray]
) -> dict[str, np.ndarray]:
    """Of each utterance (frames, 6) int16: pdf, left phone, phone, right phone, HMM state, number of the word.

    A failed utterance has its pdfs, phone 0 and word −1 throughout.
    """
    decoded = ContextCodes(len(tree.phone_set)).decode(alignment.codes.clip(0))
    table = np.stack([*decoded, alignment.words], axis=1)
    return {
        name: np.column_stack([pdfs[name], table[speech.rows(u)]]).astype(np.int16)
        for u, name in enumerate(speech.utterances)
    }
