"""Kaldi's event maps, which its decision trees are, and the text that copy-tree --binary=false makes of one.

An event has a value for each key: 0, 1, … are the phones of a context window, −1 is the pdf-class (here the HMM
state). A map answers with a pdf: CE is the answer, SE a question whether a key's value is in a set, TE a table by a
key's value, which may have gaps.
"""

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from asr_kd.errors import UserError
from asr_kd.hmm.nodes import MOST_PDFS

PDF_CLASS = -1
TOKEN = re.compile(r"[\[\]{}()]|[^\s\[\]{}()]+")
TO_TEXT = "write it by copy-tree --binary=false tree tree.txt"


@dataclass(frozen=True)
class Answer:
    pdf: int


@dataclass(frozen=True)
class Split:
    key: int
    yes_set: frozenset[int]
    yes: "EventMap"
    no: "EventMap"


@dataclass(frozen=True)
class Table:
    key: int
    children: "tuple[EventMap | None, ...]"


EventMap = Answer | Split | Table


@dataclass(frozen=True)
class KaldiTree:
    """width: phones in the context window; centre: the place of the central one; num_pdfs: of all phones of Kaldi's."""

    width: int
    centre: int
    events: EventMap
    num_pdfs: int


def parse_tree(path: Path, text: str) -> KaldiTree:
    """The tree in `text`; UserError names the line of `path` that is not part of one."""
    return _Parser(path, text).tree()


class _Parser:
    """Recursive descent over the words of a tree's text, with the line of each for messages."""

    def __init__(self, path: Path, text: str) -> None:
        self.path = path
        lines = [TOKEN.findall(line) for line in text.split("\n")]
        self.tokens = [token for line in lines for token in line]
        self.line_of = np.repeat(np.arange(1, len(lines) + 1), [len(line) for line in lines])
        self.place = 0
        self.largest = -1

    def tree(self) -> KaldiTree:
        self._expect("ContextDependency")
        width, centre = self._integer(), self._integer()
        if not 0 <= centre < width:
            raise self._error(f"a context of {width} phones has no place {centre}")
        self.keys = range(PDF_CLASS, width)
        self._expect("ToPdf")
        try:
            events = self._event()
        except RecursionError:
            raise self._error("nested too deeply for a decision tree") from None
        self._expect("EndContextDependency")
        if events is None:
            raise self._error("the tree is empty")
        return KaldiTree(width, centre, events, self.largest + 1)

    def _event(self) -> EventMap | None:
        kind = self._next()
        if kind == "NULL":
            return None
        if kind == "CE":
            pdf = self._integer()
            self.largest = max(self.largest, pdf)
            if not 0 <= pdf < MOST_PDFS:
                raise self._error(f"no pdf has the number {pdf}")
            return Answer(pdf)
        if kind == "SE":
            key, yes_set = self._key(), self._set()
            self._expect("{")
            yes, no = self._event(), self._event()
            self._expect("}")
            if yes is None or no is None:
                raise self._error("a question (SE) without both of its answers")
            return Split(key, yes_set, yes, no)
        if kind == "TE":
            key, size = self._key(), self._integer()
            self._expect("(")
            children = tuple(self._event() for _ in range(size))
            self._expect(")")
            return Table(key, children)
        raise self._error(f"want CE, SE, TE or NULL, not {kind}")

    def _key(self) -> int:
        key = self._integer()
        if key not in self.keys:
            raise self._error(f"key {key} is none of the context's")
        return key

    def _set(self) -> frozenset[int]:
        self._expect("[")
        values = []
        while (token := self._next()) != "]":
            values.append(self._to_integer(token))
        return frozenset(values)

    def _integer(self) -> int:
        return self._to_integer(self._next())

    def _to_integer(self, token: str) -> int:
        try:
            return int(token)
        except ValueError:
            raise self._error(f"want a whole number, not {token}") from None

    def _expect(self, token: str) -> None:
        if (found := self._next()) != token:
            raise self._error(f"want {token}, not {found}")

    def _next(self) -> str:
        if self.place == len(self.tokens):
            raise self._error("the file ends in the middle of the tree")
        self.place += 1
        return self.tokens[self.place - 1]

    def _error(self, problem: str) -> UserError:
        line = self.line_of[max(0, self.place - 1)] if len(self.line_of) else 1
        return UserError(f"{self.path}:{line}: {problem}; {TO_TEXT}")
