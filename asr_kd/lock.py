"""One run at a time in an experiment directory.

The operating system holds the lock and lets go of it when its holder ends, however it ends; the file's text says who
the holder is. A POSIX record lock, because forked workers do not inherit it: one that outlives a killed run would keep
any other kind.
"""

import fcntl
import json
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from asr_kd.errors import UserError

LOCK = ".lock"
_held: set[Path] = set()  # a process gets its own record locks again


@contextmanager
def locked(root: Path) -> Iterator[dict[str, Any] | None]:
    """Hold `root`/.lock; yields what the file says of a holder that died, or None.

    Raises UserError naming pid, host and start time while another run holds it, and for what a run on another host
    left behind: from here its death cannot be seen.
    """
    path = root.resolve() / LOCK
    root.mkdir(parents=True, exist_ok=True)
    if path in _held:
        raise UserError(f"{root}: this process runs in it already; wait until it is done or choose another --exp")
    descriptor = _open_locked(path, root)
    try:
        _held.add(path)
        before = _holder(descriptor)
        here = socket.gethostname()
        if before and before["host"] != here:
            raise UserError(
                f"{root}: {_describe(before)} has not ended there as far as can be seen from {here}; "
                f"if it has, remove {root / LOCK}"
            )
        text = json.dumps({"pid": os.getpid(), "host": here, "started": time.strftime("%Y-%m-%dT%H:%M:%S%z")})
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, text.encode(), 0)
        try:
            yield before
        finally:
            path.unlink(missing_ok=True)
    finally:
        _held.discard(path)
        os.close(descriptor)


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
