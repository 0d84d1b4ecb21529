"""Aligned listings against their definition."""

from hypothesis import given
from hypothesis import strategies as st

from asr_kd.score.listing import GAP, align_hypotheses, format_columns, worst_utterances

sentences = st.lists(st.sampled_from(["a", "b", "c", "***x"]), max_size=7)


@given(sentences, sentences, sentences)
def test_every_row_reads_as_its_sentence(reference: list[str], first: list[str], second: list[str]) -> None:
    rows = list(zip(*align_hypotheses(reference, first, second), strict=True)) or [(), (), ()]
    assert [[word for word in row if word != GAP] for row in rows] == [reference, first, second]
    assert all(set(column) != {GAP} for column in zip(*rows, strict=True))


def test_insertions_share_a_column_and_errors_are_capitals() -> None:
    columns = align_hypotheses(["call", "anna", "now"], ["call", "a", "hannah", "now"], ["well", "call", "anna"])
    assert format_columns(columns, ("ref", "one", "two")).splitlines() == [
        "ref  ***  call anna ***    now",
        "one  ***  call A    HANNAH now",
        "two  WELL call anna ***    ***",
    ]


def test_long_sentences_are_folded() -> None:
    words = [f"word{n}" for n in range(30)]
    blocks = format_columns(align_hypotheses(words, words, []), ("ref", "one", "two"), width=60).split("\n\n")
    assert len(blocks) > 1
    assert max(len(line) for block in blocks for line in block.splitlines()) <= 60
    assert [word for block in blocks for word in block.splitlines()[0].split()[1:]] == words


def test_worst_are_those_with_most_errors_and_only_those_with_any() -> None:
    references = {"long": ["a", "b", "c", "d"], "short": ["a", "b"], "right": ["a"], "one": ["a", "b", "c"]}
    hypotheses = {"long": ["a", "b"], "short": [], "right": ["a"], "one": ["a", "b"]}
    assert worst_utterances(references, hypotheses, 10) == [("short", 2), ("long", 2), ("one", 1)]
    assert worst_utterances(references, hypotheses, 1) == [("short", 2)]
