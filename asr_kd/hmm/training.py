"""Viterbi training of one GMM: realign, estimate, grow; the loop that all four of Kaldi's training scripts share."""

import logging
import math
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from torch import Tensor

from asr_kd import scratch
from asr_kd.ahead import mapped_ahead
from asr_kd.errors import UserError
from asr_kd.hmm.aligner import Alignment, align_speech
from asr_kd.hmm.checkpoint import Checkpoint
from asr_kd.hmm.frames import distinct_codes, occupancies, pdfs_by_piece, pieces, segments_by_pdf
from asr_kd.hmm.gmm import MIN_VARIANCE, Gmm, GmmStats, accumulate, augment, maximise, single_gaussians, split
from asr_kd.hmm.speech import Speech
from asr_kd.hmm.topology import is_silence
from asr_kd.hmm.transitions import count_arcs, estimate_transitions, initial_transitions
from asr_kd.hmm.tree import Tree, TreeStats
from asr_kd.recipe import GmmStep

AHEAD = 2  # pieces of a thread whose statistics may wait to be added
log = logging.getLogger("asr_kd")


@dataclass
class Trainer:
    """A GMM in training: speech, its current alignment, and one row of history an iteration.

    history: of a training that goes on, what it had; its model has seen the alignment. checkpoint: keeps the state
    after iterations, with `features_from`, from which whoever resumes makes the speech's features.
    """

    speech: Speech
    gmm: Gmm
    alignment: Alignment
    step: GmmStep
    boost_silence: float
    rng: np.random.Generator
    jobs: int = 1
    power: float = 0.25
    history: list[dict[str, float]] = field(default_factory=list)
    checkpoint: Checkpoint | None = None
    features_from: dict[str, Tensor] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.history:
            self._index(self.alignment)
        else:
            self._assign(self.alignment)

    def _index(self, alignment: Alignment) -> None:
        """Each frame's pdf, the frames of each pdf."""
        self.alignment = alignment
        self.pdfs = frame_pdfs(self.gmm.tree, alignment)
        self.segments = segments_by_pdf(self.pdfs)
        self.occupancies = occupancies(self.pdfs, self.gmm.num_pdfs)

    def _assign(self, alignment: Alignment) -> None:
        """Take over an alignment and the arcs that it takes."""
        self._index(alignment)
        arcs = count_arcs(self.gmm.tree, alignment.codes, self.speech.starts[1:] - 1)
        transitions = estimate_transitions(self.gmm.tree, arcs, self.gmm.log_transitions)
        self.gmm = replace(self.gmm, log_transitions=transitions)

    def run(self, before_iteration: Callable[["Trainer", int], None] | None = None) -> None:
        """All iterations of the step, or those left of it. `before_iteration` may change the features (MLLT, fMLLR)."""
        start, grow = self.gmm.num_pdfs, max(1, self.step.iterations * 5 // 7)  # it begins with one Gaussian each
        for iteration in range(len(self.history) + 1, self.step.iterations + 1):
            if before_iteration:
                before_iteration(self, iteration)
            if iteration in self.step.realign:
                self._assign(align_speech(self.gmm, self.speech, self.boost_silence, self.jobs))
            self.estimate(start + (self.step.gaussians - start) * min(iteration, grow) // grow)
            if self.checkpoint:
                self.checkpoint.save(self)

    def estimate(self, gaussians: int) -> None:
        """One EM iteration over the present alignment, then growth to `gaussians`."""
        stats = accumulate_parallel(self.gmm, self.speech.features, self.segments, self.jobs)
        if not math.isfinite(stats.log_likelihood):
            raise UserError("hmm: the likelihood of the training frames is not finite; run --stage 1 (features) again")
        gmm = maximise(self.gmm, stats)
        if gaussians > gmm.num_gaussians:
            gmm = split(gmm, self.occupancies, gaussians, self.rng, self.power)
        self.gmm = gmm
        row = {
            "iteration": len(self.history) + 1,
            "log_likelihood_per_frame": stats.log_likelihood / max(stats.frames, 1),
            "gaussians": gmm.num_gaussians,
            "silence_share": silence_share(gmm.tree, self.pdfs),
            "failed": len(self.alignment.failed),
            "floored": int((gmm.variances <= MIN_VARIANCE).sum()),
            "empty": int((self.occupancies == 0).sum()),
        }
        self.history.append(row)
        log.info(
            "  iteration %(iteration)d: log-likelihood %(log_likelihood_per_frame).3f a frame, "
            "%(gaussians)d Gaussians, silence %(silence_share).3f, %(failed)d failed, "
            "%(floored)d variances at their floor, %(empty)d states without frames",
            row,
        )


def frame_pdfs(tree: Tree, alignment: Alignment) -> np.ndarray:
    """(N,) pdf of each frame, −1 where there is no alignment."""
    pdfs = scratch.array(alignment.codes.shape, np.int64)
    for rows, part in pdfs_by_piece(tree, alignment.codes):
        pdfs[rows] = part
    return pdfs


def silence_share(tree: Tree, pdfs: np.ndarray) -> float:
    """Share of silence among the frames that have a pdf."""
    counts = occupancies(pdfs, tree.num_pdfs)
    return float(counts[tree.silence_pdfs()].sum() / counts.sum())


def accumulate_parallel(gmm: Gmm, features: Tensor, segments: list[tuple[int, np.ndarray]], jobs: int) -> GmmStats:
    """E-step over all frames: features (N, dim); segments: frame numbers by pdf."""
    shares = [segments[a : a + 64] for a in range(0, len(segments), 64)]

    def work(share: list[tuple[int, np.ndarray]]) -> GmmStats:
        return accumulate(
            gmm, ((pdf, augment(features[torch.from_numpy(rows).to(features.device)])) for pdf, rows in share)
        )

    gmm.log_likelihoods(features[:1])
    with ThreadPoolExecutor(jobs) as threads:
        parts = mapped_ahead(threads, work, shares, AHEAD * jobs)
        total = next(parts)
        for part in parts:
            total.moments += part.moments
            total.log_likelihood += part.log_likelihood
            total.frames += part.frames
    return total


def tree_statistics(features: Tensor, alignment: Alignment) -> TreeStats:
    """Count, sum and sum of squares of the frames of each context code (Kaldi's acc-tree-stats)."""
    codes = distinct_codes(alignment.codes)
    numbers = ((rows, np.searchsorted(codes, alignment.codes[rows], "right") - 1) for rows in pieces(len(features)))
    counts, sums, squares = sums_by_number(features, numbers, len(codes))
    return TreeStats(codes, counts, sums.cpu().numpy(), squares.cpu().numpy())


def sums_by_number(
    features: Tensor, numbers: Iterable[tuple[slice, np.ndarray]], count: int
) -> tuple[np.ndarray, Tensor, Tensor]:
    """Counts (count,), sums and sums of squares (count, dim) float64 of the frames that have each number.

    numbers: rows, and the number of each, −1 for none.
    """
    counts = np.zeros(count)
    double = features.new_empty(0, dtype=torch.float64)
    sums, squares = (scratch.tensor((count, features.shape[1]), double).zero_() for _ in range(2))
    for rows, given in numbers:
        known = np.flatnonzero(given >= 0)
        index = torch.from_numpy(given[known].astype(np.int64)).to(features.device)
        chosen = features[rows][torch.from_numpy(known).to(features.device)].double()
        sums.index_add_(0, index, chosen)
        squares.index_add_(0, index, chosen**2)
        counts += np.bincount(given[known], minlength=count)
    return counts, sums, squares


def initial_gmm(tree: Tree, features: Tensor, alignment: Alignment) -> Gmm:
    """One Gaussian per pdf from the aligned frames, uniform transitions (Kaldi's gmm-init-model)."""
    counts, sums, squares = sums_by_number(features, pdfs_by_piece(tree, alignment.codes), tree.num_pdfs)
    on_device = torch.from_numpy(counts).to(features.device)
    return single_gaussians(tree, on_device, sums, squares, initial_transitions(tree))


def speech_pdfs(tree: Tree) -> np.ndarray:
    """(num_pdfs,) bool: pdfs of phones, neither silence nor spoken noise."""
    speech = np.ones(tree.num_pdfs, dtype=bool)
    for phone in range(1, len(tree.phone_set)):
        if is_silence(tree.phone_set, phone):
            speech[tree.pdf[tree.roots[phone]]] = False
    return speech
