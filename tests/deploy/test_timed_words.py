"""Words to phones to frames: by definition, by enumeration, and of a path whose boundaries are known."""

import itertools
from pathlib import Path

import numpy as np
import pytest
from tiny_experiment import LEXICON, NUM_PDFS

from asr_kd.deploy.bundle import load_bundle
from asr_kd.deploy.recogniser import Recogniser
from asr_kd.deploy.words import FIRST_BOUNDARY, States, Word, divide, joined

PRONUNCIATIONS = {word: [tuple(variant.split()) for variant in variants] for word, variants in LEXICON.items()}
FIRST = {"SIL": 0, "SPN": 5, "A": 10, "B": 13, "C": 16}


def by_enumeration(phones: list[str], words: list[str]) -> list[list[tuple[int, int]]]:
    """Every division of the phones: each word a variant, silences only before, between and behind words."""
    found = []
    for variants in itertools.product(*(PRONUNCIATIONS[word] for word in words)):
        spoken = [phone for variant in variants for phone in variant]
        places = [place for place, phone in enumerate(phones) if phone != "SIL"]
        if [phones[place] for place in places] != spoken:
            continue
        spans, taken = [], 0
        for variant in variants:
            spans.append((places[taken], places[taken + len(variant) - 1] + 1))
            taken += len(variant)
        if all(end - start == len(variant) for (start, end), variant in zip(spans, variants, strict=True)):
            found.append(spans)
    return found


def test_divisions_are_those_of_enumeration() -> None:
    draws, divided = np.random.default_rng(0), 0
    for _ in range(300):
        words = [str(word) for word in draws.choice(list(PRONUNCIATIONS), draws.integers(0, 5))]
        phones = ["SIL"] * int(draws.integers(0, 2))
        for word in words:
            variants = PRONUNCIATIONS[word]
            phones += [*variants[draws.integers(len(variants))], *["SIL"] * int(draws.integers(0, 2))]
        if draws.random() < 0.3 and phones:
            phones[draws.integers(len(phones))] = "A"
        expected = by_enumeration(phones, words)
        if expected:
            assert divide(phones, words, PRONUNCIATIONS) in expected
            divided += len(words) > 1
        else:
            with pytest.raises(ValueError, match="no pronunciation"):
                divide(phones, words, PRONUNCIATIONS)
    assert divided > 50


def test_a_path_may_break_off_in_its_last_word_or_in_one_without_a_name() -> None:
    assert divide(["C", "A", "SIL", "A"], ["no", "yes"], PRONUNCIATIONS, complete=False) == [(0, 2), (3, 4)]
    assert divide(["C", "A", "SIL"], ["no", "yes"], PRONUNCIATIONS, complete=False) == [(0, 2), (3, 3)]
    assert divide(["C", "A", "SIL", "A", "B", "C"], ["no", "yes"], PRONUNCIATIONS, complete=False) == [(0, 2), (3, 5)]
    with pytest.raises(ValueError, match="no pronunciation"):
        divide(["C", "A", "SIL", "A"], ["no", "yes"], PRONUNCIATIONS)


def test_runs_and_confidence_by_definition(bundle: Path) -> None:
    states = load_bundle(bundle).states
    pdfs = np.array([0, 1, 3, 1, 4, 10, 10, 11, 12, 10, 11, 12, 12, 16, 17, 18])
    phones, starts = states.runs(pdfs)
    assert phones == ["SIL", "A", "A", "C"] and starts.tolist() == [0, 5, 9, 13, 16]
    assert states.trailing_silence(pdfs) == 0 and states.trailing_silence(pdfs[:5]) == 5
    assert states.trailing_silence(np.array([16, 17, 18, 0, 4])) == 2

    log_post = np.log(np.random.default_rng(0).dirichlet(np.ones(NUM_PDFS), len(pdfs))).astype(np.float32)
    posteriors = states.phone_posteriors(log_post)
    expected = [np.exp(log_post[frame, 10:13]).sum() for frame in range(5, 13)]
    assert states.confidence(pdfs[5:13], posteriors[5:13]) == pytest.approx(np.mean(expected), abs=1e-5)
    assert states.confidence(pdfs[:0], posteriors[:0]) == 0


def test_times_are_those_of_the_path(recogniser: Recogniser) -> None:
    """Scores that allow one alignment only; the graph's own labels stand elsewhere."""
    said = [("SIL", 9), ("A", 7), ("B", 8), ("C", 5), ("SIL", 6), ("C", 6), ("A", 10), ("SIL", 7)]
    pdfs = np.concatenate([np.sort(np.resize(states_of(phone), frames)) for phone, frames in said])
    scores = np.where(pdfs[:, None] == np.arange(NUM_PDFS), 0.0, -100.0).astype(np.float32)
    search = recogniser.graph.start()
    search.advance(scores)
    states = recogniser.bundle.states
    words = recogniser.timed(search.best_path(), states.phone_posteriors(np.log(np.exp(scores))))
    assert [word.word for word in words][1:] == ["oh", "no"] and words[0].word in ("yes", "yea")
    times = [(round(word.start - FIRST_BOUNDARY, 4), round(word.end - FIRST_BOUNDARY, 4)) for word in words]
    assert times == [(0.09, 0.24), (0.24, 0.29), (0.35, 0.51)]
    assert all(word.confidence == pytest.approx(1) for word in words)


def states_of(phone: str) -> np.ndarray:
    return FIRST[phone] + np.arange(5 if phone in ("SIL", "SPN") else 3)


def test_pieces_are_put_together_at_the_marks() -> None:
    pieces = [
        Word("▁un", 0.0, 0.2, 0.5), Word("able", 0.2, 0.5, 1.0), Word("▁a", 0.7, 0.8, 0.3),
        Word("▁", 0.8, 0.8, 0.0), Word("x", 0.9, 1.0, 0.4),
    ]  # fmt: skip
    found = joined(pieces)
    assert [(word.word, word.start, word.end) for word in found] == [
        ("unable", 0.0, 0.5), ("a", 0.7, 0.8), ("x", 0.9, 1.0),
    ]  # fmt: skip
    assert [word.confidence for word in found] == pytest.approx([(0.2 * 0.5 + 0.3) / 0.5, 0.3, 0.4])


def test_states_without_silence_frames() -> None:
    states = States(["A", "SIL"], np.array([0, 0, 0, 1]), np.array([0, 1, 2, 0]), np.zeros(4, np.float32))
    assert states.runs(np.zeros(0, np.int32))[0] == []
    assert states.trailing_silence(np.zeros(0, np.int32)) == 0
