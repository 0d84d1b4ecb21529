"""Training of one network, from its initialisation or where it was left, to the files of the finished one."""

import logging
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from asr_kd.files import read_json
from asr_kd.nn.checkpoint import CHECKPOINT, Begun, History, restore_checkpoint, save_checkpoint
from asr_kd.nn.frames import Frames
from asr_kd.nn.loop import HardTargets as HardTargets
from asr_kd.nn.loop import Progress, Run, TargetSource, TrainingLoop
from asr_kd.nn.metrics import has_history, read_history, write_history
from asr_kd.nn.model import DESCRIPTION, AcousticModel, is_whole
from asr_kd.nn.parallel import divided
from asr_kd.nn.schedule import make_optimizer
from asr_kd.nn.seeds import generator
from asr_kd.nn.tracking import Tracker

log = logging.getLogger("asr_kd")


def train(
    path: Path,
    run: Run,
    frames: Frames,
    dev: Frames,
    targets: TargetSource,
    progress: Progress,
    device: str = "cpu",
    start: AcousticModel | None = None,
    tracker: Tracker | None = None,
) -> History:
    """Train a network; its folder gets the epoch best on dev frame accuracy (or `keep`), and metrics.jsonl.

    Every epoch ends in a checkpoint, and a long one has some on the way (asr_kd.interval): a call that finds one of the
    same run continues to the same bits, one that finds the finished network returns its history. UserError when the
    loss or its gradient is no longer finite.
    start: weights and standardisation to begin with instead of random ones; `targets.identity` has to tell which.
    tracker: for those who watch.
    """
    tracker = tracker or Tracker()
    if (finished := finished_history(path, run, targets, tracker)) is not None:
        return finished
    course = Course(path, run, frames, dev, targets, progress, device, start, tracker)
    while (rate := course.rate()) is not None:
        course.end_epoch(course.loop.epoch(len(course.history), rate, course.begun, course.save))
    return course.finish()


def finished_history(path: Path, run: Run, targets: TargetSource, tracker: Tracker) -> History | None:
    """Of the finished network in the folder; None if there is none, or that of another run."""
    if not _is_finished(path, run.identity(targets)):
        return None
    tracker.finish(history := read_history(path))
    return history


class Course:
    """A training on its way: `loop` for its epochs, and how far it has come.

    history: of the epochs done; begun: of the one under way. See `train`; `like`: another course of as many tied states
    over the same frames, which are then standardised but once.
    """

    model: AcousticModel
    dev: Frames
    loop: TrainingLoop

    def __init__(
        self,
        path: Path,
        run: Run,
        frames: Frames,
        dev: Frames,
        targets: TargetSource,
        progress: Progress,
        device: str,
        start: AcousticModel | None,
        tracker: Tracker,
        like: "Course | None" = None,
    ) -> None:
        self.path, self.run, self.tracker, self.identity = path, run, tracker, run.identity(targets)
        # A folder never holds the description of one network and the history of another.
        (path / DESCRIPTION).unlink(missing_ok=True)
        model = AcousticModel(run.network, frames.dim, run.num_pdfs)
        if start is None:
            model.initialise(generator((*run.seed, "initialisation")))
            model.to(device)
            if like:
                model.mean, model.scale = like.model.mean, like.model.scale
            elif run.network.input != "pixels":  # which have their scale: a corner's moments would blow up its noise
                model.mean, model.scale = frames.moments()
        else:
            model.load_state_dict(start.state_dict())
            model.to(device)
        model.log_prior = like.model.log_prior if like else frames.log_prior(run.num_pdfs)
        optimizer = make_optimizer(model, run.training)
        restored = restore_checkpoint(path, self.identity, model, optimizer)
        self.best, self.history, self.begun = restored or (dict[str, Tensor](), [], None)
        if self.history or self.begun:
            steps = self.begun.steps if self.begun else 0
            log.info("%s: continues after epoch %d, step %d", path, len(self.history), steps)
        write_history(path, self.history)
        tracker.begin(self.history, run.training.epochs, len(frames))
        self.model, self.optimizer = model, optimizer
        self.dev = like.dev if like else dev.standardised(model)
        standardised = like.loop.frames if like else frames.standardised(model)
        self.loop = divided(TrainingLoop(path, run, model, optimizer, standardised, targets, progress, tracker))

    def rate(self) -> float | None:
        """Of the next epoch; None: training is over."""
        return self.loop.rate(self.history)

    def save(self, begun: Begun | None) -> None:
        save_checkpoint(self.path, self.identity, self.model, self.best, self.optimizer, self.history, begun)

    def end_epoch(self, row: dict[str, Any]) -> None:
        """Measure on dev, keep the best, and write what the next epoch begins with."""
        row = row | evaluate(self.model, self.dev, self.loop.dtype)
        before = max((r["dev_frame_accuracy"] for r in self.history), default=-1.0)
        if self.run.training.keep == "last" or row["dev_frame_accuracy"] > before:
            self.best = {name: tensor.clone() for name, tensor in self.model.state_dict().items()}
        self.history.append(row)
        self.begun = None
        self.save(None)
        write_history(self.path, self.history)
        self.tracker.epoch(row)
        figures = (f"{key} {value:.5g}" for key, value in row.items() if value is not None)
        log.info("%s: %s", self.path.name, " ".join(figures))

    def finish(self) -> History:
        """Write the network as it was best."""
        self.model.load_state_dict(self.best)
        _finish(self.path, self.run, self.identity, self.model, self.history)
        self.tracker.finish(self.history)
        return self.history


def evaluate(model: AcousticModel, frames: Frames, dtype: torch.dtype, batch: int = 4096) -> dict[str, float]:
    """Frame accuracy and cross-entropy in nats a frame of `frames` (standardised), products in `dtype`, no dropout."""
    correct = nats = torch.zeros((), dtype=torch.float64, device=frames.rows.device)
    network = model.network
    with torch.inference_mode():
        for numbers in frames.ordered_batches(batch):
            logits = model(frames.windows(numbers, network.left, network.right).to(dtype)).float()
            labels = frames.labels[numbers]
            correct = correct + (logits.max(1).indices == labels).sum()
            nats = nats + cross_entropy(logits, labels, reduction="sum")
    return {
        "dev_cross_entropy": float(nats) / len(frames),
        "dev_frame_accuracy": float(correct) / len(frames),
    }


def _is_finished(path: Path, identity: str) -> bool:
    if not (path / DESCRIPTION).exists() or read_json(path / DESCRIPTION).get("identity") != identity:
        return False
    return is_whole(path) and has_history(path)


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
