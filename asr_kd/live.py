"""What a run is at, in small files that `asr-kd status` reads from another process: whole at any moment, never needed.

They lie in `.partial` and are gone when the stage is done; those that a killed run left say how far it came.
"""

import errno
import json
import os
import time
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from threading import Lock
from typing import Any, TypeVar

from asr_kd.files import FULL, atomic_path
from asr_kd.interval import Interval

SECONDS = 2.0  # between two writings
ENDED = "ended"  # key of a stage's file: how it ended where it did not finish
Item = TypeVar("Item")


class LiveFile:
    """A JSON object with the time of its writing, `written`, in seconds since 1970."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._interval = Interval(SECONDS)

    def is_due(self) -> bool:
        return self._interval.is_over()

    def write(self, figures: dict[str, Any]) -> None:
        """A disk without space or permission goes unsaid: what the run itself writes meets it too."""
        try:
            with atomic_path(self.path, durable=False) as temporary:
                temporary.write_text(json.dumps({**figures, "written": time.time()}), encoding="utf-8")
        except OSError as error:
            if error.errno not in (*FULL, errno.EACCES, errno.EROFS):
                raise


def read_live(path: Path) -> dict[str, Any] | None:
    """What a LiveFile says; None where there is none, or none that can be read."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return content if isinstance(content, dict) and isinstance(content.get("written"), int | float) else None


@dataclass(eq=False)
class Task:
    """A loop under way: how many items of how many (None: unknown) are done since `began`."""

    title: str
    total: int | None
    began: float
    done: int = 0


class Board:
    """A stage under way: its process, when it began, and its loops, outermost first."""

    def __init__(self, path: Path, stage: str) -> None:
        self._file, self._tasks, self._lock = LiveFile(path), list[Task](), Lock()
        self._about: dict[str, Any] = {"stage": stage, "pid": os.getpid(), "began": time.time()}
        self._write()

    def watched(self, items: Iterable[Item], title: str, total: int | None) -> Iterator[Item]:
        """The items, counted as they are done. In a forked worker they are only passed on."""
        if os.getpid() != self._about["pid"]:
            yield from items
            return
        task = Task(title, total, time.time())
        with self._lock:
            self._tasks.append(task)
            self._write()
        try:
            for item in items:
                yield item
                task.done += 1
                if self._file.is_due():
                    with self._lock:
                        self._write()
        finally:
            with self._lock:
                self._tasks.remove(task)

    def __getstate__(self) -> dict[str, Any]:
        """For worker processes, which only pass items on."""
        return {key: value for key, value in self.__dict__.items() if key != "_lock"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__ = {**state, "_lock": Lock()}

    def end(self, how: str) -> None:
        """Say how a stage that did not finish ended."""
        with self._lock:
            self._about[ENDED] = how
            self._write()

    def _write(self) -> None:
        self._file.write({**self._about, "tasks": [asdict(task) for task in self._tasks]})
