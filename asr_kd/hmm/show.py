"""What `asr-kd hmm show` prints: the tree's first questions, leaves per phone, likelihood by iteration."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from rich.console import Group
from rich.table import Table
from rich.text import Text
from rich.tree import Tree as TextTree

from asr_kd.errors import UserError
from asr_kd.files import read_json
from asr_kd.hmm.gmm import Gmm
from asr_kd.hmm.topology import arcs
from asr_kd.hmm.tree import LEAF, Tree

WHERE = ("left", "centre", "right")


def describe(path: Path, phone: str | None = None, depth: int = 2) -> Group:
    """A renderable account of the GMM in `path`; `phone` limits the questions to one base phone."""
    gmm = Gmm.load(path)
    header = f"{path}: {gmm.num_pdfs} leaves, {gmm.num_gaussians} Gaussians of {gmm.means.shape[1]} dimensions"
    return Group(
        Text(header, style="bold"),
        *_first_questions(gmm.tree, phone, depth),
        _leaves_per_phone(gmm.tree),
        _history(path),
    )


def pdf_names(tree: Tree) -> list[str]:
    """For each tied state its phone and HMM state, as `IY.1`, whatever the context: several have the same name."""
    names = [""] * tree.num_pdfs
    for phone, roots in enumerate(tree.roots.tolist()):
        for state, root in enumerate(roots):
            for pdf in tree.leaves_below(root) if root >= 0 else ():
                names[pdf] = f"{tree.phone_set.base(phone)}.{state}"
    return names


def _first_questions(tree: Tree, only: str | None, depth: int) -> Iterator[TextTree]:
    for base in [only] if only else tree.phone_set.bases:
        phone = tree.phone_set.ids[f"{base}_S"]
        picture = TextTree(f"{base}")
        for state in range(len(arcs(tree.phone_set, phone))):
            _add_node(tree, picture.add(f"state {state}"), int(tree.roots[phone, state]), depth)
        yield picture


def _add_node(tree: Tree, branch: TextTree, node: int, depth: int) -> None:
    if tree.about[node] == LEAF:
        branch.add(f"leaf {tree.pdf[node]}")
    elif depth == 0:
        branch.add(f"… {len(set(tree.leaves_below(node)))} leaves")
    else:
        question = _name(tree, tree.questions[tree.question[node]])
        branch = branch.add(f"{WHERE[tree.about[node]]} phone one of {question}?")
        _add_node(tree, branch.add("yes"), int(tree.yes[node]), depth - 1)
        _add_node(tree, branch.add("no"), int(tree.no[node]), depth - 1)


def _name(tree: Tree, members: np.ndarray) -> str:
    """A question as phone names: positions are named only where they are what is asked."""
    symbols = [tree.phone_set.symbols[phone] for phone in np.flatnonzero(members)]
    bases = list(dict.fromkeys(symbol.split("_")[0] for symbol in symbols))
    positions = {symbol.partition("_")[2] for symbol in symbols}
    if len(bases) == len(tree.phone_set.bases) and len(positions) == 1:
        return {"B": "word-initial", "E": "word-final", "I": "word-internal", "S": "one-phone word"}[positions.pop()]
    return " ".join(bases)


def _leaves_per_phone(tree: Tree) -> Table:
    counts = Counter(tree.base_phone_of_pdfs())
    table = Table(title="leaves per phone", show_header=False)
    row = [f"{base} {count}" for base, count in counts.most_common()]
    for start in range(0, len(row), 8):
        table.add_row(*row[start : start + 8])
    return table


def _history(path: Path) -> Table:
    table = Table("iteration", "log-likelihood a frame", "Gaussians", "silence", "failed", title="training")
    log = path / "log.json"
    try:
        rows = [
            (
                str(row["iteration"]),
                f"{row['log_likelihood_per_frame']:.3f}",
                str(row["gaussians"]),
                f"{row['silence_share']:.1%}",
                str(row["failed"]),
            )
            for row in (read_json(log) if log.exists() else [])
        ]
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise UserError(f"{log}: not a history of training ({error}); run --stage 3 (align) again") from None
    for row in rows:
        table.add_row(*row)
    return table
