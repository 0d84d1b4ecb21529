"""Frame store: rows of one width, grouped by utterance, in memory-mapped shards.

A store is a folder of `shard-NNN.npy` arrays (frames × dim) and an `index.json` written last; an index therefore
means that the store is whole.
"""

from collections.abc import Iterable, Iterator, Mapping
from itertools import chain
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from asr_kd.errors import UserError
from asr_kd.files import atomic_path, read_json, write_json

# A shard's file name, and for each of its utterances the shard's number, the first row and the number of rows.
Shard = tuple[str, dict[str, tuple[int, int, int]]]
# Utterances with their arrays (frames, dim), which may be made one after the other.
Rows = Mapping[str, np.ndarray] | Iterable[tuple[str, np.ndarray]]


class FrameStore:
    """Read access by utterance id: `store[utterance]` is a memory-mapped (frames, dim) array."""

    def __init__(self, path: Path) -> None:
        self.path = path
        if not (path / "index.json").exists():
            raise UserError(f"{path}: no frame store here; run the stage that makes it")
        index = read_json(path / "index.json")
        try:
            self.meta: dict[str, Any] = dict(index["meta"])
            self._rows: dict[str, tuple[int, int, int]] = {key: tuple(row) for key, row in index["utterances"].items()}
            self._shards = [open_array(path, name) for name in index["shards"]]
            self.dim = int(self._shards[0].shape[1]) if self._shards else 0
            lengths = [len(shard) for shard in self._shards if shard.ndim == 2 and shard.shape[1] == self.dim]
            fits = all(0 <= first <= first + frames <= lengths[shard] for shard, first, frames in self._rows.values())
            fits = fits and all(shard >= 0 for shard, _, _ in self._rows.values())
        except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
            raise UserError(f"{path / 'index.json'}: damaged ({error}); run the stage that makes it again") from None
        if not fits:
            raise UserError(f"{path / 'index.json'}: names frames that are not in the shards; run its stage again")

    def __len__(self) -> int:
        return len(self._rows)

    def __iter__(self) -> Iterator[str]:
        return iter(self._rows)

    def __contains__(self, utterance: object) -> bool:
        return utterance in self._rows

    def __getitem__(self, utterance: str) -> np.ndarray:
        shard, start, frames = self._rows[utterance]
        return self._shards[shard][start : start + frames]

    def frames(self, utterance: str) -> int:
        return self._rows[utterance][2]

    @property
    def total_frames(self) -> int:
        return sum(frames for _, _, frames in self._rows.values())


def open_array(folder: Path, name: str) -> np.ndarray:
    """A memory-mapped array of a store; UserError names the file when it is missing or damaged."""
    if not isinstance(name, str) or Path(name).name != name:
        raise ValueError(f"{name!r} is not the name of a shard")
    try:
        return np.load(folder / name, mmap_mode="r", allow_pickle=False)
    except Exception as error:  # numpy parses the header as Python, which fails in many ways
        raise UserError(f"{folder / name}: cannot be read ({error}); run the stage that makes it again") from None


def clear_store(path: Path) -> None:
    """Remove a store before it is written again: its index first, so that a half-written store has none."""
    (path / "index.json").unlink(missing_ok=True)
    for shard in path.glob("shard-*.npy"):
        shard.unlink()


def write_shard(path: Path, number: int, rows: Rows) -> Shard:
    """Write one shard of `rows`, at least one utterance, all of one type and dim."""
    name, start = f"shard-{number:03d}.npy", 0
    index: dict[str, tuple[int, int, int]] = {}
    with atomic_path(path / name) as temporary, temporary.open("wb") as file:
        for utterance, array in rows.items() if isinstance(rows, Mapping) else rows:
            if not index:
                _write_header(file, 0, array)
            file.write(np.ascontiguousarray(array).tobytes())
            index[utterance] = (number, start, len(array))
            start += len(array)
        file.seek(0)
        _write_header(file, start, array)
    return name, index


def _write_header(file: BinaryIO, frames: int, like: np.ndarray) -> None:
    """That of `numpy.save`, which leaves room for any number of rows: its length does not depend on it."""
    description = {
        "descr": np.lib.format.dtype_to_descr(like.dtype),
        "fortran_order": False,
        "shape": (frames, *like.shape[1:]),
    }
    np.lib.format.write_array_header_1_0(file, description)


def write_index(path: Path, shards: list[Shard], meta: dict[str, Any]) -> None:
    """Complete a store from the results of `write_shard`; numbers may have gaps."""
    utterances = {
        utterance: (position, start, frames)
        for position, (_, index) in enumerate(shards)
        for utterance, (_, start, frames) in index.items()
    }
    write_json(path / "index.json", {"meta": meta, "shards": [name for name, _ in shards], "utterances": utterances})


def write_store(path: Path, rows: Rows, meta: dict[str, Any]) -> list[str]:
    """Write a store of one shard, none without rows; returns its utterances."""
    clear_store(path)
    pairs = iter(rows.items() if isinstance(rows, Mapping) else rows)
    first = next(pairs, None)
    shards = [write_shard(path, 0, chain([first], pairs))] if first else []
    write_index(path, shards, meta)
    return [utterance for _, index in shards for utterance in index]
