"""How often long work is saved: often enough that little is lost, seldom enough that it costs nothing."""

import os
import time

from asr_kd.errors import UserError

SECONDS = 600.0
VARIABLE = "ASR_KD_CHECKPOINT_SECONDS"


class Interval:
    """Tells when it is time to save again; `seconds` 0 is always."""

    def __init__(self, seconds: float | None = None) -> None:
        self.seconds = _from_environment() if seconds is None else seconds
        self._last = time.monotonic()

    def is_over(self) -> bool:
        """Whether the interval has passed since the last time that this was so, or since the beginning."""
        now = time.monotonic()
        if now - self._last < self.seconds:
            return False
        self._last = now
        return True


def _from_environment() -> float:
    text = os.environ.get(VARIABLE)
    if text is None:
        return SECONDS
    try:
        return float(text)
    except ValueError:
        raise UserError(f"{VARIABLE}={text}: not a number of seconds; unset it") from None
