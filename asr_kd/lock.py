"""One run at a time in an experiment directory.

The operating system holds the lock and lets go of it when its holder ends, however it ends; the file's text says who
the holder is. A POSIX record lock, because forked workers do not inherit it: one that outlives a killed run would keep
any other kind.
"""

import fcntl
import json
import os
import socket
import struct
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from asr_kd.errors import UserError
from asr_kd.files import make_folder

LOCK = ".lock"
_held: dict[Path, str] = {}  # and since when: a process gets its own record locks again


@contextmanager
def locked(root: Path) -> Iterator[dict[str, Any] | None]:
    """Hold `root`/.lock; yields what the file says of a holder that died, or None.

    Raises UserError naming pid, host and start time while another run holds it, for what a run on another host left
    behind, since from here its death cannot be seen, and where `root` is a file.
    """
    path = root.resolve() / LOCK
    make_folder(root)
    if path in _held:
        raise UserError(f"{root}: this process runs in it already; wait until it is done or choose another --exp")
    descriptor = _open_locked(path, root)
    try:
        _held[path] = started = time.strftime("%Y-%m-%dT%H:%M:%S%z")
        before = _holder(descriptor)
        here = socket.gethostname()
        if before and before["host"] != here:
            raise UserError(
                f"{root}: {_describe(before)} has not ended there as far as can be seen from {here}; "
                f"if it has, remove {root / LOCK}"
            )
        text = json.dumps({"pid": os.getpid(), "host": here, "started": started})
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, text.encode(), 0)
        try:
            yield before
        finally:
            path.unlink(missing_ok=True)
    finally:
        _held.pop(path, None)
        os.close(descriptor)


@dataclass(frozen=True)
class Holder:
    """Who holds a lock, or held it; alive: None where that cannot be seen from here."""

    pid: int
    host: str
    started: str
    alive: bool | None

    def describe(self) -> str:
        return _describe(vars(self))


def find_holder(root: Path) -> Holder | None:
    """Who runs in `root`, or did until it was killed; asking disturbs nobody. None: no run, or one that just begins."""
    path, here = root.resolve() / LOCK, socket.gethostname()
    if path in _held:  # opening and closing the file would let go of it
        return Holder(os.getpid(), here, _held[path], True)
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except OSError:
        return None
    try:
        said, is_locked = _holder(descriptor), _is_locked(descriptor)
        if said is None or not _is_at(path, descriptor):  # it was given back meanwhile
            return None
    finally:
        os.close(descriptor)
    return Holder(**said, alive=True if is_locked else False if said["host"] == here else None)


def _is_locked(descriptor: int) -> bool:
    """Whether another process holds it (fcntl(2), F_GETLK); Linux's struct flock: type, whence, start, length, pid."""
    layout = "hhqqi0q"
    asked = struct.pack(layout, fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
    kind: int = struct.unpack(layout, fcntl.fcntl(descriptor, fcntl.F_GETLK, asked))[0]
    return kind != fcntl.F_UNLCK


def _open_locked(path: Path, root: Path) -> int:
    """A descriptor of the lock file that this process has locked."""
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            holder = _holder(descriptor)
            os.close(descriptor)
            if not isinstance(error, BlockingIOError | PermissionError):
                raise UserError(f"{path}: cannot be locked ({error.strerror}); use a file system with locks") from None
            who = _describe(holder) if holder else "another run"
            raise UserError(f"{root}: in use by {who}; wait until it is done or choose another --exp") from None
        if _is_at(path, descriptor):
            return descriptor
        os.close(descriptor)  # its holder removed it between our opening and locking it


def _is_at(path: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(path.stat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False


def _holder(descriptor: int) -> dict[str, Any] | None:
    """What the lock file says; None when it says nothing that can be read, as right after its making."""
    try:
        holder = json.loads(os.pread(descriptor, 4096, 0))
        return {"pid": int(holder["pid"]), "host": str(holder["host"]), "started": str(holder["started"])}
    except (ValueError, KeyError, TypeError):
        return None


def _describe(holder: dict[str, Any]) -> str:
    return f"process {holder['pid']} on {holder['host']}, started {holder['started']}"
