import gzip
import math
from pathlib import Path

import pytest

from asr_kd.errors import UserError
from asr_kd.lang.arpa import Arpa

TEXT = """made by hand

\\data\\
ngram 1=4
ngram 2=2

\\1-grams:
-99\t<s>\t-0.5
-0.6\t</s>
-0.3\tYES\t-0.2
-0.9\tno

\\2-grams:
-0.1\t<s> yes
-0.7\tyes no

\\end\\
"""


def write(path: Path, text: str = TEXT) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def test_probabilities_back_off(tmp_path: Path) -> None:
    arpa = Arpa.read(write(tmp_path / "lm.arpa"))
    assert arpa.counts == [4, 2]
    assert arpa.words == ["yes", "no"]
    assert arpa.log10_probability(("<s>",), "yes") == pytest.approx(-0.1)
    assert arpa.log10_probability(("<s>",), "no") == pytest.approx(-0.5 - 0.9)
    assert arpa.log10_probability(("no", "yes"), "</s>") == pytest.approx(-0.2 - 0.6)
    assert arpa.log10_probability(("no",), "yes") == pytest.approx(-0.3)
    with pytest.raises(KeyError):
        arpa.log10_probability((), "maybe")


def test_perplexity_is_per_known_word_and_sentence_end(tmp_path: Path) -> None:
    arpa = Arpa.read(write(tmp_path / "lm.arpa"))
    log10 = (-0.1 - 0.7 - 0.6) + (-0.1 - 0.6)  # yes no </s>, then yes MAYBE </s> with no history for </s>
    assert arpa.perplexity([["yes", "no"], ["yes", "maybe"]]) == pytest.approx(10 ** (-log10 / 5))
    assert math.isinf(arpa.perplexity([]))


def test_file_round_trip_plain_and_compressed(tmp_path: Path) -> None:
    arpa = Arpa.read(write(tmp_path / "lm.arpa"))
    arpa.write(tmp_path / "again.arpa")
    assert Arpa.read(tmp_path / "again.arpa") == arpa
    with gzip.open(tmp_path / "lm.arpa.gz", "wt", encoding="utf-8") as file:
        file.write(TEXT)
    assert Arpa.read(tmp_path / "lm.arpa.gz") == arpa


def test_restriction_drops_every_ngram_with_the_word(tmp_path: Path) -> None:
    arpa = Arpa.read(write(tmp_path / "lm.arpa")).restrict("yes".__eq__)
    assert [list(ngrams) for ngrams in arpa.orders] == [[("<s>",), ("</s>",), ("yes",)], [("<s>", "yes")]]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("\\data\\", "data", r"lm.arpa: no \\data\\ line"),
        ("ngram 2=2", "ngram 3=2", "lm.arpa:5: expected 'ngram 2=COUNT'"),
        ("-0.3\tYES\t-0.2", "yes\t-0.3", r"lm.arpa:10: expected 'log10-probability word \[back-off\]'"),
        ("-0.7\tyes no", "0.7\tyes no", "lm.arpa:15: expected"),
        ("-0.9\tno", "-0.9\tyes", "lm.arpa:11: yes occurs twice"),
        ("\\2-grams:", "\\3-grams:", r"lm.arpa:13: unexpected \\3-grams:"),
        ("\\1-grams:", "", r"lm.arpa:8: an n-gram before"),
        ("-0.7\tyes no\n", "", "1 2-grams, .* announces 2"),
        ("\\end\\\n", "", "cut off"),
        ("-0.6\t</s>", "-0.6\tend", "no unigram </s>"),
        ("-0.3\tYES\t-0.2", "-0.3\tYES\tnan", r"lm.arpa:10: expected 'log10-probability word \[back-off\]'"),
        ("-0.3\tYES\t-0.2", "-0.3\tYES\tinf", "lm.arpa:10: expected"),
        ("-0.3\tYES\t-0.2", "-0.3\tYES\t-inf", "lm.arpa:10: expected"),
        ("-0.3\tYES\t-0.2", "-0.3\tYES", "lm.arpa:15: yes no: its history yes has no back-off weight; write"),
        ("-99\t<s>\t-0.5", "-99\t<s>", "lm.arpa:14: <s> yes: its history <s> has no back-off weight"),
        ("-0.7\tyes no", "-0.7\tyea no", "lm.arpa:15: yea no: its history yea is no n-gram before it; write"),
    ],
)
def test_a_damaged_file_is_an_error_that_names_the_line(tmp_path: Path, old: str, new: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        Arpa.read(write(tmp_path / "lm.arpa", TEXT.replace(old, new)))


def test_bigrams_are_histories_too(tmp_path: Path) -> None:
    text = TEXT.replace("ngram 2=2\n", "ngram 2=2\nngram 3=1\n")
    text = text.replace("\\end", "\\3-grams:\n-0.2\t<s> yes no\n\n\\end")
    with pytest.raises(UserError, match=r"lm.arpa:19: <s> yes no: its history <s> yes has no back-off weight"):
        Arpa.read(write(tmp_path / "lm.arpa", text))
    weighed = text.replace("-0.1\t<s> yes", "-0.1\t<s> yes\t0")
    assert Arpa.read(write(tmp_path / "lm.arpa", weighed)).orders[1][("<s>", "yes")] == (-0.1, 0.0)
    with pytest.raises(UserError, match=r"lm.arpa:19: <s> yes no: its history <s> yes is no n-gram before it"):
        Arpa.read(write(tmp_path / "lm.arpa", weighed.replace("-0.1\t<s> yes\t0", "-0.1\t<s> no\t0")))


def test_files_that_are_not_text_are_errors(tmp_path: Path) -> None:
    (tmp_path / "lm.gz").write_bytes(b"not gzip")
    (tmp_path / "lm.arpa").write_bytes(b"\xff\xfe")
    for name in ("lm.gz", "lm.arpa", "absent.arpa"):
        with pytest.raises(UserError, match=name):
            Arpa.read(tmp_path / name)
