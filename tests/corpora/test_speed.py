"""Sped-up copies of cuts."""

from pathlib import Path

import numpy as np
import pytest
import soundfile
from lhotse import MonoCut, Recording, SupervisionSegment
from lhotse.supervision import AlignmentItem

from asr_kd.corpora.manifest import samples_of, sped_up
from asr_kd.errors import UserError

RATE, HERTZ = 16000, 440.0


@pytest.fixture
def cut(tmp_path: Path) -> MonoCut:
    """The second half of two seconds, in which a tone sounds; its one word lies in the middle."""
    tone = 0.3 * np.sin(2 * np.pi * HERTZ * np.arange(RATE) / RATE)
    soundfile.write(tmp_path / "tone.wav", np.concatenate([np.zeros(RATE), tone]), RATE, subtype="FLOAT")
    recording = Recording.from_file(tmp_path / "tone.wav")
    words = {"word": [AlignmentItem("hum", 0.25, 0.5)]}
    speech = SupervisionSegment("a-1", recording.id, 0.0, 1.0, text="hum", speaker="a", alignment=words)
    return MonoCut("a-1", 1.0, 1.0, 0, supervisions=[speech], recording=recording)


@pytest.mark.parametrize("factor", [0.9, 1.1])
def test_a_copy_is_shorter_and_higher_by_the_factor(cut: MonoCut, factor: float) -> None:
    [copy] = sped_up([cut], [factor])
    samples = samples_of(copy)
    assert len(samples) == pytest.approx(RATE / factor, abs=2)
    spectrum = np.abs(np.fft.rfft(samples * np.hanning(len(samples))))
    assert spectrum.argmax() * RATE / len(samples) == pytest.approx(HERTZ * factor, abs=2)
    times = copy.supervisions[0].alignment["word"][0]
    assert (times.start, times.duration) == pytest.approx((0.25 / factor, 0.5 / factor), abs=1e-3)
    assert np.array_equal(samples, samples_of(copy))


def test_copies_are_other_utterances_of_other_speakers(cut: MonoCut) -> None:
    copies = list(sped_up([cut], [0.9, 1.1]))
    assert [copy.id for copy in copies] == ["a-1_sp0.9", "a-1_sp1.1"]
    assert [copy.supervisions[0].speaker for copy in copies] == ["a_sp0.9", "a_sp1.1"]
    assert [copy.supervisions[0].text for copy in copies] == ["hum", "hum"]
    assert (cut.id, cut.supervisions[0].speaker) == ("a-1", "a")
    assert list(sped_up([cut], None)) == list(sped_up([cut], ())) == []


@pytest.mark.parametrize("factors", [(1.0,), (0.9, 0.9)])
def test_a_factor_that_makes_the_same_speech_twice_is_refused(cut: MonoCut, factors: tuple[float, ...]) -> None:
    with pytest.raises(UserError, match=r"features\.speed: .* must differ"):
        sped_up([cut], factors)
