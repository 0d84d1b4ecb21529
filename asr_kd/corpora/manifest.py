"""What the rest of the system knows of a corpus: lhotse cuts, one supervision each, per split."""

import gzip
import json
import sys
from collections.abc import Container, Iterable, Iterator, Sequence
from pathlib import Path

import lhotse
import numpy as np
from lhotse.serialization import deserialize_item

from asr_kd.errors import UserError


def read_cuts(path: Path, word_times: bool = False, only: Container[str] | None = None) -> Iterator[lhotse.MonoCut]:
    """A split's cuts one after the other: as objects, all of a big corpus would take gigabytes.

    cut.id is the utterance id, cut.supervisions[0] has its speaker and text; with `word_times`, also the true times of
    its words as alignment["word"], where the corpus knows them: they take more room than all else. only: the ids of
    those to yield.
    """
    if not path.exists():
        raise UserError(f"{path}: missing; run --stage 0 (prepare)")
    try:
        with gzip.open(path, "rt", encoding="utf-8") as lines:
            number = 0
            for number, line in enumerate(lines, 1):
                fields = json.loads(line)
                if only is not None and fields["id"] not in only:
                    continue
                if not word_times:
                    for supervision in fields["supervisions"]:
                        supervision.pop("alignment", None)
                cut = deserialize_item(fields)
                if not (isinstance(cut, lhotse.MonoCut) and len(cut.supervisions) == 1):
                    raise ValueError(f"line {number} is not a cut of one supervision")
                yield cut
            if not number:
                raise ValueError("empty")
    except Exception as error:  # lhotse, gzip and JSON each raise their own
        raise UserError(f"{path}: damaged ({type(error).__name__}: {error}); run --stage 0 (prepare) again") from None


def sped_up(cuts: Iterable[lhotse.MonoCut], factors: Sequence[float] | None) -> Iterator[lhotse.MonoCut]:
    """Copies of the cuts resampled to each speed (Ko et al. 2015; Kaldi's perturb_data_dir_speed.sh).

    Utterance and speaker end in `_sp` and the factor: a voice at another speed is another speaker's.
    Raises UserError for factors that would make the same speech twice.
    """
    factors = factors or ()
    if 1 in factors or len(set(factors)) < len(factors):
        raise UserError(f"features.speed: {list(factors)} must differ from 1 and from each other; remove the factor")
    return (_sped_up(cut, factor) for cut in (cuts if factors else ()) for factor in factors)


def _sped_up(cut: lhotse.MonoCut, factor: float) -> lhotse.MonoCut:
    copy = cut.perturb_speed(factor)
    copy.supervisions[0].speaker += copy.id.removeprefix(cut.id)
    return copy


def words_of(cut: lhotse.MonoCut) -> list[str]:
    """The normalised words of a cut's transcript."""
    return split_words(cut.supervisions[0].text or "")


def split_words(text: str) -> list[str]:
    """The words of a line, each word one string however often it occurs: a corpus repeats a few thousand of them."""
    return [*map(sys.intern, text.split())]


def samples_of(cut: lhotse.MonoCut) -> np.ndarray:
    """The cut's samples, float32 in [-1, 1], one channel, shape (samples,)."""
    return cut.load_audio()[0]
