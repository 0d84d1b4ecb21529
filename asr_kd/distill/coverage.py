"""models/specialists.json: what the specialists bring, by how many of them cover a state, and what they cost."""

import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from asr_kd.distill.clusters import Clusters
from asr_kd.distill.inference import SpecialistEnsemble, combine
from asr_kd.nn.frames import Frames
from asr_kd.nn.training import Progress


class Stopwatch:
    """Seconds by what they were spent on; `with watch.on(name):` adds to them."""

    def __init__(self, device: torch.device) -> None:
        self.seconds: dict[str, float] = {}
        self._device = device

    @contextmanager
    def on(self, name: str) -> Iterator[None]:
        start = self._now()
        yield
        self.seconds[name] = self.seconds.get(name, 0.0) + self._now() - start

    def _now(self) -> float:
        if self._device.type == "cuda":  # kernels run asynchronously
            torch.cuda.synchronize(self._device)
        return time.perf_counter()


def describe_specialists(
    ensemble: SpecialistEnsemble,
    clusters: Clusters,
    names: Sequence[str],
    splits: dict[str, Frames],
    progress: Progress,
    batch: int = 512,
) -> dict[str, Any]:
    """The contents of models/specialists.json, as docs/formats.md has them; `names`: of the tied states."""
    watch, calls, counts = Stopwatch(ensemble.member.device), 0.0, {}
    for split, frames in splits.items():
        counts[split], asked = count_correct(ensemble, frames, watch, progress, split, batch)
        calls += asked
    total = sum(len(frames) for frames in splits.values())
    return {
        "count": len(ensemble.subsets),
        "active_classes": ensemble.active_classes,
        "parameters": ensemble.parameters,
        "accuracy": {split: shares(table.sum(0)) for split, table in counts.items()},
        "by_covering": {
            split: [{"specialists": n, **shares(row)} for n, row in enumerate(table) if row[0]]
            for split, table in counts.items()
        },
        "clusters": [
            {
                "classes": len(subset),
                "nearest": int(size),
                "states": dict(Counter(names[pdf] for pdf in subset.tolist()).most_common()),
            }
            for subset, size in zip(clusters.subsets, clusters.sizes, strict=True)
        ],
        "cost": {
            "microseconds_per_frame": {name: 1e6 * seconds / total for name, seconds in watch.seconds.items()},
            "specialists_per_frame": calls / total,
            "threads": torch.get_num_threads(),
        },
    }


def count_correct(
    ensemble: SpecialistEnsemble, frames: Frames, watch: Stopwatch, progress: Progress, split: str, batch: int
) -> tuple[Tensor, float]:
    """Frames, those that the generalist has right, and those right with specialists, (1 + specialists, 3) int64:
    the row is how many specialists cover the alignment's state. And how often a specialist was asked.
    """
    standardised, covering = frames.standardised(ensemble.models[0]), ensemble.member.sum(0)
    counts = torch.zeros(len(ensemble.subsets) + 1, 3, dtype=torch.int64, device=frames.rows.device)
    asked = 0.0
    with torch.inference_mode():
        for numbers in progress(frames.ordered_batches(batch), f"specialists on {split}"):
            windows, labels = ensemble.windows(standardised, numbers), frames.labels[numbers]
            with watch.on("generalist"):
                log_post = ensemble.generalist(windows)
            alone = log_post.argmax(1) == labels
            active = ensemble.active(log_post)
            rows = active.any(1).nonzero()[:, 0]
            with watch.on("specialists"):
                opinions = ensemble.opinions(windows[rows], log_post[rows], active[rows])
            with watch.on("inference"):
                log_post[rows] = combine(opinions, ensemble.cells)
            together = log_post.argmax(1) == labels
            right = torch.stack([torch.ones_like(labels), alone.long(), together.long()], 1)
            counts.index_add_(0, covering[labels], right)
            asked += float(active.sum())
    return counts.cpu(), asked


def shares(counts: Tensor) -> dict[str, Any]:
    """(3,) frames, right without, right with → those as shares and the gain relative to without (None: none right)."""
    frames, without, together = counts.tolist()
    return {
        "frames": frames,
        "without": without / frames,
        "with": together / frames,
        "relative_gain": (together - without) / without if without else None,
    }
