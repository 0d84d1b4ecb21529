"""The worst utterances: reference and two systems' hypotheses, word under word."""

from itertools import zip_longest

import kaldialign

from asr_kd.score.wer import Words, utterance_errors

GAP = "***"
NO_WORD = ""


def worst_utterances(references: Words, hypotheses: Words, number: int) -> list[tuple[str, int]]:
    """At most `number` utterances with most word errors, and their counts; the shorter first where equal."""
    errors = utterance_errors(references, hypotheses)
    wrong = (key for key in errors if errors[key])
    ranked = sorted(wrong, key=lambda key: (-errors[key], len(references[key]), key))
    return [(key, errors[key]) for key in ranked[:number]]


def align_hypotheses(reference: list[str], first: list[str], second: list[str]) -> list[tuple[str, str, str]]:
    """Columns (reference, first, second), GAP where a row has no word; an insertion is a column."""
    first_slots, second_slots = _slots(reference, first), _slots(reference, second)
    columns: list[tuple[str, str, str]] = []
    for position, (one, two) in enumerate(zip(first_slots, second_slots, strict=True)):
        if position:
            columns.append((reference[position - 1], one[0], two[0]))
        columns += [(GAP, *pair) for pair in zip_longest(one[1:], two[1:], fillvalue=GAP)]
    return columns


def format_columns(columns: list[tuple[str, str, str]], labels: tuple[str, str, str], width: int = 100) -> str:
    """Rows of padded words beside `labels`, folded at `width` characters; wrong words in capitals."""
    margin = max(map(len, labels)) + 2
    folded: list[list[tuple[str, ...]]] = [[]]
    used = margin
    for reference, *hypotheses in columns:
        cells = (reference, *(word if word == reference else word.upper() for word in hypotheses))
        size = max(map(len, cells))
        if folded[-1] and used + size > width:
            folded.append([])
            used = margin
        folded[-1].append(tuple(cell.ljust(size) for cell in cells))
        used += size + 1
    blocks = [zip(labels, zip(*block, strict=True), strict=True) for block in folded if block]
    return "\n\n".join("\n".join(f"{name:{margin}}{' '.join(row)}".rstrip() for name, row in rows) for rows in blocks)


def _slots(reference: list[str], hypothesis: list[str]) -> list[list[str]]:
    """For each reference word, the hypothesis word aligned with it and the words inserted after it.

    Returns len(reference) + 1 lists; the first starts with GAP and holds insertions before the first word.
    """
    slots = [[GAP]]
    for expected, found in kaldialign.align(reference, hypothesis, NO_WORD):
        if expected == NO_WORD:
            slots[-1].append(found)
        else:
            slots.append([found or GAP])
    return slots
