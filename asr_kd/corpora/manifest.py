"""What the rest of the system knows of a corpus: lhotse cuts, one supervision each, per split."""

from collections.abc import Iterable, Sequence
from pathlib import Path

import lhotse
import numpy as np

from asr_kd.errors import UserError


def load_cuts(path: Path) -> lhotse.CutSet:
    """Read a split's cuts eagerly; cut.id is the utterance id, cut.supervisions[0] has its speaker and text."""
    if not path.exists():
        raise UserError(f"{path}: missing; run --stage 0 (prepare)")
    try:
        cuts = lhotse.load_manifest(path, lhotse.CutSet)
        whole = all(isinstance(cut, lhotse.MonoCut) and len(cut.supervisions) == 1 for cut in cuts)
    except Exception as error:  # lhotse, gzip and JSON each raise their own
        raise UserError(f"{path}: damaged ({type(error).__name__}: {error}); run --stage 0 (prepare) again") from None
    if not whole:
        raise UserError(f"{path}: not cuts of one supervision each; run --stage 0 (prepare) again")
    return cuts


def sped_up(cuts: Iterable[lhotse.MonoCut], factors: Sequence[float] | None) -> list[lhotse.MonoCut]:
    """Copies of the cuts resampled to each speed (Ko et al. 2015; Kaldi's perturb_data_dir_speed.sh).

    Utterance and speaker end in `_sp` and the factor: a voice at another speed is another speaker's.
    Raises UserError for factors that would make the same speech twice.
    """
    factors = factors or ()
    if 1 in factors or len(set(factors)) < len(factors):
        raise UserError(f"features.speed: {list(factors)} must differ from 1 and from each other; remove the factor")
    copies = []
    for cut in cuts if factors else ():
        for factor in factors:
            copy = cut.perturb_speed(factor)
            copy.supervisions[0].speaker += copy.id.removeprefix(cut.id)
            copies.append(copy)
    return copies


def words_of(cut: lhotse.MonoCut) -> list[str]:
    """The normalised words of a cut's transcript."""
    return (cut.supervisions[0].text or "").split()


def samples_of(cut: lhotse.MonoCut) -> np.ndarray:
    """The cut's samples, float32 in [-1, 1], one channel, shape (samples,)."""
    return cut.load_audio()[0]
