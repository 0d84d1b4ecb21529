import math

import numpy as np
import pytest
import torch
from scipy import stats

from asr_kd.distill.noise import LogitNoise, normal, uniform
from asr_kd.nn.seeds import generator
from asr_kd.recipe import Noise

FRAMES, STATES = 4000, 50
ROWS = np.arange(FRAMES) * 7 + 3
KEY = np.uint64(12345)


def clean_logits() -> torch.Tensor:
    return 3 * torch.randn(FRAMES, STATES, generator=generator((0,)))


def test_numbers_are_uniform_and_normal() -> None:
    rows, classes = ROWS[:, None], np.arange(STATES)[None]
    assert stats.kstest(uniform(KEY, rows, classes).ravel(), "uniform").pvalue > 1e-3
    draws = normal(KEY, rows, classes)
    assert stats.kstest(draws.ravel(), "norm").pvalue > 1e-3
    # Neighbouring rows, classes and keys are uncorrelated: within four standard errors of 200,000 products.
    bound = 4 / math.sqrt(draws.size)
    other = normal(KEY + np.uint64(1), rows, classes)
    for first, second in ((draws[1:], draws[:-1]), (draws[:, 1:], draws[:, :-1]), (draws, other)):
        assert abs(float((first * second).mean())) < bound


def test_the_share_of_frames_and_the_variance_are_the_recipes() -> None:
    clean, noise = clean_logits(), Noise(alpha=0.3, sigma=0.4)
    noisy = LogitNoise(noise, STATES, seed=0)(clean, None, ROWS)
    hit = (noisy != clean).any(1)
    assert abs(float(hit.double().mean()) - 0.3) < 4 * math.sqrt(0.3 * 0.7 / FRAMES)
    assert torch.equal(noisy[~hit], clean[~hit])
    centred = clean[hit] - clean[hit].mean(1, keepdim=True)
    xi = (noisy[hit] / centred - 1)[centred.abs() > 0.01]
    # The standard errors of a mean and of a variance over independent normal draws.
    assert abs(float(xi.mean())) < 4 * 0.4 / math.sqrt(len(xi))
    assert abs(float(xi.square().mean()) - 0.16) < 4 * 0.16 * math.sqrt(2 / len(xi))


@pytest.mark.parametrize("truncated", [False, True])
def test_fixed_noise_depends_on_the_frame_alone(truncated: bool) -> None:
    clean = clean_logits()
    states = clean[:, :-1].topk(5, 1).indices if truncated else None
    logits = clean[:, :6] if truncated else clean
    noise = LogitNoise(Noise(alpha=0.5, redraw="never"), STATES, seed=0)
    whole = noise(logits, states, ROWS)
    order = torch.randperm(FRAMES, generator=generator((1,)))[:100]
    part = noise(logits[order], states[order] if states is not None else None, ROWS[order.numpy()])
    assert torch.equal(part, whole[order])
    other = LogitNoise(Noise(alpha=0.5, redraw="never"), STATES, seed=1)(logits, states, ROWS)
    assert not torch.equal(other, whole)


def test_fixed_noise_of_a_class_is_the_same_in_a_truncated_store() -> None:
    clean, noise = clean_logits(), LogitNoise(Noise(alpha=1.0, redraw="never"), STATES, seed=0)
    factor = noise(clean, None, ROWS) / (clean - clean.mean(1, keepdim=True))
    states = clean.topk(5, 1).indices
    some = torch.cat([clean.gather(1, states), clean[:, :1]], 1)
    truncated = noise(some, states, ROWS) / (some - some.mean(1, keepdim=True))
    assert torch.allclose(truncated[:, :-1], factor.gather(1, states), rtol=1e-3, atol=1e-3)


def test_redrawn_noise_is_another_in_another_batch_and_the_same_in_the_same() -> None:
    clean, noise = clean_logits(), LogitNoise(Noise(alpha=1.0, sigma=0.5), STATES, seed=0)
    first = noise(clean, None, ROWS)
    assert torch.equal(first, noise(clean, None, ROWS))
    back = noise(clean.flip(0), None, ROWS[::-1]).flip(0)
    assert ((first - back).abs() > 1e-6).float().mean() > 0.99


def test_the_expectation_is_the_clean_logits() -> None:
    """Redrawn noise leaves the expected target of squared error as it is."""
    clean, noise = clean_logits()[:50], LogitNoise(Noise(alpha=0.5, sigma=0.5), STATES, seed=0)
    centred = clean - clean.mean(1, keepdim=True)
    total = torch.zeros_like(clean)
    for epoch in range(400):
        order = torch.randperm(50, generator=generator((epoch,)))
        noisy = noise(centred[order], None, ROWS[order.numpy()])
        total[order] += noisy
    error = math.sqrt(0.5) * 0.5 * centred.abs() / math.sqrt(400)
    assert ((total / 400 - centred).abs() <= 5.5 * error + 1e-5).all()
