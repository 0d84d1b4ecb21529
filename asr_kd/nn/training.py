"""The one training loop: baseline, member, student and specialist differ in the targets handed to it."""

import hashlib
import json
import logging
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
from asr_kd.files import read_json, write_json
from asr_kd.images.shape import shifted
from asr_kd.interval import Interval
from asr_kd.nn.checkpoint import CHECKPOINT, Begun, History, restore_checkpoint, save_checkpoint
from asr_kd.nn.frames import Frames
from asr_kd.nn.model import DESCRIPTION, AcousticModel, is_whole
from asr_kd.nn.products import product_type
from asr_kd.nn.schedule import make_optimizer, newbob_rate, onecycle_rate
from asr_kd.nn.seeds import Seed, generator
from asr_kd.recipe import Network, Training

HISTORY = "history.json"
Progress = Callable[[Sequence[Tensor], str], Iterable[Tensor]]
log = logging.getLogger("asr_kd")


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
        shape, training = (section.model_dump(exclude_none=True) for section in (self.network, self.training))
        parts = [shape, training, self.seed, self.num_pdfs, self.data]
        return hashlib.sha256(json.dumps([*parts, targets.identity]).encode()).hexdigest()


def train(
    path: Path,
    run: Run,
    frames: Frames,
    dev: Frames,
    targets: TargetSource,
    progress: Progress,
    device: str = "cpu",
    start: AcousticModel | None = None,
) -> History:
    """Train a network; its folder gets the epoch best on dev frame accuracy (or `keep`), and history.json.

    Every epoch ends in a checkpoint, and a long one has some on the way (asr_kd.interval): a call that finds one of the
    same run continues to the same bits, one that finds the finished network returns its history. UserError when the
    loss or its gradient is no longer finite.
    start: weights and standardisation to begin with instead of random ones; `targets.identity` has to tell which.
    """
    identity = run.identity(targets)
    if _is_finished(path, identity):
        return read_json(path / HISTORY)
    # A folder never holds the description of one network and the history of another.
    (path / DESCRIPTION).unlink(missing_ok=True)
    model = AcousticModel(run.network, frames.dim, run.num_pdfs)
    if start is None:
        model.initialise(generator((*run.seed, "initialisation")))
        model.to(device)
        if run.network.input != "pixels":  # which have their scale: a corner's moments would blow up its noise
            model.mean, model.scale = frames.moments()
    else:
        model.load_state_dict(start.state_dict())
        model.to(device)
    model.log_prior = frames.log_prior(run.num_pdfs)
    optimizer = make_optimizer(model, run.training)
    best, history, begun = restore_checkpoint(path, identity, model, optimizer) or ({}, [], None)
    if history or begun:
        log.info("%s: continues after epoch %d, step %d", path, len(history), begun.steps if begun else 0)
    loop = TrainingLoop(path, run, model, optimizer, frames.standardised(model), targets, progress)
    standard_dev = dev.standardised(model)

    def save(begun: Begun | None) -> None:
        save_checkpoint(path, identity, model, best, optimizer, history, begun)

    while (rate := loop.rate(history)) is not None:
        row = loop.epoch(len(history), rate, begun, save) | evaluate(model, standard_dev, loop.dtype)
        before = max((r["dev_frame_accuracy"] for r in history), default=-1.0)
        if run.training.keep == "last" or row["dev_frame_accuracy"] > before:
            best = {name: tensor.clone() for name, tensor in model.state_dict().items()}
        history.append(row)
        begun = None
        save(None)
        write_json(path / HISTORY, history)
        log.info("%s: %s", path.name, " ".join(f"{key} {value:.5g}" for key, value in row.items()))
    model.load_state_dict(best)
    _finish(path, run, identity, model, history)
    return history


def evaluate(model: AcousticModel, frames: Frames, dtype: torch.dtype, batch: int = 4096) -> dict[str, float]:
    """Frame accuracy and cross-entropy in nats a frame of `frames` (standardised), products in `dtype`, no dropout."""
    correct = nats = torch.zeros((), dtype=torch.float64, device=frames.rows.device)
    network = model.network
    with torch.inference_mode():
        for numbers in frames.ordered_batches(batch):
            logits = model(frames.windows(numbers, network.left, network.right).to(dtype)).float()
            labels = frames.labels[numbers]
            correct = correct + (logits.argmax(1) == labels).sum()
            nats = nats + cross_entropy(logits, labels, reduction="sum")
    return {
        "dev_cross_entropy": float(nats) / len(frames),
        "dev_frame_accuracy": float(correct) / len(frames),
    }


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
        batches = self.frames.shuffled_batches(training.batch_frames, (*self.run.seed, "order", number))
        first, nats = (begun.steps, begun.nats) if begun else (0, 0.0)
        correct = torch.tensor(begun.correct if begun else 0, device=self.frames.rows.device)
        for generator_, state in zip((draws, moves), begun.generators if begun else (), strict=False):
            generator_.set_state(state)
        for step, batch in enumerate(self.progress(batches[first:], f"{self.path.name} epoch {number + 1}"), first):
            if training.schedule == "onecycle":
                total = self.steps * training.epochs
                rate = onecycle_rate(training.learning_rate, number * self.steps + step, total)
            loss, hits = self.step(batch, rate, draws, moves)
            nats += loss * len(batch)
            correct += hits
            if save and step + 1 < len(batches) and interval.is_over():
                states = [draws.get_state(), moves.get_state()]
                save(Begun(step + 1, nats, int(correct), time.monotonic() - start, states))
        return {
            "epoch": number + 1,
            "learning_rate": rate,
            "train_loss": nats / len(self.frames),
            "train_frame_accuracy": float(correct) / len(self.frames),
            "seconds": round(time.monotonic() - start, 2),
        }

    def step(self, batch: Tensor, rate: float, draws: torch.Generator, moves: torch.Generator) -> tuple[float, Tensor]:
        """One update; returns the batch's mean loss and its number of frames recognised, dropout included.

        draws: for dropout; moves: for jitter.
        """
        network, training = self.run.network, self.run.training
        windows = self.frames.windows(batch, network.left, network.right).to(self.dtype)
        if training.jitter:
            windows = shifted(windows, training.jitter, moves)
        logits = self.model(windows, draws).float()
        loss = self.targets.loss(logits, batch)
        value = loss.item()
        if not math.isfinite(value):
            raise self.divergence(logits, batch)
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(self.model.parameters(), training.max_grad_norm)
        if not math.isfinite(norm.item()):
            raise self.divergence(logits, batch)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        if training.max_norm:
            self.model.bound_norms(training.max_norm)
        return value, (logits.detach().argmax(1) == self.frames.labels[batch]).sum()

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


def _is_finished(path: Path, identity: str) -> bool:
    if not (path / DESCRIPTION).exists() or read_json(path / DESCRIPTION).get("identity") != identity:
        return False
    return is_whole(path) and (path / HISTORY).exists()


def _finish(path: Path, run: Run, identity: str, model: AcousticModel, history: History) -> None:
    last = run.training.keep == "last"
    best = history[-1] if last else max(history, key=lambda row: row["dev_frame_accuracy"])
    description = run.description | {
        "seed": run.seed,
        "epoch": best["epoch"],
        "dev_frame_accuracy": best["dev_frame_accuracy"],
        "data": run.data,
        "identity": identity,
    }
    model.save(path, description)
    (path / CHECKPOINT).unlink(missing_ok=True)
