"""L: the lexicon as a transducer from phones to words, with optional silence between words.

After Kaldi's utils/lang/make_lexicon_fst.py and add_lex_disambig.pl: every pronunciation of a word has cost 0 (its
pronunciations are not rivals), and silence before, between and after words has the recipe's probability.
"""

import math
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from asr_kd.errors import UserError
from asr_kd.lang.phones import SILENCE, PhoneSet
from asr_kd.wfst.graph import Graph, from_rows

BACKOFF = "#0"
START, LOOP, AFTER, DISAMBIGUATED = range(4)


@dataclass(frozen=True)
class Lexicon:
    """`pronunciations`: (word id, phone ids with word positions); `words`: symbol → id, with `#0`."""

    phones: PhoneSet
    words: dict[str, int]
    pronunciations: tuple[tuple[int, tuple[int, ...]], ...]

    @staticmethod
    def read(lang: Path) -> "Lexicon":
        """Read phones.txt, words.txt and lexicon.txt of `lang`; words outside words.txt are left out of the graph."""
        phones, words = PhoneSet.read(lang / "phones.txt"), read_words(lang / "words.txt")
        path, entries = lang / "lexicon.txt", {}
        for number, line in enumerate(_lines(path), start=1):
            word, *pronunciation = line.split()
            if word not in words:
                continue
            try:
                entries[words[word], tuple(phones.mark(tuple(pronunciation)))] = None
            except (KeyError, IndexError):
                raise UserError(f"{path}:{number}: {word}: a phone is missing or not in phones.txt; run --stage 2 (lang)") from None
        return Lexicon(phones, words, tuple(entries))

    def disambiguations(self) -> list[int]:
        """For each pronunciation 0, or k for #k, so that no two of them are equal and none is another's beginning."""
        sequences = [phones for _, phones in self.pronunciations]
        count = Counter(sequences)
        beginnings = {phones[:end] for phones in count for end in range(1, len(phones))}
        seen: Counter[tuple[int, ...]] = Counter()
        chosen = []
        for phones in sequences:
            seen[phones] += 1
            chosen.append(seen[phones] if count[phones] > 1 or phones in beginnings else 0)
        return chosen

    def transducer(self, silence_probability: float) -> tuple[Graph, list[int]]:
        """L and its disambiguation symbols, phone ids from len(phones) on: #0 for the grammar's back-off, then those
        of the pronunciations, last that of silence.
        """
        marks = self.disambiguations()
        first = len(self.phones)
        symbols = list(range(first, first + max(marks, default=0) + 2))
        silence = self.phones.ids[SILENCE]
        skip, take = _cost(1 - silence_probability), _cost(silence_probability)
        rows = [
            (START, LOOP, 0, 0, skip),
            (START, AFTER, 0, 0, take),
            (AFTER, DISAMBIGUATED, silence, 0, 0.0),
            (DISAMBIGUATED, LOOP, symbols[-1], 0, 0.0),
            (LOOP, LOOP, symbols[0], self.words[BACKOFF], 0.0),
        ]
        state = DISAMBIGUATED
        for (word, phones), mark in zip(self.pronunciations, marks, strict=True):
            source, output = LOOP, word
            *inner, last = [*phones, symbols[mark]] if mark else phones
            for phone in inner:
                state += 1
                rows.append((source, state, phone, output, 0.0))
                source, output = state, 0
            rows += [(source, LOOP, last, output, skip), (source, AFTER, last, output, take)]
        return from_rows(START, {LOOP: 0.0}, [row for row in rows if row[4] < math.inf]), symbols


def read_words(path: Path) -> dict[str, int]:
    """Read a `symbol id` table. UserError names the line that is not one."""
    words = {}
    for number, line in enumerate(_lines(path), start=1):
        try:
            symbol, value = line.split()
            words[symbol] = int(value)
        except ValueError:
            raise UserError(f"{path}:{number}: want 'symbol id'; run --stage 2 (lang)") from None
    return words


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        raise UserError(f"{path}: missing; run --stage 2 (lang)") from None


def _cost(probability: float) -> float:
    return -math.log(probability) if probability > 0 else math.inf
