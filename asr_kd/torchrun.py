"""What torchrun tells a process of its place among those that it started.

Without torch, which commands load only where they need it.
"""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager

from asr_kd.errors import UserError

GRACE_SECONDS = 5.0


def _number(name: str, alone: int) -> int:
    return int(os.environ.get(name, alone))


def processes_in_all() -> int:
    """1 without torchrun."""
    return _number("WORLD_SIZE", 1)


def processes_here() -> int:
    """Those on this machine."""
    return _number("LOCAL_WORLD_SIZE", 1)


def refuse_several(command: str) -> None:
    """Raise UserError under torchrun with more than one process: each would write the same files."""
    if (count := processes_in_all()) > 1:
        raise UserError(f"{command}: {count} processes would write the same files; run it without torchrun")


def speaks() -> bool:
    """Whether this process writes to the terminal: one a machine."""
    return _number("LOCAL_RANK", 0) == 0


def give_way() -> None:
    """After a mistake, leave the word to the process that speaks: torchrun ends all when the first one ends."""
    if not speaks():
        time.sleep(GRACE_SECONDS)


@contextmanager
def led(device: str) -> Iterator[bool]:
    """Yields whether this process is the one that runs the recipe; others first help with its training, to its end."""
    if _number("WORLD_SIZE", 1) == 1:
        yield True
        return
    from asr_kd.nn import parallel

    parallel.join(device)
    if _number("RANK", 0) == 0:
        yield True
        parallel.dismiss()  # not after an error, which may come amid an epoch: torchrun ends the others then
    else:
        parallel.follow()
        yield False
    parallel.leave()
