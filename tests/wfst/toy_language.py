"""A language of four words and three phones, and its best path by enumeration."""

import itertools
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from asr_kd.hmm.topology import arcs
from asr_kd.lang.phones import PhoneSet

PHONES = PhoneSet(("A", "B", "C"))
# bee and be are homophones, a begins ab, and ab has two pronunciations
LEXICON = {"a": [("A",)], "ab": [("A", "B"), ("A", "C")], "bee": [("B",)], "be": [("B",)]}
WORDS = ["<eps>", *LEXICON, "#0", "<s>", "</s>"]
NUM_PDFS = 18

UNIGRAMS = {"<s>": (-99.0, -0.2), "a": (-0.7, -0.3), "ab": (-0.9, -0.1), "bee": (-0.8, 0.0), "be": (-0.6, -0.25)}
END = -0.75
BIGRAMS = {
    ("<s>", "a"): -0.4,
    ("<s>", "be"): -1.3,
    ("a", "bee"): -0.3,
    ("ab", "be"): -0.5,
    ("a", "</s>"): -0.9,
    ("be", "a"): -0.6,
}


def write_lang(folder: Path) -> None:
    """phones.txt, words.txt, lexicon.txt and lm.arpa."""
    PHONES.write(folder / "phones.txt")
    (folder / "words.txt").write_text("".join(f"{word} {number}\n" for number, word in enumerate(WORDS)))
    lines = [f"{word} {' '.join(phones)}\n" for word, variants in LEXICON.items() for phones in variants]
    (folder / "lexicon.txt").write_text("".join(lines))
    rows = [f"{p}\t{word}\t{backoff}" for word, (p, backoff) in UNIGRAMS.items()] + [f"{END}\t</s>"]
    pairs = [f"{p}\t{' '.join(pair)}" for pair, p in BIGRAMS.items()]
    head = f"\\data\\\nngram 1={len(rows)}\nngram 2={len(pairs)}\n"
    text = head + "\n\\1-grams:\n" + "\n".join(rows) + "\n\n\\2-grams:\n" + "\n".join(pairs) + "\n\n\\end\\\n"
    (folder / "lm.arpa").write_text(text)


def tree(left: np.ndarray, phone: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Word positions share their pdfs; outer states ask about one neighbour, the edge counts as silence."""
    base = np.array([0, 0, 1, *[2 + number // 4 for number in range(len(PHONES) - 3)]])
    left, right = base[np.maximum(left, 1)], base[np.maximum(right, 1)]
    pdfs = np.full((len(phone), 5), -1)
    silent = phone <= 2
    pdfs[silent] = np.arange(5)  # silence and noise alike
    pdfs[:, 0][~silent] = (5 + (base[phone] - 2) * 4 + (left == 3))[~silent]
    pdfs[:, 1][~silent] = (7 + (base[phone] - 2) * 4)[~silent]
    pdfs[:, 2][~silent] = (8 + (base[phone] - 2) * 4 + (right == 2))[~silent]
    return pdfs


def log_transitions(seed: int) -> np.ndarray:
    """(NUM_PDFS, 4): silence's first four states have four arcs, all others two."""
    draws = np.random.default_rng([seed, 1])
    table = np.full((NUM_PDFS, 4), -1e4)
    for pdf in range(NUM_PDFS):
        degree = 4 if pdf < 4 else 2
        table[pdf, :degree] = np.log(draws.dirichlet(np.ones(degree)))
    return table


@dataclass(frozen=True)
class Scales:
    transition: float
    self_loop: float
    silence_probability: float


def sentences(max_phones: int) -> list[tuple[tuple[str, ...], tuple[int, ...], float]]:
    """Every (words, their phones, LM cost) with at most so many phones besides silence."""
    entries = [(word, tuple(PHONES.mark(p))) for word, variants in LEXICON.items() for p in variants]
    found = []
    for length in range(max_phones + 1):
        for chosen in itertools.product(entries, repeat=length):
            words, phones = tuple(word for word, _ in chosen), tuple(phones for _, phones in chosen)
            if sum(map(len, phones)) <= max_phones:
                found.append((words, phones, lm_cost(list(words))))
    return found


def lm_cost(words: list[str]) -> float:
    """The cheaper of bigram and back-off at each word, as a search takes it."""
    total = 0.0
    for history, word in itertools.pairwise(["<s>", *words, "</s>"]):
        unigram = END if word == "</s>" else UNIGRAMS[word][0]
        backed_off = UNIGRAMS[history][1] + unigram
        total -= max(BIGRAMS.get((history, word), -math.inf), backed_off) * math.log(10)
    return total


def best_path(scores: np.ndarray, table: np.ndarray, scales: Scales) -> list[tuple[float, tuple[str, ...]]]:
    """(cost, words) of the best alignment of every word sequence that fits, cheapest first."""
    best: dict[tuple[str, ...], float] = {}
    silence = PHONES.ids["SIL"]
    for words, pronunciations, cost in sentences(len(scores) // 3):
        for pauses in itertools.product((False, True), repeat=len(words) + 1):
            phones = [silence] * pauses[0]
            for pronunciation, pause in zip(pronunciations, pauses[1:], strict=True):
                phones += [*pronunciation, *[silence] * pause]
            p = scales.silence_probability
            pausing = -sum(math.log(p if pause else 1 - p) for pause in pauses)
            total = cost + pausing + alignment_cost(phones, scores, table, scales)
            best[words] = min(total, best.get(words, math.inf))
    return sorted((cost, words) for words, cost in best.items() if cost < math.inf)


def alignment_cost(phones: list[int], scores: np.ndarray, table: np.ndarray, scales: Scales) -> float:
    """Dense Viterbi over the HMM states of a phone sequence, every probability looked up on the way."""
    if 3 * len(phones) > len(scores) or not phones:
        return math.inf
    padded = np.array([0, *phones, 0])
    pdfs = tree(padded[:-2], padded[1:-1], padded[2:])
    emitting, moves, first = list[int](), list[tuple[int, int, float]](), 0
    for number, phone in enumerate(phones):
        topology = arcs(PHONES, phone)
        for state, destinations in enumerate(topology):
            pdf = int(pdfs[number, state])
            probability = np.exp(table[pdf, : len(destinations)])
            loop = destinations.index(state)
            leave = 1 - probability[loop]
            emitting.append(pdf)
            for arc, destination in enumerate(destinations):
                if arc == loop:
                    cost = -scales.self_loop * math.log(probability[loop])
                else:
                    given = math.log(probability[arc] / leave)
                    cost = -scales.self_loop * math.log(leave) - scales.transition * given
                moves.append((first + state, first + destination, cost))
        first += len(topology)
    cost = np.full(first + 1, np.inf)
    cost[0] = -scores[0, emitting[0]]
    for row in [*scores[1:], None]:
        following = np.full(first + 1, np.inf)
        for source, destination, weight in moves:
            acoustic = 0.0 if row is None or destination == first else -row[emitting[destination]]
            if (destination == first) == (row is None):
                following[destination] = min(following[destination], cost[source] + weight + acoustic)
        cost = following
    return float(cost[first])
