"""A network in training, for those who watch: a small live file, and TensorBoard's event files where asked for."""

import importlib.util
import shutil
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from asr_kd.errors import UserError
from asr_kd.live import LiveFile

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

    from asr_kd.nn.checkpoint import History

# What of a row of metrics.jsonl is drawn, and under which of TensorBoard's headings.
TAGS = {
    "train_loss": "loss/train",
    "train_frame_accuracy": "frame accuracy/train",
    "dev_frame_accuracy": "frame accuracy/dev",
    "dev_cross_entropy": "cross-entropy/dev",
    "learning_rate": "learning rate",
    "frames_per_second": "frames per second",
}


def require_tensorboard() -> None:
    """Raise UserError unless event files can be written."""
    if importlib.util.find_spec("tensorboard") is None:
        raise UserError(
            "track.tensorboard: the package tensorboard is not installed; "
            "run pip install 'asr-kd[tensorboard]' or set it to false"
        )


@dataclass
class Tracker:
    """Follows one network; with neither path nothing is written.

    live: a LiveFile with `epoch` (under way), `epochs`, `frames` (of an epoch), `done` (of them), `seconds` and
    `train_loss` of the epoch so far, `finished`, and `frames_per_second` by the clock on the wall, measuring on dev
    included, over the last whole epoch and the one under way (null before there is anything to measure). events: folder
    of the event files, which a training that goes on writes anew from the first epoch on, so that no epoch is in them
    twice.
    """

    live: Path | None = None
    events: Path | None = None
    epochs: int = 0
    frames: int = 0
    _file: LiveFile | None = field(default=None, init=False)
    _writer: "SummaryWriter | None" = field(default=None, init=False)
    _marks: list[tuple[float, int]] = field(default_factory=list, init=False)  # times, and frames trained on till then

    def begin(self, history: "History", epochs: int, frames: int) -> None:
        """Before the epoch after `history`. epochs: at most so many in all; frames: of one epoch."""
        self.epochs, self.frames = epochs, frames
        self._file = LiveFile(self.live) if self.live else None
        self._draw_all(history)
        self._write(len(history) + 1, 0, 0.0, None)

    def step(self, epoch: int, done: int, seconds: float, nats: float) -> None:
        """Amid an epoch (from 1): `done` frames, their summed loss, and the seconds they took."""
        if not self._marks:
            self._mark(epoch, done)
        if self._file and self._file.is_due():
            self._write(epoch, done, seconds, nats / done)

    def epoch(self, row: dict[str, Any]) -> None:
        """At the end of an epoch, with its row of metrics.jsonl."""
        self._mark(row["epoch"], self.frames)
        self._draw(row)
        self._write(row["epoch"], self.frames, row["seconds"], row["train_loss"])

    def finish(self, history: "History") -> None:
        """When the network is trained, or was already."""
        self._file = LiveFile(self.live) if self.live else None
        self._write(len(history), self.frames, 0.0, None, finished=True)
        if self.events and not self.events.exists():
            self._draw_all(history)
        if self._writer:
            self._writer.close()
            self._writer = None

    def _draw_all(self, history: "History") -> None:
        if self.events:
            from torch.utils.tensorboard import SummaryWriter

            shutil.rmtree(self.events, ignore_errors=True)
            self._writer = SummaryWriter(str(self.events))
            for row in history:
                self._draw(row)

    def _draw(self, row: dict[str, Any]) -> None:
        if self._writer:
            for key, tag in TAGS.items():
                if row.get(key) is not None:
                    self._writer.add_scalar(tag, row[key], row["epoch"])
            self._writer.flush()

    def _mark(self, epoch: int, done: int) -> None:
        self._marks = [*self._marks[-1:], (time.monotonic(), (epoch - 1) * self.frames + done)]

    def _rate(self, epoch: int, done: int) -> float | None:
        if not self._marks:
            return None
        (since, before), trained = self._marks[0], (epoch - 1) * self.frames + done
        seconds = time.monotonic() - since
        return (trained - before) / seconds if seconds > 0 and trained > before else None

    def _write(self, epoch: int, done: int, seconds: float, loss: float | None, finished: bool = False) -> None:
        if self._file:
            about = {"epoch": epoch, "epochs": self.epochs, "frames": self.frames, "done": done, "seconds": seconds}
            rate = self._rate(epoch, done)
            self._file.write({**about, "train_loss": loss, "frames_per_second": rate, "finished": finished})
