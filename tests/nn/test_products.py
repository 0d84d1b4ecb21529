"""The number type of products does not depend on how busy the machine is."""

import pytest
import torch

from asr_kd.nn.products import product_type


@pytest.mark.parametrize(
    ("capabilities", "expected"),
    [
        ({"avx512_f": True, "avx512_bf16": False}, torch.float32),
        ({"avx512_f": True, "avx512_bf16": True}, torch.bfloat16),
        ({"neon": True, "bf16": True}, torch.bfloat16),
        ({}, torch.float32),
    ],
)
def test_auto_goes_by_what_the_processor_is(
    capabilities: dict[str, bool], expected: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities)
    assert product_type("auto", "cpu") == expected
    assert product_type("float32", "cpu") == torch.float32
    assert product_type("bf16", "cpu") == torch.bfloat16


def test_the_processor_says_something() -> None:
    assert torch.cpu.get_capabilities()["architecture"]
    assert product_type("auto", "cpu") in (torch.float32, torch.bfloat16)
