"""Phonetic decision tree: which tied state (pdf) an HMM state of a triphone shares.

Kaldi's acc-tree-stats, cluster-phones, compile-questions and build-tree: one root for each base phone and HMM state,
shared by the phone's four word positions; questions about the left, the centre and the right phone; greedy splits by
gain in likelihood, then a merge of leaves that cost little.
"""

import hashlib
import heapq
import json
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from asr_kd.errors import UserError
from asr_kd.files import read_json, write_json
from asr_kd.hmm.nodes import LEAF, MOST_PDFS, check_nodes
from asr_kd.hmm.topology import MAX_STATES, ContextCodes, arcs, is_silence
from asr_kd.lang.phones import POSITIONS, SILENCE, PhoneSet

LEFT, CENTRE, RIGHT = 0, 1, 2
VARIANCE_FLOOR = 0.01


@dataclass(frozen=True)
class TreeStats:
    """Sums over the frames of each context code: codes (n,), counts (n,), sums and squares (n, dim), float64."""

    codes: np.ndarray
    counts: np.ndarray
    sums: np.ndarray
    squares: np.ndarray


def log_likelihood(counts: np.ndarray, sums: np.ndarray, squares: np.ndarray) -> np.ndarray:
    """Log-likelihood of frames under the diagonal Gaussian they define, up to a constant a frame.

    counts (…), sums and squares (…, dim) → (…); 0 where the count is 0.
    """
    safe = np.maximum(counts, 1e-10)[..., None]
    variance = np.maximum(squares / safe - (sums / safe) ** 2, VARIANCE_FLOOR)
    return -0.5 * counts * np.log(variance).sum(axis=-1)


@dataclass(frozen=True)
class Tree:
    """Nodes as arrays (nodes,): `about` LEFT, CENTRE, RIGHT or LEAF; `question` row of `questions` (Q, num_phones)
    bool; `yes`, `no` next nodes; `pdf` of a leaf. roots (num_phones, MAX_STATES): first node, −1 where there is none.
    edge: the phone that the utterance's edge counts as; None is silence. Kaldi's trees ask about the edge itself, 0.
    """

    phone_set: PhoneSet
    questions: np.ndarray
    about: np.ndarray
    question: np.ndarray
    yes: np.ndarray
    no: np.ndarray
    pdf: np.ndarray
    roots: np.ndarray
    num_pdfs: int
    edge: int | None = None

    def pdfs(self, left: np.ndarray, phone: np.ndarray, right: np.ndarray) -> np.ndarray:
        """Phone ids (n,), 0 as a neighbour is the utterance's edge → (n, MAX_STATES) pdfs, −1 beyond the last state."""
        edge = self.phone_set.ids[SILENCE] if self.edge is None else self.edge
        context = np.stack([np.where(left == 0, edge, left), phone, np.where(right == 0, edge, right)])
        node = self.roots[phone]
        return np.where(node >= 0, self._descend(node.clip(0), context[:, :, None]), -1).astype(np.int32)

    def pdfs_of_codes(self, codes: np.ndarray) -> np.ndarray:
        """Context codes (n,) → pdfs (n,)."""
        unique, inverse = np.unique(codes, return_inverse=True)
        left, phone, right, state = ContextCodes(len(self.phone_set)).decode(unique)
        return self.pdfs(left, phone, right)[np.arange(len(unique)), state][inverse]

    def _descend(self, node: np.ndarray, context: np.ndarray) -> np.ndarray:
        node = node.copy()
        while (inner := self.about[node] != LEAF).any():
            phone = np.broadcast_to(np.take_along_axis(context, self.about[node].clip(0)[None], axis=0)[0], node.shape)
            answer = self.questions[self.question[node], phone]
            node = np.where(inner, np.where(answer, self.yes[node], self.no[node]), node)
        return self.pdf[node]

    @property
    def digest(self) -> str:
        """SHA-256 of the tree: what alignments and networks name to say which states they mean."""
        return hashlib.sha256(json.dumps(self._as_json(), sort_keys=True).encode()).hexdigest()

    def silence_pdfs(self) -> np.ndarray:
        """(num_pdfs,) bool: the states of silence (not of spoken noise)."""
        mask = np.zeros(self.num_pdfs, dtype=bool)
        mask[self.pdf[self.roots[self.phone_set.ids[SILENCE]]]] = True
        return mask

    def base_phone_of_pdfs(self) -> list[str]:
        """Base phone of each pdf."""
        names = [""] * self.num_pdfs
        for phone in range(1, len(self.phone_set)):
            for root in self.roots[phone][self.roots[phone] >= 0]:
                for pdf in self.leaves_below(int(root)):
                    names[pdf] = self.phone_set.base(phone)
        return names

    def leaves_below(self, node: int) -> list[int]:
        """The pdfs of the leaves under a node, one an occurrence (merged leaves share a pdf)."""
        if self.about[node] == LEAF:
            return [int(self.pdf[node])]
        return self.leaves_below(int(self.yes[node])) + self.leaves_below(int(self.no[node]))

    def _as_json(self) -> dict[str, object]:
        symbols = np.array(self.phone_set.symbols)
        imported: dict[str, object] = {} if self.edge is None else {"edge": self.edge, "num_pdfs": self.num_pdfs}
        return {
            **imported,
            "bases": list(self.phone_set.bases),
            "questions": [" ".join(symbols[row]) for row in self.questions],
            "nodes": np.stack([self.about, self.question, self.yes, self.no, self.pdf], axis=1).tolist(),
            "roots": self.roots.tolist(),
        }

    def save(self, path: Path) -> None:
        write_json(path, self._as_json())

    @staticmethod
    def load(path: Path) -> "Tree":
        """Read what `save` wrote; UserError when it is no tree that could be walked down."""
        data = read_json(path)
        try:
            phone_set = PhoneSet(tuple(data["bases"]))
            ids = phone_set.ids
            if len(ids) != len(phone_set):
                raise ValueError("a phone occurs twice")
            questions = np.zeros((len(data["questions"]), len(phone_set)), dtype=bool)
            for row, text in zip(questions, data["questions"], strict=True):
                row[[ids[symbol] for symbol in text.split()]] = True
            nodes = np.array(data["nodes"], dtype=np.int32).reshape(-1, 5)
            roots = np.array(data["roots"], dtype=np.int32)
            check_nodes(nodes, roots, phone_set, len(questions))
            tree = _from_nodes(phone_set, questions, nodes, roots)
            if data.get("edge") is None:
                return tree
            edge, num_pdfs = int(data["edge"]), int(data["num_pdfs"])
            if not (0 <= edge < len(phone_set) and tree.num_pdfs <= num_pdfs <= MOST_PDFS):
                raise ValueError(f"edge {edge}, {num_pdfs} pdfs")
            return replace(tree, edge=edge, num_pdfs=num_pdfs)
        except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
            raise UserError(f"{path}: not a decision tree ({error}); run --stage 3 (align) again") from None


def _from_nodes(phone_set: PhoneSet, questions: np.ndarray, nodes: np.ndarray, roots: np.ndarray) -> Tree:
    """nodes (n, 5): about, question, yes, no, pdf."""
    about, question, yes, no, pdf = nodes.T
    return Tree(phone_set, questions, about, question, yes, no, pdf, roots, int(pdf.max()) + 1)


def phonetic_questions(stats: TreeStats, phone_set: PhoneSet) -> np.ndarray:
    """Sets of phones to ask about, (Q, num_phones) bool: single phones, clusters of phones, word positions, silence.

    Base phones are clustered bottom-up by the likelihood of their middle states (Kaldi's cluster-phones does the same
    on the same statistics, top-down); every cluster met on the way is a question.
    """
    _, phone, _, state = ContextCodes(len(phone_set)).decode(stats.codes)
    base = np.array(
        [-1 if is_silence(phone_set, p) or p == 0 else (p - 3) // len(POSITIONS) for p in range(len(phone_set))]
    )
    members = [base == number for number in range(len(phone_set.bases))]
    clusters = []
    for number, member in enumerate(members):
        rows = (base[phone] == number) & (state == 1)
        clusters.append((member, stats.counts[rows].sum(), stats.sums[rows].sum(0), stats.squares[rows].sum(0)))
    questions = list(members)
    while len(clusters) > 2:
        counts, sums, squares = (np.array([c[i] for c in clusters]) for i in (1, 2, 3))
        alone = log_likelihood(counts, sums, squares)
        together = log_likelihood(counts[:, None] + counts, sums[:, None] + sums, squares[:, None] + squares)
        loss = alone[:, None] + alone - together
        np.fill_diagonal(loss, np.inf)
        a, b = sorted(int(i) for i in np.unravel_index(int(loss.argmin()), loss.shape))
        merged = (
            clusters[a][0] | clusters[b][0],
            counts[a] + counts[b],
            sums[a] + sums[b],
            squares[a] + squares[b],
        )
        clusters = [c for i, c in enumerate(clusters) if i not in (a, b)] + [merged]
        questions.append(merged[0])
    symbols = phone_set.symbols
    questions += [np.array([symbol.endswith(f"_{p}") for symbol in symbols]) for p in POSITIONS]
    questions.append(np.array([is_silence(phone_set, p) if p else False for p in range(len(phone_set))]))
    return np.unique(np.array(questions), axis=0)


@dataclass
class _Leaf:
    """A leaf while the tree grows: which statistics it holds, and its best split."""

    node: int
    rows: np.ndarray
    gain: float = 0.0
    about: int = LEAF
    question: int = 0
    yes: np.ndarray | None = None


class _Grower:
    """Greedy growth of all roots together, the best split of any leaf first."""

    def __init__(self, stats: TreeStats, phone_set: PhoneSet, questions: np.ndarray, min_occupancy: float) -> None:
        self.stats, self.questions, self.min_occupancy = stats, questions, min_occupancy
        left, phone, right, _ = ContextCodes(len(phone_set)).decode(stats.codes)
        edge = phone_set.ids[SILENCE]
        self.context = np.stack([np.where(left == 0, edge, left), phone, np.where(right == 0, edge, right)])
        self.nodes: list[list[int]] = []
        self.leaves: dict[int, _Leaf] = {}
        self.heap: list[tuple[float, int]] = []
        self.last_gain = 0.0

    def add(self, rows: np.ndarray, splittable: bool = True) -> int:
        leaf = _Leaf(len(self.nodes), rows)
        self.nodes.append([LEAF, 0, 0, 0, -1])
        self.leaves[leaf.node] = leaf
        if splittable and len(rows) > 1:
            self._find_split(leaf)
            if leaf.gain > 0:
                heapq.heappush(self.heap, (-leaf.gain, leaf.node))
        return leaf.node

    def _find_split(self, leaf: _Leaf) -> None:
        """The question with the largest gain: statistics by neighbouring phone, times the matrix of questions."""
        s, rows, num_phones = self.stats, leaf.rows, self.questions.shape[1]
        counts, sums, squares = s.counts[rows], s.sums[rows], s.squares[rows]
        total = counts.sum(), sums.sum(0), squares.sum(0)
        whole = log_likelihood(*(np.asarray(t) for t in total))
        table = np.concatenate([counts[:, None], sums, squares], axis=1)
        for about in (LEFT, CENTRE, RIGHT):
            key = self.context[about][rows]
            by_phone = np.zeros((num_phones, table.shape[1]))
            np.add.at(by_phone, key, table)
            yes = self.questions.astype(np.float64) @ by_phone
            no = by_phone.sum(0) - yes
            gain = _likelihood_of_rows(yes) + _likelihood_of_rows(no) - whole
            gain[(yes[:, 0] < self.min_occupancy) | (no[:, 0] < self.min_occupancy)] = -np.inf
            best = int(gain.argmax())
            if gain[best] > leaf.gain:
                leaf.gain, leaf.about, leaf.question = float(gain[best]), about, best
                leaf.yes = self.questions[best][key]

    def grow(self, max_leaves: int) -> None:
        while self.heap and len(self.leaves) < max_leaves:
            gain, node = heapq.heappop(self.heap)
            leaf = self.leaves.pop(node)
            assert leaf.yes is not None
            self.last_gain = -gain
            yes, no = self.add(leaf.rows[leaf.yes]), self.add(leaf.rows[~leaf.yes])
            self.nodes[node] = [leaf.about, leaf.question, yes, no, -1]

    def merge(self, root_of: dict[int, int]) -> dict[int, int]:
        """Merge leaves of one root that cost less than the last split gained; leaf node → the node it became."""
        target = {node: node for node in self.leaves}
        groups: dict[int, list[int]] = {}
        for node in self.leaves:
            groups.setdefault(root_of[node], []).append(node)
        for nodes in groups.values():
            sums = {n: self._sums(self.leaves[n].rows) for n in nodes}
            while len(sums) > 1:
                names = list(sums)
                table = np.array([sums[n] for n in names])
                alone = _likelihood_of_rows(table)
                pairs = table[:, None] + table
                loss = alone[:, None] + alone - _likelihood_of_rows(pairs)
                np.fill_diagonal(loss, np.inf)
                a, b = (int(i) for i in np.unravel_index(int(loss.argmin()), loss.shape))
                if loss[a, b] >= self.last_gain:
                    break
                keep, gone = names[min(a, b)], names[max(a, b)]
                sums[keep] = sums[keep] + sums.pop(gone)
                for node, now in target.items():
                    if now == gone:
                        target[node] = keep
        return target

    def _sums(self, rows: np.ndarray) -> np.ndarray:
        s = self.stats
        return np.concatenate([[s.counts[rows].sum()], s.sums[rows].sum(0), s.squares[rows].sum(0)])


def _likelihood_of_rows(table: np.ndarray) -> np.ndarray:
    dim = (table.shape[-1] - 1) // 2
    return log_likelihood(table[..., 0], table[..., 1 : dim + 1], table[..., dim + 1 :])


def build_tree(
    stats: TreeStats,
    phone_set: PhoneSet,
    questions: np.ndarray,
    leaves: int,
    min_occupancy: float,
    merge: bool = True,
) -> Tree:
    """Grow a tree to at most `leaves` leaves, each with at least `min_occupancy` frames, then merge near-equal ones.

    With `leaves` no larger than the number of roots the tree is the monophone's.
    """
    grower = _Grower(stats, phone_set, questions, min_occupancy)
    _, phone, _, state = ContextCodes(len(phone_set)).decode(stats.codes)
    base_of = np.array([phone_set.base(p) for p in range(len(phone_set))])
    roots = np.full((len(phone_set), MAX_STATES), -1, dtype=np.int32)
    for base in dict.fromkeys(base_of[1:]):
        phones = np.flatnonzero(base_of == base)
        for number in range(len(arcs(phone_set, int(phones[0])))):
            rows = np.flatnonzero(np.isin(phone, phones) & (state == number))
            roots[phones, number] = grower.add(rows, splittable=not is_silence(phone_set, int(phones[0])))
    root_of = {node: node for node in range(len(grower.nodes))}
    grower.grow(leaves)
    for node, (about, _, yes, no, _) in enumerate(grower.nodes):
        if about != LEAF:
            root_of[yes] = root_of[no] = root_of[node]
    target = grower.merge(root_of) if merge and grower.last_gain else {node: node for node in grower.leaves}
    number_of = {node: number for number, node in enumerate(sorted(set(target.values())))}
    for node, kept in target.items():
        grower.nodes[node][4] = number_of[kept]
    return _from_nodes(phone_set, questions, np.array(grower.nodes, dtype=np.int32), roots)
