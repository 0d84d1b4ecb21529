"""A split through one system: scores and search in worker processes, one utterance at a time.

On one machine the graph and the models are loaded before the workers are forked, so all share one copy of them; on
others each worker loads them, and takes shards of utterances. An utterance's result depends on nothing else, hence not
on the number of workers.
"""

import logging
import math
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeVar

import numpy as np

from asr_kd.decode.acoustics import Acoustics
from asr_kd.decode.search import Searcher
from asr_kd.executors.contract import Work
from asr_kd.executors.local import LocalExecutor
from asr_kd.features.store import FrameStore

if TYPE_CHECKING:
    from asr_kd.pipeline import Job

Progress = Callable[[Iterable[Any], str, int | None], Iterable[Any]]
LISTED = 10
SHARD_SECONDS = 300.0  # of audio, on other machines
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
        """(T,) tied states of each utterance's best path where the task keeps them, without the failed ones."""
        return {name: outcome.pdfs for name, outcome in self.outcomes.items() if outcome.pdfs is not None}


@dataclass(frozen=True)
class Task:
    """What a worker needs in memory; paths: whether it keeps the states of the best path, to adapt to speakers with."""

    acoustics: Acoustics
    searcher: Searcher
    alignment: FrameStore | None = None
    paths: bool = True

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
        pdfs = best.pdfs if self.paths else None
        return Outcome(utterance, tuple(best.words), pdfs, best.complete, correct, frames, *times)

    def _accuracy(self, utterance: str, scores: np.ndarray) -> tuple[int, int]:
        if self.alignment is None or self.acoustics.log_prior is None or utterance not in self.alignment:
            return 0, 0
        states = self.alignment[utterance][:, 0]
        return self.acoustics.correct(scores, states), len(states)


@dataclass(frozen=True)
class Shards(Work):
    """Shards of utterances; whence: what gives the function that is called with each utterance."""

    whence: Callable[[], Callable[[str], Any]]
    what: str

    @property
    def title(self) -> str:
        return self.what

    @property
    def here(self) -> Literal["fork"]:
        return "fork"

    def name(self, item: Sequence[str]) -> str:
        return item[0] if len(item) == 1 else f"{item[0]} and {len(item) - 1} more"

    def load(self) -> Callable[[str], Any]:
        return self.whence()

    def do(self, loaded: Callable[[str], Any], item: Sequence[str], progress: object) -> list[Any]:
        return [loaded(utterance) for utterance in item]


def in_processes(
    whence: Callable[[], Callable[[str], R]],
    utterances: dict[str, float],
    job: "Job",
    progress: Progress,
    title: str,
    travels: bool = False,
) -> dict[str, R]:
    """What the function that `whence` gives returns for each of `utterances` (id → seconds of audio), the longest
    first. travels: `whence` can be called on other machines, where the job's executor has some.

    Failed utterances and those whose path is not complete are counted and listed in the log.
    """
    longest_first = sorted(utterances, key=lambda name: (-utterances[name], name))
    work, shards = Shards(whence, title), [(name,) for name in longest_first]
    if travels and job.tasks.remote:
        count = min(len(shards), math.ceil(sum(utterances.values()) / SHARD_SECONDS))
        made = job.spread(work, [tuple(longest_first[number::count]) for number in range(count)])
    else:
        need, path = job.recipe.need(job.stage), job.work.log(job.stage or "run")
        made = LocalExecutor(job.jobs).run(work, shards, need, path)
    done = progress((outcome for shard in made for outcome in shard), title, len(longest_first))
    outcomes = {outcome.utterance: outcome for outcome in done}
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
