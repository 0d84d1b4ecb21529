"""Recall in and out of the vocabulary, by hand and against the counts of all words."""

from hypothesis import given
from hypothesis import strategies as st

from asr_kd.score.vocabulary import by_vocabulary
from asr_kd.score.wer import utterance_errors

sentences = st.lists(st.sampled_from("abcd"), max_size=6)


def test_counts_by_hand() -> None:
    references = {"u": ["the", "heffalump", "saw", "the", "woozle"], "v": ["a", "woozle"], "w": ["piglet"]}
    hypotheses = {"u": ["the", "heffalump", "saw", "woozle"], "v": ["a", "wood", "full", "heffa"], "w": []}
    figures = by_vocabulary(references, hypotheses, {"the", "saw", "a", "wood", "full"})
    known = {"words": 4, "recalled": 3, "sub": 0, "del": 1, "proposed": 5, "error_rate": 0.25}
    unknown = {"words": 4, "recalled": 2, "sub": 1, "del": 1, "proposed": 3, "error_rate": 0.5}
    assert figures == {"in": known, "out": unknown}


def test_without_words_there_is_no_error_rate() -> None:
    figures = by_vocabulary({"u": ["a"]}, {"u": ["a"]}, {"a"})
    assert figures["out"] == {"words": 0, "recalled": 0, "sub": 0, "del": 0, "proposed": 0, "error_rate": None}


@given(st.lists(st.tuples(sentences, sentences), min_size=1, max_size=4))
def test_both_sides_together_are_all_words_and_errors(pairs: list[tuple[list[str], list[str]]]) -> None:
    references = {str(number): reference for number, (reference, _) in enumerate(pairs)}
    hypotheses = {str(number): hypothesis for number, (_, hypothesis) in enumerate(pairs)}
    sides = by_vocabulary(references, hypotheses, set("ab")).values()
    total = {key: sum(side[key] for side in sides) for key in ("words", "recalled", "sub", "del", "proposed")}
    assert total["words"] == sum(map(len, references.values()))
    assert total["proposed"] == sum(map(len, hypotheses.values()))
    insertions = total["proposed"] - total["recalled"] - total["sub"]
    assert insertions + total["sub"] + total["del"] == sum(utterance_errors(references, hypotheses).values())
