"""eSpeak NG through the shared library of the espeakng-loader wheel: speech with word times, and phonemes of a word.

The library is one synthesiser per process, initialised on first use. Its flutter and noise run on from one text to
the next, so that samples depend on all the process said before; phonemes do not.
"""

import ctypes
import re
from ctypes import CFUNCTYPE, POINTER, c_char_p, c_int, c_short, c_uint, c_void_p
from dataclasses import dataclass
from functools import cache
from itertools import pairwise

import espeakng_loader
import numpy as np

# Constants and structures of espeak-ng/speak_lib.h
_SYNCHRONOUS_OUTPUT = 2
_PHONEME_EVENTS, _DO_NOT_EXIT = 0x0001, 0x8000
_UTF8 = 1
_RATE, _PITCH = 1, 3
_LIST_END, _WORD, _PHONEME = 0, 1, 7
_MNEMONICS_SEPARATED_BY_SPACE = ord(" ") << 8

# Between words instead of a space, it keeps eSpeak from reading pairs such as "of the" as one word with one event.
_WORD_SEPARATOR = "\u200b"


class _EventId(ctypes.Union):
    _fields_ = (("number", c_int), ("name", c_char_p), ("string", ctypes.c_char * 8))


class _Event(ctypes.Structure):
    _fields_ = (
        ("type", c_int),
        ("unique_identifier", c_uint),
        ("text_position", c_int),
        ("length", c_int),
        ("audio_position", c_int),
        ("sample", c_int),
        ("user_data", c_void_p),
        ("id", _EventId),
    )


_CALLBACK = CFUNCTYPE(c_int, POINTER(c_short), c_int, POINTER(_Event))


@dataclass(frozen=True)
class Speech:
    """samples: int16 (samples,) at `rate` Hz; words: first sample and end of each word, None if not known."""

    samples: np.ndarray
    rate: int
    words: list[tuple[int, int]] | None


class Espeak:
    """The process's synthesiser; make it with `espeak()`."""

    def __init__(self) -> None:
        self._library = ctypes.CDLL(espeakng_loader.get_library_path())
        data = str(espeakng_loader.get_data_path()).encode()
        options = _PHONEME_EVENTS | _DO_NOT_EXIT
        self.rate: int = self._library.espeak_Initialize(_SYNCHRONOUS_OUTPUT, 0, data, options)
        if self.rate <= 0:
            raise RuntimeError(f"eSpeak NG does not start with the data in {data.decode()}")
        self._library.espeak_ng_SetRandSeed(ctypes.c_long(1))  # or else the clock seeds breath and roughness
        self._library.espeak_TextToPhonemes.restype = c_char_p
        self._chunks: list[np.ndarray] = []
        self._events: list[tuple[int, int, int, str]] = []
        self._callback = _CALLBACK(self._receive)  # a reference that keeps it from being collected
        self._library.espeak_SetSynthCallback(self._callback)

    def synthesise(self, words: list[str], voice: str, pitch: int, words_per_minute: int) -> Speech:
        """Say `words`; a word may end in a comma, for a short pause. voice: `en-us+VARIANT`; pitch: 0–100."""
        self._set_voice(voice)
        self._library.espeak_SetParameter(_PITCH, pitch, 0)
        self._library.espeak_SetParameter(_RATE, words_per_minute, 0)
        self._chunks, self._events = [], []
        text = "".join(word + (" " if word.endswith(",") else _WORD_SEPARATOR) for word in words)
        encoded = text.encode()
        self._library.espeak_Synth(encoded, len(encoded) + 1, 0, 1, 0, _UTF8, None, None)
        if (_WORD, 1) not in (event[:2] for event in self._events):
            self._events.insert(0, (_WORD, 1, 0, ""))  # eSpeak loses it after some two hundred phoneme look-ups
        samples = np.concatenate(self._chunks) if self._chunks else np.zeros(0, np.int16)
        return Speech(samples, self.rate, _word_times(words, self._events, len(samples)))

    def phonemes(self, text: str, voice: str = "en-us") -> list[str]:
        """eSpeak's phoneme mnemonics of a text, stress marks stripped."""
        self._set_voice(voice)
        pointer = c_char_p(text.encode())
        found: list[str] = []
        while pointer.value is not None:
            clause = self._library.espeak_TextToPhonemes(ctypes.byref(pointer), _UTF8, _MNEMONICS_SEPARATED_BY_SPACE)
            found += re.sub(r"[',%=|]", "", clause.decode()).split()
        return found

    def _set_voice(self, voice: str) -> None:
        if self._library.espeak_SetVoiceByName(voice.encode()):
            raise ValueError(f"eSpeak NG has no voice {voice}")

    def _receive(self, samples: "ctypes._Pointer[c_short]", count: int, events: "ctypes._Pointer[_Event]") -> int:
        if samples and count > 0:
            self._chunks.append(np.ctypeslib.as_array(samples, (count,)).copy())
        index = 0
        while events[index].type != _LIST_END:
            event = events[index]
            name = event.id.string.decode() if event.type == _PHONEME else ""
            self._events.append((event.type, event.text_position, event.sample, name))
            index += 1
        return 0


@cache
def espeak() -> Espeak:
    """The process's synthesiser, started on the first call."""
    return Espeak()


def _word_times(words: list[str], events: list[tuple[int, int, int, str]], total: int) -> list[tuple[int, int]] | None:
    """First sample and end of each word, from events (type, position in the text from 1, sample, phoneme).

    A word ends where a pause follows or the next one starts. None where eSpeak joined or split words.
    """
    marks = [index for index, event in enumerate(events) if event[0] == _WORD]
    positions = np.cumsum([1] + [len(word) + len(_WORD_SEPARATOR) for word in words[:-1]]).tolist()
    if [events[index][1] for index in marks] != positions:
        return None
    times = []
    for index, following in pairwise([*marks, len(events)]):
        phones = [event for event in events[index + 1 : following] if event[0] == _PHONEME]
        if not phones:
            return None
        end = _word_start(events, following) if following < len(events) else total
        while phones and phones[-1][3].startswith("_"):
            end = phones.pop()[2]
        times.append((_word_start(events, index), end))
    return times


def _word_start(events: list[tuple[int, int, int, str]], mark: int) -> int:
    """The sample of a word event, but inside a transition, its middle.

    A vowel's samples begin with the transition from the consonant before; where that one has none of its own, the
    word event comes at its beginning.
    """
    sample = events[mark][2]
    before = next((event[2] for event in reversed(events[:mark]) if event[0] == _PHONEME), -1)
    after = next((event[2] for event in events[mark:] if event[0] == _PHONEME), sample)
    return (sample + after) // 2 if before == sample else sample
