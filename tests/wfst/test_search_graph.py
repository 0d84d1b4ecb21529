"""The whole graph against enumeration of words, pronunciations, silences and alignments."""

from pathlib import Path

import numpy as np
import pytest
import toy_language as toy

from asr_kd.decode.search import KaldiSearcher, load_graph
from asr_kd.errors import UserError
from asr_kd.wfst.build import build_graph, build_word_graph

QUANTISED = 0.02  # minimisation rounds weights to 1/1024, once for each arc of a path


@pytest.mark.parametrize("scales", [toy.Scales(1.0, 0.1, 0.5), toy.Scales(0.7, 1.0, 0.2), toy.Scales(1.0, 1.0, 0.6)])
def test_best_path_is_that_of_enumeration(tmp_path: Path, scales: toy.Scales) -> None:
    toy.write_lang(tmp_path)
    table = toy.log_transitions(seed=3)
    words = build_word_graph(tmp_path, scales.silence_probability)
    graph, stats = build_graph(words, toy.tree, table, scales.transition, scales.self_loop)
    graph.write(tmp_path / "HCLG.fst")
    searcher = KaldiSearcher(load_graph(tmp_path / "HCLG.fst"), 1.0, beam=1000.0, max_active=100000)
    assert stats["states"] == graph.num_states and stats["arcs"] == len(graph.arcs)

    compared = 0
    for seed in range(12):
        draws = np.random.default_rng([seed, 2])
        scores = draws.normal(0, 2.5, size=(draws.integers(3, 13), toy.NUM_PDFS)).astype(np.float32)
        scores[:, 5:] += 2.5  # speech rather than silence
        (cost, spoken), *others = toy.best_path(scores, table, scales)
        found = searcher.search(scores)
        assert found.complete
        assert found.graph_cost + found.acoustic_cost == pytest.approx(cost, abs=QUANTISED)
        assert found.acoustic_cost == pytest.approx(-scores[np.arange(len(scores)), found.pdfs].sum(), abs=1e-3)
        if not others or others[0][0] - cost > QUANTISED:
            assert [toy.WORDS[word] for word in found.words] == list(spoken)
            compared += len(spoken) > 1
    assert compared >= 3


def test_without_optional_silence_no_path_takes_it(tmp_path: Path) -> None:
    toy.write_lang(tmp_path)
    graph, _ = build_graph(build_word_graph(tmp_path, 0.0), toy.tree, toy.log_transitions(0), 1.0, 0.1)
    assert not np.isin(graph.arcs["ilabel"], np.arange(1, 6)).any()


def test_a_lexicon_without_the_vocabulary_is_named(tmp_path: Path) -> None:
    toy.write_lang(tmp_path)
    (tmp_path / "lexicon.txt").write_text("zebra A B\n")
    with pytest.raises(UserError, match=r"lexicon\.txt: no word"):
        build_word_graph(tmp_path, 0.5)
