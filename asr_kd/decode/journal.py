"""What a search has recognised so far, kept in shards: one that is interrupted goes on where it was."""

import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

from asr_kd.checksums import checksum_of
from asr_kd.decode.recognition import Outcome, Progress
from asr_kd.files import write_json
from asr_kd.interval import Interval

SHARD = 50  # outcomes at most


class Journal:
    """Outcomes of one search in a folder named after `key`: all that its results depend on, as JSON can hold it."""

    def __init__(self, folder: Path, key: Any) -> None:
        self.path = folder / checksum_of(json.dumps(key, sort_keys=True).encode())
        self._interval, self._pending = Interval(), list[Outcome]()

    def read(self) -> dict[str, Outcome]:
        """The outcomes by utterance; a shard that cannot be read is as good as none."""
        outcomes: dict[str, Outcome] = {}
        for shard in sorted(self.path.glob("shard-*.json")):
            try:
                rows = json.loads(shard.read_text(encoding="utf-8"))
                if rows["checksum"] != _checksum(rows["outcomes"]):
                    continue
                found = [_outcome(row) for row in rows["outcomes"]]
            except (OSError, ValueError, KeyError, TypeError, RecursionError):
                continue
            outcomes |= {outcome.utterance: outcome for outcome in found}
        return outcomes

    def recorded(self, progress: Progress) -> Callable[..., Iterator[Outcome]]:
        """`progress` that also writes the outcomes that pass, now and then and in the end."""

        def record(outcomes: Iterable[Outcome], title: str, total: int | None) -> Iterator[Outcome]:
            for outcome in progress(outcomes, title, total):
                self._pending.append(outcome)
                if len(self._pending) == SHARD or self._interval.is_over():
                    self._write()
                yield outcome
            self._write()

        return record

    def _write(self) -> None:
        if not self._pending:
            return
        rows = [_row(outcome) for outcome in self._pending]
        number = len(list(self.path.glob("shard-*.json")))
        write_json(self.path / f"shard-{number:05d}.json", {"outcomes": rows, "checksum": _checksum(rows)})
        self._pending = []


def _row(outcome: Outcome) -> dict[str, Any]:
    pdfs = None if outcome.pdfs is None else outcome.pdfs.tolist()
    return asdict(replace(outcome, pdfs=None)) | {"words": [int(word) for word in outcome.words], "pdfs": pdfs}


def _outcome(row: dict[str, Any]) -> Outcome:
    pdfs = None if row["pdfs"] is None else np.array(row["pdfs"], dtype=np.int32)
    return Outcome(**(row | {"words": tuple(row["words"]), "pdfs": pdfs}))


def _checksum(rows: list[dict[str, Any]]) -> str:
    return checksum_of(json.dumps(rows).encode())
