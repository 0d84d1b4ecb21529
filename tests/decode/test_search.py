"""The search's contract on a graph of two words, and the word penalty in the graph."""

import math
from pathlib import Path

import numpy as np
import pytest

from asr_kd.decode.search import KaldiSearcher, load_graph, read_word_symbols
from asr_kd.errors import UserError
from asr_kd.wfst.graph import from_rows

# Word 1 is pdf 0, word 2 pdf 1, each with a self-loop; any number of words.
FIRST = [(0, 1, 1, 1, 1.0), (1, 1, 1, 0, 0.1), (1, 0, 0, 0, 0.0)]
SECOND = [(0, 2, 2, 2, 2.0), (2, 2, 2, 0, 0.1), (2, 0, 0, 0, 0.0)]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    from_rows(0, {0: 0.25}, FIRST + SECOND).write(tmp_path / "HCLG.fst")
    return tmp_path / "HCLG.fst"


def scores_of(pdfs: list[int], contrast: float = 20.0) -> np.ndarray:
    return np.where(np.array(pdfs)[:, None] == np.arange(2), 0.0, -contrast).astype(np.float32)


def test_words_states_and_costs_of_the_best_path(path: Path) -> None:
    searcher = KaldiSearcher(load_graph(path), acoustic_scale=0.5, beam=20.0, max_active=100)
    found = searcher.search(scores_of([0, 0, 1]) - 4)
    assert found.words == [1, 2] and found.complete
    assert found.pdfs.tolist() == [0, 0, 1]
    assert found.graph_cost == pytest.approx(1.0 + 0.1 + 2.0 + 0.25)
    assert found.acoustic_cost == pytest.approx(0.5 * 3 * 4)


def test_word_penalty_is_paid_once_a_word(path: Path) -> None:
    searcher = KaldiSearcher(load_graph(path, word_penalty=0.5), 1.0, 20.0, 100)
    assert searcher.search(scores_of([0, 1])).graph_cost == pytest.approx(3.25 + 2 * 0.5)


def test_of_pieces_those_that_begin_a_word_pay_its_penalty(path: Path) -> None:
    searcher = KaldiSearcher(load_graph(path, word_penalty=0.5, beginnings=[2]), 1.0, 20.0, 100)
    assert searcher.search(scores_of([0, 1])).graph_cost == pytest.approx(3.25 + 0.5)


def test_the_acoustic_scale_weighs_evidence_against_the_grammar(path: Path) -> None:
    graph, scores = load_graph(path), scores_of([0, 1, 0], contrast=4.0)
    assert KaldiSearcher(graph, 1.0, 50.0, 100).search(scores).words == [1, 2, 1]
    assert KaldiSearcher(graph, 0.1, 50.0, 100).search(scores).words == [1]


def test_a_path_that_ends_inside_a_word_is_marked(tmp_path: Path) -> None:
    from_rows(0, {3: 0.0}, [(0, 1, 1, 1, 0.0), (1, 2, 1, 0, 0.0), (2, 3, 1, 0, 0.0)]).write(tmp_path / "HCLG.fst")
    found = KaldiSearcher(load_graph(tmp_path / "HCLG.fst"), 1.0, 20.0, 100).search(scores_of([0, 0]))
    assert not found.complete and found.words == [1]


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_scores_that_cannot_be_searched_are_refused(path: Path, bad: float) -> None:
    searcher, scores = KaldiSearcher(load_graph(path), 1.0, 20.0, 100), scores_of([0, 1])
    with pytest.raises(ValueError, match="no frames"):
        searcher.search(scores[:0])
    scores[1, 0] = bad
    with pytest.raises(ValueError, match="finite"):
        searcher.search(scores)


def test_symbols_are_listed_by_id(tmp_path: Path) -> None:
    (tmp_path / "words.txt").write_text("<eps> 0\nyes 2\nno 1\n")
    assert read_word_symbols(tmp_path / "words.txt") == ["<eps>", "no", "yes"]
    with pytest.raises(UserError, match="missing"):
        read_word_symbols(tmp_path / "other.txt")
