from collections import Counter, defaultdict
from itertools import pairwise

import numpy as np
import pytest

from asr_kd.lang.arpa import Arpa
from asr_kd.lang.ngram import train_ngram
from asr_kd.recipe import NGram

VOCABULARY = [f"w{number}" for number in range(30)]


def markov_sentences(count: int, seed: int = 0) -> list[list[str]]:
    """Sentences in which a word makes its neighbours in VOCABULARY likely; one word in 40 is out of vocabulary."""
    rng = np.random.default_rng(seed)
    sentences = []
    for _ in range(count):
        steps = rng.geometric(0.25, size=rng.integers(1, 12))
        words = [VOCABULARY[state % 30] for state in rng.integers(30) + np.cumsum(steps)]
        sentences.append([word if rng.random() > 1 / 40 else "zebra" for word in words])
    return sentences


def total_probability(arpa: Arpa, history: tuple[str, ...]) -> float:
    return sum(10 ** arpa.log10_probability(history, word) for word in (*arpa.words, "</s>"))


def histories(arpa: Arpa) -> list[tuple[str, ...]]:
    seen = {ngram[:-1] for ngrams in arpa.orders for ngram in ngrams}
    return [*seen, ("w0", "w0"), ("zebra",)]


@pytest.mark.parametrize(
    "recipe",
    [
        NGram(order=1),
        NGram(order=2, cutoffs=()),
        NGram(order=3, cutoffs=(0, 0)),
        NGram(order=3, cutoffs=(2, 2)),
        NGram(order=3, cutoffs=(1, 2), prune=1e-4),
        NGram(order=4, cutoffs=(1, 2)),
        NGram(order=4, cutoffs=(3, 0, 2)),
    ],
)
def test_probabilities_after_every_history_sum_to_one(recipe: NGram) -> None:
    arpa = train_ngram(markov_sentences(300), VOCABULARY, recipe)
    for history in histories(arpa):
        assert total_probability(arpa, history) == pytest.approx(1, abs=1e-4)


def test_bigram_is_kneser_ney_by_its_definition() -> None:
    sentences = markov_sentences(200)
    arpa = train_ngram(sentences, VOCABULARY, NGram(order=2, cutoffs=()))
    tokens = [["<s>", *(w if w in VOCABULARY else "<unk>" for w in sentence), "</s>"] for sentence in sentences]
    bigrams = Counter(pair for line in tokens for pair in pairwise(line))
    followers, predecessors = defaultdict(Counter), Counter()
    for (history, word), count in bigrams.items():
        followers[history][word] = count
        predecessors[word] += 1
    of_counts = Counter(bigrams.values())
    discount = of_counts[1] / (of_counts[1] + 2 * of_counts[2])
    continuation = {word: count / len(bigrams) for word, count in predecessors.items()}
    for history in ("<s>", "w3", "<unk>"):
        after = followers[history]
        total = sum(after.values())
        left = discount * len(after) / total / (1 - sum(continuation[word] for word in after))
        for word in (*VOCABULARY, "</s>"):
            expected = (after[word] - discount) / total if word in after else left * continuation[word]
            assert 10 ** arpa.log10_probability((history,), word) == pytest.approx(expected, rel=1e-5)


def test_a_history_that_all_words_follow_has_a_weight() -> None:
    """Nothing is left to back off to, so the weight changes nothing; but a file without it is refused."""
    arpa = train_ngram([["w0"], ["w0", "w0"]], ["w0"], NGram(order=2, cutoffs=()))
    assert {("w0", "w0"), ("w0", "</s>")} <= set(arpa.orders[1])
    assert arpa.orders[0][("w0",)][1] == 0.0
    assert arpa.orders[0][("</s>",)][1] is None  # no history


def test_unigram_is_relative_frequency_without_the_begin_mark() -> None:
    arpa = train_ngram([["w0", "w0", "w1"], ["w0"]], ["w0", "w1"], NGram(order=1))
    shares = {word: 10 ** arpa.log10_probability((), word) for word in ("w0", "w1", "</s>")}
    assert shares == pytest.approx({"w0": 3 / 6, "w1": 1 / 6, "</s>": 2 / 6}, rel=1e-5)


def test_cutoffs_and_pruning_shrink_the_model_and_keep_it_useful() -> None:
    train, held_out = markov_sentences(1500), markov_sentences(200, seed=1)
    full = train_ngram(train, VOCABULARY, NGram(order=3, cutoffs=(0, 0)))
    cut = train_ngram(train, VOCABULARY, NGram(order=3, cutoffs=(1, 3)))
    pruned = train_ngram(train, VOCABULARY, NGram(order=3, cutoffs=(0, 0), prune=1e-4))
    unigram = train_ngram(train, VOCABULARY, NGram(order=1))
    for smaller in (cut, pruned):
        assert smaller.counts[2] < 0.7 * full.counts[2]
        assert smaller.counts[0] == full.counts[0]
        assert smaller.perplexity(held_out) < 1.2 * full.perplexity(held_out) < 0.8 * unigram.perplexity(held_out)


def test_a_word_that_the_text_lacks_gets_the_probability_of_one_seen_once() -> None:
    sentences = [*markov_sentences(100), ["hapax"]]
    arpa = train_ngram(sentences, [*VOCABULARY, "hapax", "unseen"], NGram(order=3, cutoffs=()))
    assert arpa.log10_probability((), "unseen") == pytest.approx(arpa.log10_probability((), "hapax"))
    assert "zebra" not in arpa.words
    assert "<unk>" in arpa.words


def test_training_writes_nothing_to_the_terminal(capfd: pytest.CaptureFixture[str]) -> None:
    train_ngram(markov_sentences(20), VOCABULARY, NGram(prune=1e-6))
    assert capfd.readouterr() == ("", "")
