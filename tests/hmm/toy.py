"""A phone set, a lexicon and a monophone model small enough to enumerate."""

import numpy as np
import torch

from asr_kd.hmm.gmm import Gmm
from asr_kd.hmm.topology import ContextCodes
from asr_kd.hmm.transcript import TranscriptCompiler
from asr_kd.hmm.transitions import initial_transitions
from asr_kd.hmm.tree import Tree, TreeStats, build_tree
from asr_kd.lang.phones import PhoneSet

PHONES = PhoneSet(("AA", "B", "T"))
LEXICON = {"a": [("AA",)], "bat": [("B", "AA", "T"), ("B", "T")], "tab": [("T", "AA", "B")]}


def compiler() -> TranscriptCompiler:
    return TranscriptCompiler(PHONES, LEXICON)


def mono_tree() -> Tree:
    stats = TreeStats(
        np.array([ContextCodes(len(PHONES)).encode(0, 1, 0)]), np.ones(1), np.zeros((1, 2)), np.ones((1, 2))
    )
    return build_tree(stats, PHONES, np.zeros((1, len(PHONES)), dtype=bool), 0, 1.0, merge=False)


def random_gmm(tree: Tree, dim: int, mixtures: int, seed: int) -> Gmm:
    rng = np.random.default_rng(seed)
    count = tree.num_pdfs * mixtures
    weights = rng.dirichlet(np.ones(mixtures), tree.num_pdfs).reshape(-1)
    return Gmm(
        tree,
        torch.arange(tree.num_pdfs).repeat_interleave(mixtures),
        torch.tensor(weights, dtype=torch.float32),
        torch.tensor(rng.normal(size=(count, dim)), dtype=torch.float32),
        torch.tensor(rng.uniform(0.5, 2.0, size=(count, dim)), dtype=torch.float32),
        initial_transitions(tree),
    )
