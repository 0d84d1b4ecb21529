"""Kaldi's log-mel filterbanks and MFCC, computed for many utterances in one call."""

from collections.abc import Callable, Sequence

import numpy as np
import torch
import torchaudio.compliance.kaldi as kaldi
from torch import Tensor

from asr_kd.errors import UserError
from asr_kd.recipe import Features, Filterbank, Mfcc

FRAME_LENGTH_MS = 25
FRAME_SHIFT_MS = 10


def num_frames(samples: int, sample_rate: int) -> int:
    """Windows that lie wholly inside `samples` (Kaldi's snip_edges)."""
    window, shift = _window_and_shift(sample_rate)
    return 0 if samples < window else 1 + (samples - window) // shift


def fbank(waveforms: Sequence[np.ndarray], sample_rate: int, recipe: Filterbank) -> list[np.ndarray]:
    """Log-mel energies of each waveform, (frames, num_bins) float32 (Kaldi compute-fbank-feats, no dither).

    waveforms: (samples,) float32 in [-1, 1].
    """
    return _batched(
        lambda signal: kaldi.fbank(
            signal,
            sample_frequency=float(sample_rate),
            num_mel_bins=recipe.num_bins,
            low_freq=recipe.low_freq,
            high_freq=recipe.high_freq,
        ),
        waveforms,
        sample_rate,
    )


def mfcc(waveforms: Sequence[np.ndarray], sample_rate: int, recipe: Mfcc) -> list[np.ndarray]:
    """Cepstra of each waveform, C0 first, (frames, num_ceps) float32 (Kaldi compute-mfcc-feats, no dither or energy).

    waveforms: (samples,) float32 in [-1, 1].
    """
    return _batched(
        lambda signal: kaldi.mfcc(
            signal,
            sample_frequency=float(sample_rate),
            num_mel_bins=recipe.num_bins,
            num_ceps=recipe.num_ceps,
            low_freq=recipe.low_freq,
            high_freq=recipe.high_freq,
        ),
        waveforms,
        sample_rate,
    )


def check_bands(features: Features, sample_rate: int) -> None:
    """Raise UserError naming the recipe key whose band does not fit the sample rate or whose sizes contradict."""
    for kind, bank in (("fbank", features.fbank), ("mfcc", features.mfcc)):
        # like Kaldi, a high_freq of zero or below counts from half the sample rate
        high = bank.high_freq if bank.high_freq > 0 else sample_rate / 2 + bank.high_freq
        if high > sample_rate / 2:
            raise UserError(
                f"features.{kind}.high_freq: {bank.high_freq:g} Hz is above half of corpus.sample_rate "
                f"({sample_rate} Hz); lower it to at most {sample_rate // 2}"
            )
        if not 0 <= bank.low_freq < high:
            raise UserError(f"features.{kind}.low_freq: {bank.low_freq:g} Hz must lie between 0 and {high:g} Hz")
    if features.mfcc.num_ceps > features.mfcc.num_bins:
        raise UserError(
            f"features.mfcc.num_ceps: {features.mfcc.num_ceps} cepstra need as many filters; "
            "raise features.mfcc.num_bins"
        )


def _window_and_shift(sample_rate: int) -> tuple[int, int]:
    return sample_rate * FRAME_LENGTH_MS // 1000, sample_rate * FRAME_SHIFT_MS // 1000


def _batched(
    transform: Callable[[Tensor], Tensor], waveforms: Sequence[np.ndarray], sample_rate: int
) -> list[np.ndarray]:
    """Transform all waveforms laid end to end, then give each the rows that lie wholly inside it.

    Zero-padding each to a multiple of the shift makes its first window start on a row of the common signal.
    """
    window, shift = _window_and_shift(sample_rate)
    starts = np.cumsum([0, *(-(-len(waveform) // shift) for waveform in waveforms)])
    signal = torch.zeros(int(starts[-1]) * shift + window)
    for start, waveform in zip(starts, waveforms, strict=False):
        signal[start * shift : start * shift + len(waveform)] = torch.from_numpy(waveform)
    rows = transform((signal * 2**15)[None]).numpy()  # Kaldi's samples are 16-bit integers
    counts = [num_frames(len(waveform), sample_rate) for waveform in waveforms]
    return [rows[start : start + count] for start, count in zip(starts, counts, strict=False)]
