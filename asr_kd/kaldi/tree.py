"""Kaldi's decision trees as text (copy-tree --binary=false), read into asr_kd.hmm.tree.Tree and written from it.

Kaldi's tree is one event map from the phones of a context window (keys 0, 1, …, the central one P) and the pdf-class
(key −1, here the HMM state) to a pdf: CE is an answer, SE a set question, TE a table. Ours has a root for each phone
and HMM state, with questions about the neighbours below. One is got from the other by answering, for each phone and
state, what asks about them; what is left asks about neighbours only.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from asr_kd.errors import UserError
from asr_kd.files import write_text
from asr_kd.hmm.nodes import MOST_PDFS
from asr_kd.hmm.topology import MAX_STATES, arcs, is_silence
from asr_kd.hmm.tree import CENTRE, LEAF, LEFT, RIGHT, Tree
from asr_kd.kaldi.events import PDF_CLASS, TO_TEXT, Answer, EventMap, KaldiTree, Table, parse_tree
from asr_kd.lang.phones import NOISE, SILENCE, PhoneSet


def read_tree(path: Path, phone_set: PhoneSet, phones: Path | None, silence: str, noise: str) -> Tree:
    """Kaldi's tree as text, or a map with lines `phone state pdf`, for the phones of `phone_set`.

    phones: Kaldi's phones.txt, needed with a tree; silence, noise: Kaldi's names of SIL and SPN. A phone is looked up
    with its position in the word (AA_B) and, where Kaldi's phones have none, without (AA). UserError names the line
    that is not understood, or the phones without pdfs.
    """
    text = _read_text(path)
    names = {SILENCE: silence, NOISE: noise}
    if text.split(maxsplit=1)[:1] != ["ContextDependency"]:
        return _tree_of_map(path, phone_set, names)
    if phones is None:
        raise UserError(f"hmm.external.phones: null, but {path} numbers its phones; give Kaldi's phones.txt")
    ids = phone_ids(phones, phone_set, names)
    return convert(parse_tree(path, text), phone_set, ids, path)


def phone_ids(path: Path, phone_set: PhoneSet, names: dict[str, str]) -> list[int]:
    """Kaldi's number of each phone of `phone_set`, from phones.txt; 0 for <eps>. names: Kaldi's for SIL and SPN."""
    table = {symbol: int(number) for _, (symbol, number) in _rows(path, "phone number", 2)}
    return [0, *_looked_up(path, phone_set, names, table)]


def convert(tree: KaldiTree, phone_set: PhoneSet, ids: list[int], path: Path) -> Tree:
    """Our tree with the same pdfs; ids: Kaldi's number of each of our phones, 0 for <eps>.

    UserError (naming `path`) where a phone has no pdf for one of its HMM states, silence depends on its neighbours, or
    the context is wider than one phone to each side.
    """
    if tree.centre > 1 or tree.width - tree.centre > 2:
        raise UserError(f"{path}: {tree.width} phones of context; at most one to each side of a phone can be used")
    nodes = _Nodes(tree, np.array(ids))
    roots = np.full((len(phone_set), MAX_STATES), -1, dtype=np.int32)
    for phone in range(1, len(phone_set)):
        for state in range(len(arcs(phone_set, phone))):
            name = f"{phone_set.symbols[phone]}, number {ids[phone]}, HMM state {state}"
            try:
                roots[phone, state] = nodes.below(tree.events, ids[phone], state)
            except LookupError as error:
                raise UserError(f"{path}: {name}: {error}") from None
            if is_silence(phone_set, phone) and nodes.rows[roots[phone, state]][0] != LEAF:
                raise UserError(f"{path}: {name}: depends on its neighbours; make the tree with --ci-phones")
    questions = np.array(nodes.questions, dtype=bool).reshape(-1, len(phone_set))
    about, question, yes, no, pdf = np.array(nodes.rows, dtype=np.int32).T
    return Tree(phone_set, questions, about, question, yes, no, pdf, roots, tree.num_pdfs, edge=0)


class _Nodes:
    """Nodes of the converted tree as they are made; equal ones are one, so that what phones share stays shared."""

    def __init__(self, tree: KaldiTree, ids: np.ndarray) -> None:
        self.centre, self.ids = tree.centre, ids
        self.rows: list[tuple[int, int, int, int, int]] = []
        self.questions: list[np.ndarray] = []
        self._number: dict[tuple[int, int, int, int, int], int] = {}
        self._question: dict[frozenset[int], int] = {}

    def below(self, event: EventMap | None, phone: int, state: int) -> int:
        """The node for `event`, given the central phone and the HMM state; LookupError where there is no answer."""
        if event is None:
            raise LookupError("has no pdf; states must be those of gen_topo.pl, 3 for phones, 5 for silence and noise")
        if isinstance(event, Answer):
            return self._node((LEAF, 0, 0, 0, event.pdf))
        known = {PDF_CLASS: state, self.centre: phone}
        if isinstance(event, Table):
            if event.key not in known:
                raise LookupError("has a table of neighbours, which build-tree does not make; it cannot be used")
            value = known[event.key]
            return self.below(event.children[value] if value < len(event.children) else None, phone, state)
        if event.key in known:
            return self.below(event.yes if known[event.key] in event.yes_set else event.no, phone, state)
        about = {self.centre - 1: LEFT, self.centre + 1: RIGHT}[event.key]
        yes, no = self.below(event.yes, phone, state), self.below(event.no, phone, state)
        return self._node((about, self._question_of(event.yes_set), yes, no, -1))

    def _node(self, row: tuple[int, int, int, int, int]) -> int:
        if row not in self._number:
            self._number[row] = len(self.rows)
            self.rows.append(row)
        return self._number[row]

    def _question_of(self, yes_set: frozenset[int]) -> int:
        if yes_set not in self._question:
            self._question[yes_set] = len(self.questions)
            self.questions.append(np.isin(self.ids, list(yes_set)))
        return self._question[yes_set]


def write_tree(path: Path, tree: Tree) -> None:
    """The tree as Kaldi's text, phones numbered as in the phone set's phones.txt."""
    edge = tree.phone_set.ids[SILENCE] if tree.edge is None else tree.edge
    # what stands beyond the utterance has number 0 in Kaldi
    yes_sets = [" ".join(str(p) for p in range(len(row)) if row[p if p else edge]) for row in tree.questions]
    keys = {LEFT: 0, CENTRE: 1, RIGHT: 2}

    def text(node: int) -> str:
        if tree.about[node] == LEAF:
            return f"CE {tree.pdf[node]} "
        yes, no = text(int(tree.yes[node])), text(int(tree.no[node]))
        return f"SE {keys[int(tree.about[node])]} [ {yes_sets[tree.question[node]]} ]\n{{ {yes}{no}}} \n"

    def states(roots: list[int]) -> str:
        known = [root for root in roots if root >= 0]
        return f"TE {PDF_CLASS} {len(known)} ( {''.join(map(text, known))}) \n" if known else "NULL "

    phones = "".join(states(roots) for roots in tree.roots.tolist())
    write_text(path, f"ContextDependency 3 1 ToPdf TE 1 {len(tree.roots)} ( {phones}) \nEndContextDependency ")


def _tree_of_map(path: Path, phone_set: PhoneSet, names: dict[str, str]) -> Tree:
    """The tree without questions that lines `phone state pdf` make."""
    pdfs: dict[str, dict[int, int]] = {}
    for number, (phone, *rest) in _rows(path, "phone state pdf", 3):
        state, pdf = map(int, rest)
        if not 0 <= pdf < MOST_PDFS or state in pdfs.setdefault(phone, {}):
            raise UserError(f"{path}:{number}: {phone} {state}: wants one line, and a pdf from 0 to {MOST_PDFS - 1}")
        pdfs[phone][state] = pdf
    ids = [0, *_looked_up(path, phone_set, names, {phone: number for number, phone in enumerate(pdfs, start=1)})]
    answers = [{state: Answer(pdf) for state, pdf in states.items()} for states in ({}, *pdfs.values())]
    tables = (Table(PDF_CLASS, tuple(map(states.get, range(MAX_STATES)))) for states in answers)
    largest = max(pdf for states in pdfs.values() for pdf in states.values())
    return convert(KaldiTree(1, 0, Table(0, tuple(tables)), largest + 1), phone_set, ids, path)


def _looked_up(path: Path, phone_set: PhoneSet, names: dict[str, str], table: dict[str, int]) -> list[int]:
    """table[…] for each of our phones but <eps>: by its own name, or without its position in the word."""
    wanted = [(symbol, phone_set.base(p)) for p, symbol in enumerate(phone_set.symbols) if p]
    wanted = [(names.get(symbol, symbol), names.get(base, base)) for symbol, base in wanted]
    missing = [symbol for symbol, base in wanted if symbol not in table and base not in table]
    if missing:
        examples = " ".join(missing[:5]) + " …" * (len(missing) > 5)
        raise UserError(
            f"{path}: lacks {len(missing)} of {len(wanted)} phones ({examples}); "
            "set lang.lexicon to the lexicon of that system, lang.stress to true if its vowels carry stress, and "
            "hmm.external.silence and noise to its names of them"
        )
    return [table[symbol] if symbol in table else table[base] for symbol, base in wanted]


def _rows(path: Path, form: str, columns: int) -> Iterator[tuple[int, list[str]]]:
    """Line number and words of each line of a table, whose columns but the first are whole numbers."""
    for number, line in enumerate(_read_text(path).split("\n"), start=1):
        words = line.split()
        if words and (len(words) != columns or not all(word.removeprefix("-").isdecimal() for word in words[1:])):
            raise UserError(f"{path}:{number}: want '{form}'")
        if words:
            yield number, words


def _read_text(path: Path) -> str:
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise UserError(f"hmm.external: {path}: {error.strerror}") from None
    except UnicodeDecodeError:
        text = "\0"
    if "\0" in text:
        raise UserError(f"{path}: not text; {TO_TEXT}")
    return text
