"""Peak memory of this process, for the stages' records."""

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
