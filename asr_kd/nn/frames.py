"""The labelled frames of a split: all utterances behind each other, addressed by frame number."""

import logging
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from asr_kd import scratch
from asr_kd.errors import UserError
from asr_kd.features.splice import window_rows
from asr_kd.features.store import FrameStore
from asr_kd.nn.model import AcousticModel
from asr_kd.nn.order import Batches, BufferedBatches
from asr_kd.nn.seeds import Seed, generator

PDF_COLUMN = 0
CHUNK_FRAMES = 1 << 11  # whose copies in float32 stay in the cache
SPEED = re.compile(r"_sp\d+(\.\d+)?$")  # the end of a sped-up copy's id
log = logging.getLogger("asr_kd")


@dataclass
class Frames:
    """rows: (N, dim) float16 features; labels: (N,) int64 tied states.

    starts: (utterances + 1,) int64; utterance u holds the frames from starts[u] up to starts[u + 1].
    """

    rows: Tensor
    labels: Tensor
    utterances: list[str]
    starts: Tensor

    @staticmethod
    def load(features: FrameStore, alignment: FrameStore, device: str = "cpu") -> "Frames":
        """The utterances with finite features and an alignment of the same length; others are logged.

        Raises UserError when none is left.
        """
        shared = [utterance for utterance in features if utterance in alignment]
        matching = [name for name in shared if features.frames(name) == alignment.frames(name) > 0]
        kept = [name for name in matching if np.isfinite(features[name]).all()]
        if len(kept) < len(features):
            left_out = sorted(set(features) - set(kept))
            log.warning(
                "%s: %d of %d utterances left out: no alignment of their length, or features not finite: %s",
                alignment.path, len(left_out), len(features), " ".join(left_out),
            )  # fmt: skip
        if not kept:
            raise UserError(f"{alignment.path}: aligns no utterance of {features.path}; rerun --stage 3 (align)")
        starts = np.cumsum([0, *(features.frames(name) for name in kept)])
        rows = scratch.array((int(starts[-1]), features.dim), np.float16)
        labels = scratch.array((int(starts[-1]),), np.int64)
        for name, start, end in zip(kept, starts, starts[1:], strict=False):
            rows[start:end] = features[name]
            labels[start:end] = alignment[name][:, PDF_COLUMN]
        tensors = [torch.from_numpy(array).to(device) for array in (rows, labels, starts)]
        return Frames(tensors[0], tensors[1], kept, tensors[2])

    @staticmethod
    def of_utterance(utterance: str, rows: Tensor) -> "Frames":
        """One utterance's (T, dim) features, without labels."""
        starts = torch.tensor([0, len(rows)], device=rows.device)
        return Frames(rows, torch.zeros(0, dtype=torch.int64), [utterance], starts)

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def dim(self) -> int:
        return self.rows.shape[1]

    def utterance_numbers(self, frames: Tensor) -> Tensor:
        """(batch,) frame numbers to (batch,) indices into `utterances`."""
        return torch.searchsorted(self.starts, frames, right=True) - 1

    def share(self, fraction: float, key: Seed) -> "Frames":
        """The first utterances of an order that depends on `key` alone until they hold `fraction` of the frames.

        A smaller share is part of a larger one, and an utterance's copies at other speeds go with it; utterances stay
        in storage order.
        """
        originals: dict[str, int] = {}
        numbers = [originals.setdefault(SPEED.sub("", name), len(originals)) for name in self.utterances]
        original = torch.tensor(numbers)
        lengths = self.starts.diff().cpu()
        order = torch.randperm(len(originals), generator=generator(key))
        frames = torch.zeros(len(originals), dtype=torch.int64).index_add_(0, original, lengths)[order]
        chosen = torch.zeros(len(originals), dtype=torch.bool)
        chosen[order] = frames.cumsum(0) - frames < fraction * len(self)
        kept = chosen[original]
        starts = torch.cat([torch.zeros(1, dtype=torch.int64), lengths[kept].cumsum(0)]).to(self.starts.device)
        chosen_rows = kept.repeat_interleave(lengths).to(self.rows.device).nonzero()[:, 0]
        names = [self.utterances[number] for number in kept.nonzero()[:, 0].tolist()]
        return Frames(taken(self.rows, chosen_rows), taken(self.labels, chosen_rows), names, starts)

    def windows(self, frames: Tensor, left: int, right: int) -> Tensor:
        """(batch,) frame numbers to (batch, left + 1 + right, dim), the utterance's edge frames repeated."""
        number = self.utterance_numbers(frames)
        window = window_rows(frames, self.starts[number], self.starts[number + 1] - 1, left, right)
        return self.rows.index_select(0, window.flatten()).view(*window.shape, self.dim)

    def moments(self) -> tuple[Tensor, Tensor]:
        """Mean and 1 / standard deviation of each feature, (dim,) float32; 1 where a feature is constant."""
        chunks = self.rows.split(1 << 18)  # other sizes would add in another order, and end in other last bits
        room = scratch.tensor((len(chunks[0]), self.dim), self.rows.new_empty(0, dtype=torch.float64))
        mean = torch.as_tensor(sum(room[: len(chunk)].copy_(chunk).sum(0) for chunk in chunks) / len(self))
        squares = (room[: len(chunk)].copy_(chunk).sub_(mean).square_().sum(0) for chunk in chunks)
        variance = torch.as_tensor(sum(squares) / len(self))
        scale = torch.where(variance > 1e-8, variance.clamp_min(1e-8).rsqrt(), 1.0)
        return mean.float(), scale.float()

    def standardised(self, model: AcousticModel) -> "Frames":
        """The same frames with the rows that `model` expects."""
        chunks = map(model.standardise, self.rows.split(CHUNK_FRAMES))
        return replace(self, rows=scratch.stacked(chunks, len(self.rows)))

    def log_prior(self, num_pdfs: int, smoothing: float = 1.0) -> Tensor:
        """log((count + smoothing) / Σ) of each tied state, (num_pdfs,) float32: no state is impossible."""
        counts = torch.bincount(self.labels, minlength=num_pdfs).double() + smoothing
        return (counts / counts.sum()).log().float()

    def shuffled_batches(self, size: int, key: Seed) -> Sequence[Tensor]:
        """Every frame once, in an order that depends on `key` alone; the last batch may be smaller."""
        order = torch.randperm(len(self), generator=generator(key), out=scratch.numbers(len(self)))
        return Batches(order.to(self.rows.device), size)

    def buffered_batches(self, size: int, buffer: int, key: Seed) -> Sequence[Tensor]:
        """As `shuffled_batches`, but whole utterances are shuffled, and frames among `buffer` at a time.

        Raises UserError where an epoch is not made of whole utterances.
        """
        if len(self) != len(self.rows):
            raise UserError(
                "train.shuffle_frames: shuffles whole utterances, and specialists and student.transfer_classes see "
                "but some of their frames; leave it out there"
            )
        return BufferedBatches(self.starts, size, buffer, key)

    def ordered_batches(self, size: int) -> Sequence[Tensor]:
        """Every frame once, in storage order."""
        return Batches(torch.arange(len(self), out=scratch.numbers(len(self))).to(self.rows.device), size)


def taken(rows: Tensor, numbers: Tensor) -> Tensor:
    """rows[numbers], in an array that need not fit in memory."""
    chosen = scratch.tensor((len(numbers), *rows.shape[1:]), rows)
    return torch.index_select(rows, 0, numbers, out=chosen)
