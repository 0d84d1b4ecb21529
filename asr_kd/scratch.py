"""Large arrays in files without a name: the kernel writes their pages out, and takes them back, when memory runs short.

What grows with the corpus and is read at random (gathered features, alignments, shuffling orders) lies in such an array
while a stage runs. The file is in the experiment directory, and gone with the last reference to the array or with the
process, however it ends.
"""

import math
import os
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING

import numpy as np
from numpy.typing import DTypeLike

if TYPE_CHECKING:  # loading torch takes a second that not every command has
    from torch import Tensor

SMALL_BYTES = 1 << 20  # arrays up to here stay in memory


class _State:
    """Of the process: where files go; None: every array stays in memory."""

    folder: Path | None = None


@contextmanager
def scratch_in(folder: Path) -> Iterator[None]:
    """Within, arrays made here lie in files in `folder`."""
    before, _State.folder = _State.folder, folder
    try:
        yield
    finally:
        _State.folder = before


def array(shape: tuple[int, ...], dtype: DTypeLike) -> np.ndarray:
    """An array of arbitrary contents. Raises OSError (ENOSPC) when the disk has no room for it."""
    size = math.prod(shape) * np.dtype(dtype).itemsize
    if _State.folder is None or size <= SMALL_BYTES:
        return np.empty(shape, dtype)
    with tempfile.TemporaryFile(dir=_State.folder, prefix=".scratch.", suffix=".tmp") as file:
        os.posix_fallocate(file.fileno(), 0, size)  # a page that finds no room later would be the end of the process
        return np.memmap(file, dtype, "r+", shape=shape).view(np.ndarray)


def text_file() -> IO[str]:
    """An empty text file without a name, to be written and read again."""
    return tempfile.TemporaryFile("w+", encoding="utf-8", dir=_State.folder, prefix=".scratch.", suffix=".tmp")


def enlarged(rows: np.ndarray, count: int) -> np.ndarray:
    """An array that begins with `rows` and has room for `count`."""
    room = array((count, *rows.shape[1:]), rows.dtype)
    room[: len(rows)] = rows
    return room


def tensor(shape: tuple[int, ...], like: "Tensor") -> "Tensor":
    """An array of the type of `like`; where that is on an accelerator, in its memory."""
    import torch

    if like.device.type != "cpu":
        return torch.empty(shape, dtype=like.dtype, device=like.device)
    return torch.from_numpy(array(shape, torch.empty(0, dtype=like.dtype).numpy().dtype))


def numbers(count: int) -> "Tensor":
    """(count,) int64 of arbitrary contents, for indices."""
    import torch

    return torch.from_numpy(array((count,), np.int64))


def stacked(parts: "Iterable[Tensor]", rows: int) -> "Tensor":
    """What torch.cat makes of `parts`, each (n, dim), with `rows` rows in all; one part at a time is in memory."""
    import torch

    whole, end = torch.empty(0), 0
    for part in parts:
        if not end:
            whole = tensor((rows, *part.shape[1:]), part)
        whole[end : end + len(part)] = part
        end += len(part)
    return whole
