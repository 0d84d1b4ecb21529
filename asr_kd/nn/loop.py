"""What a network is trained towards, and the one loop over its frames: all networks differ in the targets alone."""

import hashlib
import json
import math
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from asr_kd.errors import UserError
from asr_kd.images.shape import shifted
from asr_kd.interval import Interval
from asr_kd.nn.checkpoint import Begun, History
from asr_kd.nn.frames import Frames
from asr_kd.nn.model import AcousticModel
from asr_kd.nn.products import product_type
from asr_kd.nn.schedule import newbob_rate, onecycle_rate
from asr_kd.nn.seeds import Seed, generator
from asr_kd.nn.tracking import Tracker
from asr_kd.recipe import Network, Training

Progress = Callable[[Sequence[Tensor], str], Iterable[Tensor]]


class TargetSource(Protocol):
    """What a network is trained towards; `identity` tells one set of targets from another."""

    @property
    def identity(self) -> str: ...

    def loss(self, logits: Tensor, frames: Tensor) -> Tensor:
        """Mean loss, scalar, of logits (batch, num_pdfs) float32 at the training frames numbered (batch,)."""


@dataclass(frozen=True)
class HardTargets:
    """The forced alignment's tied states, (N,) int64: plain cross-entropy."""

    labels: Tensor
    identity: str = "hard"

    def loss(self, logits: Tensor, frames: Tensor) -> Tensor:
        return cross_entropy(logits, self.labels[frames])


@dataclass(frozen=True)
class Run:
    """One network to train: its shape, its optimisation, its seed, and the hash of the data it sees.

    `seed` is the recipe's seed and the network's role, for example (0, "member", 3): no two networks of an
    experiment start or shuffle alike. `description`: entries for model.json that decide nothing.
    """

    network: Network
    training: Training
    seed: Seed
    num_pdfs: int
    data: str
    description: dict[str, Any] = field(default_factory=dict)

    def identity(self, targets: TargetSource) -> str:
        """SHA-256 over everything that decides the trained weights, machine and precision aside.

        Options that are off (null) are left out: a network stays finished when a release adds one.
        """
        shape = self.network.model_dump(exclude_none=True)
        training = self.training.model_dump(exclude_none=True, exclude={"micro_batch"})
        parts = [shape, training, self.seed, self.num_pdfs, self.data]
        return hashlib.sha256(json.dumps([*parts, targets.identity]).encode()).hexdigest()


@dataclass
class TrainingLoop:
    """The state that the epochs of one run share."""

    path: Path
    run: Run
    model: AcousticModel
    optimizer: torch.optim.Optimizer
    frames: Frames
    targets: TargetSource
    progress: Progress
    tracker: Tracker = field(default_factory=Tracker)

    def __post_init__(self) -> None:
        self.dtype = product_type(self.run.training.precision, self.frames.rows.device.type)
        self.steps = math.ceil(len(self.frames) / self.run.training.batch_frames)

    def rate(self, history: History) -> float | None:
        """Learning rate of the epoch after `history` (under one cycle its peak); None: training is over."""
        training = self.run.training
        if len(history) >= training.epochs:
            return None
        if training.schedule == "onecycle":
            return training.learning_rate
        return newbob_rate(training.learning_rate, [row["dev_frame_accuracy"] for row in history])

    def epoch(
        self, number: int, rate: float, begun: Begun | None = None, save: Callable[[Begun], None] | None = None
    ) -> dict[str, Any]:
        """All steps of an epoch, or those after what `begun` says was done; `save` gets the state now and then."""
        training, interval = self.run.training, Interval()
        start = time.monotonic() - (begun.seconds if begun else 0.0)
        draws, moves = (
            generator((*self.run.seed, purpose, number), self.frames.rows.device.type)
            for purpose in ("dropout", "jitter")
        )
        batches = self.batches(number)
        first, nats = (begun.steps, begun.nats) if begun else (0, 0.0)
        correct = torch.tensor(begun.correct if begun else 0, device=self.frames.rows.device)
        for generator_, state in zip((draws, moves), begun.generators if begun else (), strict=False):
            generator_.set_state(state)
        for step, batch in enumerate(self.progress(batches[first:], f"{self.path.name} epoch {number + 1}"), first):
            rate = self.step_rate(number, step, rate)
            loss, hits = self.step(batch, rate, draws, moves)
            nats += loss * len(batch)
            correct += hits
            done = min((step + 1) * training.batch_frames, len(self.frames))
            self.tracker.step(number + 1, done, time.monotonic() - start, nats)
            if save and step + 1 < len(batches) and interval.is_over():
                states = [draws.get_state(), moves.get_state()]
                save(Begun(step + 1, nats, int(correct), time.monotonic() - start, states))
        return self.row(number, rate, nats, float(correct), time.monotonic() - start)

    def batches(self, number: int) -> Sequence[Tensor]:
        """The batches of epoch `number`, from 0."""
        training, key = self.run.training, (*self.run.seed, "order", number)
        if training.shuffle_frames:
            return self.frames.buffered_batches(training.batch_frames, training.shuffle_frames, key)
        return self.frames.shuffled_batches(training.batch_frames, key)

    def step_rate(self, number: int, step: int, rate: float) -> float:
        """Learning rate of a step of epoch `number`, that of the epoch being `rate`."""
        training = self.run.training
        if training.schedule != "onecycle":
            return rate
        return onecycle_rate(training.learning_rate, number * self.steps + step, self.steps * training.epochs)

    def row(self, number: int, rate: float, nats: float, correct: float, seconds: float) -> dict[str, Any]:
        """Of metrics.jsonl, but for dev. nats: summed loss; correct: frames recognised."""
        return {
            "epoch": number + 1,
            "learning_rate": rate,
            "train_loss": nats / len(self.frames),
            "train_frame_accuracy": correct / len(self.frames),
            "seconds": round(seconds, 2),
            "frames_per_second": round(len(self.frames) / seconds, 1) if seconds else None,
        }

    def step(self, batch: Tensor, rate: float, draws: torch.Generator, moves: torch.Generator) -> tuple[float, Tensor]:
        """One update; returns the batch's mean loss and its number of frames recognised, dropout included.

        draws: for dropout; moves: for jitter.
        """
        training = self.run.training
        value, hits, logits = self.gradients(batch, draws, moves)
        norm = torch.nn.utils.clip_grad_norm_(self.model.parameters(), training.max_grad_norm)
        if not math.isfinite(norm.item()):
            raise self.divergence(logits, batch)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        if training.max_norm:
            self.model.bound_norms(training.max_norm)
        return value, hits

    def gradients(self, batch: Tensor, draws: torch.Generator, moves: torch.Generator) -> tuple[float, Tensor, Tensor]:
        """Add the gradient of the batch's mean loss to the parameters' own; returns the loss, the number of frames
        recognised, and the logits.
        """
        logits = self.model(self.windows(batch, moves), draws).float()
        loss = self.targets.loss(logits, batch)
        value = loss.item()
        if not math.isfinite(value):
            raise self.divergence(logits, batch)
        loss.backward()
        logits = logits.detach()
        return value, (logits.max(1).indices == self.frames.labels[batch]).sum(), logits

    def windows(self, batch: Tensor, moves: torch.Generator) -> Tensor:
        """What the network sees of the frames (batch,): (batch, window, dim) in the products' type, jittered."""
        network, jitter = self.run.network, self.run.training.jitter
        windows = self.frames.windows(batch, network.left, network.right).to(self.dtype)
        return shifted(windows, jitter, moves) if jitter else windows

    def divergence(self, logits: Tensor, batch: Tensor) -> UserError:
        """Names the utterances whose outputs are not numbers, or those of the batch when all outputs are."""
        bad = ~logits.isfinite().all(1)
        numbers = self.frames.utterance_numbers(batch[bad] if bad.any() else batch).unique().tolist()
        names = [self.frames.utterances[number] for number in numbers]
        some = " ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
        return UserError(
            f"{self.path}: the loss or its gradient is not finite at utterances {some}; "
            "check their features or lower train.learning_rate"
        )
