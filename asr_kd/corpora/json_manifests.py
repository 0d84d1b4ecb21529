"""Manifests of JSON lines: lhotse's recordings and supervisions, or one of your own with a line an utterance.

Read here instead of by lhotse.load_manifest, which takes a manifest whole or not at all; here one bad
line or utterance is left out alone.
"""

import glob
import gzip
import json
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

from asr_kd.corpora.librispeech import confined, corpus_folder
from asr_kd.corpora.utterance import Fault, Utterance
from asr_kd.errors import UserError
from asr_kd.recipe import Corpus

Row = dict[str, Any]
Read = TypeVar("Read")
Source = tuple[str, Fault | None]  # of a recording, see _source


def read_lhotse(corpus: Corpus) -> dict[str, list[Utterance]]:
    """Utterances by split, one a supervision, from `*recordings_PART.jsonl[.gz]` and `*supervisions_PART.jsonl[.gz]`.

    As in lhotse a relative path counts from the working directory. A line that is none has a fault: an utterance, or a
    recording with its utterances. Raises UserError naming a manifest that is missing, there twice, or cut off.
    """
    folder = corpus_folder(corpus)

    def read(part: str) -> list[Utterance]:
        listed, spoken = (_find(folder, f"{kind}_{part}") for kind in ("recordings", "supervisions"))
        recordings = dict(_rows(listed, _recorded, _unread))
        return list(_rows(spoken, lambda row: _supervised(row, recordings, listed), _left_out))

    return _by_split(corpus, folder, read)


def read_manifest(corpus: Corpus) -> dict[str, list[Utterance]]:
    """Utterances by split from corpus.dir/PART.jsonl or PART.jsonl.gz.

    A line is an object with `id`, `speaker`, `text`, `audio` and, where the utterance is a piece of the recording,
    `start` and `end` in seconds; other keys are passed over. A relative path counts from corpus.dir. Errors as above.
    """
    folder = corpus_folder(corpus)

    def read(part: str) -> list[Utterance]:
        return list(_rows(_find(folder, part, prefix=""), lambda row: _listed(row, folder), _left_out))

    return _by_split(corpus, folder, read)


def _by_split(corpus: Corpus, folder: Path, read: Callable[[str], list[Utterance]]) -> dict[str, list[Utterance]]:
    def read_parts(parts: tuple[str, ...]) -> list[Utterance]:
        utterances = [utterance for part in parts for utterance in read(part)]
        return confined(utterances, folder) if corpus.untrusted else utterances

    return {"train": read_parts(corpus.train), "dev": read_parts(corpus.dev), "test": read_parts(corpus.test)}


def _find(folder: Path, name: str, prefix: str = "*") -> Path:
    """The one manifest of a name, packed or not."""
    path = folder / name
    pattern = f"{prefix}{glob.escape(path.name)}.jsonl"
    found = sorted([*path.parent.glob(pattern), *path.parent.glob(f"{pattern}.gz")])
    if len(found) == 1:
        return found[0]
    wanted = f"{folder}/{prefix}{name}.jsonl or .jsonl.gz"
    if not found:
        raise UserError(f"{wanted}: no such manifest; set corpus.dir and the names of corpus.train, dev and test")
    raise UserError(f"{wanted}: {found[0].name} and {found[1].name} both match; leave one of them in corpus.dir")


def _rows(path: Path, parse: Callable[[Row], Read], refuse: Callable[[str, Fault], Read]) -> Iterator[Read]:
    """Each line's object put through `parse`; of a line that is none, or lacks what `parse` looks up, what `refuse`
    makes of its id and fault. UserError where the file cannot be read to its end.
    """
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            for number, line in enumerate(file, 1):
                yield _row(line, path, number, parse, refuse)
    except (OSError, EOFError, zlib.error) as error:
        raise UserError(f"{path}: cannot be read ({error}); write it again") from None


def _row(
    line: bytes, path: Path, number: int, parse: Callable[[Row], Read], refuse: Callable[[str, Fault], Read]
) -> Read:
    """What `_rows` yields of a line; one without an id that can be written has the manifest's name and its number."""
    name, kind = f"{path.name}:{number}", "manifest line"
    try:
        row = json.loads(line.decode("utf-8-sig", errors="replace"))
        if not isinstance(row, dict):
            raise ValueError("not an object")
        if b"\\u" in line:
            json.dumps(row, ensure_ascii=False).encode()  # half of a character cannot be written anywhere
        name = str(row.get("id", name))
        line.decode()  # refuses what was only replaced above
        return parse(row)
    except KeyError as error:
        reason = f"has no key {error}"
    except UnicodeDecodeError as error:
        kind, reason = "text is not UTF-8", f"not UTF-8 text ({error})"
    except (ValueError, TypeError, AttributeError, IndexError, OverflowError, RecursionError) as error:
        reason = f"not a line of this manifest ({error})"
    return refuse(name, Fault(kind, f"{path}:{number}: {reason}"))


def _left_out(name: str, fault: Fault) -> Utterance:
    return Utterance(name, "", "", "", name, fault=fault)


def _recorded(row: Row) -> tuple[str, Source]:
    return str(row["id"]), _source(row)


def _unread(name: str, fault: Fault) -> tuple[str, Source]:
    return name, ("", fault)


def _supervised(row: Row, recordings: dict[str, Source], listed: Path) -> Utterance:
    name, recording, start = str(row["id"]), str(row["recording_id"]), float(row["start"])
    missing = Fault("audio file missing", f"recording {recording} is not in {listed}")
    source, fault = recordings.get(recording, ("", missing))
    text, speaker, end = str(row.get("text") or ""), str(row.get("speaker") or ""), start + float(row["duration"])
    return Utterance(name, speaker, text, source, recording, start, end, fault=_unusable(name) or fault)


def _source(recording: Row) -> Source:
    """Where a recording's audio is, or why it cannot be used as it is."""
    sources = recording["sources"]
    kind, source, channels = sources[0]["type"], str(sources[0]["source"]), sources[0]["channels"]
    if len(sources) > 1 or channels != [0]:
        return source, Fault("several channels", f"{source}: one channel, numbered 0, is read")
    if recording.get("transforms"):
        return source, Fault("audio with transforms", f"{source}: write the transformed audio to a file of its own")
    if kind == "command":
        return f"{source}|", None
    if kind != "file" or source.endswith("|"):
        return source, Fault("audio source", f"{kind} {source}: files and commands are read")
    return source, None


def _listed(row: Row, folder: Path) -> Utterance:
    audio, start, end = str(row["audio"]), float(row.get("start") or 0), row.get("end")
    fault = Fault("audio source", f"{audio}: commands are not read") if audio.endswith("|") else None
    speaker, text = str(row.get("speaker") or ""), str(row.get("text") or "")
    name, ended = str(row["id"]), None if end is None else float(end)
    return Utterance(name, speaker, text, str(folder / audio), audio, start, ended, fault=_unusable(name) or fault)


def _unusable(name: str) -> Fault | None:
    return None if name.split() == [name] else Fault("utterance id", f"{name!r}: an id has no blanks")
