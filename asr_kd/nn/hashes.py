"""Hashes of files, to tell which data and which weights a result was made from."""

import hashlib
from collections.abc import Iterable
from pathlib import Path

from asr_kd.errors import UserError


def file_hash(path: Path) -> str:
    """SHA-256 of a file's contents, hexadecimal."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}; run the stage that makes it") from None


def store_hash(path: Path) -> str:
    """SHA-256 over the names and contents of a frame store's files."""
    files = [path / "index.json", *sorted(path.glob("*.npy"))]
    return joint_hash(f"{file.name} {file_hash(file)}" for file in files)


def joint_hash(parts: Iterable[str]) -> str:
    """SHA-256 over several strings in order."""
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()
