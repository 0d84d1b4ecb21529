"""Transition counts and estimates against counting by hand."""

import numpy as np
from toy import PHONES, mono_tree

from asr_kd.hmm.topology import ContextCodes
from asr_kd.hmm.transitions import (
    count_arcs,
    estimate_transitions,
    initial_transitions,
    scale_transitions,
    self_loops,
)

CODES = ContextCodes(len(PHONES))


def test_arcs_are_counted_by_destination() -> None:
    tree = mono_tree()
    silence, phone = PHONES.ids["SIL"], PHONES.ids["AA_S"]
    first = [CODES.encode(0, silence, 0, s) for s in (0, 0, 2, 1, 4, 4)]
    then = [CODES.encode(silence, phone, 0, s) for s in (0, 1, 1, 2)]
    codes = np.array([*first, *then, *then])
    counts = count_arcs(tree, codes, last=np.array([9, 13]))

    def of(p: int, state: int) -> list[float]:
        return counts[tree.pdf[tree.roots[p, state]]].tolist()

    assert of(silence, 0) == [1, 0, 1, 0]  # 0→0, 0→2
    assert of(silence, 2) == [1, 0, 0, 0]  # 2→1
    assert of(silence, 1) == [0, 0, 0, 1]  # 1→4
    assert of(silence, 4) == [1, 1, 0, 0]  # 4→4, out
    assert of(phone, 0) == [0, 2, 0, 0]
    assert of(phone, 1) == [2, 2, 0, 0]
    assert of(phone, 2) == [0, 2, 0, 0]
    assert counts.sum() == len(codes)


def test_estimates_are_normalised_floored_and_fall_back() -> None:
    tree = mono_tree()
    before = initial_transitions(tree)
    np.testing.assert_allclose(np.exp(before).sum(1), 1)
    counts = np.zeros_like(before)
    pdf, inner = int(tree.pdf[tree.roots[PHONES.ids["B_B"], 1]]), int(tree.pdf[tree.roots[PHONES.ids["SIL"], 1]])
    counts[pdf, :2] = 90, 10
    counts[inner] = 100, 0, 0, 0
    after = estimate_transitions(tree, counts, before)
    np.testing.assert_allclose(np.exp(after).sum(1), 1)
    np.testing.assert_allclose(np.exp(after[pdf, :2]), [0.9, 0.1])
    assert np.exp(after[inner]).min() > 0.009
    untouched = np.setdiff1d(np.arange(tree.num_pdfs), [pdf, inner])
    np.testing.assert_array_equal(after[untouched], before[untouched])


def test_scales_of_one_change_nothing_and_others_keep_stay_and_leave_apart() -> None:
    tree = mono_tree()
    before = initial_transitions(tree)
    loops = self_loops(tree)
    np.testing.assert_allclose(scale_transitions(before, loops, 1.0, 1.0), before, atol=1e-9)
    scaled = scale_transitions(before, loops, 10.0, 0.5)
    phone, inner = int(tree.pdf[tree.roots[PHONES.ids["T_E"], 2]]), int(tree.pdf[tree.roots[PHONES.ids["SIL"], 2]])
    np.testing.assert_allclose(scaled[phone, :2], 0.5 * before[phone, :2])  # one way to leave: nothing to choose
    assert loops[inner] == 1
    np.testing.assert_allclose(scaled[inner, 1], 0.5 * np.log(0.25))
    np.testing.assert_allclose(scaled[inner, 0], 10 * np.log(1 / 3) + 0.5 * np.log(0.75))
