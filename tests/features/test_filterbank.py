import numpy as np
import pytest
import torch
import torchaudio.compliance.kaldi as kaldi

from asr_kd.errors import UserError
from asr_kd.features.filterbank import check_bands, fbank, mfcc, num_frames
from asr_kd.recipe import Features, Filterbank, Mfcc

RATE = 16000


@pytest.fixture
def waveforms() -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    lengths = (16000, 399, 400, 12345, 8001, 559, 560)
    return [(0.1 * rng.standard_normal(length)).astype(np.float32) for length in lengths]


def log_mel_by_definition(waveform: np.ndarray, bank: Filterbank) -> np.ndarray:
    """(frames, bins): DC removed, pre-emphasised, Povey window, power spectrum, triangles on the mel scale."""
    samples = waveform.astype(np.float64) * 2**15
    frames = np.lib.stride_tricks.sliding_window_view(samples, 400)[::160]
    frames = frames - frames.mean(axis=1, keepdims=True)
    frames = frames - 0.97 * np.concatenate([frames[:, :1], frames[:, :-1]], axis=1)
    povey = (0.5 - 0.5 * np.cos(2 * np.pi * np.arange(400) / 399)) ** 0.85
    power = np.abs(np.fft.rfft(frames * povey, n=512)) ** 2

    def mel(hertz: np.ndarray | float) -> np.ndarray:
        return 1127 * np.log(1 + np.asarray(hertz) / 700)

    edges = np.linspace(mel(bank.low_freq), mel(bank.high_freq), bank.num_bins + 2)
    bins = mel(np.arange(257) * RATE / 512)
    up = (bins - edges[:-2, None]) / (edges[1:-1] - edges[:-2])[:, None]
    down = (edges[2:, None] - bins) / (edges[2:] - edges[1:-1])[:, None]
    return np.log(power @ np.maximum(np.minimum(up, down), 0).T)


def test_fbank_is_the_log_mel_energy_of_its_definition(waveforms: list[np.ndarray]) -> None:
    bank = Filterbank(high_freq=5400)
    np.testing.assert_allclose(
        fbank(waveforms[:1], RATE, bank)[0], log_mel_by_definition(waveforms[0], bank), atol=2e-3
    )


def test_mfcc_is_the_liftered_cosine_transform_of_log_mel_energies(waveforms: list[np.ndarray]) -> None:
    bins, ceps = 23, 13
    log_mel = log_mel_by_definition(waveforms[0], Filterbank(num_bins=bins))
    cosine = np.cos(np.pi / bins * (np.arange(bins)[:, None] + 0.5) * np.arange(ceps)) * np.sqrt(2 / bins)
    cosine[:, 0] = np.sqrt(1 / bins)
    lifter = 1 + 11 * np.sin(np.pi * np.arange(ceps) / 22)
    np.testing.assert_allclose(mfcc(waveforms[:1], RATE, Mfcc())[0], log_mel @ cosine * lifter, atol=2e-2)


def test_a_batch_gives_what_each_utterance_gives_alone(waveforms: list[np.ndarray]) -> None:
    """To float32 rounding: a matrix product's last bits depend on how many rows it has."""
    batched = fbank(waveforms, RATE, Filterbank())
    cepstra = mfcc(waveforms, RATE, Mfcc())
    for waveform, features, ceps in zip(waveforms, batched, cepstra, strict=True):
        assert len(features) == len(ceps) == num_frames(len(waveform), RATE)
        if len(features):
            scaled = torch.from_numpy(waveform * 2**15)[None]
            alone = kaldi.fbank(scaled, num_mel_bins=40, high_freq=7600.0)
            np.testing.assert_allclose(features, alone, rtol=1e-6, atol=1e-5)
            alone = kaldi.mfcc(scaled, num_mel_bins=23, high_freq=7600.0)
            np.testing.assert_allclose(ceps, alone, rtol=1e-6, atol=1e-4)


def test_number_of_frames() -> None:
    assert [num_frames(samples, RATE) for samples in (0, 399, 400, 559, 560, 16000)] == [0, 0, 1, 1, 2, 98]
    assert num_frames(8000, 8000) == 98


@pytest.mark.parametrize(
    ("features", "rate", "key"),
    [
        (Features(), 8000, "features.fbank.high_freq"),
        (Features(fbank=Filterbank(high_freq=-200)), 8000, "features.mfcc.high_freq"),
        (Features(mfcc=Mfcc(low_freq=7700)), RATE, "features.mfcc.low_freq"),
        (Features(mfcc=Mfcc(num_ceps=24)), RATE, "features.mfcc.num_ceps"),
    ],
)
def test_impossible_bands_name_the_key(features: Features, rate: int, key: str) -> None:
    with pytest.raises(UserError, match=key):
        check_bands(features, rate)
