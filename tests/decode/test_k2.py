"""Search by k2 against enumeration and against kaldi-decoder, on a toy graph."""

from pathlib import Path

import numpy as np
import pytest
import toy_language as toy

from asr_kd.decode.k2_search import K2Graph, K2LatticeSearcher, K2Searcher, import_k2
from asr_kd.decode.search import Hypothesis, KaldiSearcher, load_graph
from asr_kd.errors import UserError
from asr_kd.wfst.build import build_graph, build_word_graph
from asr_kd.wfst.epsilon_free import without_epsilons
from asr_kd.wfst.graph import Graph, from_rows

QUANTISED = 0.02  # minimisation rounds weights to 1/1024, once for each arc of a path
SCALES = toy.Scales(0.7, 1.0, 0.2)
TABLE = toy.log_transitions(seed=3)


@pytest.fixture(params=["cpu", "cuda"])
def device(request: pytest.FixtureRequest) -> str:
    torch = pytest.importorskip("torch")
    k2 = pytest.importorskip("k2", reason="k2 is not installed; README.md says how")
    if request.param == "cuda" and not (torch.cuda.is_available() and k2.with_cuda):
        pytest.skip("no CUDA device, or a k2 without CUDA")
    return request.param


@pytest.fixture
def graph(tmp_path: Path) -> Graph:
    toy.write_lang(tmp_path)
    words = build_word_graph(tmp_path, SCALES.silence_probability)
    graph, _ = build_graph(words, toy.tree, TABLE, SCALES.transition, SCALES.self_loop)
    graph.write(tmp_path / "HCLG.fst")
    return graph


def random_scores(seed: int) -> np.ndarray:
    draws = np.random.default_rng([seed, 2])
    scores = draws.normal(0, 2.5, size=(draws.integers(3, 13), toy.NUM_PDFS)).astype(np.float32)
    scores[:, 5:] += 2.5  # speech rather than silence
    return scores


def spoken(words: list[int] | tuple[int, ...]) -> tuple[str, ...]:
    return tuple(toy.WORDS[word] for word in words)


def test_best_path_is_that_of_enumeration_and_of_kaldi_decoder(graph: Graph, device: str, tmp_path: Path) -> None:
    kaldi = KaldiSearcher(load_graph(tmp_path / "HCLG.fst"), 1.0, beam=1000.0, max_active=100000)
    searcher = K2Searcher(K2Graph(without_epsilons(graph), device), 1.0, beam=1000.0, max_active=100000)
    batch = [random_scores(seed) for seed in range(12)]
    for scores, found in zip(batch, searcher.search_batch(batch), strict=True):
        assert isinstance(found, Hypothesis) and found.complete
        same = kaldi.search(scores)
        (cost, words), *others = toy.best_path(scores, TABLE, SCALES)
        assert found.graph_cost + found.acoustic_cost == pytest.approx(cost, abs=QUANTISED)
        assert found.graph_cost + found.acoustic_cost == pytest.approx(same.graph_cost + same.acoustic_cost, abs=1e-2)
        assert found.acoustic_cost == pytest.approx(-scores[np.arange(len(scores)), found.pdfs].sum(), abs=1e-2)
        if not others or others[0][0] - cost > QUANTISED:
            assert spoken(found.words) == words == spoken(same.words)
        alone = searcher.search(scores)
        assert alone.words == found.words and alone.pdfs.tolist() == found.pdfs.tolist()


def test_a_lattice_has_every_sentence_homophones_too(graph: Graph, device: str) -> None:
    one_best = K2Searcher(K2Graph(without_epsilons(graph), device), 1.0, beam=1000.0, max_active=100000)
    searcher = K2LatticeSearcher(one_best, lattice_beam=60.0)
    for seed in range(4):
        scores = random_scores(seed)
        every = {words: cost for cost, words in toy.best_path(scores, TABLE, SCALES)}
        found = searcher.search(scores)
        assert found.lattice is not None
        sentences = {spoken(words): cost for words, cost in found.lattice.nbest(10**6)}
        cheap = {words for words, cost in every.items() if cost < min(every.values()) + 59}
        assert cheap <= sentences.keys() <= every.keys()
        for words in cheap:
            assert sentences[words] == pytest.approx(every[words], abs=2 * QUANTISED)


def test_bad_utterances_fail_alone(graph: Graph, device: str) -> None:
    searcher = K2Searcher(K2Graph(without_epsilons(graph), device), 1.0, beam=100.0, max_active=1000)
    good, bad = random_scores(1), random_scores(2)
    bad[0, 0] = np.nan
    empty, found, broken = searcher.search_batch([good[:0], good, bad])
    assert "no frames" in str(empty) and "finite" in str(broken)
    assert isinstance(found, Hypothesis)
    with pytest.raises(ValueError, match="finite"):
        searcher.search(bad)


def test_a_path_that_ends_inside_a_word_is_marked(device: str) -> None:
    chain = from_rows(0, {3: 0.0}, [(0, 1, 1, 1, 0.5), (1, 2, 1, 0, 0.0), (2, 3, 1, 0, 0.0)])
    searcher = K2Searcher(K2Graph(without_epsilons(chain), device), 1.0, beam=20.0, max_active=100)
    scores = np.full((2, 2), -1.0, np.float32)
    found = searcher.search(scores)
    assert not found.complete and found.words == [1] and found.pdfs.tolist() == [0, 0]
    assert found.graph_cost == pytest.approx(0.5) and found.acoustic_cost == pytest.approx(2.0)
    assert searcher.search(np.full((3, 2), -1.0, np.float32)).complete


def test_a_start_that_is_not_state_0(device: str) -> None:
    moved = from_rows(1, {2: 0.0}, [(1, 0, 1, 2, 0.5), (0, 2, 2, 1, 0.25)])
    found = K2Searcher(K2Graph(without_epsilons(moved), device), 1.0, 20.0, 100).search(np.zeros((2, 2), np.float32))
    assert found.words == [2, 1] and found.pdfs.tolist() == [0, 1] and found.graph_cost == pytest.approx(0.75)


def test_without_k2_the_extra_step_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "k2", None)
    with pytest.raises(UserError, match=r"decode\.backend: k2 .*README\.md"):
        import_k2()
