"""What lies between a mouth and a microphone: a room, other voices, noise. Signals are float64 (samples,)."""

import numpy as np
from scipy.fft import next_fast_len
from scipy.signal import fftconvolve

SILENCE_BELOW_PEAK = 0.03
FIRST_REFLECTION_SECONDS = 0.005
PEAK = 0.7


def impulse_response(
    generator: np.random.Generator, reverberation: float, direct_to_reverberant: float, rate: int
) -> np.ndarray:
    """A synthetic room: the direct sound at sample 0, then Gaussian noise that decays by 60 dB in `reverberation` s.

    direct_to_reverberant: energy ratio in dB. Moorer 1979, "About this reverberation business". The direct sound has
    no delay, so that times in the dry signal hold in the reverberant one.
    """
    times = np.arange(round(reverberation * rate)) / rate
    tail = generator.standard_normal(len(times)) * 10 ** (-3 * times / reverberation)
    tail[times < FIRST_REFLECTION_SECONDS] = 0
    tail *= 10 ** (-direct_to_reverberant / 20) / np.linalg.norm(tail)
    tail[0] = 1
    return tail


def reverberate(signal: np.ndarray, response: np.ndarray) -> np.ndarray:
    """`signal` heard in the room, cut to its length."""
    return fftconvolve(signal, response)[: len(signal)]


def coloured_noise(generator: np.random.Generator, samples: int, slope: float) -> np.ndarray:
    """Gaussian noise whose power falls as 1 / frequency^slope: 0 white, 1 pink, 2 brown."""
    length = next_fast_len(samples, real=True)
    spectrum = np.fft.rfft(generator.standard_normal(length))
    bins = np.maximum(np.arange(len(spectrum)), 1)
    return np.fft.irfft(spectrum * bins ** (-slope / 2), length)[:samples]


def babble(generator: np.random.Generator, voices: list[np.ndarray], samples: int) -> np.ndarray:
    """All `voices` at equal power at once, each repeated without end and entered at a drawn sample."""
    mixture = np.zeros(samples)
    for voice in voices:
        start = int(generator.integers(len(voice)))
        mixture += scale_to_power(np.take(voice, np.arange(start, start + samples), mode="wrap"), 1.0)
    return mixture


def power(signal: np.ndarray) -> float:
    """Mean square of the samples that are not silent: those above a small share of the peak."""
    active = signal[np.abs(signal) > SILENCE_BELOW_PEAK * np.abs(signal).max(initial=0)]
    return float(np.mean(active**2)) if len(active) else 0.0


def scale_to_power(signal: np.ndarray, target: float) -> np.ndarray:
    return signal * np.sqrt(target / max(power(signal), 1e-12))


def mix(speech: np.ndarray, noise: np.ndarray, snr: float) -> np.ndarray:
    """speech + noise at `snr` dB (active speech power to noise power), scaled to a fixed peak."""
    mixture = speech + scale_to_power(noise, power(speech) / 10 ** (snr / 10))
    return mixture * (PEAK / max(np.abs(mixture).max(initial=0), 1e-12))
