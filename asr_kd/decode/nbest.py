"""N-best lists: distinct sentences with their costs and posteriors."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import kaldialign
import numpy as np

from asr_kd.decode.lattice import WordLattice
from asr_kd.decode.search import Hypothesis
from asr_kd.decode.tuning import Point


@dataclass(frozen=True)
class NBest:
    """words: distinct sentences of word ids, the cheapest first; costs: (n,) negative natural logs, the acoustic part
    scaled by 1 / LM scale; lm_costs: (n, models) unscaled: of the graph's n-gram, and of one to take its place.
    """

    words: tuple[tuple[int, ...], ...]
    costs: np.ndarray
    lm_costs: np.ndarray

    @property
    def lengths(self) -> np.ndarray:
        """(n,) words of each sentence."""
        return np.array([len(words) for words in self.words], dtype=np.int64)

    @property
    def posteriors(self) -> np.ndarray:
        """(n,) each sentence's share of the list's probability."""
        return shares(self.costs)

    def rescored_costs(self, searched: Point, point: Point) -> np.ndarray:
        """(n,) costs with the last model of `lm_costs` at `point` in place of the graph's at `searched`, where the
        language model's scale is 1.
        """
        base = self.costs - self.lm_costs[:, 0] - searched.word_penalty * self.lengths
        return base + point.lm_scale / searched.lm_scale * self.lm_costs[:, -1] + point.word_penalty * self.lengths

    def with_costs(self, costs: np.ndarray) -> "NBest":
        """The same sentences at other costs (n,), in their new order."""
        order = np.argsort(costs, kind="stable")
        words = tuple(self.words[place] for place in order)
        return replace(self, words=words, costs=costs[order], lm_costs=self.lm_costs[order])

    def spelled(self, words: Sequence[tuple[int, ...]]) -> "NBest":
        """The list with `words` in place of its sentences; of those that become the same, the cheapest stays."""
        places: dict[tuple[int, ...], int] = {}
        for place, sentence in enumerate(words):
            places.setdefault(sentence, place)
        kept = list(places.values())
        return NBest(tuple(places), self.costs[kept], self.lm_costs[kept])


def shares(costs: np.ndarray) -> np.ndarray:
    """(n,) costs to probabilities that sum to 1."""
    found = np.exp(costs.min() - costs)
    return np.asarray(found / found.sum())


def merge(lattice: WordLattice | None, best: Hypothesis, count: int) -> list[tuple[tuple[int, ...], float]]:
    """The cheapest `count` sentences of the lattice and the search's best, at the lower cost where both have one.

    A lattice is narrower than the search for one sentence and may have lost it.
    """
    costs = dict(lattice.nbest(count)) if lattice else {}
    words, cost = tuple(best.words), best.graph_cost + best.acoustic_cost
    costs[words] = min(cost, costs.get(words, cost))
    return sorted(costs.items(), key=lambda pair: pair[1])[:count]


def edits(reference: Sequence[int], hypothesis: Sequence[int]) -> int:
    """Insertions, deletions and substitutions."""
    return int(kaldialign.edit_distance(list(reference), list(hypothesis))["total"])
