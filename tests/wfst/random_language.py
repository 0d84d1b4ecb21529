"""Random small languages with homophones, words that begin others, and rival pronunciations; their sentences by
enumeration.
"""

import itertools
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import toy_language as toy

Variants = dict[tuple[str, tuple[str, ...]], float]


@dataclass(frozen=True)
class Language:
    """probabilities: of (word, pronunciation); unigrams: log10 p, back-off; end: log10 p of </s>; bigrams: log10 p."""

    probabilities: Variants
    unigrams: dict[str, tuple[float, float]]
    end: float
    bigrams: dict[tuple[str, str], float]

    @property
    def words(self) -> list[str]:
        return sorted({word for word, _ in self.probabilities})

    @property
    def symbols(self) -> list[str]:
        return ["<eps>", *self.words, "#0", "<s>", "</s>"]

    def write(self, folder: Path) -> None:
        """phones.txt, words.txt, lexicon.txt and lm.arpa."""
        toy.PHONES.write(folder / "phones.txt")
        (folder / "words.txt").write_text("".join(f"{s} {n}\n" for n, s in enumerate(self.symbols)))
        entries = sorted(self.probabilities)
        (folder / "lexicon.txt").write_text("".join(f"{word} {' '.join(phones)}\n" for word, phones in entries))
        rows = [f"{p}\t{word}\t{backoff}" for word, (p, backoff) in self.unigrams.items()] + [f"{self.end}\t</s>"]
        pairs = [f"{p}\t{a} {b}" for (a, b), p in self.bigrams.items()]
        head = f"\\data\\\nngram 1={len(rows)}\nngram 2={len(pairs)}\n\n\\1-grams:\n"
        (folder / "lm.arpa").write_text(
            head + "\n".join(rows) + "\n\n\\2-grams:\n" + "\n".join(pairs) + "\n\n\\end\\\n"
        )

    def lm_cost(self, words: tuple[str, ...]) -> float:
        """The cheaper of bigram and back-off at each word, as a search takes it."""
        total = 0.0
        for history, word in itertools.pairwise(["<s>", *words, "</s>"]):
            unigram = self.end if word == "</s>" else self.unigrams[word][0]
            backed_off = self.unigrams[history][1] + unigram
            total -= max(self.bigrams.get((history, word), -math.inf), backed_off) * math.log(10)
        return total

    def sentences(self, scores: np.ndarray, table: np.ndarray, scales: toy.Scales) -> dict[tuple[str, ...], float]:
        """Every word sequence that fits, at the cost of its best pronunciations, silences and alignment."""
        best: dict[tuple[str, ...], float] = {}
        silence, most = toy.PHONES.ids["SIL"], len(scores) // 3
        variants = sorted(self.probabilities)
        for length in range(most + 1):
            for chosen in itertools.product(variants, repeat=length):
                if sum(len(phones) for _, phones in chosen) > most:
                    continue
                words = tuple(word for word, _ in chosen)
                cost = self.lm_cost(words) - sum(math.log(self.probabilities[variant]) for variant in chosen)
                for pauses in itertools.product((False, True), repeat=length + 1):
                    phones = [silence] * pauses[0]
                    for (_, pronunciation), pause in zip(chosen, pauses[1:], strict=True):
                        phones += [*toy.PHONES.mark(pronunciation), *[silence] * pause]
                    p = scales.silence_probability
                    pausing = -sum(math.log(p if pause else 1 - p) for pause in pauses)
                    total = cost + pausing + toy.alignment_cost(phones, scores, table, scales)
                    best[words] = min(total, best.get(words, math.inf))
        return {words: cost for words, cost in best.items() if cost < math.inf}


def random_language(seed: int) -> Language:
    """Four words: w1 said as w0 is (homophones), w2 beginning as w0, w0 with a second pronunciation; w3 by chance."""
    draws = np.random.default_rng([seed, 11])

    def phones(count: int) -> tuple[str, ...]:
        return tuple(draws.choice(["A", "B", "C"], count).tolist())

    first, rest = phones(1), phones(int(draws.integers(1, 3)))
    pairs = [("w0", first), ("w1", first), ("w2", (*first, *rest)), ("w0", (*phones(1), "C")), ("w3", phones(2))]
    probabilities = {pair: float(draws.uniform(0.2, 1.0)) for pair in pairs}
    unigrams = {word: tuple(-draws.uniform(0.2, 1.2, 2)) for word in ("<s>", "w0", "w1", "w2", "w3")}
    unigrams = {word: (round(float(p), 3), round(float(b), 3)) for word, (p, b) in unigrams.items()}
    histories, nexts = ["<s>", "w0", "w1", "w2", "w3"], ["w0", "w1", "w2", "w3", "</s>"]
    every = [(a, b) for a in histories for b in nexts if (a, b) != ("<s>", "</s>")]
    chosen = sorted(draws.choice(len(every), 7, replace=False).tolist())
    bigrams = {every[place]: round(float(-draws.uniform(0.1, 1.0)), 3) for place in chosen}
    return Language(probabilities, unigrams, round(float(-draws.uniform(0.3, 1.0)), 3), bigrams)
