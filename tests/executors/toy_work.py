"""Tasks that square numbers and misbehave."""

import errno
import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from asr_kd.errors import UserError
from asr_kd.executors.contract import Progress, Work
from asr_kd.files import atomic_path, write_text


@dataclass(frozen=True)
class Squares(Work):
    """Square number n is in the file of its name, and returned with what was loaded. The number `bad` misbehaves."""

    folder: Path
    kind: Literal["spawn", "fork", "threads", "turns"] = "turns"
    bad: int | None = None
    behaviour: str = ""
    title = "squares"

    @property
    def here(self) -> Literal["spawn", "fork", "threads", "turns"]:
        return self.kind

    def name(self, item: int) -> str:
        return f"square {item}"

    def load(self) -> str:
        return "loaded there"

    def do(self, loaded: str, item: int, progress: Progress) -> tuple[int, str]:
        if item == self.bad:
            self.misbehave()
        time.sleep(0.01 * (7 * item % 3))  # so that they do not end in their order
        write_text(self.folder / str(item), str(item**2))
        return item**2, loaded

    def misbehave(self) -> None:
        marks = self.folder / "attempts"
        with marks.open("a") as file:
            file.write(f"{os.getpid()}\n")
        first = len(marks.read_text().splitlines()) == 1
        if self.behaviour == "raise":
            raise ValueError("no such square")
        if self.behaviour == "raise once" and first:
            raise ValueError("no such square")
        if self.behaviour == "die" or (self.behaviour == "die once" and first):
            os.kill(os.getpid(), signal.SIGKILL)
        if self.behaviour == "refuse":
            raise UserError("square.bad: has no square; choose another")
        if self.behaviour == "full":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self.folder / "file"))
        if self.behaviour == "wait":
            time.sleep(60)
        if self.behaviour == "interrupted":
            with atomic_path(self.folder / "whole") as temporary:
                temporary.write_text("first half, ")
                os.kill(os.getpid(), signal.SIGINT)
                temporary.write_text("first half, second half")

    @property
    def attempts(self) -> int:
        return len((self.folder / "attempts").read_text().splitlines())

    def finished(self) -> set[int]:
        """The numbers whose files are there."""
        return {int(path.name) for path in self.folder.glob("[0-9]*")}


def made(results: Any) -> tuple[list[Any], Exception | None]:
    """Results and, in the end, the error."""
    found = []
    try:
        for result in results:
            found.append(result)
    except (UserError, OSError) as error:
        return found, error
    return found, None
