"""Back-off n-gram models in ARPA format."""

import gzip
import math
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from asr_kd.errors import UserError
from asr_kd.files import atomic_path

BEGIN, END, UNKNOWN = "<s>", "</s>", "<unk>"

NGram = tuple[str, ...]


@dataclass(frozen=True)
class Arpa:
    """`orders[n - 1]`: n-gram → (log10 probability, log10 back-off weight or None)."""

    orders: list[dict[NGram, tuple[float, float | None]]]

    @staticmethod
    def read(path: Path) -> "Arpa":
        """Read an ARPA file, plain or .gz, words lower-cased as transcripts are.

        UserError names a wrong line: one that is no n-gram, one whose history is none or has no back-off weight.
        """
        try:
            with (
                gzip.open(path, "rt", encoding="utf-8") if path.suffix == ".gz" else path.open(encoding="utf-8") as file
            ):
                return Arpa(_parse(path, file))
        except UnicodeDecodeError:
            raise UserError(f"{path}: not UTF-8 text; convert the ARPA file to UTF-8") from None
        except (OSError, EOFError, zlib.error) as error:
            raise UserError(f"{path}: cannot be read ({error}); name an ARPA file, plain or .gz") from None

    def write(self, path: Path) -> None:
        with atomic_path(path) as temporary, temporary.open("w", encoding="utf-8") as file:
            file.write("\\data\\\n")
            file.writelines(f"ngram {order}={len(ngrams)}\n" for order, ngrams in enumerate(self.orders, 1))
            for order, ngrams in enumerate(self.orders, 1):
                file.write(f"\n\\{order}-grams:\n")
                file.writelines(map(_line, ngrams.items()))
            file.write("\n\\end\\\n")

    @property
    def counts(self) -> list[int]:
        """Number of n-grams of each order."""
        return [len(ngrams) for ngrams in self.orders]

    @property
    def words(self) -> list[str]:
        """The words with a unigram, sentence marks excepted."""
        return [word for (word,) in self.orders[0] if word not in (BEGIN, END)]

    def restrict(self, keep: Callable[[str], bool]) -> "Arpa":
        """Without the n-grams that hold a word for which `keep` is false; what is left is not normalised again."""
        bad = {word for word in self.words if not keep(word)}
        return Arpa([{ngram: row for ngram, row in ngrams.items() if bad.isdisjoint(ngram)} for ngrams in self.orders])

    def log10_probability(self, history: NGram, word: str) -> float:
        """Of `word` after `history` (any length), backing off as far as needed; KeyError for a word without unigram."""
        history = history[max(len(history) - len(self.orders) + 1, 0) :]
        weight = 0.0
        while history:
            row = self.orders[len(history)].get((*history, word))
            if row is not None:
                return weight + row[0]
            weight += self.orders[len(history) - 1].get(history, (0.0, None))[1] or 0.0
            history = history[1:]
        return weight + self.orders[0][(word,)][0]

    def perplexity(self, sentences: Iterable[Sequence[str]]) -> float:
        """Per known word and sentence end; other words are not predicted, but stand as <unk> in the histories."""
        log10, predicted, order = 0.0, 0, len(self.orders)
        known = set(self.words) - {UNKNOWN}
        for sentence in sentences:
            tokens = (BEGIN, *(word if word in known else UNKNOWN for word in sentence), END)
            for position in range(1, len(tokens)):
                if tokens[position] != UNKNOWN:
                    history = tokens[max(position - order + 1, 0) : position]
                    log10 += self.log10_probability(history, tokens[position])
                    predicted += 1
        return 10 ** (-log10 / predicted) if predicted else math.inf


def _line(item: tuple[NGram, tuple[float, float | None]]) -> str:
    ngram, (log10, backoff) = item
    weight = "" if backoff is None else f"\t{backoff:.7f}"
    return f"{log10:.7f}\t{' '.join(ngram)}{weight}\n"


def _parse(path: Path, file: TextIO) -> list[dict[NGram, tuple[float, float | None]]]:
    lines = ((number, line.strip()) for number, line in enumerate(file, 1))
    declared = _header(path, lines)
    orders: list[dict[NGram, tuple[float, float | None]]] = [{} for _ in declared]
    order = 0
    for number, line in lines:
        if line == "\\end\\":
            break
        if line.startswith("\\"):
            order += 1
            if order > len(declared) or line != f"\\{order}-grams:":
                raise UserError(
                    f"{path}:{number}: unexpected {line}; \\data\\ announces {len(declared)} orders, in order"
                )
        elif line:
            if not order:
                raise UserError(f"{path}:{number}: an n-gram before \\1-grams:; repair the ARPA file")
            ngram, row = _entry(path, number, line, order)
            if ngram in orders[order - 1]:
                raise UserError(f"{path}:{number}: {' '.join(ngram)} occurs twice once lower-cased; merge the entries")
            if order > 1:
                _check_history(path, number, ngram, orders[order - 2])
            orders[order - 1][ngram] = row
    else:
        raise UserError(f"{path}: ends without \\end\\; the file is cut off, fetch it again")
    for order, (ngrams, count) in enumerate(zip(orders, declared, strict=True), 1):
        if len(ngrams) != count:
            raise UserError(f"{path}: {len(ngrams)} {order}-grams, \\data\\ announces {count}; fetch the file again")
    for mark in (BEGIN, END):
        if (mark,) not in orders[0]:
            raise UserError(f"{path}: no unigram {mark}; train the model with sentence marks")
    return orders


def _header(path: Path, lines: Iterator[tuple[int, str]]) -> list[int]:
    """The counts announced after \\data\\, by order."""
    if all(line != "\\data\\" for _, line in lines):
        raise UserError(f"{path}: no \\data\\ line; this is not an ARPA file")
    declared: list[int] = []
    for number, line in lines:
        if not line:
            if declared:
                break
            continue
        key, _, count = line.replace(" ", "").partition("=")
        if key != f"ngram{len(declared) + 1}" or not count.isdecimal():
            raise UserError(f"{path}:{number}: expected 'ngram {len(declared) + 1}=COUNT', found '{line[:40]}'")
        declared.append(int(count))
    if not declared:
        raise UserError(f"{path}: \\data\\ announces no n-grams; this is not an ARPA file")
    return declared


def _check_history(path: Path, number: int, ngram: NGram, shorter: Mapping[NGram, tuple[float, float | None]]) -> None:
    """Every history has to be an n-gram with a weight, as KenLM and SRILM ask; Kaldi's arpa2fst would take 0 for it."""
    row = shorter.get(ngram[:-1])
    if row is None or row[1] is None:
        lacks = "is no n-gram before it" if row is None else "has no back-off weight"
        raise UserError(
            f"{path}:{number}: {' '.join(ngram)}: its history {' '.join(ngram[:-1])} {lacks}; "
            "write the model again with all histories and their weights"
        )


def _entry(path: Path, number: int, line: str, order: int) -> tuple[NGram, tuple[float, float | None]]:
    log10, *rest = line.split()
    words, weights = rest[:order], rest[order:]
    try:
        if len(words) != order or len(weights) > 1:
            raise ValueError
        row = (float(log10), float(weights[0]) if weights else None)
        if math.isnan(row[0]) or row[0] > 0 or not math.isfinite(row[1] or 0.0):
            raise ValueError
    except ValueError:
        raise UserError(
            f"{path}:{number}: expected 'log10-probability {'word ' * order}[back-off]', found '{line[:40]}'"
        ) from None
    return tuple(word if word in (BEGIN, END) else word.lower() for word in words), row
