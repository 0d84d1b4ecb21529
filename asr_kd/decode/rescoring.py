"""Another n-gram in place of the graph's: costs of sentences, and the scales that suit it, tuned on dev."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import kaldifst
import numpy as np

from asr_kd.decode.nbest import NBest, edits
from asr_kd.decode.tuning import Point
from asr_kd.recipe import Scales
from asr_kd.wfst.grammar import grammar
from asr_kd.wfst.lexicon import BACKOFF, read_words


class GrammarCosts:
    """Costs of sentences under an n-gram model as a decoding graph has them: the cheapest way through its back-offs."""

    def __init__(self, arpa: Path, words: Path) -> None:
        """words: the table whose ids the sentences have. UserError when a file is missing or wrong."""
        self._backoff = read_words(words)[BACKOFF]
        self._grammar = grammar(arpa, words)
        kaldifst.arcsort(self._grammar, "ilabel")

    def cost(self, words: Sequence[int]) -> float:
        """Negative natural log of the sentence's probability; inf with a word that the model lacks."""
        sentence = kaldifst.make_linear_acceptor(list(words))
        for state in range(sentence.num_states):
            sentence.add_arc(state, kaldifst.StdArc(self._backoff, self._backoff, 0.0, state))
        kaldifst.arcsort(sentence, "olabel")
        best = kaldifst.shortest_path(kaldifst.compose(sentence, self._grammar))
        if best.num_states == 0:
            return float("inf")
        _, _, _, weight = kaldifst.get_linear_symbol_sequence(best)
        return float(weight.value)


def tune_rescoring(
    lists: Mapping[str, NBest], references: Mapping[str, Sequence[int]], scales: Scales, searched: Point
) -> dict[Point, float]:
    """Word error rates of dev over the whole grid, the best first (of equals, the nearest to `searched`).

    references: word ids of each utterance, 0 for words that the decoder does not know; all count, with a list or not.
    """
    words = max(1, sum(map(len, references.values())))
    silent = sum(len(reference) for name, reference in references.items() if name not in lists)
    errors = {
        name: np.array([edits(references[name], sentence) for sentence in nbest.words]) for name, nbest in lists.items()
    }
    rates = {}
    for point in (Point(scale, penalty) for scale in scales.lm_scale for penalty in scales.word_penalty):
        chosen = (errors[name][nbest.rescored_costs(searched, point).argmin()] for name, nbest in lists.items())
        rates[point] = (silent + int(sum(chosen))) / words

    def rank(point: Point) -> tuple[float, float, float]:
        return rates[point], abs(point.lm_scale - searched.lm_scale), abs(point.word_penalty - searched.word_penalty)

    return {point: rates[point] for point in sorted(rates, key=rank)}
