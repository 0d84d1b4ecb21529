"""A stream says in the end what its sound says as a whole, and something before that."""

import io
import json
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from asr_kd.cli import app
from asr_kd.deploy.bundle import Bundle
from asr_kd.deploy.normalisation import Statistics
from asr_kd.deploy.recogniser import Recogniser
from asr_kd.deploy.stream import LONG_PAUSE, LONGEST, Partial, Stream, read_pcm
from asr_kd.deploy.transcript import Transcript
from asr_kd.deploy.words import FIRST_BOUNDARY
from asr_kd.errors import UserError

RATE = 16000


@pytest.fixture
def settled(recogniser: Recogniser, noise: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> Recogniser:
    """Normalised by the whole sound from the start, which else a stream cannot be."""
    monkeypatch.setattr("asr_kd.deploy.normalisation.START_FRAMES", 1e15)
    frames = recogniser.bundle.filterbank(noise)
    moments = {"global_mean": frames.mean(0).tolist(), "global_std": frames.std(0).tolist()}
    about = {**recogniser.bundle.about}
    about["normalisation"] = {**about["normalisation"], **moments}
    return replace(recogniser, bundle=Bundle(recogniser.bundle.root, about))


def events_of(stream: Stream, samples: np.ndarray, sizes: list[int]) -> list[Partial | Transcript]:
    ends = [min(end, len(samples)) for end in np.cumsum([0, *sizes]).tolist()]
    events = [event for start, end in pairwise(ends) for event in stream.accept(samples[start:end])]
    return [*events, *stream.finish()]


@pytest.mark.parametrize("seed", range(3))
def test_chunks_of_any_size_add_up_to_the_recording(settled: Recogniser, noise: np.ndarray, seed: int) -> None:
    draws = np.random.default_rng(seed)
    sizes = draws.integers(1, 6000, 200).tolist() if seed else [RATE // 10] * 200
    events = events_of(Stream(settled), noise, sizes)
    sentences = [event for event in events if isinstance(event, Transcript)]
    frames = settled.bundle.filterbank(noise)
    expected = settled.recognise(settled.bundle.normalisation.apply(frames, Statistics.of(frames)))
    assert len(sentences) == 1 and [word.word for word in expected]
    for found, word in zip(sentences[0].words, expected, strict=True):
        assert (found.word, found.start, found.end) == (word.word, word.start, word.end)
        assert found.confidence == pytest.approx(word.confidence, abs=1e-4)
    partial = [event for event in events if isinstance(event, Partial)]
    assert partial and partial[0].seconds < 2.0
    assert all(before.text != after.text and before.seconds < after.seconds for before, after in pairwise(partial))


class Oracle:
    """A network that is sure of the tied states it was told, frame after frame."""

    left, right = 3, 2

    def __init__(self, pdfs: np.ndarray, num_pdfs: int) -> None:
        self.scores = np.where(pdfs[:, None] == np.arange(num_pdfs), 0.0, -60.0).astype(np.float32)
        self.done = 0

    def inside(self, frames: np.ndarray) -> np.ndarray:
        count = len(frames) - self.left - self.right
        self.done += count
        return self.scores[self.done - count : self.done]


def test_sentences_end_in_pauses_and_times_go_on(recogniser: Recogniser) -> None:
    """no, 1.2 s of silence, oh, 0.3 s, no; then silence to the end."""
    silence, oh, no = np.array([0, 1, 4]), np.array([16, 17, 18]), np.array([16, 17, 18, 10, 11, 12])
    said = [(silence, 10), (no, 24), (silence, 120), (oh, 12), (silence, 30), (no, 18), (silence, 40)]
    pdfs = np.concatenate([states[np.arange(frames) * len(states) // frames] for states, frames in said])
    oracle = Oracle(pdfs, len(recogniser.bundle.states.phone))
    stream = Stream(replace(recogniser, network=oracle))  # type: ignore[arg-type]
    samples = np.random.default_rng(0).normal(size=len(pdfs) * 160 + 240).astype(np.float32)
    sentences = [e for e in events_of(stream, samples, [1600] * 40) if isinstance(e, Transcript)]
    assert oracle.done == len(pdfs)
    assert [sentence.text for sentence in sentences] == ["no", "oh no"]
    words = [word for sentence in sentences for word in sentence.words]
    times = [(round(word.start - FIRST_BOUNDARY, 4), round(word.end - FIRST_BOUNDARY, 4)) for word in words]
    assert times == [(0.10, 0.34), (1.54, 1.66), (1.96, 2.14)]
    assert 0.34 + 0.5 <= sentences[0].seconds <= 0.34 + LONG_PAUSE / 100 + 0.1


def test_speech_without_a_pause_ends_after_twenty_seconds(recogniser: Recogniser) -> None:
    pdfs = np.tile(np.repeat([16, 17, 18, 10, 11, 12], 5), 80)
    oracle = Oracle(pdfs, len(recogniser.bundle.states.phone))
    stream = Stream(replace(recogniser, network=oracle))  # type: ignore[arg-type]
    samples = np.random.default_rng(0).normal(size=len(pdfs) * 160 + 240).astype(np.float32)
    sentences = [e for e in events_of(stream, samples, [8000] * 60) if isinstance(e, Transcript)]
    assert len(sentences) == 2 and sentences[0].seconds <= LONGEST / 100 + 0.5
    assert sum(len(sentence.words) for sentence in sentences) in (80, 81)


def test_the_command_streams_a_file_and_standard_input(bundle: Path, noise: np.ndarray, tmp_path: Path) -> None:
    path, pcm = tmp_path / "noise.pcm", (noise * 2**15).astype("<i2").tobytes()
    path.write_bytes(pcm)
    from_file = CliRunner().invoke(app, ["transcribe", str(bundle), "--stream", str(path)])
    piped = CliRunner().invoke(app, ["transcribe", str(bundle), "--stream"], input=pcm)
    assert from_file.exit_code == piped.exit_code == 0
    assert from_file.stdout == piped.stdout != ""
    assert from_file.stderr.startswith("… ") and len(from_file.stderr.splitlines()) > 1
    lines = CliRunner().invoke(app, ["transcribe", str(bundle), "--stream", "--json", str(path)]).stdout.splitlines()
    events = [json.loads(line) for line in lines]
    assert [event.get("final", True) for event in events][-2:] == [False, True]
    assert [event["text"] for event in events if "words" in event] == from_file.stdout.splitlines()


@pytest.mark.parametrize(
    ("contents", "message"),
    [(b"", "holds no samples"), (b"RIFF" + bytes(100), "with a header"), (bytes(3201), "middle of a sample")],
)
def test_what_is_no_raw_sound_is_one_line(contents: bytes, message: str) -> None:
    with pytest.raises(UserError, match=f"sound: .*{message}"):
        list(read_pcm(io.BytesIO(contents), "sound", RATE))


def test_sound_shorter_than_a_window_says_nothing(recogniser: Recogniser) -> None:
    assert events_of(Stream(recogniser), np.ones(399, np.float32), [399]) == []
