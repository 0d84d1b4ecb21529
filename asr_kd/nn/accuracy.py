"""Frame accuracy of a network, of an ensemble, of its members, and of its average member, in all and by utterance."""

from typing import Any

import torch
from torch import Tensor

from asr_kd.nn.frames import Frames
from asr_kd.nn.posteriors import Ensemble, mean_log_posteriors
from asr_kd.nn.training import Progress

ACCURACY, CORRECT = "accuracy.json", "correct.json"
MOST_FRAMES = 100_000  # enough for ± 0.3 % of a share, with 95 % probability


def frame_accuracy(
    system: Ensemble, frames: Frames, split: str, progress: Progress, batch: int = 512
) -> tuple[dict[str, float], Tensor]:
    """{"frame_accuracy", "cross_entropy" in nats a frame, "frames"} of a split, dropout off; and how many frames of
    each utterance are correct, (utterances,) int64.

    Of the training split, which has no interval of its own to report, at most MOST_FRAMES evenly spread frames.
    """
    step = max(1, -(-len(frames) // MOST_FRAMES)) if split == "train" else 1
    numbers = torch.arange(0, len(frames), step, device=frames.rows.device)
    standardised = frames.standardised(system.models[0])
    correct = torch.zeros(len(frames.utterances), dtype=torch.int64, device=frames.rows.device)
    nats = torch.zeros((), dtype=torch.float64, device=frames.rows.device)
    with torch.inference_mode():
        for some in progress(numbers.split(batch), f"frame accuracy on {split}"):
            log_post = system.log_posteriors(system.windows(standardised, some))
            labels = frames.labels[some]
            correct.index_add_(0, frames.utterance_numbers(some), (log_post.argmax(1) == labels).long())
            nats = nats - log_post.gather(1, labels[:, None]).sum()
    count = len(numbers)
    shares = {"frame_accuracy": int(correct.sum()) / count, "cross_entropy": float(nats) / count}
    return {**shares, "frames": count}, correct


def ensemble_accuracy(
    ensemble: Ensemble, splits: dict[str, Frames], progress: Progress, batch: int = 512
) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Shares of frames whose most probable state is the alignment's, in one pass over each split.

    Returns {"members": [{split: share}, …], "members_mean": {split: share}, "ensemble": {split: share}}; and by split
    how many frames of each utterance are correct, (members + 1, utterances) int64, the last row the ensemble's.
    """
    count = len(ensemble.models)
    members: list[dict[str, float]] = [{} for _ in range(count)]
    together: dict[str, float] = {}
    by_split: dict[str, Tensor] = {}
    for split, frames in splits.items():
        standardised = frames.standardised(ensemble.models[0])
        correct = torch.zeros(count + 1, len(frames.utterances), dtype=torch.int64, device=frames.rows.device)
        with torch.inference_mode():
            for numbers in progress(frames.ordered_batches(batch), f"frame accuracy on {split}"):
                logits = ensemble.logits(ensemble.windows(standardised, numbers))
                systems = [*logits, mean_log_posteriors(logits, ensemble.mean)]
                labels, utterances = frames.labels[numbers], frames.utterance_numbers(numbers)
                hits = torch.stack([scores.argmax(1) == labels for scores in systems]).long()
                correct.scatter_add_(1, utterances.expand(count + 1, -1), hits)
        *shares, together[split] = (correct.sum(1).double() / len(frames)).tolist()
        for member, share in zip(members, shares, strict=True):
            member[split] = share
        by_split[split] = correct
    average = {split: sum(member[split] for member in members) / count for split in splits}
    return {"members": members, "members_mean": average, "ensemble": together}, by_split


def by_utterance(frames: Frames, correct: dict[str, Tensor]) -> dict[str, Any]:
    """A split in correct.json: `utterances` in storage order, the `frames` of each, and by system those `correct`.

    correct: (utterances,) int64 of each system.
    """
    return {
        "utterances": frames.utterances,
        "frames": frames.starts.diff().tolist(),
        "correct": {system: counts.tolist() for system, counts in correct.items()},
    }
