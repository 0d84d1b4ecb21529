"""Disambiguation symbols, and the probabilities of optional silence."""

import math
from pathlib import Path

import numpy as np
import pytest
import toy_language as toy
from hypothesis import given
from hypothesis import strategies as st

from asr_kd.errors import UserError
from asr_kd.lang.lexicon import Lexicon
from asr_kd.wfst.lexicon import disambiguations, lexicon_transducer, pronunciations, read_words

WORDS = {word: number for number, word in enumerate(toy.WORDS)}
SEQUENCES = st.lists(st.lists(st.integers(1, 3), min_size=1, max_size=4).map(tuple), min_size=1, max_size=12)


@given(SEQUENCES)
def test_disambiguated_pronunciations_are_distinct_and_none_begins_another(sequences: list[tuple[int, ...]]) -> None:
    marks = disambiguations(sequences)
    marked = [(*sequence, -mark) if mark else sequence for sequence, mark in zip(sequences, marks, strict=True)]
    assert len(set(marked)) == len(marked)
    assert not any(a == b[: len(a)] for a in marked for b in marked if a is not b)


def test_only_ambiguous_pronunciations_are_marked() -> None:
    assert disambiguations([(1, 2), (1, 2), (1,), (3,)]) == [1, 2, 1, 0]


def test_every_word_is_followed_by_silence_with_its_probability() -> None:
    entries = pronunciations(Lexicon(toy.LEXICON), WORDS, toy.PHONES)
    graph, symbols = lexicon_transducer(entries, toy.PHONES, WORDS["#0"], 0.3)
    assert symbols == list(range(len(toy.PHONES), len(toy.PHONES) + 4))  # #0 #1 #2 and silence's
    mass = np.bincount(graph.source, np.exp(-graph.arcs["weight"].astype(float)), graph.num_states)
    # The start, and the words' last states (all but loop, silence and inside of words), share a mass of one.
    out = np.bincount(graph.source, minlength=graph.num_states)
    branching = (out == 2) & (np.arange(graph.num_states) != 1)
    assert np.allclose(mass[branching], 1.0)
    into_silence = graph.arcs["weight"][(graph.arcs["dest"] == 2)]
    assert np.allclose(into_silence, -math.log(0.3))
    assert len(into_silence) == len(entries) + 1


def test_a_phone_that_is_not_in_the_set_is_named() -> None:
    with pytest.raises(UserError, match="ab: Q"):
        pronunciations(Lexicon({"ab": (("A", "Q"),)}), WORDS, toy.PHONES)


def test_a_damaged_word_table_is_named(tmp_path: Path) -> None:
    path = tmp_path / "words.txt"
    path.write_text("<eps> 0\nhello\n")
    with pytest.raises(UserError, match=r"words\.txt:2"):
        read_words(path)
    path.write_text("<eps> 0\nhello 1\n")
    with pytest.raises(UserError, match="#0"):
        read_words(path)
