"""Kaldi archives: alignments in, alignments and posteriors out.

Writing is kaldi_native_io's. Reading alignments is not: at a damaged entry that library warns on standard error and
then behaves as if the archive had ended, so half an archive would be taken for a whole one.
"""

import glob
import gzip
import os
import zlib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import kaldi_native_io
import numpy as np

from asr_kd.errors import UserError
from asr_kd.files import write_text

Entry = tuple[str, np.ndarray]

GZIP = b"\x1f\x8b"
BINARY = b"\0B"
INTEGERS = BINARY + b"\4"  # then the number of integers, four bytes, and each with a byte 4 before it
INTEGER = np.dtype([("bytes", "u1"), ("value", "<i4")])
TO_PDF = "make it by ali-to-pdf final.mdl 'ark:gunzip -c ali.*.gz|' ark:pdf.ark"


def read_alignments(sources: Sequence[str]) -> dict[str, np.ndarray]:
    """Every utterance's integers, (frames,) int32, of all archives together.

    sources: paths, or patterns such as `exp/ali/pdf.*.gz`, of text or binary archives, packed by gzip or not; a leading
    `ark:` or `ark,t:` is ignored. UserError names the file, and the line of a text, that is not such an archive, or an
    utterance that occurs twice.
    """
    found: dict[str, np.ndarray] = {}
    for path in (path for source in sources for path in _paths(source)):
        for utterance, values in _entries(path, _unpacked(path)):
            if utterance in found:
                raise UserError(f"{path}: {utterance} occurs twice in hmm.external.alignment; name each archive once")
            found[utterance] = values
    return found


def write_archive(path: Path, kind: str, entries: Iterable[tuple[str, Any]]) -> int:
    """Write PATH.ark and its index PATH.scp; returns the number of entries.

    kind: kaldi_native_io's name of the type, such as Int32Vector or FloatMatrix. The index names the archive by its
    absolute path. UserError for a path with a comma, which Kaldi's specifiers cannot express.
    """
    path = path.absolute()
    if "," in str(path):
        raise UserError(f"{path}: Kaldi cannot write to a path with a comma; choose another --to")
    path.parent.mkdir(parents=True, exist_ok=True)
    archive, index = (path.with_name(f"{path.name}.{end}") for end in ("ark", "scp"))
    unfinished = [path.with_name(f".{path.name}.{os.getpid()}.{end}") for end in ("ark", "scp")]
    count = 0
    try:
        with getattr(kaldi_native_io, f"{kind}Writer")("ark,scp:" + ",".join(map(str, unfinished))) as writer:
            for utterance, value in entries:
                writer[utterance] = value
                count += 1
        index.unlink(missing_ok=True)  # an old index would point into the new archive
        unfinished[0].replace(archive)
        write_text(index, unfinished[1].read_text(encoding="utf-8").replace(f" {unfinished[0]}:", f" {archive}:"))
    finally:
        for leftover in unfinished:
            leftover.unlink(missing_ok=True)
    return count


def _paths(source: str) -> list[Path]:
    kind, colon, pattern = source.partition(":")
    pattern = pattern if colon and kind.split(",")[0] == "ark" else source
    if pattern.endswith("|") or kind == "scp":
        raise UserError(f"hmm.external.alignment: {source}: name the archives themselves; .gz is unpacked here")
    paths = sorted(glob.glob(pattern)) or ([pattern] if Path(pattern).exists() else [])  # noqa: PTH207
    if not paths:
        raise UserError(f"hmm.external.alignment: {pattern}: no such file")
    return [Path(path) for path in paths]


def _unpacked(path: Path) -> bytes:
    try:
        data = path.read_bytes()
        return gzip.decompress(data) if data.startswith(GZIP) else data
    except (OSError, EOFError, zlib.error) as error:
        raise UserError(f"{path}: cannot be read ({error}); copy or make it again") from None


def _entries(path: Path, data: bytes) -> Iterator[Entry]:
    space = data.find(b" ")
    if data[space + 1 : space + 3] == BINARY:
        return _binary(path, data)
    if b"\0" in data:
        raise UserError(f"{path}: not an archive of integer vectors; {TO_PDF}")
    return _text(path, data)


def _binary(path: Path, data: bytes) -> Iterator[Entry]:
    place = 0
    while place < len(data):
        space = data.find(b" ", place)
        start = space + 1 + len(INTEGERS) + 4
        if space < 0 or data[space + 1 : start - 4] != INTEGERS:
            raise UserError(f"{path}: no integer vector at byte {place}; {TO_PDF}")
        count = int.from_bytes(data[start - 4 : start], "little", signed=True)
        end = start + count * INTEGER.itemsize
        if count < 0 or end > len(data):
            raise UserError(f"{path}: cut off in the entry at byte {place}; copy or make it again")
        items = np.frombuffer(data, INTEGER, count, start)
        if (items["bytes"] != 4).any() or (items["value"] < 0).any():
            raise UserError(f"{path}: damaged in the entry at byte {place}; copy or make it again")
        yield data[place:space].decode(errors="replace"), items["value"].copy()
        place = end


def _text(path: Path, data: bytes) -> Iterator[Entry]:
    for number, line in enumerate(data.split(b"\n"), start=1):
        utterance, *values = line.split() or [b""]
        if not utterance:
            continue
        try:
            row = np.array([int(value) for value in values], dtype=np.int32)
            name = utterance.decode()
            if not values:
                raise ValueError
        except (ValueError, OverflowError):
            raise UserError(f"{path}:{number}: want an utterance and one whole number a frame; {TO_PDF}") from None
        if (row < 0).any():
            raise UserError(f"{path}:{number}: {name} has a negative number; {TO_PDF}")
        yield name, row
