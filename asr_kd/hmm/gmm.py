"""Diagonal-covariance Gaussian mixtures, one per pdf, as matrices of natural parameters.

A frame's log-likelihoods are one product of [x, x², 1] with a matrix; pdfs with mixtures of like size are scored
together, so that nothing is padded to the largest mixture. Estimation follows Kaldi's gmm-est.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from asr_kd.errors import UserError
from asr_kd.files import atomic_path
from asr_kd.hmm.topology import MAX_ARCS
from asr_kd.hmm.tree import Tree

MIN_VARIANCE = 1e-3
MIN_OCCUPANCY = 10.0
MIN_SPLIT_OCCUPANCY = 20.0
MIXTURE_SIZES = (1, 2, 3, 4, 6, 8, 10, 12, 14, 16, 20, 24, 32, 40, 48, 64, 96, 128, 256, 512)
NO_GAUSSIAN = -1e30
NEGLIGIBLE = -80.0  # beside 0, of logarithms: exp takes ten to thirty times as long over what underflows


@dataclass(frozen=True)
class Gmm:
    """Gaussians sorted by pdf. weights (G,), means and variances (G, dim) float32; pdf_of (G,) int64;
    log_transitions (num_pdfs, arcs): natural log of each arc out of a state with that pdf (see topology).
    """

    tree: Tree
    pdf_of: Tensor
    weights: Tensor
    means: Tensor
    variances: Tensor
    log_transitions: np.ndarray

    @property
    def num_pdfs(self) -> int:
        return self.tree.num_pdfs

    @property
    def num_gaussians(self) -> int:
        return len(self.weights)

    @property
    def parameters(self) -> int:
        """Free parameters: weights, means and variances."""
        return self.weights.numel() + self.means.numel() + self.variances.numel()

    def to(self, device: str | torch.device) -> "Gmm":
        moved = {name: getattr(self, name).to(device) for name in ("pdf_of", "weights", "means", "variances")}
        return replace(self, **moved)

    @cached_property
    def _natural(self) -> Tensor:
        """(G + 1, 2 dim + 1): rows [μ/σ², −1/(2σ²), constant]; the last row is no Gaussian at all."""
        precision = 1.0 / self.variances
        constant = self.weights.log() - 0.5 * (
            self.means.shape[1] * math.log(2 * math.pi) + (self.variances.log() + self.means**2 * precision).sum(1)
        )
        rows = torch.cat([self.means * precision, -0.5 * precision, constant[:, None]], dim=1)
        nothing = torch.zeros_like(rows[:1])
        nothing[0, -1] = NO_GAUSSIAN
        return torch.cat([rows, nothing])

    @cached_property
    def _first(self) -> np.ndarray:
        """(num_pdfs + 1,): where each pdf's Gaussians begin."""
        counts = np.bincount(self.pdf_of.cpu().numpy(), minlength=self.num_pdfs)
        return np.concatenate([[0], np.cumsum(counts)])

    @cached_property
    def _buckets(self) -> tuple[np.ndarray, np.ndarray, list[Tensor]]:
        """Of each pdf its bucket and row there, and of each bucket its natural parameters (size, pdfs, 2 dim + 1)."""
        sizes = np.diff(self._first)
        bucket = np.searchsorted(MIXTURE_SIZES, sizes)
        row, tables = np.zeros(self.num_pdfs, dtype=np.int64), []
        for number, width in enumerate(MIXTURE_SIZES):
            pdfs = np.flatnonzero(bucket == number)
            row[pdfs] = np.arange(len(pdfs))
            slot = np.arange(width)[:, None]
            index = np.where(slot < sizes[pdfs], self._first[pdfs] + slot, self.num_gaussians)
            tables.append(self._natural[torch.from_numpy(index).to(self.means.device)])
        return bucket, row, tables

    def log_likelihoods(self, features: Tensor, pdfs: np.ndarray | None = None) -> Tensor:
        """features (frames, dim) → (frames, P) log p(x | pdf), for the given pdfs (all by default)."""
        pdfs = np.arange(self.num_pdfs) if pdfs is None else pdfs
        bucket, row, tables = self._buckets
        augmented, columns, parts = augment(features), list[np.ndarray](), list[Tensor]()
        for number in np.unique(bucket[pdfs]):
            here = np.flatnonzero(bucket[pdfs] == number)
            rows = torch.from_numpy(row[pdfs[here]]).to(features.device)
            table = tables[number].index_select(1, rows)
            parts.append(_log_sum(augmented @ table.transpose(1, 2)))  # of (size, frames, pdfs)
            columns.append(here)
        order = torch.from_numpy(np.argsort(np.concatenate(columns))).to(features.device)
        return torch.cat(parts, 1).index_select(1, order)

    def posteriors(self, augmented: Tensor, pdf: int) -> tuple[Tensor, Tensor]:
        """Frames of one pdf, augmented (n, 2 dim + 1) → Gaussian posteriors (n, m) and log-likelihoods (n,)."""
        scores = augmented @ self._natural[self._first[pdf] : self._first[pdf + 1]].T
        total = scores.logsumexp(dim=1, keepdim=True)
        return (scores - total).exp(), total[:, 0]

    def gaussians(self, pdf: int) -> slice:
        return slice(int(self._first[pdf]), int(self._first[pdf + 1]))

    def save(self, path: Path) -> None:
        tensors = {name: getattr(self, name).cpu().contiguous() for name in ("pdf_of", "weights", "means", "variances")}
        tensors["log_transitions"] = torch.from_numpy(self.log_transitions)
        self.tree.save(path / "tree.json")
        with atomic_path(path / "model.safetensors") as temporary:
            save_file(tensors, temporary)

    def _check(self) -> None:
        """Raises ValueError where the arrays do not fit each other or the tree, or are no finite numbers."""
        count, dim = self.means.shape
        shapes = {"weights": (count,), "variances": (count, dim), "pdf_of": (count,)}
        for name, shape in shapes.items():
            if tuple(getattr(self, name).shape) != shape:
                raise ValueError(f"{name} of shape {tuple(getattr(self, name).shape)}, not {shape}")
        if self.log_transitions.shape != (self.num_pdfs, MAX_ARCS):
            raise ValueError(f"transitions of {len(self.log_transitions)} pdfs, the tree has {self.num_pdfs}")
        floats = (self.weights, self.means, self.variances)
        if self.pdf_of.dtype != torch.int64 or any(array.dtype != torch.float32 for array in floats):
            raise ValueError("arrays of other types")
        if count and not (int(self.pdf_of[0]) >= 0 and int(self.pdf_of[-1]) < self.num_pdfs):
            raise ValueError("Gaussians of pdfs that the tree does not have")
        if bool((self.pdf_of.diff() < 0).any()) or not bool((self.variances > 0).all()):
            raise ValueError("Gaussians that are not sorted by pdf, or without variance")
        if not (all(bool(array.isfinite().all()) for array in floats) and np.isfinite(self.log_transitions).all()):
            raise ValueError("values that are not finite")
        if count and int(torch.bincount(self.pdf_of).max()) > MIXTURE_SIZES[-1]:
            raise ValueError("more Gaussians of one pdf than can be scored")

    @staticmethod
    def load(path: Path) -> "Gmm":
        """Read `path`/model.safetensors and tree.json; UserError when missing or damaged."""
        if not (path / "model.safetensors").exists():
            raise UserError(f"{path / 'model.safetensors'}: missing; run --stage 3 (align)")
        tree = Tree.load(path / "tree.json")
        try:
            tensors = load_file(path / "model.safetensors")
            log_transitions = tensors.pop("log_transitions").numpy()
            gmm = Gmm(tree=tree, log_transitions=log_transitions, **tensors)
            gmm._check()
            return gmm
        except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
            raise UserError(f"{path / 'model.safetensors'}: damaged ({error}); run --stage 3 (align) again") from None


def augment(features: Tensor) -> Tensor:
    """(n, dim) → (n, 2 dim + 1): [x, x², 1]."""
    return torch.cat([features, features**2, features.new_ones((len(features), 1))], dim=1)


def single_gaussians(tree: Tree, counts: Tensor, sums: Tensor, squares: Tensor, log_transitions: np.ndarray) -> Gmm:
    """One Gaussian per pdf from its frames: counts (num_pdfs,), sums and squares (num_pdfs, dim).

    A pdf without frames takes the mean and variance of all frames.
    """
    total = counts.sum()
    mean, square = sums.sum(0) / total, squares.sum(0) / total
    seen = (counts > 0)[:, None]
    safe = counts.clamp_min(1.0)[:, None]
    means = torch.where(seen, sums / safe, mean)
    variances = torch.where(seen, squares / safe - means**2, square - mean**2).clamp_min(0.01)
    pdf_of = torch.arange(tree.num_pdfs, device=means.device)
    ones = torch.ones(tree.num_pdfs, device=means.device)
    return Gmm(tree, pdf_of, ones, means.float(), variances.float(), log_transitions)


def _log_sum(components: Tensor) -> Tensor:
    """logsumexp over the first dimension, in the room of `components`."""
    if len(components) == 1:
        return components[0]
    largest = components.amax(0)
    return components.sub_(largest).clamp_min_(NEGLIGIBLE).exp_().sum(0).log_().add_(largest)


@dataclass
class GmmStats:
    """moments (G, 2 dim + 1) float64: Σ γ x, Σ γ x² and Σ γ of each Gaussian, γ its posterior."""

    moments: Tensor
    log_likelihood: float = 0.0
    frames: int = 0

    @property
    def occupancies(self) -> Tensor:
        return self.moments[:, -1]


def accumulate(gmm: Gmm, segments: Iterable[tuple[int, Tensor]]) -> GmmStats:
    """E-step: segments of (pdf, augmented frames (n, 2 dim + 1)) → statistics in float64."""
    stats = GmmStats(
        torch.zeros((gmm.num_gaussians, 2 * gmm.means.shape[1] + 1), dtype=torch.float64, device=gmm.means.device)
    )
    for pdf, augmented in segments:
        posteriors, scores = gmm.posteriors(augmented, pdf)
        stats.moments[gmm.gaussians(pdf)] += posteriors.T @ augmented
        stats.log_likelihood += float(scores.sum(dtype=torch.float64))
        stats.frames += len(augmented)
    return stats


def maximise(gmm: Gmm, stats: GmmStats, remove: bool = True) -> Gmm:
    """M-step as Kaldi's gmm-est: floored variances; Gaussians with under 10 frames keep their parameters and, with
    `remove`, are dropped unless they are their pdf's heaviest.
    """
    dim = gmm.means.shape[1]
    counts = stats.occupancies
    safe = counts.clamp_min(1e-3)[:, None]
    means = stats.moments[:, :dim] / safe
    variances = (stats.moments[:, dim : 2 * dim] / safe - means**2).clamp_min(MIN_VARIANCE)
    enough = counts >= MIN_OCCUPANCY
    means = torch.where(enough[:, None], means, gmm.means.double())
    variances = torch.where(enough[:, None], variances, gmm.variances.double())
    pdf_of = gmm.pdf_of
    largest = torch.full((gmm.num_pdfs,), -1.0, dtype=torch.float64, device=counts.device)
    largest = largest.scatter_reduce(0, pdf_of, counts, "amax")
    keep = enough | _first_of_each(pdf_of, counts >= largest[pdf_of])
    if not remove:
        keep = torch.ones_like(keep)
    weights = counts.clamp_min(1e-5)[keep]
    totals = torch.zeros(gmm.num_pdfs, dtype=torch.float64, device=counts.device).index_add(0, pdf_of[keep], weights)
    weights = weights / totals[pdf_of[keep]]
    return Gmm(
        gmm.tree,
        pdf_of[keep],
        weights.float(),
        means[keep].float(),
        variances[keep].float(),
        gmm.log_transitions,
    )


def _first_of_each(pdf_of: Tensor, mask: Tensor) -> Tensor:
    """Of the True entries of a pdf-sorted mask, the first of each pdf."""
    number = torch.cumsum(mask.long(), 0)
    before = number - mask.long()
    starts = torch.searchsorted(pdf_of, pdf_of)
    return mask & (before == before[starts])


def split(gmm: Gmm, occupancies: np.ndarray, gaussians: int, rng: np.random.Generator, power: float = 0.25) -> Gmm:
    """Grow to `gaussians`: shares by occupancy to a power, as Kaldi's GetSplitTargets; the heaviest Gaussian is split.

    occupancies (num_pdfs,) frames of each pdf.
    """
    targets = _split_targets(occupancies, np.diff(gmm._first), gaussians, power)
    weights, means, variances, pdfs = [], [], [], []
    for pdf, target in enumerate(targets):
        own = gmm.gaussians(pdf)
        weight, mean, variance = (t[own].cpu().numpy() for t in (gmm.weights, gmm.means, gmm.variances))
        while len(weight) < target:
            heavy = int(weight.argmax())
            weight[heavy] /= 2
            offset = 0.01 * rng.standard_normal(mean.shape[1:], dtype=np.float32) * np.sqrt(variance[heavy])
            weight, variance = np.append(weight, weight[heavy]), np.vstack([variance, variance[heavy]])
            mean = np.vstack([mean, mean[heavy] + offset])
            mean[heavy] -= offset
        weights.append(weight)
        means.append(mean)
        variances.append(variance)
        pdfs.append(np.full(len(weight), pdf))
    pdf_of, w, m, v = (
        torch.from_numpy(np.concatenate(a)).to(gmm.means.device) for a in (pdfs, weights, means, variances)
    )
    return Gmm(gmm.tree, pdf_of, w, m, v, gmm.log_transitions)


def _split_targets(occupancies: np.ndarray, sizes: np.ndarray, gaussians: int, power: float) -> np.ndarray:
    """Gaussians of each pdf: one more, again and again, where occupancy^power per Gaussian is largest."""
    share = np.asarray(np.maximum(occupancies, 1e-3) ** power)
    most = np.maximum(1, (occupancies / MIN_SPLIT_OCCUPANCY).astype(np.int64))

    def sizes_at(level: float) -> np.ndarray:
        return np.minimum(most, np.asarray(np.ceil(share / level), dtype=np.int64))

    low, high = 1e-6, float(share.max())
    for _ in range(60):  # the level of share per Gaussian at which the total is reached
        level = math.sqrt(low * high)
        low, high = (level, high) if sizes_at(level).sum() > gaussians else (low, level)
    return np.maximum(sizes, sizes_at(high))
