"""Pronunciations of words that the lexicon lacks: eSpeak NG's American English in the 39 phones of cmudict."""

from collections.abc import Iterable

from asr_kd.corpora.espeak import espeak

# eSpeak's phoneme mnemonics (its en-us tables, phsource/ph_english_us) → cmudict phones without stress.
CONSONANTS: dict[str, tuple[str, ...]] = {
    **{symbol: (symbol.upper(),) for symbol in "b d f g k l m n p r s t v w z".split()},
    **{"h": ("HH",), "j": ("Y",), "x": ("K",), "l#": ("L",), "r-": ("R",)},
    **{"tS": ("CH",), "dZ": ("JH",), "S": ("SH",), "Z": ("ZH",), "T": ("TH",), "D": ("DH",), "N": ("NG",)},
    **{"t#": ("T",), "t2": ("T",), "?": ("T",)},  # flapped and glottal t
    **{"n-": ("AH", "N"), "@L": ("AH", "L")},  # syllabic
}
VOWELS: dict[str, tuple[str, ...]] = {
    **{"a": ("AE",), "aa": ("AE",), "A:": ("AA",), "A": ("AA",), "0": ("AA",), "0#": ("AA",), "A~": ("AA", "N")},
    **{"O:": ("AO",), "O": ("AO",), "O2": ("AO",), "o": ("OW",), "oU": ("OW",), "oU#": ("OW",), "OI": ("OY",)},
    **{"E": ("EH",), "E2": ("EH",), "e": ("EY",), "eI": ("EY",), "aI": ("AY",), "aU": ("AW",)},
    **{"I": ("IH",), "I2": ("IH",), "I#": ("IH",), "i": ("IY",), "i:": ("IY",), "U": ("UH",), "u:": ("UW",), "u": ("UW",)},
    **{"V": ("AH",), "@": ("AH",), "@2": ("AH",), "@5": ("AH",), "@-": ("AH",), "a#": ("AH",)},
    **{"i@": ("IY", "AH"), "aI@": ("AY", "AH")},
}
R_COLOURED: dict[str, tuple[str, ...]] = {
    **{"3": ("ER",), "3:": ("ER",), "A@": ("AA", "R"), "O@": ("AO", "R"), "o@": ("AO", "R")},
    **{"e@": ("EH", "R"), "i@3": ("IH", "R"), "U@": ("UH", "R"), "aI3": ("AY", "ER"), "aU@": ("AW", "ER")},
}
PHONES = CONSONANTS | VOWELS | R_COLOURED


def pronounce(words: Iterable[str]) -> dict[str, tuple[str, ...]]:
    """One pronunciation a word, in cmudict's phones without stress; words for which none comes out are left out."""
    pronunciations = {word: to_cmudict(espeak().phonemes(word)) for word in words}
    return {word: phones for word, phones in pronunciations.items() if phones}


def to_cmudict(mnemonics: list[str]) -> tuple[str, ...]:
    """cmudict phones of eSpeak's phonemes.

    Pauses, glides between vowels and language marks have no phone; the r that links an r-coloured vowel to the next
    syllable is part of the vowel.
    """
    phones: list[str] = []
    coloured = False
    for mnemonic in mnemonics:
        if coloured and mnemonic in ("r", "r-"):
            coloured = False
            continue
        phones += PHONES.get(mnemonic, ())
        coloured = mnemonic in R_COLOURED
    return tuple(phones)
