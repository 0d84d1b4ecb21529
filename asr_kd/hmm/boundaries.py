"""Word boundaries of an alignment against true times, where the corpus knows them."""

from collections.abc import Iterable

import lhotse
import numpy as np

from asr_kd.features.store import FrameStore

FRAME_SHIFT = 0.01
# between the centres of two 25 ms windows whose first samples are 10 ms apart
FIRST_BOUNDARY = 0.0125 - FRAME_SHIFT / 2
WORD_COLUMN = 5


def boundary_errors(cuts: Iterable[lhotse.MonoCut], alignment: FrameStore) -> np.ndarray:
    """Absolute errors in seconds of every word's start and end, (2 × words,); empty where no cut has true times."""
    errors = []
    for cut in cuts:
        true = (cut.supervisions[0].alignment or {}).get("word", [])
        if not true or cut.id not in alignment:
            continue
        words = np.asarray(alignment[cut.id][:, WORD_COLUMN])
        for number, item in enumerate(true):
            frames = np.flatnonzero(words == number)
            start, end = frames[0], frames[-1] + 1
            errors += [start * FRAME_SHIFT + FIRST_BOUNDARY - item.start, end * FRAME_SHIFT + FIRST_BOUNDARY - item.end]
    return np.abs(np.array(errors))


def summarise(errors: np.ndarray) -> dict[str, float]:
    """Median in seconds, and the share within 20 and 60 ms."""
    return {
        "boundaries": len(errors),
        "median_seconds": float(np.median(errors)),
        "within_20_ms": float((errors <= 0.02).mean()),
        "within_60_ms": float((errors <= 0.06).mean()),
    }
