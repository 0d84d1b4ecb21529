"""Pronunciations of words that the lexicon lacks: eSpeak NG's American English in the 39 phones of cmudict."""

from collections.abc import Iterable

from asr_kd.corpora.espeak import espeak

# eSpeak's phoneme mnemonics (its phsource/ph_english_us) and cmudict's phones for them.
CONSONANTS = """
    p P   b B   t T   d D   k K   g G   f F   v V   s S   z Z   m M   n N   l L   r R   w W   h HH  j Y   N NG
    T TH  D DH  S SH  Z ZH  tS CH dZ JH x K   t# T  t2 T  ? T   l# L  r- R  n- AH,N  @L AH,L
"""
VOWELS = """
    i: IY   i IY   I IH    I2 IH   I# IH  E EH   E2 EH  a AE   aa AE  A: AA  A AA  0 AA    0# AA   A~ AA,N
    O: AO   O AO   O2 AO   U UH    u: UW  u UW   V AH   @ AH   @2 AH  @5 AH  @- AH a# AH   i:: IY  i@ IY,AH
    e EY    eI EY  aI AY   aU AW   o OW   oU OW  OI OY  aI@ AY,AH
"""
R_COLOURED = """
    3 ER    3: ER  A@ AA,R  O@ AO,R  o@ AO,R  e@ EH,R  i@3 IH,R  U@ UH,R  aI3 AY,ER  aU@ AW,ER
"""


def _parse(table: str) -> dict[str, tuple[str, ...]]:
    cells = table.split()
    return {mnemonic: tuple(phones.split(",")) for mnemonic, phones in zip(cells[::2], cells[1::2], strict=True)}


LINKING = _parse(R_COLOURED)
PHONES = _parse(CONSONANTS + VOWELS) | LINKING


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
        coloured = mnemonic in LINKING
    return tuple(phones)
