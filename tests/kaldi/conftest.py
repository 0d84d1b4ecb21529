"""A toy experiment up to stage 3: three words, features, a context-dependent tree, alignments known to the frame."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from lhotse import CutSet
from toy_corpus import ARPA, DIM, LEXICON, PHONES, TEXTS, Rows, cut

from asr_kd.features.store import write_store
from asr_kd.hmm.topology import MAX_STATES, ContextCodes
from asr_kd.hmm.transcript import TranscriptCompiler, flat_path
from asr_kd.hmm.tree import Tree, TreeStats, build_tree, phonetic_questions
from asr_kd.kaldi.following import without_gaussians
from asr_kd.lang.lexicon import Lexicon
from asr_kd.workspace import Workspace

MakeWork = Callable[[Path], Workspace]


@pytest.fixture(scope="session")
def tree() -> Tree:
    """Grown on random statistics of every context, so that neighbours and positions matter."""
    draws, codes, size = np.random.default_rng(0), ContextCodes(len(PHONES)), len(PHONES)
    left, phone, right, state = np.meshgrid(np.arange(size), np.arange(3, size), np.arange(size), np.arange(3))
    rows = np.unique(((left * size + phone) * size + right) * MAX_STATES + state)
    assert codes.encode(1, 3, 2, 1) in rows
    counts = draws.integers(20, 90, len(rows)).astype(float)
    means = draws.normal(scale=3, size=(len(rows), 2))
    stats = TreeStats(rows, counts, counts[:, None] * means, counts[:, None] * (means**2 + 1))
    return build_tree(stats, PHONES, phonetic_questions(stats, PHONES), 90, min_occupancy=1)


@pytest.fixture(scope="session")
def alignments(tree: Tree) -> dict[str, Rows]:
    """By split and utterance the rows of an alignment store, along random paths through the transcripts."""
    draws, compiler = np.random.default_rng(1), TranscriptCompiler(PHONES, LEXICON)
    found: dict[str, Rows] = {}
    for split in ("train", "dev", "test"):
        found[split] = {}
        for name, text in TEXTS.items():
            graph = compiler.compile(text.split())
            path = flat_path(graph, int(draws.integers(60, 90)), draws)
            assert path is not None
            codes = graph.codes[path]
            columns = [tree.pdfs_of_codes(codes), *ContextCodes(len(PHONES)).decode(codes), graph.words[path]]
            found[split][f"{split}-{name}"] = np.stack(columns, axis=1).astype(np.int16)
    return found


@pytest.fixture
def make_work(alignments: dict[str, Rows]) -> MakeWork:
    """What stages 0 to 2 leave, for utterances as long as the alignments."""

    def make(root: Path) -> Workspace:
        work = Workspace(root)
        work.manifest("train").parent.mkdir(parents=True)
        PHONES.write(work.lang / "phones.txt")
        Lexicon.of((word, variant) for word, variants in LEXICON.items() for variant in variants).write(
            work.lang / "lexicon.txt"
        )
        words = ["<eps>", *LEXICON, "#0", "<s>", "</s>"]
        (work.lang / "words.txt").write_text("".join(f"{word} {number}\n" for number, word in enumerate(words)))
        (work.lang / "lm.arpa").write_text(ARPA)
        draws = np.random.default_rng(2)
        for split, rows in alignments.items():
            CutSet.from_cuts(cut(name, len(table)) for name, table in rows.items()).to_file(work.manifest(split))
            for kind in ("mfcc", "fbank"):
                features = {
                    name: draws.normal(size=(len(table), DIM)).astype(np.float16) for name, table in rows.items()
                }
                write_store(work.features(kind, split), features, {"kind": kind})
        return work

    return make


@pytest.fixture
def aligned(tmp_path: Path, make_work: MakeWork, tree: Tree, alignments: dict[str, Rows]) -> Workspace:
    """An experiment after stage 3."""
    work = make_work(tmp_path / "aligned")
    for split, rows in alignments.items():
        write_store(work.alignment(split), rows, {"num_pdfs": tree.num_pdfs, "tree_hash": tree.digest})
    without_gaussians(tree).save(work.gmm("sat"))
    return work
