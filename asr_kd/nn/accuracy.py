"""Frame accuracy of a network, of an ensemble, of its members, and of its average member."""

from typing import Any

import torch

from asr_kd.nn.frames import Frames
from asr_kd.nn.posteriors import Ensemble, mean_log_posteriors
from asr_kd.nn.training import Progress

ACCURACY = "accuracy.json"
MOST_FRAMES = 100_000  # enough for ± 0.3 % of a share, with 95 % probability


def frame_accuracy(
    system: Ensemble, frames: Frames, split: str, progress: Progress, batch: int = 512
) -> dict[str, float]:
    """{"frame_accuracy", "cross_entropy" in nats a frame, "frames"} of a split, dropout off.

    Of the training split, which has no interval of its own to report, at most MOST_FRAMES evenly spread frames.
    """
    step = max(1, -(-len(frames) // MOST_FRAMES)) if split == "train" else 1
    numbers = torch.arange(0, len(frames), step, device=frames.rows.device)
    standardised = frames.standardised(system.models[0])
    correct = nats = torch.zeros((), dtype=torch.float64, device=frames.rows.device)
    with torch.inference_mode():
        for some in progress(numbers.split(batch), f"frame accuracy on {split}"):
            log_post = system.log_posteriors(system.windows(standardised, some))
            labels = frames.labels[some]
            correct = correct + (log_post.argmax(1) == labels).sum()
            nats = nats - log_post.gather(1, labels[:, None]).sum()
    count = len(numbers)
    return {"frame_accuracy": float(correct) / count, "cross_entropy": float(nats) / count, "frames": count}


def ensemble_accuracy(
    ensemble: Ensemble, splits: dict[str, Frames], progress: Progress, batch: int = 512
) -> dict[str, Any]:
    """Shares of frames whose most probable state is the alignment's, in one pass over each split.

    Returns {"members": [{split: share}, …], "members_mean": {split: share}, "ensemble": {split: share}}.
    """
    count = len(ensemble.models)
    members: list[dict[str, float]] = [{} for _ in range(count)]
    together: dict[str, float] = {}
    for split, frames in splits.items():
        standardised = frames.standardised(ensemble.models[0])
        correct = torch.zeros(count + 1, dtype=torch.int64, device=frames.rows.device)
        with torch.inference_mode():
            for numbers in progress(frames.ordered_batches(batch), f"frame accuracy on {split}"):
                logits = ensemble.logits(ensemble.windows(standardised, numbers))
                systems = [*logits, mean_log_posteriors(logits, ensemble.mean)]
                labels = frames.labels[numbers]
                correct += torch.stack([(scores.argmax(1) == labels).sum() for scores in systems])
        *shares, together[split] = (correct.double() / len(frames)).tolist()
        for member, share in zip(members, shares, strict=True):
            member[split] = share
    average = {split: sum(member[split] for member in members) / count for split in splits}
    return {"members": members, "members_mean": average, "ensemble": together}
