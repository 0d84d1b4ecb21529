"""Word errors in detail: by speaker, and the pairs of words that distillation changed most."""

from collections import Counter
from collections.abc import Iterator
from itertools import zip_longest

import jiwer

from asr_kd.report.charts import dots
from asr_kd.report.document import Note, Section, Table
from asr_kd.score.wer import Transcripts, Words, align_words, utterance_errors

NO_WORD = ""
PAIRS, MOST_SPEAKERS = 15, 60
KINDS = ("substitution", "deletion", "insertion")
Pair = tuple[str, str]  # reference word, hypothesis word; NO_WORD for an insertion or a deletion


def compared_systems(transcripts: Transcripts) -> Pair:
    """Baseline and student; without them, the first and the last system."""
    names = list(transcripts.hypotheses)
    return (
        "baseline" if "baseline" in names else names[0],
        "student" if "student" in names else names[-1],
    )


def error_pairs(references: Words, hypotheses: Words) -> Counter[Pair]:
    """How often each reference word was taken for each other word, left out, or put in.

    By jiwer's alignment, so that the sums are those of results.json: where several alignments have equally few errors,
    another tool's may have other kinds.
    """
    pairs: Counter[Pair] = Counter()
    for output in align_words(references, hypotheses):
        for said, heard, chunks in zip(output.references, output.hypotheses, output.alignments, strict=True):
            pairs.update(_wrong_pairs(said, heard, chunks))
    return pairs


def _wrong_pairs(said: list[str], heard: list[str], chunks: list[jiwer.AlignmentChunk]) -> Iterator[Pair]:
    """Of one utterance."""
    for chunk in chunks:
        if chunk.type != "equal":
            words = said[chunk.ref_start_idx : chunk.ref_end_idx], heard[chunk.hyp_start_idx : chunk.hyp_end_idx]
            yield from zip_longest(*words, fillvalue=NO_WORD)


def kind_of(pair: Pair) -> str:
    said, heard = pair
    return "insertion" if said == NO_WORD else "deletion" if heard == NO_WORD else "substitution"


def most_changed(before: Counter[Pair], after: Counter[Pair], kind: str, number: int) -> list[tuple[Pair, int, int]]:
    """The `number` pairs of one kind whose counts differ most, and both counts."""
    pairs = [pair for pair in before.keys() | after.keys() if kind_of(pair) == kind and before[pair] != after[pair]]
    pairs.sort(key=lambda pair: (-abs(after[pair] - before[pair]), pair))
    return [(pair, before[pair], after[pair]) for pair in pairs[:number]]


def speaker_errors(references: Words, speakers: dict[str, str], hypotheses: Words) -> dict[str, tuple[int, int]]:
    """Words and word errors of each speaker."""
    words, errors = Counter[str](), Counter[str]()
    for utterance, count in utterance_errors(references, hypotheses).items():
        words[speakers[utterance]] += len(references[utterance])
        errors[speakers[utterance]] += count
    return {speaker: (words[speaker], errors[speaker]) for speaker in words}


def speaker_section(transcripts: Transcripts, speakers: dict[str, str]) -> Section:
    """speakers: of each test utterance."""
    references, (beside, _) = transcripts.references["test"], compared_systems(transcripts)
    systems = {
        name: speaker_errors(references, speakers, hypotheses["test"])
        for name, hypotheses in transcripts.hypotheses.items()
    }
    rates = {
        name: {speaker: 100 * wrong / max(1, words) for speaker, (words, wrong) in found.items()}
        for name, found in systems.items()
    }
    count = {speaker: words for speaker, (words, _) in systems[beside].items()}
    order = sorted(count, key=lambda speaker: (-rates[beside][speaker], speaker))
    shown = sorted(order, key=lambda speaker: -count[speaker])[:MOST_SPEAKERS]
    shown.sort(key=order.index)
    note = f"{len(order)} speakers, the {beside}'s worst first"
    note += f"; in the chart the {MOST_SPEAKERS} with most words." if len(order) > MOST_SPEAKERS else "."
    rows = [(s, f"{count[s]:,}", *(f"{rates[name][s]:.1f}" for name in rates)) for s in order]
    series = {name: [by[speaker] for speaker in shown] for name, by in rates.items()}
    return Section(
        "speakers",
        "WER by speaker",
        [
            Note(note),
            dots("WER on test by speaker, %", shown, series, "WER, %"),
            Table("WER by speaker, as a table", ("speaker", "words", *rates), rows, folded=True),
        ],
    )


def pairs_section(transcripts: Transcripts) -> Section:
    references, (beside, shown) = transcripts.references["test"], compared_systems(transcripts)
    before, after = (error_pairs(references, transcripts.hypotheses[name]["test"]) for name in (beside, shown))
    blocks: list[Note | Table] = [
        Note(
            f"Test errors whose number changed most from {beside} to {shown}. Single words change by chance too: the "
            "table of systems says whether the sum does not."
        )
    ]
    for kind in KINDS:
        totals = [sum(count for pair, count in pairs.items() if kind_of(pair) == kind) for pairs in (before, after)]
        changed = most_changed(before, after, kind, PAIRS)
        labels = 2 if kind == "substitution" else 1
        rows = [
            (*(word for word in pair if word != NO_WORD), str(b), str(a), f"{a - b:+d}".replace("-", "−"))
            for pair, b, a in changed
        ]
        head = ("said", "recognised") if labels == 2 else ("left out",) if kind == "deletion" else ("put in",)
        title = f"{kind.capitalize()}s: {totals[0]:,} of the {beside}, {totals[1]:,} of the {shown}"
        blocks.append(Table(title, (*head, beside, shown, "change"), rows, labels=labels, small=True))
    return Section("pairs", "Words that changed most", blocks)
