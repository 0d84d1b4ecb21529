"""LDA, MLLT and fMLLR against what they must achieve."""

import numpy as np
import pytest
import torch
from scipy.linalg import eigh
from toy import mono_tree, random_gmm

from asr_kd.hmm.gmm import augment
from asr_kd.hmm.transforms import FmllrStats, MlltStats, apply_affine, lda


def test_lda_finds_the_discriminant_directions() -> None:
    rng = np.random.default_rng(0)
    means = rng.normal(size=(5, 6)) * np.array([4, 3, 2, 0, 0, 0])
    mixing = rng.normal(size=(6, 6))
    labels = rng.integers(5, size=4000)
    x = (means[labels] + rng.normal(size=(4000, 6))) @ mixing.T
    one_hot = torch.nn.functional.one_hot(torch.from_numpy(labels)).double()
    data = torch.from_numpy(x)
    projection = lda(one_hot.sum(0), one_hot.T @ data, data.T @ data, 3).numpy()

    class_means = np.array([x[labels == c].mean(0) for c in range(5)])
    within = np.mean([np.outer(v, v) for v in x - class_means[labels]], axis=0)
    between = np.cov(x.T, bias=True) - within
    np.testing.assert_allclose(projection @ within @ projection.T, np.eye(3), atol=1e-6)
    ratios = np.diag(projection @ between @ projection.T)
    np.testing.assert_allclose(np.sort(ratios)[::-1], eigh(between, within, eigvals_only=True)[::-1][:3], rtol=1e-6)


def objective(transform: torch.Tensor, second: torch.Tensor, frames: float) -> float:
    rows = torch.einsum("di,dij,dj->", transform, second, transform)
    return float(frames * torch.linalg.slogdet(transform)[1] - 0.5 * rows)


def test_mllt_decorrelates() -> None:
    """Frames of one Gaussian with a full covariance: the rotation must make it diagonal."""
    gmm = random_gmm(mono_tree(), 3, 1, 0)
    mixing = torch.tensor([[1.0, 0.8, 0.2], [0.0, 1.0, 0.5], [0.3, 0.0, 1.0]])
    frames = torch.randn((3000, 3), generator=torch.Generator().manual_seed(1)) @ mixing.T + gmm.means[4]
    stats = MlltStats(3, torch.device("cpu"))
    for part in frames.split(512):
        stats.add(gmm, 4, gmm.posteriors(augment(part), 4)[0], part)
    rotation = stats.estimate()
    assert objective(rotation, stats.second, stats.frames) > objective(
        torch.eye(3).double(), stats.second, stats.frames
    )
    small = 1e-3 * torch.randn((3, 3), dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    best = objective(rotation, stats.second, stats.frames)
    assert objective(rotation + small, stats.second, stats.frames) < best
    assert objective(rotation - small, stats.second, stats.frames) < best


def test_fmllr_undoes_a_speakers_distortion(monkeypatch: pytest.MonkeyPatch) -> None:
    """Frames drawn from the model and then distorted: the transform is the distortion's inverse."""
    gmm = random_gmm(mono_tree(), 3, 1, 3)
    generator = torch.Generator().manual_seed(4)
    distortion = torch.tensor([[1.2, 0.1, 0.0], [-0.2, 0.9, 0.1], [0.0, 0.3, 1.1]])
    offset = torch.tensor([0.5, -1.0, 0.2])
    stats = FmllrStats(2, 3, torch.device("cpu"))
    clean, heard = [], []
    for pdf in range(gmm.num_pdfs):
        frames = gmm.means[pdf] + torch.randn((600, 3), generator=generator) * gmm.variances[pdf].sqrt()
        distorted = frames @ distortion.T + offset
        precision = (1 / gmm.variances[pdf]).expand(600, 3)
        stats.add(0, precision, precision * gmm.means[pdf], distorted, torch.ones(600))
        stats.add(1, precision[:2], precision[:2] * gmm.means[pdf], distorted[:2], torch.ones(2))
        clean.append(frames)
        heard.append(distorted)
    transforms = stats.estimate(min_frames=500)
    for together in (1, 3):
        monkeypatch.setattr("asr_kd.hmm.transforms.SPEAKERS", together)
        assert torch.equal(stats.estimate(min_frames=0)[0], transforms[0]), "bits hang on no other speaker"
    restored = apply_affine(torch.cat(heard), transforms[0])
    error = (restored - torch.cat(clean)).abs().mean()
    assert error < 0.05 < (torch.cat(heard) - torch.cat(clean)).abs().mean()
    assert torch.equal(transforms[1], torch.eye(3, 4, dtype=torch.float64))  # too few frames
