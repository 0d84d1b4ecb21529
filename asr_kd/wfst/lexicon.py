"""L: the lexicon as a transducer from phones to words, with optional silence between words.

After Kaldi's utils/lang/make_lexicon_fst.py and add_lex_disambig.pl: every pronunciation of a word has cost 0 (its
pronunciations are not rivals) unless costs are given, and silence before, between and after words has the recipe's
probability.
"""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from asr_kd.errors import UserError
from asr_kd.lang.lexicon import Lexicon, Pronunciation
from asr_kd.lang.phones import SILENCE, PhoneSet
from asr_kd.wfst.graph import Graph, from_rows

BACKOFF = "#0"
START, LOOP, AFTER, DISAMBIGUATED = range(4)

Phones = tuple[int, ...]
Probabilities = Mapping[tuple[str, Pronunciation], float]


def read_words(path: Path) -> dict[str, int]:
    """Read a `symbol id` table. UserError names the line that is not one, or says what is missing."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        raise UserError(f"{path}: missing; run --stage 2 (lang)") from None
    words = {}
    for number, line in enumerate(lines, start=1):
        try:
            symbol, value = line.split()
            words[symbol] = int(value)
        except ValueError:
            raise UserError(f"{path}:{number}: want 'symbol id'; run --stage 2 (lang)") from None
    if BACKOFF not in words:
        raise UserError(f"{path}: has no {BACKOFF}; run --stage 2 (lang)")
    return words


def pronunciations(lexicon: Lexicon, words: dict[str, int], phones: PhoneSet) -> list[tuple[int, Phones]]:
    """(word id, phone ids with word positions) of the words in `words`. UserError names a phone that is not known."""
    pairs = []
    for word in (word for word in lexicon if word in words):
        for pronunciation in lexicon[word]:
            try:
                pairs.append((words[word], tuple(phones.mark(pronunciation))))
            except KeyError as error:
                phone = error.args[0]
                raise UserError(f"lexicon.txt: {word}: {phone} is not in phones.txt; run --stage 2 (lang)") from None
    return pairs


def pronunciation_costs(lexicon: Lexicon, words: dict[str, int], probabilities: Probabilities) -> list[float]:
    """Negative natural logs, in the order of `pronunciations`; a variant without a probability costs nothing."""
    variants = [(word, variant) for word in lexicon if word in words for variant in lexicon[word]]
    return [_cost(probabilities.get(variant, 1.0)) for variant in variants]


def disambiguations(sequences: Sequence[Phones]) -> list[int]:
    """For each pronunciation 0, or k for #k, so that no two are equal and none is the beginning of another."""
    count = Counter(sequences)
    beginnings = {phones[:end] for phones in count for end in range(1, len(phones))}
    seen: Counter[Phones] = Counter()
    chosen = []
    for phones in sequences:
        seen[phones] += 1
        chosen.append(seen[phones] if count[phones] > 1 or phones in beginnings else 0)
    return chosen


def lexicon_transducer(
    entries: Sequence[tuple[int, Phones]],
    phones: PhoneSet,
    backoff: int,
    silence_probability: float,
    costs: Sequence[float] | None = None,
) -> tuple[Graph, list[int]]:
    """L, and its disambiguation symbols: phone ids from len(phones) on.

    entries: (word id, phone ids); backoff: word id of #0; costs: of each entry, None for 0. The first symbol is that of
    the grammar's back-off arcs, then come those of the pronunciations, and last that of silence.
    """
    marks = disambiguations([sequence for _, sequence in entries])
    symbols = list(range(len(phones), len(phones) + max(marks, default=0) + 2))
    skip, take = _cost(1 - silence_probability), _cost(silence_probability)
    rows = [
        (START, LOOP, 0, 0, skip),
        (START, AFTER, 0, 0, take),
        (AFTER, DISAMBIGUATED, phones.ids[SILENCE], 0, 0.0),
        (DISAMBIGUATED, LOOP, symbols[-1], 0, 0.0),
        (LOOP, LOOP, symbols[0], backoff, 0.0),
    ]
    state = DISAMBIGUATED
    for (word, sequence), mark, cost in zip(entries, marks, costs or [0.0] * len(entries), strict=True):
        source, output = LOOP, word
        *inner, last = [*sequence, symbols[mark]] if mark else sequence
        for phone in inner:
            state += 1
            rows.append((source, state, phone, output, cost))
            source, output, cost = state, 0, 0.0
        rows += [(source, LOOP, last, output, cost + skip), (source, AFTER, last, output, cost + take)]
    return from_rows(START, {LOOP: 0.0}, [row for row in rows if row[4] < math.inf]), symbols


def _cost(probability: float) -> float:
    return -math.log(probability) if probability > 0 else math.inf
