"""Networks of one shape trained together: their products are batched, so that small ones fill an accelerator.

Each keeps its own order of frames, dropout, learning rate, best epoch and files, and comes out as if trained alone but
for rounding.
"""

import math
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import batch_norm, cross_entropy, layer_norm

from asr_kd.images.shape import shifted
from asr_kd.nn.checkpoint import History
from asr_kd.nn.dropout import StackDraws, dropped_input, relu_dropout
from asr_kd.nn.frames import Frames
from asr_kd.nn.model import BATCH_MOMENTUM, AcousticModel
from asr_kd.nn.seeds import generator
from asr_kd.nn.stacked_optimizer import Stacked, StackedOptimizer
from asr_kd.nn.tracking import Tracker
from asr_kd.nn.training import Course, HardTargets, Progress, Run, finished_history


def train_together(
    paths: Sequence[Path],
    runs: Sequence[Run],
    frames: Frames,
    dev: Frames,
    progress: Progress,
    device: str,
    trackers: Sequence[Tracker],
) -> list[History]:
    """Train networks of one shape and training on the alignment's labels, each in its folder; see `train`.

    Every epoch ends in a checkpoint of each network, and either way of training goes on from the other's; there are
    none on the way. train.micro_batch has no effect.
    """
    histories: dict[int, History] = {}
    courses: dict[int, Course] = {}
    targets = HardTargets(frames.labels)
    for number, (path, run, tracker) in enumerate(zip(paths, runs, trackers, strict=True)):
        finished = finished_history(path, run, targets, tracker)
        if finished is not None:
            histories[number] = finished
            continue
        like = next(iter(courses.values()), None)
        course = courses[number] = Course(
            path, run, frames, dev, targets, progress, device, start=None, tracker=tracker, like=like
        )
        if course.begun and (rate := course.rate()) is not None:  # it was left amid an epoch, alone
            course.end_epoch(course.loop.epoch(len(course.history), rate, course.begun, course.save))
    stack: Stack | None = None
    while active := [course for course in courses.values() if course.rate() is not None]:
        if stack is None or stack.courses != active:
            stack = Stack(active)
        for course, row in zip(active, stack.epoch(progress), strict=True):
            course.end_epoch(row)
    return [histories[number] if number in histories else courses[number].finish() for number in range(len(paths))]


class Stack:
    """The networks of several courses as one; each network's parameters and running moments are views of the stack's.

    The forward pass is that of AcousticModel without `network.kind`, with one more dimension in front.
    """

    def __init__(self, courses: Sequence[Course]) -> None:
        self.courses = list(courses)
        self.loops = [course.loop for course in courses]
        models = [course.model for course in courses]
        self.network, self.training = models[0].network, courses[0].run.training
        layers = range(len(models[0].weights))
        self.weights = [Stacked.of([model.weights[layer] for model in models]) for layer in layers]
        self.biases = [Stacked.of([model.biases[layer] for model in models]) for layer in layers]
        self.gains = [Stacked.of([model.gains[layer] for model in models]) for layer in range(len(models[0].gains))]
        if self.network.norm == "batch":
            self.means, self.variances = _joined(models, "running_mean"), _joined(models, "running_var")
        parameters = [*self.weights, *self.biases, *self.gains]
        self.optimizer = StackedOptimizer(self.training, parameters, [course.optimizer for course in courses])

    def epoch(self, progress: Progress) -> list[dict[str, Any]]:
        """The next epoch of each network; returns their rows of metrics.jsonl, but for dev.

        Seconds are a network's part of the stack's. UserError names the first whose loss or gradient is not finite.
        """
        loops, start, count = self.loops, time.monotonic(), len(self.loops)
        numbers = [len(course.history) for course in self.courses]
        device, size = loops[0].frames.rows.device, self.training.batch_frames
        draws, moves = (
            [generator((*loop.run.seed, purpose, n), device.type) for loop, n in zip(loops, numbers, strict=True)]
            for purpose in ("dropout", "jitter")
        )
        epoch_rates = [course.rate() or 0.0 for course in self.courses]
        rates = epoch_rates
        nats, correct = [0.0] * count, torch.zeros(count, dtype=torch.int64, device=device)
        first, *others = (loop.batches(n) for loop, n in zip(loops, numbers, strict=True))
        names = [course.path.name for course in self.courses]
        title = f"{names[0]} to {names[-1]} epoch {numbers[0] + 1}"
        for step, batches in enumerate(zip(progress(first, title), *others, strict=True)):
            batch = torch.stack(batches)
            rates = [loop.step_rate(n, step, rate) for loop, n, rate in zip(loops, numbers, epoch_rates, strict=True)]
            losses, hits = self.step(batch, torch.tensor(rates, device=device), StackDraws(draws), moves)
            nats = [sum_ + loss * batch.shape[1] for sum_, loss in zip(nats, losses, strict=True)]
            correct += hits
            seconds, done = (time.monotonic() - start) / count, min((step + 1) * size, len(loops[0].frames))
            for loop, n, sum_ in zip(loops, numbers, nats, strict=True):
                loop.tracker.step(n + 1, done, seconds, sum_)
        seconds = (time.monotonic() - start) / count
        figures = zip(loops, numbers, rates, nats, correct.tolist(), strict=True)
        return [loop.row(n, rate, sum_, hits, seconds) for loop, n, rate, sum_, hits in figures]

    def step(
        self, batch: Tensor, rates: Tensor, draws: StackDraws, moves: Sequence[torch.Generator]
    ) -> tuple[list[float], Tensor]:
        """One update of each by its row of batch (networks, frames), at rates (networks,).

        Returns their mean losses and numbers of frames recognised.
        """
        loop, frames = self.loops[0], self.loops[0].frames
        windows = frames.windows(batch.flatten(), self.network.left, self.network.right).to(loop.dtype)
        windows = windows.view(*batch.shape, *windows.shape[1:])
        if jitter := self.training.jitter:
            windows = torch.stack([shifted(own, jitter, some) for own, some in zip(windows, moves, strict=True)])
        labels = frames.labels[batch]
        logits = self.forward(windows.flatten(2), draws).float()
        losses = cross_entropy(logits.flatten(0, 1), labels.flatten(), reduction="none").view(batch.shape).mean(1)
        values = losses.tolist()
        self._check(values, logits, batch)
        losses.sum().backward()
        self._check(self.optimizer.clip(self.training.max_grad_norm).tolist(), logits, batch)
        self.optimizer.step(rates)
        if self.training.max_norm:
            for course in self.courses:
                course.model.bound_norms(self.training.max_norm)
        return values, (logits.detach().argmax(2) == labels).sum(1)

    def forward(self, windows: Tensor, draws: StackDraws) -> Tensor:
        """windows (networks, batch, window · dim) to logits (networks, batch, num_pdfs), both of one type."""
        x = windows
        if self.network.input_dropout:
            x = dropped_input(x, self.network.input_dropout, draws)
        for number, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            if number:
                x = relu_dropout(x, self.network.dropout, draws)
            products, shift = weight.whole.to(x.dtype).transpose(1, 2), bias.whole[:, None]
            if number < len(self.gains):
                x = self._normalised(torch.bmm(x, products), self.gains[number].whole[:, None], shift, number)
            else:
                x = torch.baddbmm(shift.to(x.dtype), x, products)
        return x

    def _normalised(self, x: Tensor, gain: Tensor, shift: Tensor, layer: int) -> Tensor:
        """See AcousticModel.normalise."""
        if self.network.norm == "layer":
            return layer_norm(x, x.shape[-1:]) * gain.to(x.dtype) + shift.to(x.dtype)
        networks, batch, width = x.shape
        mean, variance = (running[:, layer].flatten() for running in (self.means, self.variances))
        # The units of all networks beside each other: each has its own moments.
        units = x.transpose(0, 1).flatten(1)
        units = batch_norm(units, mean, variance, gain.flatten(), shift.flatten(), batch > 1, BATCH_MOMENTUM)
        self.means[:, layer], self.variances[:, layer] = mean.view(networks, width), variance.view(networks, width)
        return units.view(batch, networks, width).transpose(0, 1)

    def _check(self, figures: Sequence[float], logits: Tensor, batch: Tensor) -> None:
        for figure, loop, own, some in zip(figures, self.loops, logits.detach(), batch, strict=True):
            if not math.isfinite(figure):
                raise loop.divergence(own, some)


def _joined(models: Sequence[AcousticModel], name: str) -> Tensor:
    """A buffer of all networks, (networks, …), of which theirs become views."""
    whole = torch.stack([getattr(model, name) for model in models])
    for model, part in zip(models, whole, strict=True):
        setattr(model, name, part)
    return whole
