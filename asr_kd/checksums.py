"""Sizes and checksums of finished files: recorded when they are finished, compared before anything reads them.

The checksum is BLAKE2b of 16 bytes, 0.7 to 1 GB/s on one core, several files at a time.
"""

import hashlib
import json
import os
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeGuard

from asr_kd.errors import UserError
from asr_kd.files import read_json, write_json

Recorded = dict[str, list[int | str]]  # path → bytes, time of change in ns, checksum
SEAL = "checksums.json"
CHECKSUM = "checksum"  # key of an object's own checksum
DIGEST_BYTES = 16


@dataclass(frozen=True)
class Damage:
    """A file that is not as recorded, and in what; `missing`: it is not there."""

    path: Path
    what: str
    missing: bool = False


def checksum(path: Path) -> str:
    """BLAKE2b of a file's contents, hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, partial(hashlib.blake2b, digest_size=DIGEST_BYTES)).hexdigest()


def checksum_of(contents: bytes) -> str:
    return hashlib.blake2b(contents, digest_size=DIGEST_BYTES).hexdigest()


def write_checked(path: Path, data: dict[str, Any]) -> None:
    """Write an object of JSON with its own checksum."""
    write_json(path, {**data, CHECKSUM: _checksum_of_json(data)})


def read_checked(path: Path) -> dict[str, Any] | None:
    """What `write_checked` wrote; None where there is nothing, or something else than was written."""
    try:
        data = read_json(path)
    except UserError:
        return None
    if not isinstance(data, dict) or data.pop(CHECKSUM, None) != _checksum_of_json(data):
        return None
    return data


def _checksum_of_json(data: dict[str, Any]) -> str:
    return checksum_of(json.dumps(data, sort_keys=True).encode())


def files_below(paths: Iterable[Path]) -> Iterator[Path]:
    """The files at and below `paths`, links followed, in order; hidden ones, which are not final, left out."""
    for path in sorted(paths):
        if path.is_file() and not path.name.startswith("."):
            yield path
        for folder, folders, names in os.walk(path, followlinks=True):
            folders.sort()
            yield from (Path(folder, name) for name in sorted(names) if not name.startswith("."))


def record_files(root: Path, paths: Iterable[Path], jobs: int = 1) -> Recorded:
    """Size, time of change and checksum of each file, by its path from `root` (one outside of it by its own)."""

    def describe(path: Path) -> list[int | str]:
        about = path.stat()
        return [about.st_size, about.st_mtime_ns, checksum(path)]

    ordered = list(paths)
    with ThreadPoolExecutor(jobs) as threads:
        described = list(threads.map(describe, ordered))
    names = [path.relative_to(root) if path.is_relative_to(root) else path for path in ordered]
    return {name.as_posix(): about for name, about in zip(names, described, strict=True)}


def find_damage(root: Path, recorded: Recorded, thorough: bool | None, jobs: int = 1) -> list[Damage]:
    """Files that are not as recorded. thorough: read them all; False: only those whose time of change is another; None:
    no file, sizes have to tell.
    """

    def examine(name: str) -> Damage | None:
        path, (size, changed, expected) = root / name, recorded[name]
        try:
            about = path.stat()
            if about.st_size != size:
                return Damage(path, f"{about.st_size} bytes, once {size}")
            if thorough is not None and (thorough or about.st_mtime_ns != changed) and checksum(path) != expected:
                return Damage(path, "contents have changed")
        except FileNotFoundError:
            return Damage(path, "missing", missing=True)
        except OSError as error:
            return Damage(path, f"cannot be read ({error.strerror})")
        return None

    with ThreadPoolExecutor(jobs) as threads:
        return [damage for damage in threads.map(examine, recorded) if damage]


def seal(folder: Path, jobs: int = 1) -> None:
    """Record all files below a finished folder in its checksums.json."""
    write_json(folder / SEAL, record_files(folder, (p for p in files_below([folder]) if p.name != SEAL), jobs))


def unseal(folder: Path) -> None:
    """Before anything in the folder is written again."""
    (folder / SEAL).unlink(missing_ok=True)


def sealed(folder: Path) -> Recorded:
    """What `seal` recorded; nothing for a folder made before there were seals."""
    path = folder / SEAL
    return read_recorded(path) if path.exists() else {}


def read_recorded(path: Path) -> Recorded:
    """A JSON file of recorded files; UserError when it is damaged itself."""
    recorded = read_json(path)
    if not is_recorded(recorded):
        raise UserError(f"{path}: does not list sizes and checksums of files; remove it")
    return recorded


def is_recorded(value: object) -> TypeGuard[Recorded]:
    return isinstance(value, dict) and all(isinstance(row, list) and len(row) == 3 for row in value.values())
