"""Training an n-gram model on text, by kaldingram."""

import contextlib
import gc
import io
import math
import tempfile
from collections.abc import Collection, Iterable, Iterator, Sequence
from itertools import accumulate, pairwise
from pathlib import Path

from kaldingram.prune import ArpaParser, prune
from kaldingram.train import NgramCounts

from asr_kd.errors import UserError
from asr_kd.lang.arpa import BEGIN, UNKNOWN, Arpa
from asr_kd.recipe import NGram


def train_ngram(sentences: Iterable[Sequence[str]], vocabulary: Collection[str], recipe: NGram) -> Arpa:
    """Back-off Kneser-Ney model over `vocabulary`; other words of the sentences are counted as <unk>.

    Estimated from all n-grams; then those seen less often than the recipe's cut-offs go, then those whose loss raises
    the perplexity by less than `prune` (relative; Stolcke 1998). A word of the vocabulary that no sentence has counts
    as seen once.
    """
    with _quiet(), tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "lm.arpa"
        with path.open("w", encoding="utf-8") as file:
            _estimate(sentences, frozenset(vocabulary), recipe).print_as_arpa(file)
        if recipe.prune and recipe.order > 1:
            _prune(path, recipe.prune)
        arpa = Arpa.read(path)
    return _without_begin(arpa) if recipe.order == 1 else arpa


def _estimate(sentences: Iterable[Sequence[str]], vocabulary: frozenset[str], recipe: NGram) -> NgramCounts:
    counts = NgramCounts(recipe.order)
    unseen = set(vocabulary)
    for sentence in sentences:
        counts.add_raw_counts_from_line(" ".join(word if word in vocabulary else UNKNOWN for word in sentence))
        unseen.difference_update(sentence)
    for word in sorted(unseen):
        counts.add_count((), word, UNKNOWN, 1)
    counts.cal_discounting_constants()
    counts.cal_f()
    _cut(counts, recipe.cutoffs)
    counts.cal_bow()
    _weigh_histories(counts)
    return counts


def _cut(counts: NgramCounts, cutoffs: Sequence[int]) -> None:
    """Remove rare n-grams once all are estimated; what their probabilities held goes to back-off.

    Kaldingram's own cut-offs come before the estimation and ruin it: no n-gram seen once is left to tell the discount
    by, and an n-gram all of whose extensions were cut gets a probability of zero. A minimum holds for the higher orders
    too, so that every n-gram keeps its history and its back-off.
    """
    minima = accumulate([*cutoffs, 0, 0, 0, 0][: counts.ngram_order - 1], max)
    for of_order, minimum in zip(counts.counts[1:], minima, strict=True):
        for history, row in list(of_order.items()):
            row.word_to_f = {word: f for word, f in row.word_to_f.items() if row.word_to_count[word] >= minimum}
            row.word_to_count = {word: row.word_to_count[word] for word in row.word_to_f}
            if not row.word_to_f:
                del of_order[history]


def _weigh_histories(counts: NgramCounts) -> None:
    """A back-off factor of 1, log 0, for the histories to which kaldingram gives none.

    It gives none where all that the next lower order predicts has followed, so that no other word is left to back off
    to. ARPA files have a weight for every history.
    """
    for lower, longer in pairwise(counts.counts):
        for history in longer:
            factors = lower[history[:-1]].word_to_bow
            if factors.get(history[-1]) is None:
                factors[history[-1]] = 1.0


def _prune(path: Path, threshold: float) -> None:
    (model,) = ArpaParser().loadf(path, encoding="utf-8")
    try:
        prune(model, threshold, 2)
    except ValueError:  # the logarithm of a back-off mass that rounding made zero
        raise UserError(
            f"lang.ngram.prune: {threshold:g}: the LM text is too small to prune its model; set the key to 0"
        ) from None
    ArpaParser().dumpf(model, path, encoding="utf-8")


def _without_begin(unigram: Arpa) -> Arpa:
    """Give the share that kaldingram's unigram model has for <s>, which is never predicted, to the other words."""
    share = math.log10(1 - 10 ** unigram.orders[0][(BEGIN,)][0])
    rows = {ngram: (log10 - share, weight) for ngram, (log10, weight) in unigram.orders[0].items()}
    return Arpa([rows | {(BEGIN,): (-99.0, None)}])


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without kaldingram's progress bars, and without garbage collection, which walks millions of counts in vain."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        with contextlib.redirect_stderr(io.StringIO()):
            yield
    finally:
        if enabled:
            gc.enable()
