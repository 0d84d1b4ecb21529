"""One utterance as a corpus describes it, and what becomes of it: a lhotse cut, or a fault that leaves it out."""

import io
import math
import re
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import soundfile
from lhotse import AudioSource, MonoCut, Recording, SupervisionSegment
from lhotse.supervision import AlignmentItem

WINDOW_SECONDS = 0.025
LONGEST_SECONDS = 600.0  # whole recordings that were never cut: their alignment would take gigabytes
OVERSHOOT_SECONDS = 0.5  # of a segment over its recording's end; Kaldi's extract-segments allows as much
# libsndfile's log of a WAV header; programs that write to a pipe put the largest number there
DECLARED = re.compile(r"^\s*data : (\d+) \(should be (\d+)\)", re.MULTILINE)
STREAMED_BYTES = 0x7FFF0000


@dataclass(frozen=True)
class Fault:
    """What is wrong with an utterance, and the sort of fault that is counted; a note leaves nothing out."""

    kind: str
    reason: str
    is_note: bool = False


@dataclass(frozen=True)
class Utterance:
    """`audio` is a file, or a command ending in `|` that writes one; `end` None means the end of the recording.

    Times are seconds; those of `words` count from the utterance's start. `fault`: found by the corpus's reader.
    """

    id: str
    speaker: str
    text: str
    audio: str
    recording: str
    start: float = 0.0
    end: float | None = None
    words: tuple[AlignmentItem, ...] = ()
    fault: Fault | None = None


def normalise_text(text: str) -> str:
    """Lower case, words separated by single spaces."""
    return " ".join(text.lower().split())


def to_cut(utterance: Utterance, sample_rate: int) -> MonoCut | Fault:
    """The utterance as a cut with one supervision, or why it cannot be used."""
    text = normalise_text(utterance.text)
    if utterance.fault:
        return utterance.fault
    if not text:
        return Fault("empty transcript", "empty transcript")
    if not utterance.speaker:
        return Fault("no speaker", "no speaker")
    audio = _probe(utterance.audio)
    if isinstance(audio, Fault):
        return audio
    rate, samples = audio
    if rate != sample_rate:
        return Fault("sample rate", f"sample rate {rate} Hz, corpus.sample_rate is {sample_rate} Hz")
    start, end = utterance.start, samples / rate if utterance.end is None else utterance.end
    if not (math.isfinite(start) and math.isfinite(end) and start >= 0 and end <= samples / rate + OVERSHOOT_SECONDS):
        return Fault("segment", f"from {start:g} to {end:g} s of a recording of {samples / rate:g} s")
    first = round(start * rate)
    last = samples if utterance.end is None else min(round(utterance.end * rate), samples)
    if last - first < WINDOW_SECONDS * rate:
        short = f"{max(last - first, 0)} samples: shorter than one window of {WINDOW_SECONDS * 1000:.0f} ms"
        return Fault("too short", short)
    if last - first > LONGEST_SECONDS * rate:
        return Fault("too long", f"{(last - first) / rate:.0f} s, more than {LONGEST_SECONDS:.0f} s; cut it up")
    command = utterance.audio.endswith("|")
    source = utterance.audio.removesuffix("|") if command else str(Path(utterance.audio).absolute())
    recording = Recording(
        id=utterance.recording,
        sources=[AudioSource(type="command" if command else "file", channels=[0], source=source)],
        sampling_rate=rate,
        num_samples=samples,
        duration=samples / rate,
    )
    duration = (last - first) / rate
    supervision = SupervisionSegment(
        id=utterance.id,
        recording_id=utterance.recording,
        start=0.0,
        duration=duration,
        channel=0,
        text=text,
        speaker=utterance.speaker,
        alignment={"word": list(utterance.words)} if utterance.words else None,
    )
    return MonoCut(
        id=utterance.id,
        start=first / rate,
        duration=duration,
        channel=0,
        supervisions=[supervision],
        recording=recording,
    )


def _probe(audio: str) -> tuple[int, int] | Fault:
    """Sample rate and number of samples, or what is wrong.

    Reading the last sample tells a file that was cut off, at the price of a seek instead of a whole decoding.
    """

    def fault(kind: str, detail: str = "") -> Fault:
        return Fault(kind, f"{kind}{detail}: {audio}")

    source: io.BytesIO | str = audio
    if audio.endswith("|"):
        done = subprocess.run(audio.removesuffix("|"), shell=True, capture_output=True, check=False)
        if done.returncode:
            return fault("audio command failed", f" with status {done.returncode}")
        source = io.BytesIO(done.stdout)
    try:
        if isinstance(source, str) and not Path(source).is_file():
            return fault("audio file missing")
        if isinstance(source, str) and not Path(source).stat().st_size:
            return fault("audio file empty")
        with soundfile.SoundFile(source) as file:
            if not file.frames:
                return fault("audio without samples")
            if not _has_last_sample(file) or _lacks_samples(file.extra_info):
                return fault("audio cut off")
            return file.samplerate, file.frames
    except (soundfile.SoundFileError, OSError, ValueError) as error:
        return fault("audio unreadable", f" ({str(error).split(': ')[-1]})")


def _has_last_sample(file: soundfile.SoundFile) -> bool:
    try:
        file.seek(file.frames - 1)
        return len(file.read(1)) == 1
    except soundfile.SoundFileError:  # the header was in order
        return False


def _lacks_samples(header_log: str) -> bool:
    """Whether a WAV header promises more bytes than the file has."""
    declared = DECLARED.search(header_log)
    return declared is not None and int(declared[2]) < int(declared[1]) < STREAMED_BYTES


def without_notes(utterances: Iterable[Utterance]) -> list[Utterance]:
    """Those that are utterances; the others are only there to be mentioned."""
    return [utterance for utterance in utterances if not (utterance.fault and utterance.fault.is_note)]
