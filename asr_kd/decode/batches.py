"""A split through a search that takes many utterances at once (k2's): in one process, batch by batch."""

import logging
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol, Self, runtime_checkable

import numpy as np

from asr_kd.decode.acoustics import Acoustics
from asr_kd.decode.recognition import FAULTS, Progress, report

log = logging.getLogger("asr_kd")


@runtime_checkable
class BatchSearcher(Protocol):
    """batch_seconds: audio to search at once; `search_batch` returns an error where `search` raises it."""

    @property
    def batch_seconds(self) -> float: ...

    def search_batch(self, batch: Sequence[np.ndarray]) -> Sequence[Any]: ...


def in_batches(
    task: Any, searcher: BatchSearcher, utterances: dict[str, float], progress: Progress, title: str
) -> dict[str, Any]:
    """What task.recognise returns for each of `utterances` (id → seconds of audio), the longest first.

    task: a dataclass with `acoustics` and `searcher`, the latter here in place of its own; its results have
    `network_seconds` and `search_seconds`, in which each utterance gets its share of its batch's.
    """
    batches = _batches(utterances, searcher.batch_seconds)
    made = (outcome for batch in batches for outcome in _recognise(task, searcher, batch))
    outcomes = {outcome.utterance: outcome for outcome in progress(made, title, len(utterances))}
    report(outcomes.values(), title)
    return {name: outcomes[name] for name in utterances}


def _recognise(task: Any, searcher: BatchSearcher, batch: Sequence[str]) -> Iterator[Any]:
    """What task.recognise returns for each utterance of a batch."""
    ready = {name: _Scored.of(task.acoustics, name) for name in batch}
    sound = [name for name in batch if ready[name].error is None]
    start = time.process_time()
    found = dict(zip(sound, _search(searcher, [ready[name].values for name in sound]), strict=True))
    share = (time.process_time() - start) / max(1, sum(len(ready[name].values) for name in sound))
    for name in batch:
        acoustics = replace(task.acoustics, scores=ready[name].scores)
        outcome = replace(task, acoustics=acoustics, searcher=_Ready(found.get(name))).recognise(name)
        yield replace(
            outcome,
            network_seconds=outcome.network_seconds + ready[name].seconds,
            search_seconds=outcome.search_seconds + share * len(ready[name].values),
        )


def _search(searcher: BatchSearcher, batch: Sequence[np.ndarray]) -> list[Any]:
    """What `search_batch` finds for each utterance, or the error. A batch that fails as a whole is searched one by one:
    one of its utterances may be to blame, or the memory that all of them take together.
    """
    try:
        return list(searcher.search_batch(batch))
    except FAULTS as error:
        fault = error.with_traceback(None)  # whose frames would hold the search's memory
    if len(batch) <= 1:
        return [fault] * len(batch)
    why = f"{type(fault).__name__}: {fault}"
    log.warning("%d utterances are searched one by one, for all at once failed (%s)", len(batch), why)
    return [found for scores in batch for found in _search(searcher, [scores])]


def _batches(utterances: dict[str, float], seconds: float) -> Iterator[list[str]]:
    """Utterances of like length together, so many that the longest of each times their number is at most `seconds`."""
    batch: list[str] = []
    for name in sorted(utterances, key=lambda name: (-utterances[name], name)):
        if batch and utterances[batch[0]] * (len(batch) + 1) > seconds:
            yield batch
            batch = []
        batch.append(name)
    if batch:
        yield batch


@dataclass(frozen=True)
class _Scored:
    """An utterance's scores, or why it has none, and the CPU seconds that they took."""

    values: np.ndarray
    error: Exception | None
    seconds: float

    @classmethod
    def of(cls, acoustics: Acoustics, utterance: str) -> Self:
        start = time.process_time()
        try:
            values, error = acoustics.scores(utterance), None
        except FAULTS as fault:
            values, error = np.zeros((0, 0), np.float32), fault
        return cls(values, error, time.process_time() - start)

    def scores(self, utterance: str) -> np.ndarray:
        if self.error is not None:
            raise self.error
        return self.values


@dataclass(frozen=True)
class _Ready:
    """What a batch's search has found for one utterance, as a searcher."""

    found: Any

    def search(self, scores: np.ndarray) -> Any:
        if isinstance(self.found, Exception):
            raise self.found
        return self.found
