"""Linear transforms of features for Gaussian models: LDA, MLLT (global STC) and speaker-wise fMLLR.

Statistics are plain matrix products over blocks of frames; the row-by-row updates run for all speakers at once.
"""

import torch
from torch import Tensor

from asr_kd import scratch
from asr_kd.hmm.gmm import Gmm


def lda(counts: Tensor, sums: Tensor, second: Tensor, dim: int) -> Tensor:
    """Linear discriminant analysis (Kaldi's est-lda): (dim, D), within-class covariance of the output is identity.

    counts (classes,), sums (classes, D): frames of each class; second (D, D): Σ x xᵀ over all frames.
    """
    total = counts.sum()
    mean = sums.sum(0) / total
    covariance = second / total - torch.outer(mean, mean)
    means = sums / counts.clamp_min(1e-10)[:, None] - mean
    between = (means * (counts / total)[:, None]).T @ means
    within = covariance - between
    values, vectors = torch.linalg.eigh(within)
    whiten = vectors * values.clamp_min(1e-10 * float(values.max())).rsqrt()
    directions = torch.linalg.eigh(whiten.T @ between @ whiten)[1]
    return (whiten @ directions.flip(1)[:, :dim]).T


SPEAKERS = 8  # whose transforms are estimated together
OUTER_FRAMES = 1000  # whose outer products are in memory at once


class MlltStats:
    """Statistics of a global transform of the features (Gales 1999, semi-tied covariances; Kaldi's gmm-acc-mllt)."""

    def __init__(self, dim: int, device: torch.device) -> None:
        self.second = torch.zeros((dim, dim, dim), dtype=torch.float64, device=device)
        self.frames = 0.0

    def add(self, gmm: Gmm, pdf: int, posteriors: Tensor, features: Tensor) -> None:
        """One pdf's frames: posteriors (n, m), features (n, dim)."""
        own = gmm.gaussians(pdf)
        precision, means = 1.0 / gmm.variances[own], gmm.means[own]
        self.add_weighted(posteriors @ precision, features)
        counts, sums = posteriors.sum(0), posteriors.T @ features
        cross = torch.einsum("md,mi,mj->dij", precision, sums, means)
        outer = torch.einsum("md,mi,mj->dij", precision * counts[:, None], means, means)
        self.second += (outer - cross - cross.transpose(1, 2)).double()
        self.frames += float(counts.sum())

    def add_weighted(self, weights: Tensor, features: Tensor) -> None:
        dim = features.shape[1]
        outer = (features[:, :, None] * features[:, None, :]).reshape(len(features), -1)
        self.second += (weights.T @ outer).reshape(dim, dim, dim).double()

    def estimate(self, iterations: int = 200) -> Tensor:
        """The transform (dim, dim) that maximises β log|A| − ½ Σ_d a_d G_d a_dᵀ, row by row."""
        transform = torch.eye(len(self.second), dtype=torch.float64, device=self.second.device)
        inverse = torch.linalg.inv(self.second)
        for _ in range(iterations):
            adjugate = torch.linalg.inv(transform)[None]
            for row in range(len(transform)):
                cofactor = adjugate[0, :, row]
                direction = inverse[row] @ cofactor
                new = direction * torch.sqrt(self.frames / (cofactor @ direction))
                adjugate = _replace_row(adjugate, row, (new - transform[row])[None])
                transform[row] = new
        return transform


class FmllrStats:
    """Statistics of one affine transform per speaker (Gales 1998, constrained MLLR; Kaldi's gmm-est-fmllr)."""

    def __init__(self, speakers: int, dim: int, device: torch.device) -> None:
        zero = torch.zeros((), dtype=torch.float64, device=device)
        self.second = scratch.tensor((speakers, dim, dim + 1, dim + 1), zero).zero_()
        self.first = torch.zeros((speakers, dim, dim + 1), dtype=torch.float64, device=device)
        self.frames = torch.zeros(speakers, dtype=torch.float64, device=device)

    def add(self, speaker: int, precisions: Tensor, targets: Tensor, features: Tensor, occupancies: Tensor) -> None:
        """Frames of one speaker. precisions (n, dim): Σ γ/σ²; targets (n, dim): Σ γ μ/σ²; features (n, dim)."""
        shape = self.second.shape[1:]
        for some, precision, target in zip(
            *(x.split(OUTER_FRAMES) for x in (features, precisions, targets)), strict=True
        ):
            extended = torch.cat([some, some.new_ones((len(some), 1))], dim=1)
            outer = (extended[:, :, None] * extended[:, None, :]).reshape(len(some), -1)
            self.second[speaker] += (precision.T @ outer).reshape(shape).double()
            self.first[speaker] += (target.T @ extended).double()
        self.frames[speaker] += occupancies.sum().double()

    def estimate(self, min_frames: float, iterations: int = 20) -> Tensor:
        """Transforms (speakers, dim, dim + 1), [A b]; the identity for a speaker with under `min_frames` frames."""
        speakers, dim = self.first.shape[:2]
        transform = torch.eye(dim, dim + 1, dtype=torch.float64, device=self.first.device).repeat(speakers, 1, 1)
        for some in (self.frames >= min_frames).nonzero()[:, 0].split(SPEAKERS):
            transform[some] = self._estimate(some, transform[some], iterations)
        return transform

    def _estimate(self, speakers: Tensor, rows: Tensor, iterations: int) -> Tensor:
        """The transforms of the speakers numbered (n,), from `rows` (n, dim, dim + 1) on."""
        inverse = scratch.tensor((len(speakers), *self.second.shape[1:]), self.second)
        for own, speaker in zip(inverse, speakers.tolist(), strict=True):
            torch.linalg.inv(self.second[speaker], out=own)
        first, frames, dim = self.first[speakers], self.frames[speakers], rows.shape[1]
        for _ in range(iterations):
            adjugate = torch.linalg.inv(rows[:, :, :dim])
            for d in range(dim):
                cofactor = torch.nn.functional.pad(adjugate[:, :, d], (0, 1))
                toward = torch.einsum("sij,sj->si", inverse[:, d], cofactor)
                fitted = torch.einsum("sij,sj->si", inverse[:, d], first[:, d])
                # α maximises β log|α a + b| − ½ α² a, with a = p G⁻¹ pᵀ and b = p G⁻¹ kᵀ
                a, b = (cofactor * toward).sum(1), (cofactor * fitted).sum(1)
                root = torch.sqrt(b**2 + 4 * a * frames)
                alpha = torch.stack([(-b + root) / (2 * a), (-b - root) / (2 * a)])
                gain = frames * (alpha * a + b).abs().log() - 0.5 * alpha**2 * a
                best = alpha.gather(0, gain.argmax(dim=0, keepdim=True))[0]
                new = best[:, None] * toward + fitted
                adjugate = _replace_row(adjugate, d, (new - rows[:, d])[:, :dim])
                rows[:, d] = new
        return rows


def _replace_row(inverse: Tensor, row: int, change: Tensor) -> Tensor:
    """Inverses (n, dim, dim) after `change` (n, dim) is added to row `row` of each matrix (Sherman and Morrison)."""
    column, across = inverse[:, :, row], torch.einsum("nj,njk->nk", change, inverse)
    return inverse - column[:, :, None] * across[:, None, :] / (1 + across[:, row])[:, None, None]


def apply_affine(features: Tensor, transform: Tensor) -> Tensor:
    """features (n, dim), transform (dim, dim + 1) → A x + b, (n, dim)."""
    return features @ transform[:, :-1].T.to(features.dtype) + transform[:, -1].to(features.dtype)
