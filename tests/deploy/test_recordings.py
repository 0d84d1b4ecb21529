"""Reading and resampling: every format and rate, and one line for what is no recording."""

import struct
from pathlib import Path

import numpy as np
import pytest
import soundfile

from asr_kd.deploy.audio import read_audio, resample
from asr_kd.errors import UserError

RATE = 16000


def tone(rate: int, seconds: float = 1.0, hertz: float = 440.0) -> np.ndarray:
    return (0.5 * np.sin(2 * np.pi * hertz * np.arange(round(rate * seconds)) / rate)).astype(np.float32)


@pytest.mark.parametrize("kind", ["wav", "flac", "ogg"])
def test_channels_become_their_mean(tmp_path: Path, kind: str) -> None:
    path, left, right = tmp_path / f"two.{kind}", tone(RATE), tone(RATE, hertz=700)
    soundfile.write(path, np.stack([left, right], axis=1), RATE)
    audio = read_audio(path)
    assert audio.rate == RATE and audio.seconds == 1.0
    np.testing.assert_allclose(audio.samples, (left + right) / 2, atol=0.05 if kind == "ogg" else 1e-4)


def test_nine_channels_are_read_and_mentioned(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path, sound = tmp_path / "nine.wav", tone(RATE)
    soundfile.write(path, np.outer(sound, np.linspace(0, 1, 9)), RATE)
    np.testing.assert_allclose(read_audio(path).samples, sound / 2, atol=1e-4)
    assert "nine.wav: 9 channels, their mean is transcribed" in caplog.text


@pytest.mark.parametrize("rate", [8000, 11025, 22050, 44100, 48000])
def test_a_tone_stays_the_tone_at_another_rate(rate: int) -> None:
    found, expected = resample(tone(rate), rate, RATE), tone(RATE)
    assert found.dtype == np.float32 and abs(len(found) - len(expected)) <= 1
    inside = slice(RATE // 10, -RATE // 10)
    np.testing.assert_allclose(found[inside], expected[: len(found)][inside], atol=2e-3)


def test_what_the_lower_rate_cannot_hold_goes() -> None:
    high = resample(tone(48000, hertz=12000), 48000, RATE)
    assert np.abs(high[1000:-1000]).max() < 0.01


def wav_header(rate: int, data: bytes = b"\0\1" * 1000) -> bytes:
    head = struct.pack("<4sI4s4sIHHIIHH", b"RIFF", 36 + len(data), b"WAVE", b"fmt ", 16, 1, 1, rate, 2 * rate, 2, 16)
    return head + struct.pack("<4sI", b"data", len(data)) + data


def written(path: Path, samples: np.ndarray) -> bytes:
    soundfile.write(path, samples, RATE, subtype="FLOAT")
    return path.read_bytes()


BAD = {
    "no samples": lambda path: written(path, np.zeros(0, np.float32)),
    "0 Hz": lambda path: wav_header(0),
    "nothing but silence": lambda path: written(path, np.full(RATE, 0.25, np.float32)),
    "not finite": lambda path: written(path, np.where(np.arange(RATE) == 77, np.nan, tone(RATE))),
    "not finite numbers": lambda path: written(path, np.where(np.arange(RATE) == 77, np.inf, tone(RATE))),
    "not readable as audio": lambda path: b"RIFF is all there is",
}


@pytest.mark.parametrize("message", BAD)
def test_what_is_no_recording_is_one_line_with_its_name(tmp_path: Path, message: str) -> None:
    path = tmp_path / "bad.wav"
    path.write_bytes(BAD[message](path))
    with pytest.raises(UserError, match=rf"bad\.wav: .*{message}") as error:
        read_audio(path)
    assert "\n" not in str(error.value)


def test_an_hour_of_silence_is_refused_at_once(tmp_path: Path) -> None:
    path = tmp_path / "silence.wav"
    soundfile.write(path, np.zeros(3600 * 8000, np.int16), 8000)
    with pytest.raises(UserError, match="nothing but silence"):
        read_audio(path)


@pytest.mark.parametrize("name", ["missing.wav", "."])
def test_no_file(tmp_path: Path, name: str) -> None:
    with pytest.raises(UserError, match="no such file"):
        read_audio(tmp_path / name)


def test_a_flac_cut_short_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "cut.flac"
    soundfile.write(path, tone(RATE, seconds=5), RATE)
    path.write_bytes(path.read_bytes()[:9000])
    with pytest.raises(UserError, match=r"cut\.flac: not readable as audio"):
        read_audio(path)
