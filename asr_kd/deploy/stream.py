"""Recognition while the sound comes in: normalised on-line, searched on, cut into sentences at silences."""

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import BinaryIO

import numpy as np

from asr_kd.deploy.filterbank import FRAMES_PER_SECOND
from asr_kd.deploy.normalisation import RunningNormalisation
from asr_kd.deploy.recogniser import Recogniser
from asr_kd.deploy.search import BestPath
from asr_kd.deploy.transcript import Transcript
from asr_kd.errors import UserError

CHUNK_SECONDS = 0.1
# Frames of silence that end a sentence (after Kaldi's rules for endpoints): where the language model lets it end,
# anywhere, and with nothing said; and the longest sentence.
PAUSE, LONG_PAUSE, NOTHING, LONGEST = 50, 100, 500, 2000


@dataclass(frozen=True)
class Partial:
    """What the sentence that is being spoken looks like at `seconds`; all of it may still change."""

    seconds: float
    text: str

    def as_json(self) -> str:
        return json.dumps({"final": False, "seconds": round(self.seconds, 2), "text": self.text}, ensure_ascii=False)


class Stream:
    """Sound in, partial and finished sentences out."""

    def __init__(self, recogniser: Recogniser, name: str = "-") -> None:
        self.recogniser, self.name = recogniser, name
        self._bank = recogniser.bundle.filterbank
        self._running = RunningNormalisation(recogniser.bundle.normalisation)
        self._samples = np.zeros(0, np.float32)  # since the first window not yet taken
        self._frames = np.zeros((0, self._bank.num_bins), np.float16)  # those not yet scored and the `left` before them
        self._sentence_start = 0.0
        self._sentence = recogniser.graph.start()
        self._posteriors: list[np.ndarray] = []  # of the sentence's phones
        self._said: list[int] = []

    def accept(self, samples: np.ndarray) -> Iterator[Partial | Transcript]:
        """Hear the next (n,) samples in [-1, 1] at the bundle's sample rate."""
        self._samples = np.concatenate([self._samples, samples])
        raw = self._bank(self._samples)
        if len(raw):
            self._samples = self._samples[len(raw) * self._bank.shift :]
            frames = self._running.apply(raw)
            if not len(self._frames):
                frames = np.concatenate([frames[:1].repeat(self.recogniser.network.left, axis=0), frames])
            yield from self._search(frames)

    def finish(self) -> Iterator[Partial | Transcript]:
        """The sound is over."""
        if len(self._frames):
            yield from self._search(self._frames[-1:].repeat(self.recogniser.network.right, axis=0))
        yield from self._end_sentence()

    def _search(self, frames: np.ndarray) -> Iterator[Partial | Transcript]:
        """Score and search what (n, bins) more frames make possible."""
        network = self.recogniser.network
        self._frames = np.concatenate([self._frames, frames])
        ready = len(self._frames) - network.left - network.right
        if ready <= 0:
            return
        log_post = network.inside(self._frames)
        self._frames = self._frames[ready:]
        self._posteriors.append(self.recogniser.bundle.states.phone_posteriors(log_post))
        self._sentence.advance(self.recogniser.scores(log_post))
        path = self._sentence.best_path(at_end=False)
        if path.words != self._said:
            self._said = path.words
            yield Partial(self._now, self.recogniser.text(path))
        if self._ended(path):
            yield from self._end_sentence()

    def _ended(self, path: BestPath) -> bool:
        silence = self.recogniser.bundle.states.trailing_silence(path.pdfs)
        if not path.words:
            return silence >= NOTHING
        return silence >= (PAUSE if path.complete else LONG_PAUSE) or len(path.pdfs) >= LONGEST

    def _end_sentence(self) -> Iterator[Transcript]:
        words = []
        if self._posteriors:
            words = self.recogniser.timed(self._sentence.best_path(), np.concatenate(self._posteriors))
        start, now = self._sentence_start, self._now
        self._sentence_start, self._sentence = now, self.recogniser.graph.start()
        self._posteriors, self._said = [], []
        if words:
            moved = [replace(word, start=word.start + start, end=word.end + start) for word in words]
            yield Transcript(self.name, now, moved)

    @property
    def _now(self) -> float:
        return self._sentence_start + self._sentence.frames / FRAMES_PER_SECOND


def read_pcm(file: BinaryIO, name: str, sample_rate: int) -> Iterator[np.ndarray]:
    """Raw 16-bit little-endian samples of one channel, 0.1 s at a time, as (n,) float32 in [-1, 1].

    UserError for a file with a header, without samples, or that ends inside a sample.
    """
    size = 2 * round(sample_rate * CHUNK_SECONDS)
    chunk = file.read(size)
    if chunk[:4] in (b"RIFF", b"fLaC", b"OggS"):
        raise UserError(f"{name}: a recording with a header, not raw samples; transcribe it without --stream")
    if not chunk:
        raise UserError(f"{name}: holds no samples; --stream reads raw 16-bit PCM at {sample_rate} Hz")
    while chunk:
        if len(chunk) % 2:
            raise UserError(f"{name}: ends in the middle of a sample; --stream reads raw 16-bit PCM")
        yield np.frombuffer(chunk, "<i2").astype(np.float32) / 2**15
        chunk = file.read(size)


def transcribe_stream(recogniser: Recogniser, file: BinaryIO, name: str) -> Iterator[Partial | Transcript]:
    """Partial results as they change, and a transcript of each sentence when it has ended."""
    stream = Stream(recogniser, name)
    for samples in read_pcm(file, name, recogniser.bundle.filterbank.sample_rate):
        yield from stream.accept(samples)
    yield from stream.finish()
