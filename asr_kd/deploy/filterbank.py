"""Kaldi's log-mel filterbanks in numpy: what asr_kd.features.filterbank has from torchaudio."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

WINDOW_MS = 25
SHIFT_MS = 10
FRAMES_PER_SECOND = 1000 // SHIFT_MS
PREEMPHASIS = 0.97
FLOOR = np.finfo(np.float32).eps


@dataclass(frozen=True)
class Filterbank:
    """Frequencies in Hz; a high_freq of zero or below counts from half the sample rate, as in Kaldi."""

    sample_rate: int
    num_bins: int
    low_freq: float
    high_freq: float

    @property
    def window(self) -> int:
        """Samples of one window."""
        return self.sample_rate * WINDOW_MS // 1000

    @property
    def shift(self) -> int:
        """Samples from one window to the next."""
        return self.sample_rate * SHIFT_MS // 1000

    def __call__(self, samples: np.ndarray) -> np.ndarray:
        """(n,) samples in [-1, 1] to (frames, num_bins) float32, a frame for each window wholly inside.

        Kaldi's compute-fbank-feats without dither: DC removed, pre-emphasis, Povey window, power spectrum, triangles
        on the mel scale, natural logarithm.
        """
        if len(samples) < self.window:
            return np.zeros((0, self.num_bins), np.float32)
        scaled = samples.astype(np.float32) * np.float32(2**15)  # Kaldi's samples are 16-bit integers
        frames = sliding_window_view(scaled, self.window)[:: self.shift]
        frames = frames - frames.mean(axis=1, keepdims=True)
        frames[:, 1:] -= np.float32(PREEMPHASIS) * frames[:, :-1]
        frames[:, 0] *= np.float32(1 - PREEMPHASIS)
        spectrum = np.fft.rfft(frames * self._povey, n=self._fft_size)
        power = (np.abs(spectrum) ** 2).astype(np.float32)
        return np.log(np.maximum(power @ self._triangles, FLOOR))

    @property
    def _fft_size(self) -> int:
        return 1 << (self.window - 1).bit_length()

    @cached_property
    def _povey(self) -> np.ndarray:
        return np.hanning(self.window).astype(np.float32) ** np.float32(0.85)

    @cached_property
    def _triangles(self) -> np.ndarray:
        """(fft_size / 2 + 1, num_bins) float32; the bin at half the sample rate belongs to no triangle."""
        nyquist = self.sample_rate / 2
        high = self.high_freq if self.high_freq > 0 else nyquist + self.high_freq
        edges = np.linspace(_mel(self.low_freq), _mel(high), self.num_bins + 2)
        left, centre, right = edges[:-2], edges[1:-1], edges[2:]
        bins = _mel(np.arange(self._fft_size // 2 + 1) * self.sample_rate / self._fft_size)[:, None]
        slopes = np.minimum((bins - left) / (centre - left), (right - bins) / (right - centre))
        slopes[-1] = 0
        return np.maximum(slopes, 0).astype(np.float32)


def _mel(hertz: float | np.ndarray) -> np.ndarray:
    return 1127 * np.log(1 + np.asarray(hertz) / 700)
