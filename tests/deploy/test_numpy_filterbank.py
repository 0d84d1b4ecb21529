"""Filterbanks in numpy against torchaudio's."""

import numpy as np
import pytest

from asr_kd.deploy.filterbank import Filterbank
from asr_kd.features.filterbank import fbank
from asr_kd.recipe import Filterbank as FilterbankRecipe


@pytest.mark.parametrize(("rate", "bins", "high"), [(16000, 40, 7600.0), (16000, 40, 5400.0), (8000, 23, -200.0)])
def test_features_are_those_of_the_experiment(rate: int, bins: int, high: float) -> None:
    draws = np.random.default_rng(0)
    time = np.arange(2 * rate) / rate
    sound = 0.1 * draws.normal(size=2 * rate) + 0.3 * np.sin(2 * np.pi * 440 * time) + 0.05
    sound[rate : rate + rate // 2] *= 1e-3
    recipe, bank = FilterbankRecipe(num_bins=bins, high_freq=high), Filterbank(rate, bins, 20.0, high)
    for samples in (len(sound), len(sound) - 1, rate // 40, rate // 40 - 1, 0):
        waveform = sound[:samples].astype(np.float32)
        (expected,) = fbank([waveform], rate, recipe)
        found = bank(waveform)
        assert found.shape == expected.shape and found.dtype == np.float32
        np.testing.assert_allclose(found, expected, atol=1e-3)


def test_digital_silence_has_the_floor_of_the_experiment() -> None:
    samples = np.zeros(8000, np.float32)
    (expected,) = fbank([samples], 16000, FilterbankRecipe())
    np.testing.assert_allclose(Filterbank(16000, 40, 20.0, 7600.0)(samples), expected, rtol=1e-6)
