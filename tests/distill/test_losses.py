import math

import numpy as np
import pytest
import torch
from scipy.special import logsumexp, softmax
from torch import Tensor
from torch.nn.functional import cross_entropy

from asr_kd.distill import losses
from asr_kd.distill.losses import distillation_loss, logit_loss, tail_at, temper
from asr_kd.nn.seeds import generator

FRAMES, STATES, TOP = 7, 30, 5
TEMPERATURES = (1.0, 2.0, 5.0, 10.0)


@pytest.fixture
def log_post() -> Tensor:
    return (3 * torch.randn(FRAMES, STATES, generator=generator((0,)))).double().log_softmax(1)


@pytest.fixture
def logits() -> Tensor:
    return (3 * torch.randn(FRAMES, STATES, generator=generator((1,)))).double().requires_grad_()


@pytest.fixture
def labels() -> Tensor:
    return torch.randint(0, STATES, (FRAMES,), generator=generator((2,)))


def truncate(log_post: Tensor, temperature: float) -> tuple[Tensor, Tensor, Tensor]:
    """Top states, their log posteriors, and the log of Σ p^(1/T) over the others, by numpy."""
    states = log_post.topk(TOP, 1).indices
    others = log_post.numpy().copy()
    np.put_along_axis(others, states.numpy(), -np.inf, 1)
    return states, log_post.gather(1, states), torch.from_numpy(logsumexp(others / temperature, axis=1))


def binned(probabilities: Tensor, states: Tensor) -> Tensor:
    """Dense (frames, num_pdfs) to the k states and the sum of the others."""
    top = probabilities.gather(1, states)
    return torch.cat([top, probabilities.sum(1, keepdim=True) - top.sum(1, keepdim=True)], 1)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0, 7.0])
def test_temper_is_the_binned_softmax(log_post: Tensor, temperature: float) -> None:
    states, best, tail = truncate(log_post, temperature)
    dense = torch.from_numpy(softmax(log_post.numpy() / temperature, 1))
    assert torch.allclose(temper(best, tail, temperature).double(), binned(dense, states), atol=1e-6)
    assert torch.allclose(temper(log_post, None, temperature).double(), dense, atol=1e-6)


def test_temper_refuses_temperatures_that_mean_nothing(log_post: Tensor) -> None:
    with pytest.raises(ValueError, match="not above 0"):
        temper(log_post, None, 0)


@pytest.mark.parametrize("temperature", TEMPERATURES)
def test_stored_temperatures_have_exact_tails(log_post: Tensor, temperature: float) -> None:
    tails = torch.stack([truncate(log_post, t)[2] for t in TEMPERATURES], 1)
    found = tail_at(tails, TEMPERATURES, temperature, STATES - TOP)
    assert torch.equal(found, tails[:, TEMPERATURES.index(temperature)].float())


@pytest.mark.parametrize(("temperature", "error"), [(1.3, 0.5), (3.0, 0.2), (7.0, 0.05), (20.0, 0.05), (1e6, 1e-3)])
def test_tails_between_and_above_them_are_close(log_post: Tensor, temperature: float, error: float) -> None:
    tails = torch.stack([truncate(log_post, t)[2] for t in TEMPERATURES], 1)
    found = tail_at(tails, TEMPERATURES, temperature, STATES - TOP).double()
    truth = truncate(log_post, temperature)[2]
    # log Σ p^β is convex in β = 1/T, so a chord never lies below it.
    assert (found > truth - 1e-5).all()
    assert (found - truth).max() < error


def test_tails_below_the_lowest_temperature_are_refused(log_post: Tensor) -> None:
    with pytest.raises(ValueError, match="below the lowest"):
        tail_at(torch.zeros(3, 2), (2.0, 4.0), 1.0, 5)


@pytest.mark.parametrize("temperature", [1.0, 2.0, 10.0])
@pytest.mark.parametrize("hard_weight", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("dense", [False, True])
def test_value_and_gradient_are_those_of_the_dense_definition(
    log_post: Tensor, logits: Tensor, labels: Tensor, temperature: float, hard_weight: float, dense: bool
) -> None:
    target = softmax(log_post.numpy() / temperature, 1)
    q, student = torch.softmax(logits / temperature, 1), torch.log_softmax(logits, 1)
    states, best, tail = truncate(log_post, temperature)
    if dense:
        soft = -(torch.from_numpy(target) * q.log()).sum(1)
        loss = distillation_loss(
            logits, labels, None, temper(log_post, None, temperature).double(), temperature, hard_weight
        )
    else:
        soft = -(binned(torch.from_numpy(target), states) * binned(q, states).log()).sum(1)
        p = temper(best, tail, temperature).double()
        loss = distillation_loss(logits, labels, states, p, temperature, hard_weight)
    hard = -student[torch.arange(FRAMES), labels]
    expected = ((1 - hard_weight) * temperature**2 * soft + hard_weight * hard).mean()
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)
    (found,) = torch.autograd.grad(loss, logits, retain_graph=True)
    (wanted,) = torch.autograd.grad(expected, logits)
    assert torch.allclose(found, wanted, atol=1e-6)


def test_all_hard_is_the_plain_cross_entropy_to_the_bit(logits: Tensor, labels: Tensor) -> None:
    nonsense = torch.full((FRAMES, TOP + 1), math.nan)
    loss = distillation_loss(logits, labels, torch.zeros(FRAMES, TOP, dtype=torch.int64), nonsense, 2.0, 1.0)
    assert torch.equal(loss, cross_entropy(logits, labels))


def test_all_soft_does_not_look_at_the_labels(log_post: Tensor, logits: Tensor) -> None:
    states, best, tail = truncate(log_post, 2.0)
    impossible = torch.full((FRAMES,), STATES + 99)
    assert distillation_loss(logits, impossible, states, temper(best, tail, 2.0).double(), 2.0, 0.0).isfinite()


def test_a_certain_student_has_a_finite_loss_and_gradient(labels: Tensor) -> None:
    """The k states hold all of the student's mass in float32, the targets leave some in the rest bin."""
    logits = torch.zeros(1, STATES).index_fill(1, torch.arange(TOP), 200.0).requires_grad_()
    target = torch.full((1, TOP + 1), 1 / (TOP + 1))
    loss = distillation_loss(logits, labels[:1], torch.arange(TOP)[None], target, 1.0, 0.0)
    loss.backward()
    # Each of the k states has q = 1 / k, the bin exp(-200) times as much for each of its states.
    expected = TOP / (TOP + 1) * math.log(TOP) + 1 / (TOP + 1) * (200 + math.log(TOP) - math.log(STATES - TOP))
    assert loss.item() == pytest.approx(expected, rel=1e-6)
    assert logits.grad is not None
    assert logits.grad.isfinite().all()
    assert float(logits.grad[0, TOP:].sum()) == pytest.approx(-1 / (TOP + 1), rel=1e-5)


def test_the_soft_gradient_keeps_its_size_as_the_temperature_rises(log_post: Tensor, logits: Tensor) -> None:
    """Hinton et al. 2015, section 2: with T² the gradient tends to (z - v) / num_pdfs for centred logits."""
    temperature = 1000.0
    target = temper(log_post, None, temperature).double()
    loss = distillation_loss(logits, torch.zeros(FRAMES, dtype=torch.int64), None, target, temperature, 0.0)
    (found,) = torch.autograd.grad(loss, logits)
    z, v = logits - logits.mean(1, keepdim=True), log_post - log_post.mean(1, keepdim=True)
    assert torch.allclose(found, (z - v) / STATES / FRAMES, atol=2e-4)


@pytest.mark.parametrize("hard_weight", [0.0, 0.4])
@pytest.mark.parametrize("truncated", [False, True])
def test_logit_loss_and_its_gradient_are_those_of_the_definition(
    log_post: Tensor, logits: Tensor, labels: Tensor, truncated: bool, hard_weight: float
) -> None:
    states, best, tail = truncate(log_post, 1.0)
    if truncated:
        others = logits.scatter(1, states, -math.inf).logsumexp(1, keepdim=True)
        student, teacher = torch.cat([logits.gather(1, states), others], 1), torch.cat([best, tail[:, None]], 1)
    else:
        student, teacher = logits, log_post
    error = (student - student.mean(1, keepdim=True)) - (teacher - teacher.mean(1, keepdim=True))
    expected = (1 - hard_weight) * error.square().mean(1).mean() / 2 + hard_weight * cross_entropy(logits, labels)
    some = states if truncated else None
    loss = logit_loss(logits, labels, some, teacher, hard_weight)
    assert loss.item() == pytest.approx(expected.item())
    (found,) = torch.autograd.grad(loss, logits, retain_graph=True)
    (wanted,) = torch.autograd.grad(expected, logits, retain_graph=True)
    assert torch.allclose(found, wanted)
    # Logits are known up to a constant a frame.
    constants = torch.arange(FRAMES)[:, None]
    shifted = logit_loss(logits + constants, labels, some, teacher - 3 * constants, hard_weight)
    assert shifted.item() == pytest.approx(loss.item())


def test_matching_logits_is_the_limit_of_soft_targets(log_post: Tensor, logits: Tensor, labels: Tensor) -> None:
    """Hinton et al. 2015, section 2.1; so hard weights mean the same in both."""
    target = temper(log_post, None, 1000.0).double()
    soft = distillation_loss(logits, labels, None, target, 1000.0, 0.4)
    matching = logit_loss(logits, labels, None, log_post, 0.4)
    (found,), (wanted,) = (torch.autograd.grad(loss, logits, retain_graph=True) for loss in (matching, soft))
    assert torch.allclose(found, wanted, atol=2e-4)


def test_matching_the_logits_of_the_same_network_is_perfect(logits: Tensor, labels: Tensor) -> None:
    log_post = logits.detach().log_softmax(1)
    states, best, tail = truncate(log_post, 1.0)
    assert logit_loss(logits, labels, None, log_post, 0.0).item() < 1e-20
    assert logit_loss(logits, labels, states, torch.cat([best, tail[:, None]], 1), 0.0).item() < 1e-20


@pytest.mark.parametrize("hard_weight", [0.0, 0.3])
def test_a_batch_in_parts_has_the_loss_and_gradient_of_the_whole(
    monkeypatch: pytest.MonkeyPatch, log_post: Tensor, logits: Tensor, labels: Tensor, hard_weight: float
) -> None:
    states, best, tail = truncate(log_post, 2.0)
    target, results = temper(best, tail, 2.0).double(), []
    for rows in (FRAMES, 3):
        monkeypatch.setattr(losses, "ROWS", rows)
        loss = distillation_loss(logits, labels, states, target, 2.0, hard_weight)
        results.append((loss, *torch.autograd.grad(3 * loss, logits)))
    assert all(torch.equal(whole, parts) for whole, parts in zip(*results, strict=True))
