"""Transcribing files: read, cut, normalised here; network and search in worker processes, a piece at a time."""

import multiprocessing
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, replace
from functools import reduce
from operator import add
from pathlib import Path

import numpy as np

from asr_kd.deploy.audio import read_audio, resample
from asr_kd.deploy.bundle import Bundle
from asr_kd.deploy.normalisation import Normalisation, Statistics
from asr_kd.deploy.pieces import cut
from asr_kd.deploy.recogniser import Recogniser
from asr_kd.deploy.transcript import Transcript
from asr_kd.deploy.words import Word
from asr_kd.errors import UserError

PIECES_AHEAD = 4  # a worker: bounds the memory that features of files to come take


@dataclass(frozen=True)
class Recording:
    """A file's pieces: where each starts, in seconds, and its (T, bins) filterbanks, before normalisation."""

    seconds: float
    starts: list[float]
    frames: list[np.ndarray]

    @staticmethod
    def read(path: Path, bundle: Bundle) -> "Recording":
        """UserError for what cannot be transcribed, see `read_audio`; too short for one window is one of it."""
        audio = read_audio(path)
        bank = bundle.filterbank
        pieces = cut(audio.samples, audio.rate)
        frames = [bank(resample(audio.samples[a:b], audio.rate, bank.sample_rate)) for a, b in pieces]
        if not any(map(len, frames)):
            raise UserError(f"{path}: {audio.seconds * 1000:.0f} ms are too short; record at least 25 ms")
        return Recording(audio.seconds, [a / audio.rate for a, _ in pieces], frames)


def transcribe_files(recogniser: Recogniser, paths: Sequence[Path], jobs: int) -> Iterator[Transcript | UserError]:
    """In order of `paths` a transcript of each, or what is wrong with it."""
    context = multiprocessing.get_context("fork")
    waiting: deque[_Submitted] = deque()
    try:
        with ProcessPoolExecutor(jobs, mp_context=context, initializer=_start, initargs=(recogniser,)) as pool:
            for path in paths:
                waiting.append(_submitted(path, recogniser.bundle, pool))
                while sum(len(submitted.words) for submitted in waiting) > PIECES_AHEAD * jobs:
                    yield waiting.popleft().finished()
            while waiting:
                yield waiting.popleft().finished()
    except BrokenProcessPool:
        raise UserError("transcribe: a process died, probably for lack of memory; use fewer --jobs") from None


def normalised(recording: Recording, normalisation: Normalisation) -> list[np.ndarray]:
    """Each piece's (T, bins) float16 frames, normalised as training was: by speaker, for whom the recording stands, or
    by utterance, for which a piece does.
    """
    if normalisation.by == "utterance":
        return [normalisation.apply(frames, Statistics.of(frames)) for frames in recording.frames]
    of_speaker = reduce(add, map(Statistics.of, recording.frames))
    return [normalisation.apply(frames, of_speaker) for frames in recording.frames]


@dataclass(frozen=True)
class _Submitted:
    """A file on its way: when each piece starts and its words to be; or what is wrong with it."""

    path: Path
    seconds: float
    starts: list[float]
    words: list[Future[list[Word]]]
    error: UserError | None = None

    def finished(self) -> Transcript | UserError:
        if self.error:
            return self.error
        words = []
        try:
            for start, found in zip(self.starts, self.words, strict=True):
                words += [replace(word, start=word.start + start, end=word.end + start) for word in found.result()]
        except UserError as error:
            return error
        return Transcript(str(self.path), self.seconds, words)


def _submitted(path: Path, bundle: Bundle, pool: ProcessPoolExecutor) -> _Submitted:
    try:
        recording = Recording.read(path, bundle)
    except UserError as error:
        return _Submitted(path, 0.0, [], [], error)
    words = [pool.submit(_recognise, frames) for frames in normalised(recording, bundle.normalisation)]
    return _Submitted(path, recording.seconds, recording.starts, words)


_recogniser: Recogniser | None = None


def _start(recogniser: Recogniser) -> None:
    global _recogniser
    _recogniser = recogniser


def _recognise(frames: np.ndarray) -> list[Word]:
    assert _recogniser is not None
    return _recogniser.recognise(frames)
