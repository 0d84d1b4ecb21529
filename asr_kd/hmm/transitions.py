"""Transition probabilities, tied as the pdfs are."""

import numpy as np

from asr_kd.hmm.frames import pdfs_by_piece
from asr_kd.hmm.topology import MAX_ARCS, MAX_STATES, ContextCodes, arcs, is_silence
from asr_kd.hmm.tree import Tree

FLOOR = 0.01
MIN_COUNT = 5.0


def initial_transitions(tree: Tree) -> np.ndarray:
    """Natural log of uniform arcs (phones 0.75 to stay, 0.25 to move, as Kaldi's gen_topo.pl): (num_pdfs, MAX_ARCS)."""
    table = np.full((tree.num_pdfs, MAX_ARCS), -np.inf)
    for phone in range(1, len(tree.phone_set)):
        silence = is_silence(tree.phone_set, phone)
        for state, destinations in enumerate(arcs(tree.phone_set, phone)):
            pdfs = tree.leaves_below(int(tree.roots[phone, state]))
            share = 1 / len(destinations) if silence and state < MAX_STATES - 1 else None
            probabilities = [share] * len(destinations) if share else [0.75, 0.25]
            table[pdfs, : len(destinations)] = np.log(np.array(probabilities, dtype=float))
    return table.clip(-1e4)


def count_arcs(tree: Tree, codes: np.ndarray, last: np.ndarray) -> np.ndarray:
    """Arcs taken along alignments: (num_pdfs, MAX_ARCS) counts.

    codes (N,): context codes of utterances in a row, −1 where there is none; last: each utterance's last frame.
    """
    silences = [phone for phone in range(1, len(tree.phone_set)) if is_silence(tree.phone_set, phone)]
    counts = np.zeros(tree.num_pdfs * MAX_ARCS)
    for rows, pdfs in pdfs_by_piece(tree, codes):
        following = np.full(rows.stop - rows.start, -1, dtype=np.int64)
        next_codes = codes[rows.start + 1 : rows.stop + 1]
        following[: len(next_codes)] = next_codes
        following[last[(last >= rows.start) & (last < rows.stop)] - rows.start] = -1
        known = pdfs >= 0
        arc = _arcs(tree, codes[rows][known], following[known], silences)
        counts += np.bincount(pdfs[known] * np.int64(MAX_ARCS) + arc, minlength=len(counts))
    return counts.reshape(tree.num_pdfs, MAX_ARCS)


def _arcs(tree: Tree, codes: np.ndarray, following: np.ndarray, silences: list[int]) -> np.ndarray:
    """The arc that each frame's state is left by; following: the next frame's code, −1 at an utterance's end."""
    _, phone, _, state = ContextCodes(len(tree.phone_set)).decode(codes)
    same_unit = codes // MAX_STATES == following // MAX_STATES
    destination = np.where(same_unit, following % MAX_STATES, -1)
    inner = np.isin(phone, silences) & (state < MAX_STATES - 1)
    # phones and silence's last state: arc 0 stays, arc 1 moves; silence's state 0 goes to 0..3, states 1..3 to 1..4
    arc = np.where(inner, destination - np.minimum(state, 1), (destination != state).astype(np.int64))
    return arc.clip(0)


def estimate_transitions(tree: Tree, counts: np.ndarray, before: np.ndarray) -> np.ndarray:
    """Counts (num_pdfs, MAX_ARCS) → natural log-probabilities; floored at 0.01, pdfs seen under 5 times are kept."""
    existing = initial_transitions(tree) > -1e3
    probability = np.where(existing, np.maximum(counts / np.maximum(counts.sum(1, keepdims=True), 1e-10), FLOOR), 0.0)
    probability /= probability.sum(1, keepdims=True)
    with np.errstate(divide="ignore"):
        log_probability = np.log(probability).clip(-1e4)
    return np.where(counts.sum(1, keepdims=True) >= MIN_COUNT, log_probability, before)


def self_loops(tree: Tree) -> np.ndarray:
    """(num_pdfs,) index of each pdf's self-loop among its arcs."""
    index = np.zeros(tree.num_pdfs, dtype=np.int64)
    for phone in range(1, len(tree.phone_set)):
        for state, destinations in enumerate(arcs(tree.phone_set, phone)):
            index[tree.leaves_below(int(tree.roots[phone, state]))] = destinations.index(state)
    return index


def scale_transitions(
    log_transitions: np.ndarray, loops: np.ndarray, transition_scale: float, self_loop_scale: float
) -> np.ndarray:
    """Kaldi's two scales: one on the choice between staying and leaving, one on the choice among the ways to leave.

    log_transitions (num_pdfs, MAX_ARCS); loops (num_pdfs,) from `self_loops`.
    """
    rows = np.arange(len(log_transitions))
    stay = log_transitions[rows, loops]
    leave = np.log(np.maximum(-np.expm1(stay), 1e-10))
    scaled = transition_scale * (log_transitions - leave[:, None]) + self_loop_scale * leave[:, None]
    scaled[rows, loops] = self_loop_scale * stay
    return scaled
