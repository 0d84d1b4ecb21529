"""SIGINT and SIGTERM end a run between two files, never within one: a file that is being written is finished first."""

import ctypes
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM)
PR_SET_PDEATHSIG = 1  # of linux/prctl.h: the signal to get when the parent dies
Handler = signal.Handlers | int | None


class Interruption(KeyboardInterrupt):
    """A signal that asks the run to end; `status` is what a shell expects of a command that it ended."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number

    @property
    def name(self) -> str:
        return signal.Signals(self.number).name

    @property
    def status(self) -> int:
        return 128 + self.number


class _State:
    """Of the main thread, which alone sees signals: how many blocks hold them back, and the one held back."""

    depth = 0
    pending: int | None = None
    process = 0


@contextmanager
def interruptible() -> Iterator[None]:
    """Within, either signal ends the worker processes and raises Interruption; a second one ends the process at once.

    Forked workers ignore SIGINT, which a terminal sends to all of a job: the run that they work for ends them.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, _interrupt) for number in SIGNALS}
    _State.process, _State.pending = os.getpid(), None
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Hold an interruption back until the end of the block."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    _State.depth += 1
    try:
        yield
    finally:
        _State.depth -= 1
        if not _State.depth and _State.pending is not None:
            number, _State.pending = _State.pending, None
            raise Interruption(number)


def become_worker() -> None:
    """For worker processes: SIGINT is the business of the run that they work for, and they end when it does, even where
    that was killed (on Linux).
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def _interrupt(number: int, frame: FrameType | None) -> None:
    if os.getpid() != _State.process:
        if number == signal.SIGTERM:
            os._exit(128 + number)
        return
    for each in SIGNALS:
        signal.signal(each, signal.SIG_DFL)
    for child in multiprocessing.active_children():
        child.terminate()
    if _State.depth:
        _State.pending = number
    else:
        raise Interruption(number)
