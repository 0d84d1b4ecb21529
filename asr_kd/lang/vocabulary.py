"""The words that a decoder may say, and how each is pronounced."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from asr_kd.errors import UserError
from asr_kd.files import write_text
from asr_kd.lang.arpa import BEGIN, END
from asr_kd.lang.lexicon import ARPABET, Lexicon, is_word
from asr_kd.recipe import Lang


def count_words(sentences: Iterable[Sequence[str]]) -> Counter[str]:
    return Counter(word for sentence in sentences for word in sentence)


def choose_vocabulary(weights: Mapping[str, float], base: Lexicon, recipe: Lang) -> list[str]:
    """The words of `weights` that the recipe admits, heaviest first, at most `max_words` of them."""
    admitted = (word for word in weights if is_word(word) and (word in base or not recipe.vocabulary_in_lexicon_only))
    return sorted(admitted, key=lambda word: (-weights[word], word))[: recipe.max_words]


def guess_pronunciations(words: Iterable[str], base: Lexicon) -> Lexicon:
    """G2P for those of `words` that are words and that `base` lacks. UserError when `base` is not in its phones."""
    missing = sorted(word for word in words if is_word(word) and word not in base)
    if not missing:
        return Lexicon({})
    if foreign := set(base.phones) - ARPABET:
        raise UserError(
            f"lang.g2p: knows cmudict's phones, lang.lexicon has others ({min(foreign)}); set it to false, or add the "
            f"missing words to the lexicon ({len(missing)}: {' '.join(missing[:5])} …)"
        )
    from asr_kd.lang.g2p import pronounce  # loads eSpeak

    return Lexicon.of(pronounce(missing).items())


def write_words(path: Path, vocabulary: Iterable[str]) -> None:
    """Write `symbol id` lines: <eps>, the vocabulary in alphabetical order, #0, <s>, </s>."""
    symbols = ("<eps>", *sorted(vocabulary), "#0", BEGIN, END)
    write_text(path, "".join(f"{symbol} {number}\n" for number, symbol in enumerate(symbols)))


def write_vocabulary(path: Path, vocabulary: Iterable[str]) -> None:
    """One word a line, in alphabetical order."""
    write_text(path, "".join(f"{word}\n" for word in sorted(vocabulary)))


def read_word_list(path: Path) -> frozenset[str]:
    """The words of a list, the first field of each line: words.txt and lexicons are lists too. What is no word, such as
    <eps>, is left out. UserError for a file that cannot be read or has no word.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise UserError(f"{path}: {error.strerror or error}; name a list of words, one a line") from None
    except ValueError as error:  # no UTF-8, or no name of a file
        raise UserError(f"{path}: not UTF-8 text ({error}); name a list of words, one a line") from None
    words = frozenset(filter(is_word, (line.split()[0] for line in lines if line.strip())))
    if not words:
        raise UserError(f"{path}: holds no word; write one a line")
    return words


def read_vocabulary(lang: Path) -> frozenset[str]:
    """The words known before: those of vocabulary.txt, or the decoder's own where that is missing, because its tokens
    are words. UserError names a missing words.txt.
    """
    path = lang / "vocabulary.txt"
    if path.exists():
        return frozenset(path.read_text(encoding="utf-8").split())
    path = lang / "words.txt"
    try:
        symbols = [line.split()[0] for line in path.read_text(encoding="utf-8").splitlines() if line]
    except FileNotFoundError:
        raise UserError(f"{path}: missing; run --stage 2 (lang)") from None
    return frozenset(filter(is_word, symbols))
