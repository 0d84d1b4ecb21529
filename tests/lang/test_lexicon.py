from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asr_kd.errors import UserError
from asr_kd.lang.lexicon import ARPABET, Lexicon, is_word

words = st.text("abcdefghijklmnopqrstuvwxyzàéß'-", min_size=1, max_size=8)
pronunciations = st.lists(st.sampled_from(sorted(ARPABET)), min_size=1, max_size=6).map(tuple)


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def test_cmudict_has_39_phones_and_variants_without_stress() -> None:
    lexicon = Lexicon.cmudict()
    assert lexicon.phones == tuple(sorted(ARPABET))
    assert lexicon["tomato"] == (("T", "AH", "M", "EY", "T", "OW"), ("T", "AH", "M", "AA", "T", "OW"))
    assert all(len(set(variants)) == len(variants) for variants in lexicon.entries.values())


def test_variants_that_differ_in_stress_alone_are_one() -> None:
    pairs = [("a", ("AH0",)), ("a", ("AH1",)), ("a", ("EY1",)), ("ma", ("m", "a1")), ("ma", ("m", "a2"))]
    lexicon = Lexicon.of(pairs)
    assert lexicon["a"] == (("AH",), ("EY",))
    assert lexicon["ma"] == (("m", "a1"), ("m", "a2"))  # tones of another phone set are kept
    assert (len(lexicon), lexicon.num_pronunciations) == (2, 4)


@given(entries=st.lists(st.tuples(words, pronunciations), max_size=20))
def test_file_round_trip(entries: list[tuple[str, tuple[str, ...]]], tmp_path_factory: pytest.TempPathFactory) -> None:
    lexicon = Lexicon.of(entries)
    path = tmp_path_factory.mktemp("lexicon") / "lexicon.txt"
    lexicon.write(path)
    assert Lexicon.read(path) == lexicon


def test_a_kaldi_lexicon_is_read(tmp_path: Path) -> None:
    path = write(tmp_path / "lexicon.txt", "!SIL SIL\n<UNK> SPN\n\nHELLO\tHH AH0 L OW1\nHELLO HH EH0 L OW1\n")
    assert Lexicon.read(path).entries == {"hello": (("HH", "AH0", "L", "OW1"), ("HH", "EH0", "L", "OW1"))}
    assert Lexicon.read(path).without_stress().entries == {"hello": (("HH", "AH", "L", "OW"), ("HH", "EH", "L", "OW"))}


@pytest.mark.parametrize(
    ("line", "message"),
    [("word", "no phones"), ("word 0.5 W ER D", "without probabilities"), ("word W SIL D", "SIL cannot be a phone")],
)
def test_a_bad_line_is_named(tmp_path: Path, line: str, message: str) -> None:
    path = write(tmp_path / "lexicon.txt", f"fine F AY N\n{line}\n")
    with pytest.raises(UserError, match=rf"lexicon.txt:2: .*{message}"):
        Lexicon.read(path)


def test_an_unreadable_lexicon_names_the_key(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"lang.lexicon: .*absent.txt"):
        Lexicon.read(tmp_path / "absent.txt")
    (tmp_path / "latin.txt").write_bytes("café K AE F EY\n".encode("latin-1"))
    with pytest.raises(UserError, match="not UTF-8"):
        Lexicon.read(tmp_path / "latin.txt")


def test_union_keeps_its_own_entries_and_restriction_only_those_asked_for() -> None:
    one, other = Lexicon({"a": (("AH",),)}), Lexicon({"a": (("EY",),), "b": (("B", "IY"),)})
    assert (one | other).entries == {"a": (("AH",),), "b": (("B", "IY"),)}
    assert (one | other).restrict({"b", "c"}).entries == {"b": (("B", "IY"),)}


def test_marks_are_no_words() -> None:
    assert [token for token in ("<unk>", "[noise]", "!sil", "#0", "it's", "<", "!") if is_word(token)] == [
        "it's",
        "<",
        "!",
    ]
