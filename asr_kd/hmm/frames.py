"""Context codes and tied states of all frames of a split, a piece of the frames at a time."""

from collections.abc import Iterator

import numpy as np

from asr_kd import scratch
from asr_kd.hmm.tree import Tree

PIECE_FRAMES = 1 << 14
SEGMENT_FRAMES = 4096


def pieces(frames: int) -> Iterator[slice]:
    return (slice(first, min(first + PIECE_FRAMES, frames)) for first in range(0, frames, PIECE_FRAMES))


def distinct_codes(codes: np.ndarray) -> np.ndarray:
    """The context codes that occur, in rising order, without the −1 of frames that have none."""
    found = np.zeros(0, dtype=np.int64)
    for rows in pieces(len(codes)):
        found = np.union1d(found, codes[rows])
    return found[np.searchsorted(found, 0) :]


def pdfs_by_piece(tree: Tree, codes: np.ndarray) -> Iterator[tuple[slice, np.ndarray]]:
    """Rows, and the pdf of each of their context codes; −1 where there is none."""
    distinct = distinct_codes(codes)
    pdfs = np.append(tree.pdfs_of_codes(distinct), -1) if len(distinct) else np.full(1, -1)
    for rows in pieces(len(codes)):
        yield rows, pdfs[np.where(codes[rows] >= 0, np.searchsorted(distinct, codes[rows]), -1)]


def occupancies(pdfs: np.ndarray, num_pdfs: int) -> np.ndarray:
    """(num_pdfs,) float64 frames of each pdf; pdfs (N,), −1 for none."""
    counts = np.zeros(num_pdfs)
    for rows in pieces(len(pdfs)):
        counts += np.bincount(pdfs[rows] + 1, minlength=num_pdfs + 1)[1:]
    return counts


def segments_by_pdf(pdfs: np.ndarray) -> list[tuple[int, np.ndarray]]:
    """Frame numbers of each pdf in rising order, by pdf, in segments of at most SEGMENT_FRAMES."""
    counts = occupancies(pdfs, int(pdfs.max(initial=-1)) + 1).astype(np.int64)
    bounds = np.concatenate([[0], np.cumsum(counts)])
    order, free = scratch.array((int(bounds[-1]),), np.int64), bounds[:-1].copy()
    for rows in pieces(len(pdfs)):
        here = np.argsort(pdfs[rows], kind="stable")
        here = here[np.searchsorted(pdfs[rows][here], 0) :]
        found, first, times = np.unique(pdfs[rows][here], return_index=True, return_counts=True)
        order[np.repeat(free[found] - first, times) + np.arange(len(here))] = here + rows.start
        free[found] += times
    return [
        (int(pdf), order[first : min(first + SEGMENT_FRAMES, bounds[pdf + 1])])
        for pdf in np.flatnonzero(counts)
        for first in range(int(bounds[pdf]), int(bounds[pdf + 1]), SEGMENT_FRAMES)
    ]
