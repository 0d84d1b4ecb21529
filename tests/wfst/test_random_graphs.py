"""HCLG of random languages against enumeration, for the best sentence and for every sentence of a lattice."""

from pathlib import Path

import numpy as np
import pytest
import toy_language as toy
from random_language import Language, random_language
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from asr_kd.decode.lattice_search import KaldiLatticeSearcher
from asr_kd.decode.nbest import merge
from asr_kd.decode.rescoring import GrammarCosts
from asr_kd.decode.search import KaldiSearcher, load_graph
from asr_kd.wfst.build import build_graph, build_word_graph
from asr_kd.wfst.graph import Graph

QUANTISED = 0.02  # minimisation rounds weights to 1/1024, once for each arc of a path
SCALES = toy.Scales(0.8, 0.4, 0.35)


def graph_of(language: Language, folder: Path, seed: int) -> Graph:
    language.write(folder)
    words = build_word_graph(folder, SCALES.silence_probability, language.probabilities)
    graph, _ = build_graph(words, toy.tree, toy.log_transitions(seed), SCALES.transition, SCALES.self_loop)
    graph.write(folder / "HCLG.fst")
    return graph


def random_scores(seed: int) -> np.ndarray:
    draws = np.random.default_rng([seed, 12])
    scores = draws.normal(0, 2.5, size=(draws.integers(12, 14), toy.NUM_PDFS)).astype(np.float32)
    scores[:, 5:] += 2.5  # speech rather than silence
    return scores


def epsilon_cycles(graph: Graph) -> int:
    silent = graph.arcs["ilabel"] == 0
    source, dest = graph.source[silent], graph.arcs["dest"][silent]
    moves = coo_array((np.ones(len(source)), (source, dest)), shape=(graph.num_states, graph.num_states))
    return graph.num_states - connected_components(moves, connection="strong")[0] + int((source == dest).sum())


@pytest.mark.parametrize("seed", range(10))
def test_every_sentence_costs_what_enumeration_says(tmp_path: Path, seed: int) -> None:
    language = random_language(seed)
    graph = graph_of(language, tmp_path, seed)
    assert epsilon_cycles(graph) == 0
    one_best = KaldiSearcher(load_graph(tmp_path / "HCLG.fst"), 1.0, beam=1000.0, max_active=100000)
    searcher = KaldiLatticeSearcher(one_best, beams=(200.0,), lattice_beam=60.0, max_density=1e9)
    scores = random_scores(seed)
    enumerated = language.sentences(scores, toy.log_transitions(seed), SCALES)
    ranked = sorted(enumerated, key=lambda words: enumerated[words])

    found = searcher.search(scores)
    assert found.best.graph_cost + found.best.acoustic_cost == pytest.approx(enumerated[ranked[0]], abs=QUANTISED)
    sentences = {
        tuple(language.symbols[word] for word in words): cost for words, cost in merge(found.lattice, found.best, 10**6)
    }
    assert len(ranked) > 20
    cheap = [words for words in ranked if enumerated[words] < enumerated[ranked[0]] + 59]
    assert set(cheap) <= set(sentences) <= set(ranked)
    for words in cheap:
        assert sentences[words] == pytest.approx(enumerated[words], abs=2 * QUANTISED), words


def test_without_probabilities_all_pronunciations_cost_nothing(tmp_path: Path) -> None:
    language = random_language(0)
    language.write(tmp_path)
    ones = dict.fromkeys(language.probabilities, 1.0)
    plain, same = (Graph.from_fst(build_word_graph(tmp_path, 0.5, given).fst) for given in (None, ones))
    assert np.array_equal(plain.arcs, same.arcs)
    other = Graph.from_fst(build_word_graph(tmp_path, 0.5, language.probabilities).fst)
    assert other.arcs["weight"].sum() > plain.arcs["weight"].sum() + 0.5


def test_rescored_sentences_cost_what_the_other_models_graph_says(tmp_path: Path) -> None:
    language, other = random_language(1), random_language(2)
    other = Language(language.probabilities, other.unigrams, other.end, other.bigrams)
    folders = [tmp_path / "first", tmp_path / "second"]
    lists, models, scores = [], [], random_scores(3)
    for folder, each in zip(folders, (language, other), strict=True):
        folder.mkdir()
        graph_of(each, folder, 1)
        one_best = KaldiSearcher(load_graph(folder / "HCLG.fst"), 1.0, beam=1000.0, max_active=100000)
        found = KaldiLatticeSearcher(one_best, (200.0,), 60.0, 1e9).search(scores)
        lists.append(dict(merge(found.lattice, found.best, 10**6)))
        models.append(GrammarCosts(folder / "lm.arpa", folder / "words.txt"))
    for words in list(lists[0])[:50]:
        told = [model.cost(words) for model in models]
        names = tuple(language.symbols[word] for word in words)
        assert told == pytest.approx([language.lm_cost(names), other.lm_cost(names)], abs=1e-3)
        if words in lists[1]:
            assert lists[0][words] - told[0] + told[1] == pytest.approx(lists[1][words], abs=2 * QUANTISED)
    assert len(lists[0].keys() & lists[1].keys()) > 20
    assert models[0].cost([99]) == float("inf")
