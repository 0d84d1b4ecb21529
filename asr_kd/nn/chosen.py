"""Training on some frames of a split only, each seen in its utterance."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from asr_kd.errors import UserError
from asr_kd.nn.frames import Frames, taken
from asr_kd.nn.seeds import Seed


@dataclass
class ChosenFrames(Frames):
    """`chosen`: (count,) int64 numbers of the frames that an epoch, the length, moments and prior are made of.

    Frames keep their numbers; windows reach into neighbours that are not chosen.
    """

    chosen: Tensor

    @staticmethod
    def of_classes(frames: Frames, classes: Sequence[int]) -> "ChosenFrames":
        """The frames labelled with one of `classes`; UserError when there is none."""
        chosen = torch.isin(frames.labels, torch.tensor(classes, device=frames.labels.device)).nonzero()[:, 0]
        if not len(chosen):
            raise UserError(f"student.transfer_classes: no training frame has a label of {list(classes)}; name others")
        return ChosenFrames(frames.rows, frames.labels, frames.utterances, frames.starts, chosen)

    def __len__(self) -> int:
        return len(self.chosen)

    def moments(self) -> tuple[Tensor, Tensor]:
        return Frames.of_utterance("chosen", taken(self.rows, self.chosen)).moments()

    def log_prior(self, num_pdfs: int, smoothing: float = 1.0) -> Tensor:
        return Frames(self.rows, self.labels[self.chosen], self.utterances, self.starts).log_prior(num_pdfs, smoothing)

    def shuffled_batches(self, size: int, key: Seed) -> tuple[Tensor, ...]:
        places = torch.cat(list(super().shuffled_batches(size, key)))
        return self.chosen[places].split(size)

    def ordered_batches(self, size: int) -> tuple[Tensor, ...]:
        return self.chosen.split(size)
