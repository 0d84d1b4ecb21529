"""G against the ARPA file it was made from."""

import math
from pathlib import Path

import kaldifst
import pytest
import toy_language as toy

from asr_kd.errors import UserError
from asr_kd.wfst.grammar import grammar


@pytest.mark.parametrize("words", [[], ["a"], ["a", "bee"], ["be", "a", "ab", "be"], ["ab", "ab", "bee"]])
def test_sentences_cost_what_the_arpa_file_says(tmp_path: Path, words: list[str]) -> None:
    toy.write_lang(tmp_path)
    fst = grammar(tmp_path / "lm.arpa", tmp_path / "words.txt")
    # Back-off arcs read #0: let the sentence take it anywhere.
    sentence = kaldifst.make_linear_acceptor([toy.WORDS.index(word) for word in words])
    backoff = toy.WORDS.index("#0")
    for state in range(sentence.num_states):
        sentence.add_arc(state, kaldifst.StdArc(backoff, backoff, 0.0, state))
    kaldifst.arcsort(sentence, "olabel")
    best = kaldifst.shortest_path(kaldifst.compose(sentence, fst))
    _, _, spoken, weight = kaldifst.get_linear_symbol_sequence(best)
    assert [toy.WORDS[word] for word in spoken] == words
    assert weight.value == pytest.approx(toy.lm_cost(words), abs=1e-4)


def test_a_missing_or_damaged_arpa_file_is_named(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    toy.write_lang(tmp_path)
    with pytest.raises(UserError, match=r"no\.arpa: missing"):
        grammar(tmp_path / "no.arpa", tmp_path / "words.txt")
    (tmp_path / "lm.arpa").write_text("\\data\\\nngram 1=x\n")
    with pytest.raises(UserError, match=r"lm\.arpa: not a valid ARPA"):
        grammar(tmp_path / "lm.arpa", tmp_path / "words.txt")
    assert capfd.readouterr().err == ""


def test_probabilities_are_natural_logs(tmp_path: Path) -> None:
    toy.write_lang(tmp_path)
    assert toy.lm_cost(["a"]) == pytest.approx((0.4 + 0.9) * math.log(10))
