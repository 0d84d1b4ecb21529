"""Words through pieces and back; what a model depends on; damaged models."""

import random
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asr_kd.errors import UserError
from asr_kd.lang.pieces import MARK, Pieces

LETTERS = frozenset("abcdeé'0")
COUNTS = Counter({"abc": 50, "abcd": 20, "dab": 30, "d'ab": 3, "abe": 11, "ca0": 2})
PIECES = Pieces.train(COUNTS, LETTERS, 24)
known = st.text(sorted(LETTERS), min_size=1, max_size=40)


@settings(max_examples=40)
@given(st.lists(known, max_size=6))
def test_words_seen_or_not_come_back_from_their_pieces(sentence: list[str]) -> None:
    (pieces,) = PIECES.split([sentence])
    assert PIECES.symbols.issuperset(pieces)
    assert PIECES.join(pieces) == sentence
    assert "".join(pieces) == "".join(MARK + word for word in sentence)


def test_a_frequent_word_is_one_piece_and_every_letter_is_one() -> None:
    assert PIECES.split([["abc", "dab"]]) == [[f"{MARK}abc", f"{MARK}dab"]]
    assert PIECES.symbols >= LETTERS | {MARK}  # é is in no word
    assert len(PIECES.symbols) <= 24


def test_words_that_cannot_be_spelled_stay_whole_and_are_no_pieces() -> None:
    sentence = ["abc", "<unk>", "añb", f"a{MARK}b"]
    assert PIECES.split([sentence]) == [[f"{MARK}abc", *sentence[1:]]]
    assert PIECES.symbols.isdisjoint(sentence)


def test_the_model_depends_on_the_counts_alone() -> None:
    items = list(COUNTS.items())
    for seed in range(3):
        random.Random(seed).shuffle(items)
        assert Pieces.train(dict(items), sorted(LETTERS), 24).model == PIECES.model


def test_a_small_text_has_fewer_pieces_than_asked_for() -> None:
    pieces = Pieces.train({"ab": 3}, "ab", 500)
    assert pieces.symbols <= {MARK, "a", "b", "ab", f"{MARK}a", f"{MARK}ab"}
    assert pieces.split([["ab", "ba"]]) == [[f"{MARK}ab", MARK, "b", "a"]]


def test_too_few_pieces_or_no_words_are_errors() -> None:
    Pieces.train(COUNTS, LETTERS, 10)
    with pytest.raises(UserError, match=r"lang\.pieces: 9 cannot hold the 8 letters; set it to 10 or more"):
        Pieces.train(COUNTS, LETTERS, 9)
    with pytest.raises(UserError, match=r"lang\.tokens: the LM text has no word"):
        Pieces.train({}, LETTERS, 24)


def test_file_round_trip(tmp_path: Path) -> None:
    PIECES.write(tmp_path / "lang" / "pieces.model")
    assert Pieces.read(tmp_path / "lang" / "pieces.model") == PIECES
    assert [path.name for path in (tmp_path / "lang").iterdir()] == ["pieces.model"]


def test_pieces_have_to_be_those_of_the_words_table(tmp_path: Path) -> None:
    symbols = ["<eps>", *sorted(PIECES.symbols), "#0", "<s>", "</s>"]
    assert Pieces.of(tmp_path, symbols) is None
    PIECES.write(tmp_path / "pieces.model")
    assert Pieces.of(tmp_path, symbols) == PIECES
    (tmp_path / "pieces.model").write_bytes(PIECES.model[:100])  # cut between two pieces: still a model
    with pytest.raises(UserError, match=r"pieces\.model: its pieces are not those of words\.txt"):
        Pieces.of(tmp_path, symbols)


@pytest.mark.parametrize("damaged", [b"", b"no protobuf at all", PIECES.model[:-7], PIECES.model[:99]])
def test_a_damaged_model_is_named(tmp_path: Path, damaged: bytes, capfd: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "pieces.model"
    with pytest.raises(UserError, match=r"pieces\.model: missing"):
        Pieces.read(path)
    path.write_bytes(damaged)
    with pytest.raises(UserError, match=r"pieces\.model: not a sentencepiece model"):
        Pieces.read(path)
    assert capfd.readouterr() == ("", "")
