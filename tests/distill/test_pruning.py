import pytest
import torch
from scipy.optimize import brentq
from torch import Tensor
from torch.nn.functional import cross_entropy

from asr_kd.distill.losses import distillation_loss, drawn_loss
from asr_kd.distill.pruning import prune
from asr_kd.nn.seeds import generator

STATES, KEPT, DRAWS = 30, 6, 20_000


@pytest.fixture
def probabilities() -> Tensor:
    """Rows from nearly flat to nearly certain."""
    logits = torch.randn(5, STATES, generator=generator((0,))).double()
    return (logits * torch.tensor([[0.01], [1.0], [3.0], [8.0], [30.0]])).softmax(1)


def threshold(row: Tensor) -> float:
    """τ of Σ min(1, p / τ) = KEPT, by bisection."""
    return float(brentq(lambda tau: float((row / tau).clamp_max(1).sum()) - KEPT, 1e-30, 1.0, xtol=1e-40))


def drawn(row: Tensor, uniform: Tensor) -> tuple[Tensor, Tensor]:
    return prune(row.expand(len(uniform), -1), KEPT, uniform)


def as_dense(states: Tensor, values: Tensor) -> Tensor:
    return torch.zeros(len(states), STATES, dtype=values.dtype).scatter_add_(1, states, values)


def test_each_frame_keeps_so_many_different_states(probabilities: Tensor) -> None:
    uniform = torch.rand(DRAWS, dtype=torch.float64, generator=generator((1,)))
    for row in probabilities:
        states, values = drawn(row, uniform)
        assert states.shape == values.shape == (DRAWS, KEPT)
        assert (states.sort(1).values.diff(dim=1) > 0).all()
        assert torch.allclose(values.sum(1), torch.ones(DRAWS, dtype=torch.float64))


def test_probable_states_are_kept_whole_and_others_have_the_threshold(probabilities: Tensor) -> None:
    uniform = torch.rand(500, dtype=torch.float64, generator=generator((1,)))
    for row in probabilities:
        tau = threshold(row)
        whole = row >= tau * (1 + 1e-9)
        dense = as_dense(*drawn(row, uniform))
        assert torch.equal(dense[:, whole], row[whole].expand(500, -1))
        others = dense[:, ~whole]
        assert torch.allclose(others[others > 0], torch.tensor(tau, dtype=torch.float64))


def test_the_expectation_is_the_probability(probabilities: Tensor) -> None:
    """Within five standard errors of DRAWS draws: a state's value is τ with probability p / τ, else 0."""
    uniform = torch.rand(DRAWS, dtype=torch.float64, generator=generator((2,)))
    for row in probabilities:
        tau = threshold(row)
        mean = as_dense(*drawn(row, uniform)).mean(0)
        error = (row * (tau - row).clamp_min(0) / DRAWS).sqrt()
        assert ((mean - row).abs() <= 5 * error + 1e-12).all()


def test_every_state_is_kept_for_its_share_of_the_uniform_numbers(probabilities: Tensor) -> None:
    grid = (torch.arange(DRAWS, dtype=torch.float64) + 0.5) / DRAWS
    for row in probabilities:
        share = (as_dense(*drawn(row, grid)) > 0).double().mean(0)
        assert torch.allclose(share, (row / threshold(row)).clamp_max(1), atol=2 / DRAWS)


def test_extreme_posteriors_in_float32() -> None:
    certain = torch.zeros(1, STATES).index_fill(1, torch.tensor([3]), 1.0)
    states, values = prune(certain, KEPT, torch.zeros(1, dtype=torch.float64))
    assert int(states[0, 0]) == 3
    assert values[0, 0] == 1
    assert (values[0, 1:] > 0).all()
    flat = torch.full((1, STATES), 1 / STATES)
    states, values = prune(flat, KEPT, torch.tensor([0.5], dtype=torch.float64))
    assert len(states[0].unique()) == KEPT
    assert torch.allclose(values, torch.tensor(1 / KEPT))


@pytest.mark.parametrize("temperature", [1.0, 3.0])
def test_loss_and_gradient_are_the_dense_ones_in_expectation(probabilities: Tensor, temperature: float) -> None:
    """The mean over a fine grid of the only random number is the expectation, as exactly as the grid is fine."""
    logits = (3 * torch.randn(1, STATES, generator=generator((3,)))).double().requires_grad_()
    grid, labels = (torch.arange(DRAWS, dtype=torch.float64) + 0.5) / DRAWS, torch.zeros(DRAWS, dtype=torch.int64)
    for row in probabilities:
        states, values = drawn(row, grid)
        loss = drawn_loss(logits.expand(DRAWS, -1), labels, states, values, temperature, 0.0)
        dense = distillation_loss(logits, labels[:1], None, row[None], temperature, 0.0)
        (found,), (wanted,) = (torch.autograd.grad(value, logits) for value in (loss, dense))
        assert loss.item() == pytest.approx(dense.item(), rel=2e-3)
        assert torch.allclose(found, wanted, atol=2e-4 * temperature**2)


@pytest.mark.parametrize("hard_weight", [0.0, 0.3])
def test_the_gradient_is_that_of_the_definition(probabilities: Tensor, hard_weight: float) -> None:
    logits = torch.randn(5, STATES, generator=generator((4,))).double().requires_grad_()
    labels = torch.tensor([3, 0, 29, 7, 7])
    states, values = prune(probabilities, KEPT, torch.full((5,), 0.3, dtype=torch.float64))
    values = values * torch.tensor([[0.9], [1.0], [1.1], [2.0], [0.5]])  # float16 leaves sums other than 1
    loss = drawn_loss(logits, labels, states, values, 2.0, hard_weight)
    soft = -(as_dense(states, values) * (logits / 2.0).log_softmax(1)).sum(1).mean()
    expected = (1 - hard_weight) * 4 * soft + hard_weight * cross_entropy(logits, labels)
    assert loss.item() == pytest.approx(expected.item())
    (found,), (wanted,) = (torch.autograd.grad(value, logits) for value in (loss, expected))
    assert torch.allclose(found, wanted)
