from itertools import pairwise

import pytest
import torch

from asr_kd.nn.schedule import make_optimizer, newbob_rate, onecycle_rate
from asr_kd.recipe import Training


def test_onecycle_rises_peaks_and_falls() -> None:
    rates = [onecycle_rate(2.0, step, 100) for step in range(100)]
    assert rates[0] == pytest.approx(0.2)
    assert max(rates) == rates[9] == pytest.approx(2.0)
    assert rates[99] == pytest.approx(0.02)
    assert all(a < b for a, b in pairwise(rates[:10]))
    assert all(a > b for a, b in pairwise(rates[10:]))
    assert rates[10 + 89 // 2] == pytest.approx(2 * (0.01 + 0.99 / 2), rel=0.02)


def test_one_step_is_enough() -> None:
    assert onecycle_rate(1.0, 0, 1) == 1.0


@pytest.mark.parametrize(
    ("accuracies", "rate"),
    [
        ([], 1.0),
        ([0.3], 1.0),
        ([0.3, 0.4], 1.0),
        ([0.3, 0.4, 0.404], 0.5),
        ([0.3, 0.4, 0.404, 0.43], 0.25),
        ([0.3, 0.4, 0.404, 0.43, 0.4305], None),
        ([0.3, 0.4, 0.35], 0.5),
    ],
)
def test_newbob(accuracies: list[float], rate: float | None) -> None:
    assert newbob_rate(1.0, accuracies) == rate


@pytest.mark.parametrize("name", ["adamw", "sgd"])
def test_biases_do_not_decay(name: str) -> None:
    layer = torch.nn.Linear(3, 2)
    groups = make_optimizer(layer, Training(optimizer=name, weight_decay=0.1)).param_groups
    assert [(len(group["params"]), group["weight_decay"]) for group in groups] == [(1, 0.1), (1, 0.0)]
    assert groups[1]["params"][0] is layer.bias
