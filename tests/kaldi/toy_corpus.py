"""Three words, three phones: what the tests of Kaldi's files share."""

from typing import Any

import numpy as np
from lhotse import AudioSource, MonoCut, Recording, SupervisionSegment

from asr_kd.lang.phones import PhoneSet
from asr_kd.recipe import Recipe

PHONES = PhoneSet(("AA", "B", "T"))
LEXICON = {"a": [("AA",)], "bat": [("B", "AA", "T"), ("B", "T")], "tab": [("T", "AA", "B")]}
TEXTS = {"u1": "bat tab", "u2": "a bat", "u3": "tab a a bat", "u4": "bat"}
ARPA = "\\data\\\nngram 1=5\n\n\\1-grams:\n-99\t<s>\n-0.6\t</s>\n-0.6\ta\n-0.6\tbat\n-0.6\ttab\n\n\\end\\\n"
DIM = 3
Rows = dict[str, np.ndarray]


def cut(utterance: str, frames: int) -> MonoCut:
    seconds = frames / 100 + 0.02
    recording = Recording(utterance, [AudioSource("file", [0], "none.wav")], 16000, round(seconds * 16000), seconds)
    text, speaker = TEXTS[utterance.split("-")[1]], utterance.split("-")[0]
    speech = SupervisionSegment(utterance, utterance, 0.0, seconds, text=text, speaker=speaker)
    return MonoCut(utterance, 0.0, seconds, 0, supervisions=[speech], recording=recording)


def recipe(**external: Any) -> Recipe:
    return Recipe.model_validate({"hmm": {"external": external}})
