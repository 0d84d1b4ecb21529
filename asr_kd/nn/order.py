"""Orders of an epoch's frames, a batch at a time."""

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from copy import copy
from typing import overload

import torch
from torch import Tensor

from asr_kd.nn.seeds import Seed, generator


class Batches(Sequence[Tensor]):
    """Frame numbers (N,), `size` of them at a time, as torch.split gives them, but each view made when it is asked for:
    half a kilobyte each, all those of a big split would take hundreds of megabytes.
    """

    def __init__(self, numbers: Tensor, size: int) -> None:
        self._numbers, self._size = numbers, size
        self._steps = range(-(-len(numbers) // size))

    def __len__(self) -> int:
        return len(self._steps)

    @overload
    def __getitem__(self, item: int) -> Tensor: ...

    @overload
    def __getitem__(self, item: slice) -> "Batches": ...

    def __getitem__(self, item: int | slice) -> "Tensor | Batches":
        if isinstance(item, slice):
            some = copy(self)
            some._steps = self._steps[item]
            return some
        first = self._steps[item] * self._size
        return self._numbers[first : first + self._size]


class BufferedBatches(Sequence[Tensor]):
    """Every frame once: the utterances in a random order, cut into buffers of about `buffer` frames, the frames of each
    buffer shuffled.

    Until a buffer is used up nothing but its utterances is read, and no more than its frames' numbers are in memory.
    The order depends on `key` alone, and any batch can be had without those before it. starts: (utterances + 1,) as in
    Frames; batches are on its device, the last one may be smaller.
    """

    def __init__(self, starts: Tensor, size: int, buffer: int, key: Seed) -> None:
        self._starts, self._lengths = starts[:-1].cpu(), starts.diff().cpu()
        self._size, self._key, self._device = size, key, starts.device
        self._order = torch.randperm(len(self._lengths), generator=generator(key))
        ends = self._lengths[self._order].cumsum(0)
        buffers = (ends - self._lengths[self._order]) // buffer  # of each utterance; a long one may skip some
        counts = buffers.unique_consecutive(return_counts=True)[1].cumsum(0)
        self._utterances = [0, *counts.tolist()]  # where in `order` the buffers begin and end
        self._bounds = [0, *ends[counts - 1].tolist()]  # and at which of the epoch's frames
        self._steps = range(-(-self._bounds[-1] // size))
        self._shuffled: dict[int, Tensor] = {}

    def __len__(self) -> int:
        return len(self._steps)

    @overload
    def __getitem__(self, item: int) -> Tensor: ...

    @overload
    def __getitem__(self, item: slice) -> "BufferedBatches": ...

    def __getitem__(self, item: int | slice) -> "Tensor | BufferedBatches":
        if isinstance(item, slice):
            some = copy(self)
            some._steps = self._steps[item]
            return some
        first = self._steps[item] * self._size
        end = min(first + self._size, self._bounds[-1])
        touched = range(bisect_right(self._bounds, first) - 1, bisect_left(self._bounds, end))
        self._shuffled = {n: self._shuffled[n] if n in self._shuffled else self._shuffle(n) for n in touched}
        parts = [
            frames[max(0, first - self._bounds[number]) : end - self._bounds[number]]
            for number, frames in self._shuffled.items()
        ]
        return torch.cat(parts).to(self._device)

    def _shuffle(self, number: int) -> Tensor:
        """The frames of a buffer in their order."""
        utterances = self._order[self._utterances[number] : self._utterances[number + 1]]
        lengths = self._lengths[utterances]
        ends = lengths.cumsum(0)
        frames = torch.arange(int(ends[-1])) + (self._starts[utterances] - ends + lengths).repeat_interleave(lengths)
        return frames[torch.randperm(len(frames), generator=generator((*self._key, "buffer", number)))]
