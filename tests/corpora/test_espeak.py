"""eSpeak NG: times of words against the samples, phonemes of words."""

import numpy as np
import pytest

from asr_kd.corpora.espeak import espeak


def test_a_pause_lies_between_the_words_around_it() -> None:
    speech = espeak().synthesise(["set", "it", "today,", "please", "call", "sam"], "en-us+m3", 50, 160)
    assert speech.rate == 22050 and speech.words is not None and len(speech.words) == 6
    end, start = speech.words[2][1], speech.words[3][0]
    assert start - end > 0.08 * speech.rate
    level = np.abs(speech.samples.astype(float))
    assert level[end : start - 200].max() < 0.02 * level.max() < level[end - 2000 : end].max()
    assert level[start : start + 3000].max() > 0.2 * level.max()


def test_words_follow_each_other_and_fill_the_speech() -> None:
    text = "the end of the day in a minute for the man"
    words = text.split()
    speech = espeak().synthesise(words, "en-us+f3", 60, 180)
    assert speech.words is not None and len(speech.words) == len(words)
    starts, ends = zip(*speech.words, strict=True)
    assert list(starts) == sorted(starts) and starts[0] == 0 and ends[-1] <= len(speech.samples)
    assert all(end - start > 0.02 * speech.rate for start, end in speech.words)
    assert ends[:-1] == starts[1:]


def test_the_first_word_is_known_after_many_phonemes() -> None:
    for _ in range(300):
        espeak().phonemes("builders")
    speech = espeak().synthesise(["good", "morning"], "en-us+m1", 50, 170)
    assert speech.words is not None and speech.words[0][0] == 0


def test_a_slower_voice_takes_longer() -> None:
    slow, fast = (espeak().synthesise(["good", "morning"], "en-us+m1", 50, rate) for rate in (120, 240))
    assert len(slow.samples) > 1.3 * len(fast.samples)


def test_phonemes_are_mnemonics_without_stress() -> None:
    assert espeak().phonemes("cheese") == ["tS", "i:", "z"]
    assert espeak().phonemes("") == []


def test_an_unknown_voice_is_an_error() -> None:
    with pytest.raises(ValueError, match="no voice xx-nowhere"):
        espeak().synthesise(["hello"], "xx-nowhere", 50, 170)
