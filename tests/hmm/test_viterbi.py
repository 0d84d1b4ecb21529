"""Alignment against brute force: every path of every pronunciation and silence, enumerated."""

from itertools import product

import numpy as np
import pytest
import torch
from toy import LEXICON, PHONES, compiler, mono_tree

from asr_kd.hmm.topology import arcs
from asr_kd.hmm.transcript import TranscriptGraph, flat_path
from asr_kd.hmm.transitions import initial_transitions
from asr_kd.hmm.viterbi import align


def phone_sequences(words: list[str]) -> list[list[int]]:
    """Every choice of variants and optional silences, as position-marked phones."""
    silence = [[], [PHONES.ids["SIL"]]]
    slots = [silence]
    for word in words:
        slots += [[PHONES.mark(variant) for variant in LEXICON[word]], silence]
    return [[phone for part in choice for phone in part] for choice in product(*slots)]


def best_score(phones: list[int], emission: np.ndarray, log_transitions: np.ndarray) -> float:
    """Best path through one phone sequence by plain dynamic programming over (phone, state), frame by frame."""
    tree = mono_tree()
    states = [(i, s) for i, phone in enumerate(phones) for s in range(len(arcs(PHONES, phone)))]
    pdf = {(i, s): int(tree.pdf[tree.roots[phones[i], s]]) for i, s in states}
    score = {state: -np.inf for state in states}
    score[0, 0] = emission[0, pdf[0, 0]]
    for row in emission[1:]:
        new = {state: -np.inf for state in states}
        for (i, s), old in score.items():
            for arc, destination in enumerate(arcs(PHONES, phones[i])[s]):
                after = (i, destination) if destination < len(arcs(PHONES, phones[i])) else (i + 1, 0)
                if after in new:
                    value = old + log_transitions[pdf[i, s], arc] + row[pdf[after]]
                    new[after] = max(new[after], value)
        score = new
    last = (len(phones) - 1, len(arcs(PHONES, phones[-1])) - 1)
    return score[last] + log_transitions[pdf[last], 1]


def emissions_for(frames: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(scale=3, size=(frames, mono_tree().num_pdfs)).astype(np.float32)


def run_align(graphs: list[TranscriptGraph], emissions: list[np.ndarray], log_transitions: np.ndarray):
    pdfs = [mono_tree().pdfs_of_codes(graph.codes) for graph in graphs]
    return align(graphs, [torch.from_numpy(e) for e in emissions], pdfs, pdfs, log_transitions)


@pytest.mark.parametrize("context", [True, False])
def test_batch_finds_the_best_of_all_paths(context: bool) -> None:
    transcripts = [["a"], ["bat", "a"], ["a", "tab"], ["bat", "bat"]]
    lengths = [12, 17, 21, 14]
    rng = np.random.default_rng(5)
    log_transitions = initial_transitions(mono_tree())
    log_transitions[log_transitions > -100] += rng.normal(size=int((log_transitions > -100).sum()))
    emissions = [emissions_for(frames, seed) for seed, frames in enumerate(lengths)]
    graphs = [compiler().compile(words, context) for words in transcripts]
    paths = run_align(graphs, emissions, log_transitions)
    for words, emission, path in zip(transcripts, emissions, paths, strict=True):
        oracle = max(best_score(phones, emission, log_transitions) for phones in phone_sequences(words))
        assert path is not None
        assert path.score == pytest.approx(oracle, abs=1e-3)


def test_path_is_allowed_and_has_the_score_it_claims() -> None:
    graph = compiler().compile(["bat", "a", "tab"])
    emission, log_transitions = emissions_for(40, 3), initial_transitions(mono_tree())
    [path] = run_align([graph], [emission], log_transitions)
    assert path is not None
    pdf = mono_tree().pdfs_of_codes(graph.codes)
    joins = {(int(after), int(before)): int(arc) for after, before, arc in graph.joins}
    score = emission[0, pdf[path.states[0]]]
    assert path.states[0] in graph.initial and path.states[-1] in graph.final
    for before, after, row in zip(path.states[:-1], path.states[1:], emission[1:], strict=True):
        if before == after:
            arc = graph.self_arc[before]
        elif graph.forward[after] and before == after - 1:
            arc = 1
        else:
            arc = joins[after, before]
        score += log_transitions[pdf[before], arc] + row[pdf[after]]
    assert score + log_transitions[pdf[path.states[-1]], 1] == pytest.approx(path.score, abs=1e-3)


def test_too_short_is_none_and_does_not_disturb_the_others() -> None:
    graphs = [compiler().compile(["tab", "tab"]), compiler().compile(["a"])]
    short, fine = emissions_for(graphs[0].shortest - 1, 0), emissions_for(9, 1)
    together = run_align(graphs, [short, fine], initial_transitions(mono_tree()))
    alone = run_align(graphs[1:], [fine], initial_transitions(mono_tree()))
    assert together[0] is None
    assert together[1] is not None and alone[0] is not None
    assert together[1].score == alone[0].score


def test_shortest_path_can_just_be_aligned() -> None:
    graph = compiler().compile(["bat", "a"])
    assert graph.shortest == 9  # B T and AA, three frames each
    [path] = run_align([graph], [emissions_for(9, 2)], initial_transitions(mono_tree()))
    assert path is not None and np.isfinite(path.score)


def test_word_without_pronunciation_is_spoken_noise() -> None:
    graph = compiler().compile(["a", "zzz"])
    noise = mono_tree().pdf[mono_tree().roots[PHONES.ids["SPN"]]]
    assert set(mono_tree().pdfs_of_codes(graph.codes[graph.words == 1])) == set(noise)


def test_flat_path_covers_the_frames_in_equal_shares() -> None:
    graph = compiler().compile(["bat", "tab"])
    path = flat_path(graph, 200, np.random.default_rng(0))
    assert path is not None and len(path) == 200
    visits = np.diff(np.flatnonzero(np.append(np.insert(np.diff(path) != 0, 0, True), True)))
    assert visits.max() - visits.min() <= 1
    assert flat_path(graph, 3, np.random.default_rng(0)) is None
