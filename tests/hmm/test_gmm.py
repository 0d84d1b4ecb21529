"""Gaussian mixtures against the textbook density, and EM against its one promise."""

import numpy as np
import pytest
import torch
from scipy.special import logsumexp
from scipy.stats import norm
from toy import mono_tree, random_gmm

from asr_kd.errors import UserError
from asr_kd.hmm.gmm import Gmm, accumulate, augment, maximise, split


def density(gmm: Gmm, x: np.ndarray, pdf: int) -> float:
    own = gmm.gaussians(pdf)
    components = norm.logpdf(x, gmm.means[own].numpy(), np.sqrt(gmm.variances[own].numpy())).sum(axis=1)
    return float(logsumexp(components + np.log(gmm.weights[own].numpy())))


def uneven(seed: int) -> Gmm:
    """Mixtures of different sizes, so that more than one bucket is in use."""
    gmm = random_gmm(mono_tree(), 3, 1, seed)
    return split(gmm, np.linspace(20, 4000, gmm.num_pdfs), 5 * gmm.num_pdfs, np.random.default_rng(seed), power=0.8)


def test_log_likelihoods_are_the_mixture_density() -> None:
    gmm = uneven(1)
    assert len(set(np.bincount(gmm.pdf_of.numpy()))) > 2
    features = torch.randn((7, 3), generator=torch.Generator().manual_seed(0))
    scores = gmm.log_likelihoods(features).numpy()
    oracle = [[density(gmm, x, pdf) for pdf in range(gmm.num_pdfs)] for x in features.numpy()]
    np.testing.assert_allclose(scores, oracle, atol=1e-4)
    some = np.array([5, 0, 17])
    np.testing.assert_allclose(gmm.log_likelihoods(features, some).numpy(), scores[:, some], atol=1e-5)


def segments(gmm: Gmm, seed: int, frames: int = 400) -> list[tuple[int, torch.Tensor]]:
    generator = torch.Generator().manual_seed(seed)
    return [(pdf, augment(torch.randn((frames, 3), generator=generator) + pdf % 3)) for pdf in range(gmm.num_pdfs)]


def test_em_never_lowers_the_likelihood() -> None:
    gmm = random_gmm(mono_tree(), 3, 4, 2)
    data, likelihoods = segments(gmm, 3), []
    for _ in range(12):
        stats = accumulate(gmm, data)
        likelihoods.append(stats.log_likelihood / stats.frames)
        gmm = maximise(gmm, stats)
    assert min(np.diff(likelihoods)) > -1e-5
    assert likelihoods[-1] - likelihoods[0] > 0.1


def test_single_gaussian_is_mean_and_variance_of_its_frames() -> None:
    gmm = random_gmm(mono_tree(), 3, 1, 4)
    data = segments(gmm, 5)
    fitted = maximise(gmm, accumulate(gmm, data))
    frames = data[2][1][:, :3]
    np.testing.assert_allclose(fitted.means[2], frames.mean(0), atol=1e-4)
    np.testing.assert_allclose(fitted.variances[2], frames.var(0, correction=0), rtol=1e-3)


def test_starved_gaussians_go_but_never_the_last_of_a_pdf() -> None:
    gmm = random_gmm(mono_tree(), 3, 4, 6)
    stats = accumulate(gmm, [(0, augment(torch.randn((40, 3))))])
    fitted = maximise(gmm, stats)
    assert np.bincount(fitted.pdf_of.numpy(), minlength=gmm.num_pdfs).min() == 1
    sums = torch.zeros(gmm.num_pdfs).index_add(0, fitted.pdf_of, fitted.weights)
    np.testing.assert_allclose(sums, 1, atol=1e-5)


def test_split_reaches_its_target_where_the_frames_are() -> None:
    gmm = random_gmm(mono_tree(), 3, 1, 7)
    occupancies = np.where(np.arange(gmm.num_pdfs) == 0, 10.0, 1000.0)
    grown = split(gmm, occupancies, 3 * gmm.num_pdfs, np.random.default_rng(0))
    sizes = np.bincount(grown.pdf_of.numpy())
    assert sizes[0] == 1  # ten frames are too few for two Gaussians
    assert abs(grown.num_gaussians - 3 * gmm.num_pdfs) <= gmm.num_pdfs
    mixed = (grown.weights[:, None] * grown.means)[grown.pdf_of == 3].sum(0)
    np.testing.assert_allclose(mixed, gmm.means[3], atol=0.05)


def test_save_and_load(tmp_path) -> None:
    gmm = uneven(8)
    gmm.save(tmp_path)
    again = Gmm.load(tmp_path)
    features = torch.randn((4, 3))
    assert torch.equal(gmm.log_likelihoods(features), again.log_likelihoods(features))
    (tmp_path / "model.safetensors").write_bytes(b"\x08\0\0\0\0\0\0\0nonsense")
    with pytest.raises(UserError, match="damaged"):
        Gmm.load(tmp_path)
