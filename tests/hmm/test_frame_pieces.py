"""What is done a piece of the frames at a time against the definition over all of them."""

import numpy as np
import pytest
import torch
from toy import PHONES, compiler, mono_tree

from asr_kd.hmm import frames
from asr_kd.hmm.aligner import Alignment
from asr_kd.hmm.frames import distinct_codes, occupancies, pdfs_by_piece, segments_by_pdf
from asr_kd.hmm.graphs import InOrder, PackedGraphs
from asr_kd.hmm.topology import MAX_STATES, ContextCodes, arcs
from asr_kd.hmm.training import frame_pdfs, initial_gmm, tree_statistics
from asr_kd.hmm.transcript import flat_path
from asr_kd.hmm.transitions import count_arcs

SENTENCES = [["bat"], ["a", "tab"], ["tab", "bat"], ["bat", "a", "tab"]] * 5


@pytest.fixture
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(frames, "PIECE_FRAMES", 7)
    monkeypatch.setattr(frames, "SEGMENT_FRAMES", 3)


@pytest.fixture
def aligned() -> tuple[np.ndarray, np.ndarray]:
    """Context codes along random paths, one utterance without any, and each utterance's last frame."""
    rng, codes = np.random.default_rng(0), []
    for words in SENTENCES:
        graph = compiler().compile(words)
        path = flat_path(graph, int(rng.integers(60, 90)), rng)
        assert path is not None
        codes.append(graph.codes[path])
    codes[3][:] = -1
    return np.concatenate(codes), np.cumsum([len(row) for row in codes]) - 1


def test_frames_of_each_pdf(small_pieces: None) -> None:
    pdfs = np.random.default_rng(1).integers(-1, 9, 200)
    pdfs[pdfs == 4] = 5  # one that does not occur
    segments = segments_by_pdf(pdfs)
    assert all(0 < len(rows) <= 3 for _, rows in segments)
    assert [pdf for pdf, _ in segments] == sorted(pdf for pdf, _ in segments)
    for pdf in range(9):
        found = [rows for number, rows in segments if number == pdf]
        expected = np.flatnonzero(pdfs == pdf)
        np.testing.assert_array_equal(np.concatenate(found) if found else [], expected)
        assert all(len(rows) == 3 for rows in found[:-1])
    np.testing.assert_array_equal(occupancies(pdfs, 9), [(pdfs == pdf).sum() for pdf in range(9)])
    assert segments_by_pdf(np.full(20, -1)) == []


def test_tied_states(small_pieces: None, aligned: tuple[np.ndarray, np.ndarray]) -> None:
    codes, tree = aligned[0], mono_tree()
    known = codes >= 0
    np.testing.assert_array_equal(distinct_codes(codes), np.unique(codes[known]))
    expected = np.full(len(codes), -1)
    expected[known] = tree.pdfs_of_codes(codes[known])
    assert np.array_equal(np.concatenate([part for _, part in pdfs_by_piece(tree, codes)]), expected)
    assert np.array_equal(frame_pdfs(tree, Alignment(codes, codes, np.zeros(1))), expected)
    nothing = np.full(30, -1)
    assert np.array_equal(np.concatenate([part for _, part in pdfs_by_piece(tree, nothing)]), nothing)


def test_arcs_taken(small_pieces: None, aligned: tuple[np.ndarray, np.ndarray]) -> None:
    """One frame after the other, by the topology's own list of arcs."""
    (codes, last), tree = aligned, mono_tree()
    _, phone, _, state = ContextCodes(len(PHONES)).decode(codes)
    expected = np.zeros((tree.num_pdfs, 4))
    for t in np.flatnonzero(codes >= 0):
        destinations = arcs(PHONES, int(phone[t]))[state[t]]
        stays = t not in last and codes[t + 1] // MAX_STATES == codes[t] // MAX_STATES and state[t + 1] in destinations
        to = state[t + 1] if stays else len(arcs(PHONES, int(phone[t])))
        expected[tree.pdfs_of_codes(codes[t : t + 1])[0], destinations.index(to)] += 1
    np.testing.assert_array_equal(count_arcs(tree, codes, last), expected)


def test_sums_end_in_the_same_bits_whatever_the_pieces(
    aligned: tuple[np.ndarray, np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    codes, tree = aligned[0], mono_tree()
    features = torch.randn(len(codes), 13, generator=torch.Generator().manual_seed(0)) * 3
    alignment = Alignment(codes, codes, np.zeros(len(SENTENCES)))
    whole, gmm = tree_statistics(features, alignment), initial_gmm(tree, features, alignment)
    known = np.flatnonzero(codes >= 0)
    distinct, index = np.unique(codes[known], return_inverse=True)
    sums = torch.zeros(len(distinct), 13, dtype=torch.float64)
    sums.index_add_(0, torch.from_numpy(index), features[torch.from_numpy(known)].double())
    assert np.array_equal(whole.codes, distinct) and np.array_equal(whole.sums, sums.numpy())
    assert np.array_equal(whole.counts, np.bincount(index))
    monkeypatch.setattr(frames, "PIECE_FRAMES", 7)
    pieced, again = tree_statistics(features, alignment), initial_gmm(tree, features, alignment)
    for name in ("codes", "counts", "sums", "squares"):
        assert np.array_equal(getattr(pieced, name), getattr(whole, name)), name
    assert torch.equal(again.means, gmm.means) and torch.equal(again.variances, gmm.variances)


def test_packed_graphs_are_those_that_were_compiled() -> None:
    compiled = {f"u{number}": compiler().compile(words) for number, words in enumerate(SENTENCES[:4])}
    packed = PackedGraphs(iter(compiled.items()))
    assert list(packed) == list(compiled) and len(packed) == 4 and "u9" not in packed
    ordered = InOrder(packed, ["u2", "u0"])
    assert len(ordered) == 2 and [graph.transcript for graph in ordered] == [("tab", "bat"), ("bat",)]
    for name, graph in compiled.items():
        for field, value in vars(graph).items():
            found = getattr(packed[name], field)
            assert np.array_equal(found, value), field
            assert not isinstance(value, np.ndarray) or found.dtype == value.dtype, field
