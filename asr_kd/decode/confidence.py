"""How sure each recognised word is: posteriors of N-best lists, flattened until they tell on dev which words are right.

A list holds few of a long sentence's alternatives, and the search takes each frame's scores for independent evidence:
posteriors lie too near 0 and 1. So costs are multiplied by a scale below 1, chosen on dev.
"""

from collections.abc import Mapping, Sequence

import kaldialign
import numpy as np

from asr_kd.decode.nbest import NBest, shares

GAP = -1
SCALES = (1.0, 0.7, 0.5, 0.35, 0.25, 0.18, 0.12, 0.08, 0.05, 0.0)  # 0: every sentence of a list counts the same
# Of a list: costs (n,), `agreement` (n, words), and which words of the first sentence are the reference's (words,).
Judged = tuple[np.ndarray, np.ndarray, np.ndarray]
FLOOR = 1e-3  # no word is surer than all but this: one that is wrong all the same would outweigh all others


def agreement(nbest: NBest) -> np.ndarray:
    """(n, words of the first sentence) bool: which sentences have each of its words there, aligned for fewest edits."""
    return np.array([_same(nbest.words[0], words) for words in nbest.words], dtype=bool)


def confidences(nbest: NBest, scale: float) -> list[float]:
    """For each word of the first sentence, the posterior of the sentences that have it there, costs times `scale`."""
    return _sure(nbest.costs, agreement(nbest), scale).tolist()


def normalised_cross_entropy(sure: np.ndarray, right: np.ndarray) -> float:
    """Share of the uncertainty about which words are right that confidences take away (NIST's NCE): 1 all, 0 as much as
    the share of right words alone does, below 0 worse than that. 0 where all are right, or all wrong.

    sure: (words,) confidences within 0 and 1; right: (words,) bool.
    """
    share = right.mean() if len(right) else 0.0
    if share in (0.0, 1.0):
        return 0.0
    most = -len(right) * (share * np.log(share) + (1 - share) * np.log(1 - share))
    left = -np.log(np.where(right, sure, 1 - sure)).sum()
    return float(1 - left / most)


def tune_confidence(lists: Mapping[str, NBest], references: Mapping[str, Sequence[int]]) -> float:
    """The scale of SCALES with the highest normalised cross-entropy over the first sentences' words; 1 without any.

    references: word ids of each utterance, 0 for words that the decoder does not know.
    """
    judged = _judged(lists, references)
    return max(SCALES, key=lambda scale: _information(judged, scale))


def information(lists: Mapping[str, NBest], references: Mapping[str, Sequence[int]], scale: float) -> float:
    """Normalised cross-entropy of the confidences at a scale."""
    return _information(_judged(lists, references), scale)


def _judged(lists: Mapping[str, NBest], references: Mapping[str, Sequence[int]]) -> list[Judged]:
    return [
        (nbest.costs, agreement(nbest), np.array(_same(nbest.words[0], references[name]), dtype=bool))
        for name, nbest in lists.items()
    ]


def _information(judged: Sequence[Judged], scale: float) -> float:
    sure = [np.zeros(0), *(_sure(costs, same, scale) for costs, same, _ in judged)]
    right = [np.zeros(0, dtype=bool), *(those for _, _, those in judged)]
    return normalised_cross_entropy(np.concatenate(sure), np.concatenate(right))


def _sure(costs: np.ndarray, same: np.ndarray, scale: float) -> np.ndarray:
    return np.asarray((shares(scale * costs) @ same).clip(FLOOR, 1 - FLOOR))


def _same(words: Sequence[int], others: Sequence[int]) -> list[bool]:
    pairs = kaldialign.align(list(words), list(others), GAP)
    return [ours == theirs for ours, theirs in pairs if ours != GAP]
