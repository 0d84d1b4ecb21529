import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asr_kd.lang.graphemes import letters_of, spell
from asr_kd.lang.lexicon import Lexicon
from asr_kd.lang.phones import PhoneSet

words = st.text("ab0129'_-.é", min_size=1, max_size=6)


def test_letters_are_those_of_words_not_of_marks() -> None:
    assert letters_of([["it's", "[noise]"], ["zoë", "<unk>", "!sil"]]) == set("it'szoë")
    assert letters_of([]) == frozenset()


def test_a_word_is_its_letters_and_one_with_an_unseen_letter_has_no_pronunciation() -> None:
    lexicon = spell(["it's", "naïve", "tis", "<unk>"], frozenset("its'naeuk<>"))
    assert lexicon.entries == {"it's": (("i", "t", "'", "s"),), "tis": (("t", "i", "s"),)}


@settings(max_examples=40)
@given(chosen=st.lists(words, max_size=10))
def test_any_spelling_survives_the_files(chosen: list[str], tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp("graphemes")
    lexicon = spell(chosen, letters_of([chosen]))
    lexicon.write(path / "lexicon.txt")
    assert Lexicon.read(path / "lexicon.txt") == lexicon.restrict(lexicon.entries)
    phones = PhoneSet(lexicon.phones)
    phones.write(path / "phones.txt")
    assert PhoneSet.read(path / "phones.txt") == phones
    for (spelling,) in lexicon.entries.values():
        assert tuple(phones.base(phone) for phone in phones.mark(spelling)) == spelling
