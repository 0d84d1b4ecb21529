"""Lexicon and graph over pieces of words: against their definition, and by enumeration."""

import itertools
import math
from pathlib import Path

import numpy as np
import pytest
import toy_language as toy

from asr_kd.decode.search import KaldiSearcher, load_graph
from asr_kd.errors import UserError
from asr_kd.lang.arpa import Arpa
from asr_kd.lang.ngram import train_ngram
from asr_kd.lang.phones import PhoneSet
from asr_kd.lang.pieces import MARK, Pieces
from asr_kd.lang.vocabulary import write_words
from asr_kd.recipe import NGram
from asr_kd.wfst.build import build_graph, build_word_graph
from asr_kd.wfst.graph import Graph
from asr_kd.wfst.lexicon import read_words
from asr_kd.wfst.pieces import piece_transducer

QUANTISED = 0.02  # minimisation rounds weights to 1/1024, once for each arc of a path
PHONES = PhoneSet(("a", "b", "c"))  # the ids of toy_language's, whose tree serves here
SILENCE = PHONES.ids["SIL"]
TEXT = [["ab", "ba", "ab"], ["ba", "a"], ["ab"], ["cab", "ab"], ["ba", "ba", "a", "ab"], ["ab", "a"]]
SEEN = {word for sentence in TEXT for word in sentence}
SCALES = toy.Scales(0.7, 0.5, 0.3)


def marked(words: tuple[str, ...], pauses: tuple[bool, ...]) -> tuple[int, ...]:
    """Phone ids of whole words in letters, with silence where there are pauses."""
    phones = [SILENCE] * pauses[0]
    for word, pause in zip(words, pauses[1:], strict=True):
        phones += [*PHONES.mark(tuple(word)), *[SILENCE] * pause]
    return tuple(phones)


def pausing(pauses: tuple[bool, ...], probability: float) -> float:
    return -sum(math.log(probability if pause else 1 - probability) for pause in pauses)


def paths(graph: Graph, symbols: list[int], tokens: int) -> dict[tuple[tuple[int, ...], tuple[int, ...]], float]:
    """(tokens, phones) → cost of every path with so many tokens, disambiguation symbols left out."""
    arcs = [graph.arcs[graph.source == state] for state in range(graph.num_states)]
    found, waiting = {}, [(graph.start, (), (), 0.0)]
    while waiting:
        state, said, phones, cost = waiting.pop()
        if len(said) == tokens and np.isfinite(graph.final[state]):
            assert (said, phones) not in found
            found[said, phones] = cost + float(graph.final[state])
        for ilabel, olabel, weight, dest in arcs[state].tolist():
            heard = (ilabel,) if 0 < ilabel < symbols[0] else ()
            if ilabel != symbols[0] and len(said) + (olabel > 0) <= tokens:
                waiting.append((dest, said + ((olabel,) if olabel else ()), phones + heard, cost + weight))
    return found


def test_the_transducer_accepts_what_spells_words_and_nothing_else(tmp_path: Path) -> None:
    pieces = [f"{MARK}a", f"{MARK}ab", "b", "ba", MARK]
    write_words(tmp_path / "words.txt", pieces)
    words = read_words(tmp_path / "words.txt")
    graph, symbols = piece_transducer(words, PHONES, 0.3)
    for length in range(4):
        expected = {}
        for tokens in itertools.product(pieces, repeat=length):
            text = "".join(tokens)
            if (text and not text.startswith(MARK)) or f"{MARK}{MARK}" in text or text.endswith(MARK):
                continue  # begins inside a word, or has a word without letters
            spoken = tuple(text.split(MARK)[1:])
            for pauses in itertools.product((False, True), repeat=len(spoken) + 1):
                said = tuple(words[token] for token in tokens)
                expected[said, marked(spoken, pauses)] = pausing(pauses, 0.3)
        assert paths(graph, symbols, length) == pytest.approx(expected, abs=1e-5)


def test_without_silence_or_lone_mark_there_are_no_arcs_for_them(tmp_path: Path) -> None:
    write_words(tmp_path / "words.txt", [f"{MARK}a", "b"])
    graph, _ = piece_transducer(read_words(tmp_path / "words.txt"), PHONES, 0.0)
    assert not (graph.arcs["dest"] == 2).any()
    assert len(paths(graph, [len(PHONES)], 2)) == 2  # a a, and ab


def test_a_letter_without_a_phone_is_named(tmp_path: Path) -> None:
    write_words(tmp_path / "words.txt", [f"{MARK}az", "b"])
    with pytest.raises(UserError, match=r"words\.txt: az: z is not in phones\.txt"):
        piece_transducer(read_words(tmp_path / "words.txt"), PHONES, 0.5)


@pytest.fixture(scope="module")
def lang(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files of a language of pieces: a few words of one to three letters."""
    folder = tmp_path_factory.mktemp("lang")
    counts = {word: sum(sentence.count(word) for sentence in TEXT) for word in SEEN}
    pieces = Pieces.train(counts, "abc", 8)
    PHONES.write(folder / "phones.txt")
    write_words(folder / "words.txt", pieces.symbols)
    pieces.write(folder / "pieces.model")
    train_ngram(pieces.split(TEXT), pieces.symbols, NGram(order=2, cutoffs=())).write(folder / "lm.arpa")
    return folder


@pytest.fixture(scope="module")
def searcher(lang: Path) -> KaldiSearcher:
    words = build_word_graph(lang, SCALES.silence_probability)
    graph, _ = build_graph(words, toy.tree, toy.log_transitions(seed=3), SCALES.transition, SCALES.self_loop)
    graph.write(lang / "HCLG.fst")
    return KaldiSearcher(load_graph(lang / "HCLG.fst"), 1.0, beam=1000.0, max_active=100000)


def lm_cost(arpa: Arpa, words: tuple[str, ...], pieces: frozenset[str]) -> float:
    """Of the cheapest way to write the words in pieces, at each the cheaper of bigram and back-off."""
    best = {("<s>", 0): 0.0}  # (last piece, letters written) → cost
    text = "".join(MARK + word for word in words)
    unigrams, bigrams = arpa.orders

    def step(history: str, token: str) -> float:
        backed_off = (unigrams[history,][1] or 0.0) + unigrams[token,][0]
        return -max(bigrams.get((history, token), (-math.inf,))[0], backed_off) * math.log(10)

    for end in range(1, len(text) + 1):
        for piece in (text[begin:end] for begin in range(end) if text[begin:end] in pieces):
            before = [(h, cost) for (h, at), cost in best.items() if at == end - len(piece)]
            if before:
                best[piece, end] = min(cost + step(history, piece) for history, cost in before)
    return min(cost + step(history, "</s>") for (history, at), cost in best.items() if at == len(text))


def best_words(lang: Path, scores: np.ndarray, words: list[tuple[str, ...]]) -> list[tuple[float, tuple[str, ...]]]:
    """(cost, words) of the best pauses and alignment of each of the word sequences, cheapest first."""
    arpa, pieces = Arpa.read(lang / "lm.arpa"), Pieces.read(lang / "pieces.model").symbols
    table = toy.log_transitions(seed=3)
    costs = []
    for spoken in words:
        grammar = lm_cost(arpa, spoken, pieces)
        for pauses in itertools.product((False, True), repeat=len(spoken) + 1):
            acoustic = toy.alignment_cost(list(marked(spoken, pauses)), scores, table, SCALES)
            costs.append((grammar + pausing(pauses, SCALES.silence_probability) + acoustic, spoken))
    return sorted((min(costs_of), spoken) for spoken, costs_of in _grouped(costs).items())


def _grouped(costs: list[tuple[float, tuple[str, ...]]]) -> dict[tuple[str, ...], list[float]]:
    groups: dict[tuple[str, ...], list[float]] = {}
    for cost, spoken in costs:
        groups.setdefault(spoken, []).append(cost)
    return groups


def sequences(letters: int) -> list[tuple[str, ...]]:
    """Every sequence of words of at most so many letters together."""
    found: list[tuple[str, ...]] = [()]
    for length in range(1, letters + 1):
        for text in map("".join, itertools.product("abc", repeat=length)):
            for cuts in itertools.product(("", " "), repeat=length - 1):
                found.append(tuple("".join(map("".join, zip(text, (*cuts, ""), strict=True))).split()))
    return found


def test_best_path_is_that_of_enumeration(lang: Path, searcher: KaldiSearcher) -> None:
    pieces, names = Pieces.read(lang / "pieces.model"), list(read_words(lang / "words.txt"))
    unseen = 0
    for seed in range(16):
        draws = np.random.default_rng([seed, 4])
        scores = draws.normal(0, 2.5, size=(draws.integers(6, 12), toy.NUM_PDFS)).astype(np.float32)
        scores[:, 5:] += 3  # speech rather than silence
        (cost, spoken), (second, _), *_ = best_words(lang, scores, sequences(len(scores) // 3))
        found = searcher.search(scores)
        assert found.complete
        assert found.graph_cost + found.acoustic_cost == pytest.approx(cost, abs=QUANTISED)
        if second - cost > QUANTISED:
            assert pieces.join([names[label] for label in found.words]) == list(spoken)
            unseen += not SEEN.issuperset(spoken)
    assert unseen >= 2


@pytest.mark.parametrize("spoken", [("cab", "ab"), ("bcb",), ("ab", "cc", "ba"), ("acabb", "c")])
def test_what_is_said_clearly_is_recognised_though_no_text_has_the_word(
    lang: Path, searcher: KaldiSearcher, spoken: tuple[str, ...]
) -> None:
    phones = np.array([0, *marked(spoken, (False,) * (len(spoken) + 1)), 0])
    pdfs = toy.tree(phones[:-2], phones[1:-1], phones[2:])[:, :3].repeat(2, axis=1).ravel()
    scores = np.full((len(pdfs), toy.NUM_PDFS), -30, np.float32)
    scores[np.arange(len(pdfs)), pdfs] = 0
    names = list(read_words(lang / "words.txt"))
    said = Pieces.read(lang / "pieces.model").join([names[label] for label in searcher.search(scores).words])
    assert "".join(said) == "".join(spoken)  # the toy tree does not tell where words end
