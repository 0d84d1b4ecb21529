"""L over pieces of words: as asr_kd.wfst.lexicon's, but a word is a path of pieces, pronounced by their letters.

Between words the path is in LOOP, within one in INSIDE. Every piece leads to both, ending its word or not, so that
letters bear the position that they have in the word, optional silence stands between words alone, and a word is
never begun by a piece from the middle of words. Where a piece ends its word is not written; the next one tells, which
from LOOP bears the mark.
"""

import math
from collections.abc import Mapping
from typing import NamedTuple

from asr_kd.errors import UserError
from asr_kd.lang.lexicon import is_word
from asr_kd.lang.phones import SILENCE, PhoneSet
from asr_kd.lang.pieces import MARK
from asr_kd.wfst.graph import Graph, from_rows
from asr_kd.wfst.lexicon import AFTER, BACKOFF, DISAMBIGUATED, LOOP, START, Phones, disambiguations

INSIDE, OPENED = DISAMBIGUATED + 1, DISAMBIGUATED + 2


class _Entry(NamedTuple):
    source: int
    piece: int
    phones: Phones
    ends: bool


def piece_transducer(words: Mapping[str, int], phones: PhoneSet, silence_probability: float) -> tuple[Graph, list[int]]:
    """L, and its disambiguation symbols in the order of asr_kd.wfst.lexicon's, that of the lone mark last but one.

    words: words.txt with pieces. A lone mark has no letter, only a symbol of its own, and the piece behind it (from
    OPENED) begins the word: no cycle of the graph is without frames. UserError names a letter that is not in `phones`.
    """
    entries, marks = list[_Entry](), list[int]()
    pieces = {piece: number for piece, number in words.items() if is_word(piece) and piece != MARK}
    for source in (LOOP, INSIDE, OPENED):
        here = [
            _Entry(source, number, _spell(piece.removeprefix(MARK), phones, source != INSIDE, ends), ends)
            for piece, number in pieces.items()
            if piece.startswith(MARK) == (source == LOOP)
            for ends in (False, True)
        ]
        entries += here
        marks += disambiguations([entry.phones for entry in here])
    symbols = list(range(len(phones), len(phones) + max(marks, default=0) + 3))
    skip, take = (-math.log(p) if p > 0 else math.inf for p in (1 - silence_probability, silence_probability))
    rows = [
        (START, LOOP, 0, 0, skip),
        (START, AFTER, 0, 0, take),
        (AFTER, DISAMBIGUATED, phones.ids[SILENCE], 0, 0.0),
        (DISAMBIGUATED, LOOP, symbols[-1], 0, 0.0),
        *((state, state, symbols[0], words[BACKOFF], 0.0) for state in (LOOP, INSIDE, OPENED)),
    ]
    if MARK in words:
        rows.append((LOOP, OPENED, symbols[-2], words[MARK], 0.0))
    state = OPENED
    for entry, mark in zip(entries, marks, strict=True):
        source, output = entry.source, entry.piece
        *inner, last = [*entry.phones, symbols[mark]] if mark else entry.phones
        for phone in inner:
            state += 1
            rows.append((source, state, phone, output, 0.0))
            source, output = state, 0
        ways = [(LOOP, skip), (AFTER, take)] if entry.ends else [(INSIDE, 0.0)]
        rows += [(source, dest, last, output, cost) for dest, cost in ways]
    return from_rows(START, {LOOP: 0.0}, [row for row in rows if row[4] < math.inf]), symbols


def _spell(letters: str, phones: PhoneSet, begins: bool, ends: bool) -> Phones:
    """Phone ids of a piece's letters, at the word's beginning and end or not."""
    positions = ["I"] * len(letters)
    if begins:
        positions[0] = "B"
    if ends:
        positions[-1] = "S" if begins and len(letters) == 1 else "E"
    try:
        return tuple(phones.ids[f"{letter}_{position}"] for letter, position in zip(letters, positions, strict=True))
    except KeyError as error:
        letter = error.args[0].rpartition("_")[0]
        raise UserError(f"words.txt: {letters}: {letter} is not in phones.txt; run --stage 2 (lang)") from None
