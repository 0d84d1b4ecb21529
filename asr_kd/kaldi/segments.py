"""Where the phones and words of an alignment begin and end."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from asr_kd.hmm.topology import is_silence
from asr_kd.lang.phones import PhoneSet

PHONE, STATE, WORD = 2, 4, 5  # columns of an alignment


@dataclass(frozen=True)
class Segment:
    """start: first frame; end: the frame behind the last."""

    symbol: str
    start: int
    end: int


def phone_segments(rows: np.ndarray, phone_set: PhoneSet) -> list[Segment]:
    """The phones of an utterance, silence included; rows: (frames, 6) of an alignment.

    One phone ends where the phone, one of its neighbours or the word changes; and, as "n n" within a word can have
    equal neighbours, where the HMM of a phone starts anew.
    """
    silent = np.array([phone > 0 and is_silence(phone_set, phone) for phone in range(len(phone_set))])
    unit = np.delete(rows, [0, STATE], axis=1)
    changes = (unit[1:] != unit[:-1]).any(axis=1)
    restarts = (rows[1:, STATE] < rows[:-1, STATE]) & ~silent[rows[1:, PHONE]]
    return [Segment(phone_set.symbols[rows[a, PHONE]], a, b) for a, b in _runs(changes | restarts)]


def word_segments(rows: np.ndarray, words: Sequence[str]) -> list[Segment]:
    """The words of an utterance without the silences between them; words: its transcript."""
    number = rows[:, WORD]
    return [Segment(words[number[a]], a, b) for a, b in _runs(number[1:] != number[:-1]) if number[a] >= 0]


def _runs(changes: np.ndarray) -> list[tuple[int, int]]:
    """(first frame, frame behind the last) of the pieces between changes; changes: (frames − 1,) bool."""
    bounds = [0, *(np.flatnonzero(changes) + 1).tolist(), len(changes) + 1]
    return list(pairwise(bounds))
