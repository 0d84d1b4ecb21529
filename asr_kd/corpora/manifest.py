"""What the rest of the system knows of a corpus: lhotse cuts, one supervision each, per split."""

from pathlib import Path

import lhotse
import numpy as np

from asr_kd.errors import UserError


def load_cuts(path: Path) -> lhotse.CutSet:
    """Read a split's cuts eagerly; cut.id is the utterance id, cut.supervisions[0] has its speaker and text."""
    if not path.exists():
        raise UserError(f"{path}: missing; run --stage 0 (prepare)")
    return lhotse.load_manifest(path, lhotse.CutSet)


def words_of(cut: lhotse.MonoCut) -> list[str]:
    """The normalised words of a cut's transcript."""
    return (cut.supervisions[0].text or "").split()


def samples_of(cut: lhotse.MonoCut) -> np.ndarray:
    """The cut's samples, float32 in [-1, 1], one channel, shape (samples,)."""
    return cut.load_audio()[0]
