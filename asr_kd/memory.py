"""Memory of this process: its peak, for the stages' records, and what it has no more use of."""

import ctypes
import sys
from contextlib import suppress
from pathlib import Path

PROCESS = Path("/proc/self")
PEAK = "VmHWM:"  # of the resident set, in kB


def forget_peak() -> None:
    """Begin anew to look for the peak (proc(5), clear_refs); nothing where the kernel does not allow it."""
    with suppress(OSError):
        (PROCESS / "clear_refs").write_text("5")


def peak_bytes() -> int | None:
    """Largest resident memory of this process since `forget_peak`, workers not counted; None where unknown."""
    with suppress(OSError):
        for line in (PROCESS / "status").read_text().splitlines():
            if line.startswith(PEAK):
                return 1024 * int(line.split()[1])
    return None


def give_back() -> None:
    """To the kernel, what lies free between blocks in use (malloc_trim(3)); nothing but with glibc.

    Large blocks of ever other sizes, as batches of utterances take, leave more of it from step to step.
    """
    if sys.platform == "linux":
        with suppress(AttributeError, OSError):
            ctypes.CDLL(None).malloc_trim(0)
