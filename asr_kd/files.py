"""Files that are written whole or not at all: a temporary name beside the target, then a rename."""

import errno
import json
import os
import re
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import Any

from rich.filesize import decimal

from asr_kd.errors import UserError
from asr_kd.interruption import uninterrupted

FULL = (errno.ENOSPC, errno.EDQUOT)
FULL_BELOW_BYTES = 1 << 16
# The names that atomic_path (and copies of folders), asr_kd.scratch and asr_kd.executors.ray give to what is not final.
TEMPORARY = re.compile(r"\..+\.\d+\.tmp|\.scratch\.[a-z0-9_]{8}\.tmp|\.probe-[0-9a-f]{16}\.tmp", re.DOTALL)


@contextmanager
def atomic_path(path: Path, durable: bool = True) -> Iterator[Path]:
    """Yield a temporary path beside `path` (folder made if missing); on success it becomes `path`, else it goes.

    durable: wait until the contents are on the disk before the name is theirs, or a power cut may leave the name
    with nothing in it. Raises OSError (ENOSPC) when the disk is full, whatever the writing library makes of that, and
    UserError where a file is in the folder's place.
    """
    with uninterrupted():
        make_folder(path.parent)
        temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
        try:
            yield temporary
            if durable:
                _synchronise(temporary)
            temporary.replace(path)
        except Exception as error:
            if _says_full(error) or _free_bytes(path.parent) < FULL_BELOW_BYTES:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path)) from error
            raise
        finally:
            temporary.unlink(missing_ok=True)


def make_folder(path: Path) -> None:
    """Make a folder, with those above it, where it is missing; UserError where a file is in the place of one."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError):
        raise UserError(f"{path}: a file is in the place of this directory; name another directory") from None


def _says_full(error: Exception) -> bool:
    return getattr(error, "errno", None) in FULL or os.strerror(errno.ENOSPC) in str(error)


def _synchronise(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _free_bytes(folder: Path) -> int:
    about = os.statvfs(folder)
    return about.f_bavail * about.f_frsize


def require_space(path: Path, needed: int, what: str) -> None:
    """Raise UserError unless `needed` bytes, and what is at `path` already, fit on its disk. what: who needs them."""
    folder = next(parent for parent in (path.absolute(), *path.absolute().parents) if parent.exists())
    present = sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
    free = _free_bytes(folder)
    if needed > free + present:
        raise UserError(
            f"{path}: {what} need about {decimal(needed)}, {decimal(free + present)} are free; "
            "free some space or choose an --exp on another disk"
        )


def remove_temporaries(root: Path) -> None:
    """Remove what writers that were killed left below `root`; nothing may be writing there."""
    for folder, folders, names in os.walk(root):
        for name in [name for name in names if _is_temporary(name)]:
            Path(folder, name).unlink(missing_ok=True)
        for name in [name for name in folders if _is_temporary(name)]:
            shutil.rmtree(Path(folder, name), ignore_errors=True)


def _is_temporary(name: str) -> bool:
    return TEMPORARY.fullmatch(name) is not None


def write_text(path: Path, text: str | Iterable[str]) -> None:
    """Write a text, or its parts one after the other."""
    with atomic_path(path) as temporary, temporary.open("w", encoding="utf-8") as file:
        file.writelines([text] if isinstance(text, str) else text)


def write_json(path: Path, data: Any) -> None:
    encoder = json.JSONEncoder(indent=1, ensure_ascii=False)
    write_text(path, chain(encoder.iterencode(data), "\n"))


def read_json(path: Path) -> Any:
    """Parse a JSON file; UserError names the file when it is missing or damaged."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from None
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path}: not valid JSON ({error}); remove it and run the stage that makes it again") from None
