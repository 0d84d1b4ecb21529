import math

import pytest
import torch

from asr_kd.nn.dropout import dropped_input, dropped_levels, keep_mask, relu_dropout
from asr_kd.nn.seeds import generator


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_keeps_the_share_it_promises(dtype: torch.dtype) -> None:
    count = 1 << 20
    mask = keep_mask(torch.Size([1024, 1024]), dropped_levels(0.1), dtype, generator((0,)))
    kept = (mask == -1).double()
    assert torch.equal(kept, (mask != 0).double())
    expected = 1 - 26 / 256
    assert abs(float(kept.mean()) - expected) < 5 * math.sqrt(expected * (1 - expected) / count)


@pytest.mark.parametrize("place", range(8))
def test_every_byte_of_a_word_is_uniform(place: int) -> None:
    mask = keep_mask(torch.Size([1 << 18]), 128, torch.float32, generator((1,)))
    assert abs(float((mask[place::8] != 0).double().mean()) - 0.5) < 5 * 0.5 / math.sqrt(1 << 15)


def test_keeps_the_expectation() -> None:
    x = torch.randn(64, generator=generator((2,))).expand(20000, 64).contiguous()
    y = relu_dropout(x, 0.3, generator((3,)))
    assert torch.allclose(y.mean(0), x[0].relu(), atol=0.05)


@pytest.mark.parametrize("shape", [(7, 13), (64, 32)])
def test_value_and_gradient_are_those_of_an_explicit_mask(shape: tuple[int, int]) -> None:
    x = torch.randn(shape, generator=generator((4,))).requires_grad_()
    y = relu_dropout(x, 0.25, generator((5,)))
    mask = (keep_mask(torch.Size(shape), 64, torch.float32, generator((5,))) != 0).float() / 0.75
    expected = x.relu() * mask
    assert torch.allclose(y, expected)
    weights = torch.randn(shape, generator=generator((6,)))
    (gradient,) = torch.autograd.grad((y * weights).sum(), x)
    (wanted,) = torch.autograd.grad((expected * weights).sum(), x)
    assert torch.allclose(gradient, wanted)


def test_is_off_at_inference_and_at_zero() -> None:
    x = torch.randn(8, 8, generator=generator((7,)))
    assert torch.equal(relu_dropout(x, 0.5, None), x.relu())
    assert torch.equal(relu_dropout(x, 0.0, generator((8,))), x.relu())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_drops_inputs_of_either_sign_and_keeps_their_expectation(dtype: torch.dtype) -> None:
    x = torch.randn(64, generator=generator((9,))).to(dtype).expand(20000, 64).contiguous()
    y = dropped_input(x, 0.25, generator((10,)))
    kept = y != 0
    assert y.dtype == dtype and torch.allclose(y[kept], (x / 0.75).to(dtype)[kept], rtol=1e-2)
    assert abs(float(kept.double().mean()) - 0.75) < 5 * math.sqrt(0.75 * 0.25 / x.numel())
    assert torch.equal(dropped_input(x, 0.25, None), x) and torch.equal(dropped_input(x, 0.0, generator((8,))), x)


def test_depends_on_the_key_alone() -> None:
    x = torch.ones(32, 32)
    first, again, other = (relu_dropout(x, 0.5, generator((0, "dropout", epoch))) for epoch in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
