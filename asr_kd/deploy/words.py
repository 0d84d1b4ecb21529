"""Words of a best path with times and confidences.

The graph says which words a path has, but not where: its output labels stand where determinisation left them, often a
phone or more from the word's beginning. The path's tied states do say it. Each belongs to one HMM state of one base
phone, so a path reads as a string of phones, and since the words are known, their pronunciations divide it into words.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from asr_kd.deploy.filterbank import FRAMES_PER_SECOND, SHIFT_MS, WINDOW_MS

SILENCE = "SIL"
FIRST_BOUNDARY = (WINDOW_MS - SHIFT_MS) / 2000  # seconds: a frame stands for the middle of its window
MARK = "▁"  # of a piece that begins a word, as in asr_kd.lang.pieces
Pronunciations = Mapping[str, Sequence[tuple[str, ...]]]


@dataclass(frozen=True)
class Word:
    """start, end: seconds; confidence: 0 to 1, see `States.confidence`."""

    word: str
    start: float
    end: float
    confidence: float


@dataclass(frozen=True)
class States:
    """Of each tied state: phone (num_pdfs,) number into `phones`; state (num_pdfs,) of the phone's HMM; log_prior
    (num_pdfs,) float32.
    """

    phones: list[str]
    phone: np.ndarray
    state: np.ndarray
    log_prior: np.ndarray

    def phone_posteriors(self, log_post: np.ndarray) -> np.ndarray:
        """(T, num_pdfs) natural logs to (T, phones) float32: a phone's is the sum over its tied states."""
        members = self.phone[:, None] == np.arange(len(self.phones))
        return np.exp(log_post) @ members.astype(np.float32)

    def runs(self, pdfs: np.ndarray) -> tuple[list[str], np.ndarray]:
        """A path's (T,) tied states as the phones they pass through, and the first frame of each, then T.

        A phone begins where the base phone changes or its HMM is back in the first state.
        """
        phone, state = self.phone[pdfs], self.state[pdfs]
        first = (phone[1:] != phone[:-1]) | ((state[1:] == 0) & (state[:-1] > 0))
        starts = np.flatnonzero(np.concatenate([[True], first])) if len(pdfs) else np.zeros(0, np.int64)
        return [self.phones[number] for number in phone[starts]], np.append(starts, len(pdfs))

    def trailing_silence(self, pdfs: np.ndarray) -> int:
        """Frames of silence at the end of a path's (T,) tied states."""
        speech = np.flatnonzero(self.phone[pdfs] != self.phones.index(SILENCE))
        return len(pdfs) - 1 - int(speech[-1]) if len(speech) else len(pdfs)

    def confidence(self, pdfs: np.ndarray, phone_posteriors: np.ndarray) -> float:
        """The mean, over the frames of a word's (T,) tied states, of the posterior of the phone that they say.

        phone_posteriors: (T, phones). The network's opinion without lexicon and language model (after Bernardis and
        Bourlard 1998); 0 for no frames.
        """
        return float(phone_posteriors[np.arange(len(pdfs)), self.phone[pdfs]].mean()) if len(pdfs) else 0.0


def timed_words(
    words: Sequence[str],
    spans: Sequence[tuple[int, int]],
    pdfs: np.ndarray,
    states: States,
    phone_posteriors: np.ndarray,
) -> list[Word]:
    """The words of a path with its (T,) tied states; times from the beginning of its first window.

    spans: the phones of each word, see `divide`; phone_posteriors: (T, phones).
    """
    _, starts = states.runs(pdfs)
    timed = []
    for word, (first, last) in zip(words, spans, strict=True):
        frames = slice(int(starts[first]), int(starts[last]))
        confidence = states.confidence(pdfs[frames], phone_posteriors[frames])
        start, end = (FIRST_BOUNDARY + frame / FRAMES_PER_SECOND for frame in (frames.start, frames.stop))
        timed.append(Word(word, start, end, confidence))
    return timed


def joined(pieces: Sequence[Word]) -> list[Word]:
    """Pieces put together to words, each begun by a piece with the mark; confidences weighted by duration."""
    words: list[Word] = []
    for piece in pieces:
        if piece.word.startswith(MARK) or not words:
            words.append(replace(piece, word=piece.word.removeprefix(MARK)))
            continue
        before = words[-1]
        old, new = before.end - before.start, piece.end - piece.start
        sure = (old * before.confidence + new * piece.confidence) / (old + new) if old + new else 0.0
        start = before.start if before.word else piece.start  # a lone mark has no sound
        words[-1] = Word(before.word + piece.word, start, piece.end, sure)
    return [word for word in words if word.word]


def divide(
    phones: Sequence[str], words: Sequence[str], pronunciations: Pronunciations, complete: bool = True
) -> list[tuple[int, int]]:
    """For each word the phones it is made of, from the first of its pair up to the second; silence only between words.

    A path that is not `complete` may break off in its last word, or have begun one that it does not name yet.
    ValueError when the pronunciations do not spell the phones.
    """
    ends: list[dict[int, tuple[int, int]]] = [{0: (0, 0)}]  # by word, where it may end → (end of the one before, start)
    for number, word in enumerate(words):
        may_break_off = not complete and number == len(words) - 1
        after: dict[int, tuple[int, int]] = {}
        for end in ends[-1]:
            start = _behind_silence(phones, end)
            for variant in pronunciations[word]:
                found = tuple(phones[start : start + len(variant)])
                if found == variant or (may_break_off and found == variant[: len(found)]):
                    after.setdefault(start + len(found), (end, start))
        ends.append(after)
    last = [end for end in ends[-1] if not complete or _behind_silence(phones, end) == len(phones)]
    if not last:
        raise ValueError(f"no pronunciation of {' '.join(words)} is {' '.join(phones)}")
    spans, end = [], max(last)
    for after in reversed(ends[1:]):
        before, start = after[end]
        spans.append((start, end))
        end = before
    return spans[::-1]


def _behind_silence(phones: Sequence[str], place: int) -> int:
    while place < len(phones) and phones[place] == SILENCE:
        place += 1
    return place
