"""Counts and intervals against brute force."""

from functools import cache
from pathlib import Path

import jiwer
import numpy as np
import pytest

from asr_kd.errors import UserError
from asr_kd.score.wer import Words, align_words, p_better, read_hypotheses, utterance_errors, word_errors

VOCABULARY = list("abcd")


def edits(reference: list[str], hypothesis: list[str]) -> int:
    """Levenshtein distance by its recursive definition."""

    @cache
    def distance(i: int, j: int) -> int:
        if i == 0 or j == 0:
            return i + j
        substitution = distance(i - 1, j - 1) + (reference[i - 1] != hypothesis[j - 1])
        return min(substitution, distance(i - 1, j) + 1, distance(i, j - 1) + 1)

    return distance(len(reference), len(hypothesis))


def draw(rng: np.random.Generator, utterances: int) -> Words:
    return {f"u{n}": [str(w) for w in rng.choice(VOCABULARY, rng.integers(1, 8))] for n in range(utterances)}


def corrupt(rng: np.random.Generator, references: Words, rate: float) -> Words:
    return {
        key: [str(rng.choice(VOCABULARY)) if rng.random() < rate else word for word in words]
        for key, words in references.items()
    }


def test_counts_are_the_edit_distances() -> None:
    rng = np.random.default_rng(0)
    references, hypotheses = draw(rng, 40), draw(rng, 40)
    expected = {key: edits(references[key], hypotheses[key]) for key in references}
    assert utterance_errors(references, hypotheses) == expected
    errors = word_errors(references, hypotheses, samples=100, seed=0)
    assert errors["ins"] + errors["del"] + errors["sub"] == sum(expected.values())
    assert errors["words"] == sum(map(len, references.values()))
    assert errors["wer"] == pytest.approx(sum(expected.values()) / errors["words"])


def test_insertions_deletions_and_substitutions_are_told_apart() -> None:
    references = {"u": ["a", "b", "c", "d"], "v": ["a", "b"], "w": ["c"]}
    hypotheses = {"u": ["a", "c", "d"], "v": ["a", "d", "b", "d"], "w": []}
    errors = word_errors(references, hypotheses, samples=10, seed=0)
    assert (errors["words"], errors["ins"], errors["del"], errors["sub"]) == (7, 2, 2, 0)


def test_pieces_are_aligned_as_all_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(2)
    references = draw(rng, 50)
    hypotheses = corrupt(rng, references, 0.5) | {"u7": [], "u8": ["a", "b", "b"]}
    sentences = [[" ".join(words[key]) for key in references] for words in (references, hypotheses)]
    whole = jiwer.process_words(*sentences)
    for piece in (1, 7, 50, 100):
        monkeypatch.setattr("asr_kd.score.wer.PIECE", piece)
        found = [chunks for output in align_words(references, hypotheses) for chunks in output.alignments]
        assert found == whole.alignments
        assert word_errors(references, hypotheses, samples=10, seed=0)["wer"] == whole.wer


def test_interval_and_p_better_agree_with_a_bootstrap_of_our_own() -> None:
    rng = np.random.default_rng(1)
    references = draw(rng, 120)
    worse, better = corrupt(rng, references, 0.4), corrupt(rng, references, 0.33)
    words = np.array([len(words) for words in references.values()])
    wrong = {name: np.array(list(utterance_errors(references, system).values()))
             for name, system in (("worse", worse), ("better", better))}  # fmt: skip
    picks = rng.integers(len(words), size=(4000, len(words)))
    rates = {name: errors[picks].sum(1) / words[picks].sum(1) for name, errors in wrong.items()}

    low, high = word_errors(references, worse, samples=4000, seed=0)["ci95"]
    assert (low, high) == pytest.approx(np.quantile(rates["worse"], [0.025, 0.975]), abs=0.01)
    p = p_better(references, worse, better, samples=4000, seed=0)
    assert 0.5 < p < 1
    assert p == pytest.approx(np.mean(rates["better"] < rates["worse"]), abs=0.03)


def test_missing_hypotheses_are_deletions_and_logged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "test.txt"
    path.write_text("u a b\n\nv\n")
    references = {"u": ["a", "b"], "v": ["c"], "w": ["d", "d"]}
    hypotheses = read_hypotheses(path, references)
    assert hypotheses == {"u": ["a", "b"], "v": [], "w": []}
    assert "1 utterances" in caplog.text and "w" in caplog.text
    assert word_errors(references, hypotheses, samples=10, seed=0)["del"] == 3


def test_hypotheses_of_another_corpus_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "test.txt"
    path.write_text("stranger a b\n")
    with pytest.raises(UserError, match=r"test\.txt: utterance stranger has no reference"):
        read_hypotheses(path, {"u": ["a"]})
    with pytest.raises(UserError, match=r"other\.txt: missing; run --stage 7"):
        read_hypotheses(tmp_path / "other.txt", {})
