"""A network's figures by epoch: metrics.jsonl in its folder, one JSON object a line.

epoch                  1, 2, …
seconds                of the epoch's updates; the frame accuracy on dev is measured after them
frames_per_second      training frames by these seconds; null where the clock saw none pass
train_loss             mean over the epoch's batches of what is minimised; for a student, of both targets
train_frame_accuracy   with dropout
dev_frame_accuracy     without
dev_cross_entropy      nats a frame, with the alignment's states
learning_rate          of the last update
"""

import json
from pathlib import Path

from asr_kd.errors import UserError
from asr_kd.files import read_json, write_text
from asr_kd.nn.checkpoint import History

METRICS = "metrics.jsonl"
EARLIER = "history.json"  # one JSON list, by releases before metrics.jsonl
ORDER = (
    "epoch",
    "seconds",
    "frames_per_second",
    "train_loss",
    "train_frame_accuracy",
    "dev_frame_accuracy",
    "dev_cross_entropy",
    "learning_rate",
)


def write_history(folder: Path, history: History) -> None:
    """Write metrics.jsonl whole: a run that goes on after an epoch ends with the lines of an undisturbed one."""
    lines = [json.dumps({key: row.get(key) for key in ORDER}) + "\n" for row in history]
    write_text(folder / METRICS, "".join(lines))
    (folder / EARLIER).unlink(missing_ok=True)


def has_history(folder: Path) -> bool:
    return any((folder / name).exists() for name in (METRICS, EARLIER))


def read_history(folder: Path) -> History:
    """One row an epoch; none where the folder has no history. UserError names a damaged file."""
    path = folder / METRICS
    if not path.exists():
        earlier: History = read_json(folder / EARLIER) if (folder / EARLIER).exists() else []
        return earlier
    try:
        return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    except ValueError as error:
        raise UserError(f"{path}: not one JSON object a line ({error}); run with --repair") from None
