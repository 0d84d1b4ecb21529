"""Rooms and noise against closed forms."""

import numpy as np
import pytest

from asr_kd.corpora import acoustics

RATE = 16000


@pytest.fixture
def generator() -> np.random.Generator:
    return np.random.default_rng(5)


@pytest.mark.parametrize("reverberation", [0.2, 0.5])
def test_the_room_decays_by_60_dB_in_its_reverberation_time(
    generator: np.random.Generator, reverberation: float
) -> None:
    response = acoustics.impulse_response(generator, reverberation, direct_to_reverberant=3.0, rate=RATE)
    assert response[0] == 1
    assert 10 * np.log10(1 / np.sum(response[1:] ** 2)) == pytest.approx(3.0)
    # Schroeder's backward integration, −5 to −25 dB, extrapolated to 60 dB
    decay = 10 * np.log10(np.cumsum(response[:0:-1] ** 2)[::-1] / np.sum(response[1:] ** 2))
    start, end = np.argmax(decay < -5), np.argmax(decay < -25)
    assert 3 * (end - start) / RATE == pytest.approx(reverberation, rel=0.15)


def test_reverberation_keeps_times(generator: np.random.Generator) -> None:
    click = np.zeros(RATE)
    click[4000] = 1.0
    wet = acoustics.reverberate(click, acoustics.impulse_response(generator, 0.3, 6.0, RATE))
    assert len(wet) == RATE and np.argmax(np.abs(wet)) == 4000 and np.allclose(wet[:4000], 0)


@pytest.mark.parametrize("slope", [0.0, 1.0, 2.0])
def test_noise_has_the_slope_asked_for(generator: np.random.Generator, slope: float) -> None:
    noise = acoustics.coloured_noise(generator, 1 << 17, slope)
    spectrum = np.abs(np.fft.rfft(noise)) ** 2
    bands = [spectrum[low : 2 * low].mean() for low in (100, 200, 400, 800, 1600, 3200, 6400)]
    fitted = np.polyfit(np.arange(7), np.log2(bands), 1)[0]
    assert -fitted == pytest.approx(slope, abs=0.1)


@pytest.mark.parametrize("snr", [-5.0, 0.0, 20.0])
def test_mix_reaches_the_ratio(generator: np.random.Generator, snr: float) -> None:
    speech = np.sign(np.sin(np.arange(RATE) / 20.0))  # every sample active
    speech[: RATE // 2] = 0  # silence does not count
    noise = np.sign(generator.standard_normal(RATE))
    mixture = acoustics.mix(speech, noise, snr)
    assert np.abs(mixture).max() == pytest.approx(acoustics.PEAK)
    silent, active = np.mean(mixture[: RATE // 2] ** 2), np.mean(mixture[RATE // 2 :] ** 2)
    assert 10 * np.log10((active - silent) / silent) == pytest.approx(snr, abs=0.5)


def test_babble_weighs_the_voices_equally(generator: np.random.Generator) -> None:
    loud, soft = 10 * np.sin(np.arange(800) * np.pi / 4), 0.1 * np.sin(np.arange(700) * np.pi / 7)
    spectrum = np.abs(np.fft.rfft(acoustics.babble(generator, [loud, soft], 5600)))
    assert spectrum[5600 // 8] == pytest.approx(
        spectrum[5600 // 14], rel=0.1
    )  # near-silent samples of a sine do not count
