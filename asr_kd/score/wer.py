"""Word error rates: counts by jiwer, bootstrap intervals and paired comparisons by kaldialign."""

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TypedDict

import jiwer
import kaldialign

from asr_kd.corpora.manifest import read_cuts, split_words, words_of
from asr_kd.errors import UserError
from asr_kd.workspace import Workspace

Words = dict[str, list[str]]
SCORED = ("dev", "test")
PIECE = 100  # utterances whose alignments are in memory at once

# "del" is a keyword, so the contract of results.json needs the functional form.
WordErrors = TypedDict(
    "WordErrors", {"wer": float, "ci95": list[float], "words": int, "ins": int, "del": int, "sub": int}
)


@dataclass(frozen=True)
class Transcripts:
    """What was said and what was recognised: references by split, hypotheses by system and split."""

    references: dict[str, Words]
    hypotheses: dict[str, dict[str, Words]]


def read_transcripts(work: Workspace, systems: tuple[str, ...]) -> Transcripts:
    """References from the manifests, hypotheses from decode/SYSTEM/{dev,test}.txt."""
    references = {split: {cut.id: words_of(cut) for cut in read_cuts(work.manifest(split))} for split in SCORED}
    hypotheses = {
        name: {split: read_hypotheses(work.decode(name) / f"{split}.txt", references[split]) for split in SCORED}
        for name in systems
    }
    return Transcripts(references, hypotheses)


def read_hypotheses(path: Path, references: Words) -> Words:
    """Read `utterance word word …` lines; one entry for each reference, empty where the search gave nothing.

    A hypothesis for an utterance that has no reference belongs to another corpus: a UserError.
    """
    try:
        lines = [split_words(line) for line in path.read_text(encoding="utf-8").splitlines()]
    except FileNotFoundError:
        raise UserError(f"{path}: missing; run --stage 7 (decode)") from None
    hypotheses = {words[0]: words[1:] for words in lines if words}
    if strangers := hypotheses.keys() - references.keys():
        raise UserError(
            f"{path}: utterance {min(strangers)} has no reference; remove the file and run --stage 7 (decode)"
        )
    if missing := sorted(references.keys() - hypotheses.keys()):
        log = logging.getLogger("asr_kd")
        log.warning(
            "%s: no hypothesis for %d utterances, scored as deleted: %s",
            path,
            len(missing),
            ", ".join(missing),
        )
    return {utterance: hypotheses.get(utterance, []) for utterance in references}


def word_errors(references: Words, hypotheses: Words, samples: int, seed: int) -> WordErrors:
    """WER and its 95 % interval by bootstrap over utterances (Bisani & Ney 2004), fractions; counts."""
    hits = insertions = deletions = substitutions = 0
    for output in align_words(references, hypotheses):
        hits, insertions = hits + output.hits, insertions + output.insertions
        deletions, substitutions = deletions + output.deletions, substitutions + output.substitutions
    words, errors = hits + substitutions + deletions, insertions + deletions + substitutions
    interval = kaldialign.bootstrap_wer_ci(*_paired(references, hypotheses), replications=samples, seed=seed)
    return {
        "wer": errors / words if words else float(errors),
        "ci95": [max(0.0, interval["ci95min"]), interval["ci95max"]],
        "words": words,
        "ins": insertions,
        "del": deletions,
        "sub": substitutions,
    }


def align_words(references: Words, hypotheses: Words) -> Iterator[jiwer.WordOutput]:
    """jiwer's alignments of all utterances, PIECE of them at a time."""
    names = iter(references)
    while some := list(islice(names, PIECE)):
        yield jiwer.process_words(
            [" ".join(references[name]) for name in some], [" ".join(hypotheses[name]) for name in some]
        )


def p_better(references: Words, baseline: Words, system: Words, samples: int, seed: int) -> float:
    """Share of paired bootstrap samples in which `system` errs less than `baseline` (Bisani & Ney 2004)."""
    sequences = _paired(references, baseline, system)
    return float(kaldialign.bootstrap_wer_ci(*sequences, replications=samples, seed=seed)["p_s2_improv_over_s1"])


def utterance_errors(references: Words, hypotheses: Words) -> dict[str, int]:
    """Insertions, deletions and substitutions of each utterance, summed."""
    return {key: int(kaldialign.edit_distance(words, hypotheses[key])["total"]) for key, words in references.items()}


def _paired(references: Words, *systems: Words) -> tuple[list[list[str]], ...]:
    return tuple([words[key] for key in references] for words in (references, *systems))
