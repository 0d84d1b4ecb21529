"""Recordings of any format that libsndfile reads, any sample rate and any number of channels."""

import logging
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile

from asr_kd.errors import UserError

BLOCK = 1 << 20
RATES = (1000, 1_000_000)
# One step of 16-bit samples: what stays within it around its mean, no microphone has heard.
SILENT = 2.0**-15
log = logging.getLogger("asr_kd")


@dataclass(frozen=True)
class Audio:
    """samples: (n,) float32, the mean of all channels; rate: samples per second."""

    samples: np.ndarray
    rate: int

    @property
    def seconds(self) -> float:
        return len(self.samples) / self.rate


def read_audio(path: Path) -> Audio:
    """Read a recording; UserError says what is wrong with it.

    A file without samples or with samples that are not finite, nothing but silence, an impossible sample rate, and
    what is missing or no readable audio are refused. More than two channels are mentioned in the log.
    """
    if not path.is_file():
        raise UserError(f"{path}: no such file")
    try:
        with soundfile.SoundFile(path) as file:
            rate, channels = file.samplerate, file.channels
            blocks = [_mean(block) for block in file.blocks(BLOCK, dtype="float32", always_2d=True)]
    except (soundfile.SoundFileError, OSError, ValueError) as error:
        raise UserError(f"{path}: not readable as audio ({_reason(path, error)}); convert or replace it") from None
    samples = np.concatenate([np.zeros(0, np.float32), *blocks])
    if not RATES[0] <= rate <= RATES[1]:
        raise UserError(f"{path}: {rate} Hz is no sample rate of speech; the file's header is wrong")
    if not len(samples):
        raise UserError(f"{path}: holds no samples; record it again")
    lowest, mean, highest = samples.min(), samples.mean(dtype=np.float64), samples.max()
    if not (np.isfinite(lowest) and np.isfinite(highest)):
        raise UserError(f"{path}: has samples that are not finite numbers; convert it again")
    if max(highest - mean, mean - lowest) <= SILENT:
        raise UserError(f"{path}: nothing but silence; was the microphone on?")
    if channels > 2:
        log.warning("%s: %d channels, their mean is transcribed", path, channels)
    return Audio(samples, rate)


def _mean(block: np.ndarray) -> np.ndarray:
    """(n, channels) to (n,)."""
    return block[:, 0] if block.shape[1] == 1 else block.mean(axis=1)


def _reason(path: Path, error: Exception) -> str:
    """Why libsndfile does not read the file; of a WAV file at 0 Hz it says nothing useful itself."""
    with path.open("rb") as file:
        head = file.read(28)
    if head.startswith(b"RIFF") and head[12:16] == b"fmt " and head[24:28] == bytes(4):
        return "0 Hz"
    return str(getattr(error, "error_string", error)).splitlines()[0].rstrip(".")


def resample(samples: np.ndarray, rate: int, target: int) -> np.ndarray:
    """(n,) samples at `rate` Hz to float32 ones at `target` Hz, by a polyphase low-pass filter."""
    if rate == target:
        return samples
    from scipy.signal import resample_poly  # half a second to import, and few need it

    common = math.gcd(rate, target)
    return resample_poly(samples, target // common, rate // common).astype(np.float32)
