"""What runs the tasks of a stage, on this machine's cores or on Ray's workers, and what it is given to run.

A task reads and writes files of the experiment directory; what goes to it and what comes back are small.
"""

import errno
import logging
import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, Protocol, runtime_checkable

from asr_kd.errors import UserError
from asr_kd.files import FULL
from asr_kd.recipe import Need

ATTEMPTS = 3
FINAL = (*FULL, errno.EACCES, errno.EPERM, errno.EROFS)
Progress = Callable[..., Iterable[Any]]
log = logging.getLogger("asr_kd")


class Work:
    """What tasks have in common: a frozen dataclass, as small as what travels to wherever they run."""

    @property
    def title(self) -> str:
        """What they are called in messages, in the plural."""
        return "tasks"

    @property
    def here(self) -> Literal["spawn", "fork", "threads", "turns"]:
        """How this machine runs them: in new processes, in forks of this one, in its threads (where what they load is
        large, and most of their time goes into matrix products), or one after another with all cores. In threads and
        in turns the executor shows their progress itself.
        """
        return "spawn"

    @property
    def epochs(self) -> int:
        """How often a task goes through `progress`."""
        return 1

    def load(self) -> Any:
        """What all tasks need in memory; each process that does some loads it once."""

    def do(self, loaded: Any, item: Any, progress: Progress) -> Any:
        """One task. An exception other than UserError is tried again, as is the death of the process."""
        raise NotImplementedError

    def name(self, item: Any) -> str:
        """Names the task in messages, and its log."""
        return str(item)


class Executor(Protocol):
    """remote: whether tasks run in processes that share nothing with this one but the file system."""

    @property
    def remote(self) -> bool: ...

    def run(
        self,
        work: Work,
        items: Sequence[Any],
        need: Need,
        stage_log: Path,
        loaded: Any = None,
        progress: Progress | None = None,
    ) -> Iterator[Any]:
        """What `work` returns for each of `items`, in their order, each as soon as those before it are there.

        need: of one task. stage_log: where the stage that asks writes its log. loaded: what work.load() would return,
        where it is in memory already. progress: for tasks that run in this process.
        A task that fails three times, or once with a UserError, is named when all others have ended: as that
        UserError, or in one with the log that has its traceback.
        """
        ...


@runtime_checkable
class RemoteExecutor(Executor, Protocol):
    """One whose tasks can also be begun one by one. cores: of all workers; most_cores: of the largest."""

    @property
    def cores(self) -> int: ...

    @property
    def most_cores(self) -> int: ...

    def submit(self, work: Work, item: Any, need: Need, task_log: Path) -> Any:
        """Begin a task."""
        ...

    def outcome(self, task: Any) -> tuple[Any, Exception | None] | None:
        """Result and error of a task that `submit` began; None while it runs."""
        ...

    def cancel(self, task: Any) -> None:
        """End a task after the file that it is writing."""
        ...


def silent(items: Iterable[Any], *_: Any) -> Iterable[Any]:
    """The progress of a task that nobody watches."""
    return items


class TaskError(Exception):
    """What a task's exception leaves for another process: one line, and the traceback as text."""

    def __init__(self, line: str, details: str = "") -> None:
        super().__init__(line, details)
        self.line, self.details = line, details


def portable(error: Exception) -> Exception:
    """The exception as it can travel: a user's mistake or a full disk as it is, anything else as a TaskError."""
    if isinstance(error, TaskError) or is_final(error):
        return error
    summary = traceback.format_exception_only(error)[-1].strip().splitlines()[0]
    return TaskError(summary, "".join(traceback.format_exception(error)))


def is_final(error: Exception) -> bool:
    """Whether another attempt would end in the same: a user's mistake, a disk that is full or closed to writers."""
    return isinstance(error, UserError) or (isinstance(error, OSError) and error.errno in FINAL)


class Ledger:
    """Results in the order of the tasks, and the failures of each."""

    def __init__(self, work: Work, items: Sequence[Any]) -> None:
        self._work, self._items = work, items
        self._results: dict[int, Any] = {}
        self._failures: dict[int, int] = {}
        self._given_up: dict[int, Exception] = {}
        self._logs: dict[int, Path] = {}
        self._next = 0

    def name(self, number: int) -> str:
        return self._work.name(self._items[number])

    def done(self, number: int, result: Any) -> None:
        self._results[number] = result

    def failed(self, number: int, error: Exception, where: Path) -> bool:
        """Note a failure, whose traceback is in the log `where`; returns whether to try again.

        Raises the error at once when the disk is full or closed: the others would meet it too.
        """
        error = portable(error)
        if isinstance(error, OSError):
            raise error
        count = self._failures[number] = self._failures.get(number, 0) + 1
        details = error.details if isinstance(error, TaskError) else ""
        log.warning("%s: attempt %d failed: %s\n%s", self.name(number), count, error.args[0], details)
        if isinstance(error, UserError) or count >= ATTEMPTS:
            self._given_up[number], self._logs[number] = error, where
            return False
        return True

    def in_order(self) -> Iterator[Any]:
        """The results whose turn it is; those of failed tasks are left out."""
        while self._next in self._results or self._next in self._given_up:
            number, self._next = self._next, self._next + 1
            if number in self._results:
                yield self._results.pop(number)

    def close(self) -> None:
        """Raise a UserError for what was given up, now that all others are done."""
        for _, error in sorted(self._given_up.items()):
            if isinstance(error, UserError):
                raise error
        if not self._given_up:
            return
        lines = [f"{self.name(number)} ({error.args[0]})" for number, error in sorted(self._given_up.items())]
        some = ", ".join(lines[:3]) + (f" and {len(lines) - 3} more" if len(lines) > 3 else "")
        others = ", the others are done" if len(self._items) > len(lines) else ""
        raise UserError(
            f"{self._work.title}: {some} failed {ATTEMPTS} times{others}; see {self._logs[min(self._logs)]}, "
            "then run the same command again"
        )
