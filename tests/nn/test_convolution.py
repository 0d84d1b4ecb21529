"""Convolutional networks against layers of torch.nn and against sums written out."""

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from asr_kd.errors import UserError
from asr_kd.nn.convolution import Kind
from asr_kd.nn.model import AcousticModel, load_model
from asr_kd.nn.seeds import generator
from asr_kd.recipe import Network

GREY, COLOUR = 28 * 28, 3 * 32 * 32


def network(kind: Kind, **keys: float) -> Network:
    return Network(kind=kind, input="pixels", left=0, right=0, **keys)  # type: ignore[arg-type]


def made(kind: Kind, dim: int, **keys: float) -> AcousticModel:
    model = AcousticModel(network(kind, **keys), dim, 10)
    model.initialise(generator((0,)))
    for bias in model.biases:
        nn.init.normal_(bias, generator=generator((1,)))
    return model


def oracle(kind: Kind, dim: int) -> nn.Sequential:
    """The published layers."""
    if kind == "lenet":
        channels, side = (1, 4) if dim == GREY else (3, 5)
        return nn.Sequential(
            nn.Conv2d(channels, 20, 5), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(20, 50, 5), nn.ReLU(), nn.MaxPool2d(2),
            nn.Flatten(), nn.Linear(50 * side * side, 500), nn.ReLU(), nn.Linear(500, 10),
        )  # fmt: skip
    return nn.Sequential(
        nn.Conv2d(3, 192, 5, padding=2), nn.ReLU(), nn.Conv2d(192, 160, 1), nn.ReLU(),
        nn.Conv2d(160, 96, 1), nn.ReLU(), nn.MaxPool2d(3, 2, ceil_mode=True),
        nn.Conv2d(96, 192, 5, padding=2), nn.ReLU(), nn.Conv2d(192, 192, 1), nn.ReLU(),
        nn.Conv2d(192, 192, 1), nn.ReLU(), nn.AvgPool2d(3, 2, ceil_mode=True),
        nn.Conv2d(192, 192, 3, padding=1), nn.ReLU(), nn.Conv2d(192, 192, 1), nn.ReLU(),
        nn.Conv2d(192, 10, 1), nn.AvgPool2d(8), nn.Flatten(),
    )  # fmt: skip


def with_weights_of(layers: nn.Sequential, model: AcousticModel) -> nn.Sequential:
    own = [layer for layer in layers if isinstance(layer, nn.Conv2d | nn.Linear)]
    for layer, weight, bias in zip(own, model.weights, model.biases, strict=True):
        layer.weight, layer.bias = nn.Parameter(weight.detach()), nn.Parameter(bias.detach())
    return layers


@pytest.mark.parametrize(
    ("kind", "dim", "parameters"), [("lenet", GREY, 431_080), ("lenet", COLOUR, 657_080), ("nin", COLOUR, 966_986)]
)
def test_is_the_published_layers(kind: Kind, dim: int, parameters: int) -> None:
    model = made(kind, dim)
    side = 28 if dim == GREY else 32
    rows = torch.randn(3, 1, dim, generator=generator((2,)))
    expected = with_weights_of(oracle(kind, dim), model)(rows.view(3, -1, side, side))
    assert torch.allclose(model(rows), expected, atol=1e-4)
    assert model.parameter_count == parameters


def test_gradients_are_those_of_the_layers() -> None:
    model = made("lenet", GREY)
    rows, labels = torch.randn(4, 1, GREY, generator=generator((3,))), torch.tensor([1, 0, 9, 4])
    layers = with_weights_of(oracle("lenet", GREY), model)
    nn.functional.cross_entropy(model(rows), labels).backward()
    nn.functional.cross_entropy(layers(rows.view(4, 1, 28, 28)), labels).backward()
    ours = [parameter.grad for pair in zip(model.weights, model.biases, strict=True) for parameter in pair]
    for mine, theirs in zip(ours, layers.parameters(), strict=True):
        assert mine is not None and torch.allclose(mine, theirs.grad, atol=1e-5)


def test_bfloat16_rows_make_a_bfloat16_pass() -> None:
    model, rows = made("lenet", GREY), torch.randn(8, 1, GREY, generator=generator((4,)))
    logits = model(rows.bfloat16())
    assert logits.dtype == torch.bfloat16
    assert torch.allclose(logits.float(), model(rows), atol=0.2)
    logits.float().sum().backward()
    assert model.weights[0].grad is not None and model.weights[0].grad.dtype == torch.float32


def test_dropout_keeps_the_expectation() -> None:
    model = made("lenet", GREY, dropout=0.5)
    row = torch.randn(1, 1, GREY, generator=generator((5,)))
    with torch.no_grad():
        drawn = model(row.expand(2000, 1, GREY), generator((6,)))
    assert drawn.std(0).min() > 0.1
    # One dropped layer before a linear one: the mean over masks is the pass without.
    assert ((drawn.mean(0) - model(row)[0]).abs() < 5 * drawn.std(0) / 2000**0.5).all()


def test_weights_begin_with_a_variance_of_two_over_their_fan_in() -> None:
    model = AcousticModel(network("nin"), COLOUR, 10)
    model.initialise(generator((7,)))
    for weight in model.weights:
        fan_in = weight.shape[1] * weight.shape[2] * weight.shape[3]
        expected = (1 if weight is model.weights[-1] else 2) / fan_in
        assert float(weight.detach().var()) == pytest.approx(expected, rel=5 * (2 / weight.numel()) ** 0.5)


@pytest.mark.parametrize(("kind", "dim"), [("lenet", GREY), ("nin", COLOUR)])
def test_comes_back_from_disk_as_it_was(kind: Kind, dim: int, tmp_path: Path) -> None:
    model = made(kind, dim)
    model.log_prior = torch.randn(10, generator=generator((9,)))
    model.save(tmp_path, {})
    loaded, rows = load_model(tmp_path), torch.randn(2, 1, dim, generator=generator((10,)))
    assert loaded.network == model.network
    assert torch.equal(loaded.log_prior, model.log_prior)
    assert torch.equal(loaded(rows), model(rows))


@pytest.mark.parametrize(("dim", "complaint"), [(40, "no square images"), (36, "too small for lenet")])
def test_refuses_rows_that_are_no_such_images(dim: int, complaint: str) -> None:
    with pytest.raises(UserError, match=complaint):
        AcousticModel(network("lenet"), dim, 10)


@pytest.mark.parametrize("keys", [{"left": 1}, {"norm": "batch"}])
def test_sees_one_image_without_norm(keys: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="kind: lenet sees one image"):
        Network(**{"kind": "lenet", "left": 0, "right": 0} | keys)  # type: ignore[arg-type]


def largest_norm(weight: Tensor) -> float:
    return float(weight.detach().flatten(1).norm(dim=1).max())


@pytest.mark.parametrize("kind", ["lenet", None])
def test_bounds_the_norms_of_hidden_units_alone(kind: Kind | None) -> None:
    model = AcousticModel(Network(kind=kind, left=0, right=0, layers=2, width=30), GREY, 10)
    model.initialise(generator((11,)))
    with torch.no_grad():
        for weight in model.weights:
            weight[0] *= 20
    before = [weight.clone() for weight in model.weights]
    model.bound_norms(3.0)
    for weight, old in zip(model.weights[:-1], before, strict=False):
        assert largest_norm(weight) == pytest.approx(3, rel=1e-5)
        short = old.flatten(1).norm(dim=1) <= 3
        assert torch.equal(weight[short], old[short])
        assert torch.allclose(weight[0] / weight[0].norm(), old[0] / old[0].norm(), atol=1e-6)
    assert torch.equal(model.weights[-1], before[-1])
