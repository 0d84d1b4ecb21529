"""Letters in place of phones: a word's pronunciation is its spelling (Kanthak & Ney 2002), and no lexicon is needed."""

from collections.abc import Iterable, Sequence

from asr_kd.lang.lexicon import Lexicon, is_word


def letters_of(sentences: Iterable[Sequence[str]]) -> frozenset[str]:
    """The characters of the sentences' words, marks such as [noise] excepted; an apostrophe is one like any other."""
    return frozenset(letter for sentence in sentences for word in sentence if is_word(word) for letter in word)


def spell(words: Iterable[str], letters: frozenset[str]) -> Lexicon:
    """Each word as its letters; those with any other than `letters`, which have no acoustic model, are left out."""
    return Lexicon({word: (tuple(word),) for word in words if is_word(word) and letters.issuperset(word)})
