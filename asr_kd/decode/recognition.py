"""A split through one system: scores and search in worker processes, one utterance at a time.

The graph and the models are loaded before the workers are forked, so all share one copy of them. An utterance's
result depends on nothing else, hence not on the number of workers.
"""

import logging
import multiprocessing
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import numpy as np
import torch

from asr_kd.decode.acoustics import Acoustics
from asr_kd.decode.search import Searcher
from asr_kd.errors import UserError
from asr_kd.features.store import FrameStore
from asr_kd.interruption import become_worker

Progress = Callable[[Iterable[Any], str, int | None], Iterable[Any]]
LISTED = 10
FAULTS = (ValueError, KeyError, IndexError, RuntimeError)
log = logging.getLogger("asr_kd")


class Result(Protocol):
    """What is known of one utterance, of whatever is done with it."""

    @property
    def utterance(self) -> str: ...

    @property
    def complete(self) -> bool: ...

    @property
    def error(self) -> str: ...


R = TypeVar("R", bound=Result)


@dataclass(frozen=True)
class Outcome:
    """One utterance; `correct` of `frames` are classified as the alignment says (both 0 without one)."""

    utterance: str
    words: tuple[int, ...] = ()
    pdfs: np.ndarray | None = None
    complete: bool = True
    correct: int = 0
    frames: int = 0
    network_seconds: float = 0.0
    search_seconds: float = 0.0
    error: str = ""


@dataclass(frozen=True)
class Recognition:
    """The outcomes of a split in the order asked for; a failed utterance has no words."""

    outcomes: dict[str, Outcome]

    @property
    def network_seconds(self) -> float:
        return sum(outcome.network_seconds for outcome in self.outcomes.values())

    @property
    def search_seconds(self) -> float:
        return sum(outcome.search_seconds for outcome in self.outcomes.values())

    @property
    def frame_accuracy(self) -> float | None:
        """Share of aligned frames whose most probable state is the alignment's; None when none was compared."""
        frames = sum(outcome.frames for outcome in self.outcomes.values())
        return sum(outcome.correct for outcome in self.outcomes.values()) / frames if frames else None

    def words(self, symbols: list[str]) -> dict[str, list[str]]:
        return {name: [symbols[word] for word in outcome.words] for name, outcome in self.outcomes.items()}

    def pdf_paths(self) -> dict[str, np.ndarray]:
        """(T,) tied states of each utterance's best path, without the failed ones."""
        return {name: outcome.pdfs for name, outcome in self.outcomes.items() if outcome.pdfs is not None}


@dataclass(frozen=True)
class Task:
    """What a worker is forked with."""

    acoustics: Acoustics
    searcher: Searcher
    alignment: FrameStore | None = None

    def recognise(self, utterance: str) -> Outcome:
        """Score and search; an error is part of the outcome, for one bad utterance must not end the run."""
        try:
            start = time.process_time()
            scores = self.acoustics.scores(utterance)
            scored = time.process_time()
            best = self.searcher.search(scores)
            searched = time.process_time()
            correct, frames = self._accuracy(utterance, scores)
        except FAULTS as error:
            return Outcome(utterance, error=f"{type(error).__name__}: {error}")
        times = scored - start, searched - scored
        return Outcome(utterance, tuple(best.words), best.pdfs, best.complete, correct, frames, *times)

    def _accuracy(self, utterance: str, scores: np.ndarray) -> tuple[int, int]:
        if self.alignment is None or self.acoustics.log_prior is None or utterance not in self.alignment:
            return 0, 0
        states = self.alignment[utterance][:, 0]
        return self.acoustics.correct(scores, states), len(states)


def in_processes(
    work: Callable[[str], R], utterances: dict[str, float], jobs: int, progress: Progress, title: str
) -> dict[str, R]:
    """`work` on each of `utterances` (id → seconds of audio) in `jobs` processes, the longest first.

    Failed utterances and those whose path is not complete are counted and listed in the log.
    """
    longest_first = sorted(utterances, key=lambda name: (-utterances[name], name))
    context = multiprocessing.get_context("fork")
    try:
        with ProcessPoolExecutor(jobs, mp_context=context, initializer=_start, initargs=(work,)) as pool:
            done = progress(pool.map(_recognise, longest_first), title, len(longest_first))
            outcomes = {outcome.utterance: outcome for outcome in done}
    except BrokenProcessPool:
        raise UserError(f"{title}: a search process died, probably for lack of memory; use fewer --jobs") from None
    report(outcomes.values(), title)
    return {name: outcomes[name] for name in utterances}


def report(outcomes: Iterable[Result], title: str) -> None:
    """Count and list in the log what failed and what did not come to an end."""
    failed = sorted(f"{outcome.utterance} ({outcome.error})" for outcome in outcomes if outcome.error)
    partial = sorted(outcome.utterance for outcome in outcomes if not outcome.complete)
    for names, what in ((failed, "failed"), (partial, "did not reach the end of a sentence")):
        if names:
            more = f" and {len(names) - LISTED} more" if len(names) > LISTED else ""
            log.warning("%s: %d utterances %s: %s%s", title, len(names), what, ", ".join(names[:LISTED]), more)


_work: Callable[[str], Any] | None = None


def _start(work: Callable[[str], Any]) -> None:
    global _work
    _work = work
    become_worker()
    torch.set_num_threads(1)


def _recognise(utterance: str) -> Any:
    assert _work is not None
    return _work(utterance)
