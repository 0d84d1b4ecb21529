"""Which utterances of a split an external alignment can be used for, and how many tied states it has."""

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from asr_kd.errors import UserError
from asr_kd.features.store import FrameStore
from asr_kd.hmm.tree import Tree
from asr_kd.kaldi.archive import TO_PDF
from asr_kd.recipe import External

MOST_PDFS = int(np.iinfo(np.int16).max)
LISTED = 5
log = logging.getLogger("asr_kd")


@dataclass(frozen=True)
class Match:
    """Of one split: the pdfs of the utterances to use, (frames,) each; ids without an alignment; ids whose alignment
    has another length, with (its frames, those of the features).
    """

    pdfs: dict[str, np.ndarray]
    missing: list[str]
    mismatched: dict[str, tuple[int, int]]

    @property
    def left_out(self) -> list[str]:
        return [*self.missing, *self.mismatched]


def match(split: str, features: FrameStore, alignments: Mapping[str, np.ndarray]) -> Match:
    """The utterances with features whose alignment has as many frames; the others are logged.

    UserError when none is left.
    """
    found = Match({}, [], {})
    for utterance in features:
        frames = features.frames(utterance)
        if utterance not in alignments:
            found.missing.append(utterance)
        elif len(alignments[utterance]) != frames:
            found.mismatched[utterance] = (len(alignments[utterance]), frames)
        else:
            found.pdfs[utterance] = alignments[utterance]
    lengths = [f"{name} ({ours} frames, features {theirs})" for name, (ours, theirs) in found.mismatched.items()]
    if not found.pdfs:
        raise UserError(
            f"hmm.external.alignment: fits no utterance of {split}: {len(found.missing)} are not in it"
            f"{examples(found.missing)}, {len(lengths)} have another length{examples(lengths)}; name the archives of "
            "all splits, one pdf for each 10 ms, made with --snip-edges=true"
        )
    for names, what in ((found.missing, "without an alignment"), (lengths, "with an alignment of another length")):
        if names:
            log.warning("%s: left out %d utterances %s%s", split, len(names), what, examples(names))
    return found


def count_pdfs(external: External, tree: Tree | None, matches: Iterable[Match]) -> int:
    """Tied states: the tree's, the recipe's, or up to the largest that occurs. UserError where one is beyond them."""
    largest, utterance = max((int(row.max(initial=0)), name) for found in matches for name, row in found.pdfs.items())
    count = tree.num_pdfs if tree else external.num_pdfs or largest + 1
    if external.num_pdfs not in (None, count):
        raise UserError(f"hmm.external.num_pdfs: {external.num_pdfs}, but {external.tree} has {count}; remove the key")
    if largest >= min(count, MOST_PDFS):
        raise UserError(
            f"hmm.external.alignment: {utterance} has the pdf {largest}, but they go from 0 to "
            f"{min(count, MOST_PDFS) - 1}; if these are transition-ids, {TO_PDF}"
        )
    return count


def examples(names: Sequence[str]) -> str:
    """The first few, in brackets after what they are examples of."""
    return f" ({', '.join(names[:LISTED])}{' …' * (len(names) > LISTED)})" if names else ""
