"""Reference words in and out of the vocabulary: how many of each were recognised."""

from collections import Counter
from collections.abc import Container
from pathlib import Path
from typing import Any

import kaldialign

from asr_kd.errors import UserError
from asr_kd.lang.vocabulary import read_vocabulary, read_word_list
from asr_kd.recipe import Recipe
from asr_kd.score.wer import Words
from asr_kd.workspace import Workspace

NO_WORD = ""


def known_words(recipe: Recipe, work: Workspace) -> frozenset[str]:
    """The words of the list that the recipe names, or those that the experiment knew before; UserError names a file
    that is missing or has none.
    """
    path = recipe.score.vocabulary
    if path is None:
        return read_vocabulary(work.lang)
    try:
        return read_word_list(Path(path))
    except UserError as error:
        raise UserError(f"score.vocabulary: {error}") from None


def by_vocabulary(references: Words, hypotheses: Words, vocabulary: Container[str]) -> dict[str, dict[str, Any]]:
    """`in` and `out`: reference `words`, how many were `recalled`, substituted (`sub`) and deleted (`del`), the
    `error_rate` of these two (None without words), and the words `proposed`, of all hypotheses.

    By kaldialign's alignment of each utterance; an insertion belongs to no reference word and is in no error rate.
    """
    counts: dict[bool, Counter[str]] = {True: Counter(), False: Counter()}
    for utterance, reference in references.items():
        for expected, found in kaldialign.align(reference, hypotheses[utterance], NO_WORD):
            if expected != NO_WORD:
                what = "recalled" if found == expected else "del" if found == NO_WORD else "sub"
                counts[expected in vocabulary][what] += 1
            if found != NO_WORD:
                counts[found in vocabulary]["proposed"] += 1
    return {"in": _figures(counts[True]), "out": _figures(counts[False])}


def _figures(count: Counter[str]) -> dict[str, Any]:
    wrong = count["sub"] + count["del"]
    words = count["recalled"] + wrong
    kinds = {kind: count[kind] for kind in ("recalled", "sub", "del", "proposed")}
    return {"words": words, **kinds, "error_rate": wrong / words if words else None}
