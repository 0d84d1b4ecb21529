"""The soft-target store: what the teachers think of every training frame, at temperature 1.

A folder of memory-mapped shards and an `index.json` written last; an index means that the store is whole. A shard is
`states-NNN.npy`, (frames, k) uint16: the k most probable tied states, best first; `log_post-NNN.npy`, (frames, k)
float16: natural logs of their posteriors; `log_tail-NNN.npy`, (frames, temperatures) float16: natural logs of the sum
of p^(1/T) over the states left out. A dense store has `log_post` alone, over all states in their order. A randomly
pruned one has no `log_tail`, and its `log_post` are the logs of the drawn states' values, at its one temperature.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from asr_kd import scratch
from asr_kd.checksums import Recorded, find_damage, read_checked, record_files, write_checked
from asr_kd.errors import UserError
from asr_kd.files import atomic_path, read_json, write_json
from asr_kd.nn.frames import Frames

INDEX = "index.json"
PROGRESS = "progress.json"  # while the store is being written: which shards are finished
SHARD_BYTES = 1 << 27
FLOAT16_MIN = float(np.finfo(np.float16).min)


@dataclass
class SoftFrames:
    """Soft targets of consecutive frames; states is None in a dense store, log_tail there and in a pruned one."""

    log_post: Tensor
    states: Tensor | None
    log_tail: Tensor | None

    def arrays(self) -> dict[str, np.ndarray]:
        """The arrays as stored: uint16 and float16, every logarithm finite."""
        arrays = {"log_post": self.log_post, "log_tail": self.log_tail}
        stored = {
            name: tensor.clamp(min=FLOAT16_MIN).half().cpu().numpy()
            for name, tensor in arrays.items()
            if tensor is not None
        }
        if self.states is not None:
            stored["states"] = self.states.cpu().numpy().astype(np.uint16)
        return stored


def condense(log_post: Tensor, top_k: int | None, temperatures: tuple[float, ...]) -> SoftFrames:
    """The k most probable states of dense log posteriors (frames, num_pdfs) and the tails of the others.

    `top_k` None, or one that leaves no state out, keeps all. Overwrites `log_post`.
    """
    if top_k is None or top_k >= log_post.shape[1]:
        return SoftFrames(log_post, None, None)
    best, states = log_post.topk(top_k, 1)
    others = log_post.scatter_(1, states, -torch.inf)
    # At least a finite number: of states that are all impossible, −∞ less the highest would be no number.
    highest = others.amax(1, keepdim=True).clamp_min(torch.finfo(others.dtype).min)
    others -= highest
    # One buffer for all temperatures: a fresh one each costs more in page faults than the exponentials.
    scaled = torch.empty_like(others)
    sums = [torch.div(others, temperature, out=scaled).exp_().sum(1) for temperature in temperatures]
    inverse = torch.tensor([1 / temperature for temperature in temperatures], device=log_post.device)
    return SoftFrames(best, states, torch.stack(sums, 1).log() + highest * inverse)


class PendingShard:
    """A shard being filled: `frames` of them."""

    def __init__(self) -> None:
        self.frames = 0
        self._rooms: dict[str, np.ndarray] = {}

    @property
    def bytes(self) -> int:
        return sum(room[: self.frames].nbytes for room in self._rooms.values())

    def add(self, soft: SoftFrames) -> None:
        arrays = soft.arrays()
        first, end = self.frames, self.frames + len(arrays["log_post"])
        for name, array in arrays.items():
            room = self._rooms.get(name, array[:0])
            if len(room) < end:
                room = self._rooms[name] = scratch.enlarged(room, max(end, 2 * len(room)))
            room[first:end] = array
        self.frames = end

    def write(self, path: Path, number: int) -> Recorded:
        """Write it as shard `number` of the store `path`."""
        files: Recorded = {}
        for name, room in self._rooms.items():
            with atomic_path(path / f"{name}-{number:03d}.npy") as temporary, temporary.open("wb") as file:
                np.save(file, room[: self.frames], allow_pickle=False)
            files |= record_files(path, [path / f"{name}-{number:03d}.npy"])
        return files


class StoreWriter:
    """Writes the targets of a split batch by batch; nothing can be read from the folder until `finish`.

    identity: what the targets are made from; shards that an interrupted writer of the same left are taken over.
    `frames`: those already written; `sums`: what `add` was given with the last of them.
    """

    def __init__(self, path: Path, identity: str | None = None) -> None:
        self.path = path
        self.bytes = 0
        self.sums: list[float] | None = None
        self._identity = identity
        self._pending = PendingShard()
        self._shards: list[int] = []
        self._files: Recorded = {}
        (path / INDEX).unlink(missing_ok=True)
        if not self._resume():
            (path / PROGRESS).unlink(missing_ok=True)
            for stale in path.glob("*.npy"):
                stale.unlink()

    @property
    def frames(self) -> int:
        return sum(self._shards)

    @property
    def shards(self) -> int:
        return len(self._shards)

    def add(self, soft: SoftFrames, sums: list[float] | None = None) -> None:
        """Append the targets of the next frames. sums: figures over all frames so far, for whoever resumes."""
        self._pending.add(soft)
        self.sums = sums
        if self._pending.bytes >= SHARD_BYTES:
            self._write_shard()

    def finish(self, frames: Frames, meta: dict[str, Any]) -> None:
        """Complete the store; `frames` is the split whose targets were added, in its order."""
        if self._pending.frames:
            self._write_shard()
        starts, lengths = frames.starts[:-1].tolist(), frames.starts.diff().tolist()
        utterances = dict(zip(frames.utterances, zip(starts, lengths, strict=True), strict=True))
        write_json(self.path / INDEX, {"meta": meta, "shards": self._shards, "utterances": utterances})

    def _write_shard(self) -> None:
        files = self._pending.write(self.path, self.shards)
        self.take(self._pending.frames, self._pending.bytes, files, self.sums)
        self._pending.frames = 0

    def take(self, frames: int, size: int, files: Recorded, sums: list[float] | None) -> None:
        """Count in the next shard, of `frames` in `size` bytes, whose files are written. sums: as in `add`."""
        self._shards.append(frames)
        self.bytes += size
        self._files |= files
        self.sums = sums
        if self._identity:
            state = {"shards": self._shards, "bytes": self.bytes, "sums": self.sums, "files": self._files}
            write_checked(self.path / PROGRESS, {"identity": self._identity, **state})

    def _resume(self) -> bool:
        state = read_checked(self.path / PROGRESS)
        if state is None or state["identity"] != self._identity:
            return False
        if find_damage(self.path, state["files"], thorough=True):
            return False
        self._shards, self.bytes, self.sums, self._files = (state[key] for key in ("shards", "bytes", "sums", "files"))
        return True

    def close(self) -> None:
        """Forget what a resuming writer would need: the store and all about it are written."""
        (self.path / PROGRESS).unlink(missing_ok=True)


class TargetStore:
    """Read access by row; `rows_of` tells which rows hold a split's training frames."""

    def __init__(self, path: Path) -> None:
        self.path = path
        if not (path / INDEX).exists():
            raise UserError(f"{path}: no soft targets here; run --stage 5 (targets)")
        index = read_json(path / INDEX)
        try:
            self.meta: dict[str, Any] = dict(index["meta"])
            self.num_pdfs = int(self.meta["num_pdfs"])
            self.temperatures: tuple[float, ...] = tuple(map(float, self.meta["temperatures"]))
            self._utterances: dict[str, list[int]] = {
                name: [int(a), int(b)] for name, (a, b) in index["utterances"].items()
            }
            self._bounds = np.cumsum([0, *map(int, index["shards"])])
            frames = [(start, start + length) for start, length in self._utterances.values()]
            if (
                any(not 0 <= start <= end <= self._bounds[-1] for start, end in frames)
                or min(index["shards"], default=0) < 0
            ):
                raise ValueError("names frames that are not in the shards")
            self._columns = ["log_post"] if self.dense else ["log_post", "states", "log_tail"]
            if self.pruned:
                self._columns.remove("log_tail")
        except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
            raise UserError(f"{path / INDEX}: damaged ({error}); run --stage 5 (targets) again") from None
        self._shards = [self._open_shard(number) for number in range(len(index["shards"]))]

    def __reduce__(self) -> tuple[type["TargetStore"], tuple[Path]]:
        """To another process goes where it is, not what it holds."""
        return TargetStore, (self.path,)

    @property
    def dense(self) -> bool:
        return self.meta["top_k"] is None

    @property
    def pruned(self) -> bool:
        """Whether the states were drawn at random; then `temperatures` has one."""
        return self.meta.get("pruning") == "random"

    def __len__(self) -> int:
        """Frames."""
        return int(self._bounds[-1])

    def _open_shard(self, number: int) -> dict[str, np.ndarray]:
        expected = int(self._bounds[number + 1] - self._bounds[number])
        shard = {}
        for name in self._columns:
            file = self.path / f"{name}-{number:03d}.npy"
            try:
                shard[name] = np.load(file, mmap_mode="r", allow_pickle=False)
                found, columns = shard[name].shape
            except Exception as error:  # numpy parses the header as Python, which fails in many ways
                raise UserError(f"{file}: cannot be read ({error}); run --stage 5 (targets) again") from None
            if found != expected:
                raise UserError(f"{file}: {found} frames, {INDEX} says {expected}; run --stage 5 (targets) again")
            width = self._width(name)
            if columns != width:
                raise UserError(f"{file}: {columns} columns, {INDEX} says {width}; run --stage 5 (targets) again")
        return shard

    def _width(self, name: str) -> int:
        """Columns of an array."""
        if name == "log_tail":
            return len(self.temperatures)
        return self.num_pdfs if self.dense else self.meta["top_k"]

    def check(self, expected: dict[str, Any]) -> None:
        """Raises UserError naming the first entry of `expected` that the store's metadata contradicts."""
        found, wanted = _flat(self.meta), _flat(expected)
        for key, value in wanted.items():
            if found.get(key) != value:
                raise UserError(
                    f"{self.path / INDEX}: {key} of the soft targets is {found.get(key, 'absent')}, "
                    f"this experiment's is {value}; run --stage 5 (targets) again"
                )

    def rows_of(self, frames: Frames) -> Tensor:
        """The store's row of every frame, (len(frames),) int64; UserError names an utterance that does not fit."""
        starts, lengths = frames.starts[:-1].tolist(), frames.starts.diff().tolist()
        rows = scratch.numbers(sum(lengths))
        for utterance, first, length in zip(frames.utterances, starts, lengths, strict=True):
            start, stored = self._utterances.get(utterance, (0, 0))
            if stored != length:
                raise UserError(
                    f"{self.path / INDEX}: {utterance} has {stored} frames of soft targets and {length} of features; "
                    "run --stage 5 (targets) again"
                )
            torch.arange(start, start + length, out=rows[first : first + length])
        return rows

    def gather(self, rows: np.ndarray) -> SoftFrames:
        """Targets of `rows` (batch,): log_post float32, states int64, log_tail float32."""
        numbers = np.searchsorted(self._bounds, rows, side="right") - 1
        gathered = {name: np.empty((len(rows), array.shape[1]), array.dtype) for name, array in self._shards[0].items()}
        for number in np.unique(numbers):
            where = np.flatnonzero(numbers == number)
            for name, array in self._shards[number].items():
                gathered[name][where] = array[rows[where] - self._bounds[number]]
        log_post = torch.from_numpy(gathered["log_post"]).float()
        states = torch.from_numpy(gathered["states"].astype(np.int64)) if "states" in gathered else None
        log_tail = torch.from_numpy(gathered["log_tail"]).float() if "log_tail" in gathered else None
        return SoftFrames(log_post, states, log_tail)


def _flat(meta: dict[str, Any]) -> dict[str, Any]:
    """{"mean": m, "teachers": {"member-00": h}} to {"mean": m, "teachers": "member-00", "teachers.member-00": h}."""
    flat: dict[str, Any] = {}
    for key, value in meta.items():
        if isinstance(value, dict):
            flat[key] = " ".join(value)
            flat |= {f"{key}.{name}": inner for name, inner in value.items()}
        else:
            flat[key] = value
    return flat
