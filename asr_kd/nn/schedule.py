"""Optimisers and learning-rate schedules."""

import itertools
import math
from collections.abc import Sequence

import torch
from torch import nn

from asr_kd.recipe import Training

WARM_UP_SHARE, FINAL_SHARE = 0.1, 0.01
NEWBOB_HALVE_BELOW, NEWBOB_STOP_BELOW = 0.005, 0.001


def make_optimizer(model: nn.Module, training: Training) -> torch.optim.Optimizer:
    """AdamW (Loshchilov and Hutter 2019) or SGD with momentum; biases do not decay."""
    groups = [
        {"params": [p for p in model.parameters() if p.ndim > 1], "weight_decay": training.weight_decay},
        {"params": [p for p in model.parameters() if p.ndim == 1], "weight_decay": 0.0},
    ]
    if training.optimizer == "adamw":
        return torch.optim.AdamW(groups, lr=training.learning_rate, fused=True)
    return torch.optim.SGD(groups, lr=training.learning_rate, momentum=training.momentum, fused=True)


def onecycle_rate(peak: float, step: int, steps: int) -> float:
    """Learning rate of step 0 … steps - 1: linear rise to `peak`, then half a cosine to 1 % of it."""
    warm_up = max(1, round(WARM_UP_SHARE * steps))
    if step < warm_up:
        return peak * (step + 1) / warm_up
    done = (step - warm_up) / max(1, steps - 1 - warm_up)
    return peak * (FINAL_SHARE + (1 - FINAL_SHARE) * 0.5 * (1 + math.cos(math.pi * done)))


def newbob_rate(peak: float, accuracies: Sequence[float]) -> float | None:
    """Learning rate of the next epoch after those with these dev frame accuracies; None to stop.

    The rate stays until an epoch gains less than 0.5 % absolute and is halved every epoch from then on, until
    one gains less than 0.1 % (QuickNet's newbob; Kaldi's steps/nnet/train_scheduler.sh).
    """
    gains = [now - before for before, now in itertools.pairwise(accuracies)]
    first = next((i for i, gain in enumerate(gains) if gain < NEWBOB_HALVE_BELOW), None)
    if first is None:
        return peak
    if len(gains) > first + 1 and gains[-1] < NEWBOB_STOP_BELOW:
        return None
    return peak * 0.5 ** (len(gains) - first)
