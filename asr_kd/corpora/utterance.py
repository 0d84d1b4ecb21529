"""One utterance as a corpus describes it, and what becomes of it: a lhotse cut, or a reason to leave it out."""

import io
import subprocess
from dataclasses import dataclass
from pathlib import Path

import soundfile
from lhotse import AudioSource, MonoCut, Recording, SupervisionSegment
from lhotse.supervision import AlignmentItem

WINDOW_SECONDS = 0.025


@dataclass(frozen=True)
class Utterance:
    """`audio` is a file, or a command ending in `|` that writes one; `end` None means the end of the recording.

    Times are seconds; those of `words` count from the utterance's start.
    """

    id: str
    speaker: str
    text: str
    audio: str
    recording: str
    start: float = 0.0
    end: float | None = None
    words: tuple[AlignmentItem, ...] = ()


def normalise_text(text: str) -> str:
    """Lower case, words separated by single spaces."""
    return " ".join(text.lower().split())


def to_cut(utterance: Utterance, sample_rate: int) -> MonoCut | str:
    """The utterance as a cut with one supervision, or the reason why it cannot be used."""
    text = normalise_text(utterance.text)
    if not text:
        return "empty transcript"
    if not utterance.speaker:
        return "no speaker"
    audio = _probe(utterance.audio)
    if isinstance(audio, str):
        return audio
    rate, samples = audio
    if rate != sample_rate:
        return f"sample rate {rate} Hz, corpus.sample_rate is {sample_rate} Hz"
    first = round(utterance.start * rate)
    last = samples if utterance.end is None else min(round(utterance.end * rate), samples)
    if last - first < WINDOW_SECONDS * rate:
        return f"{max(last - first, 0)} samples: shorter than one window of {WINDOW_SECONDS * 1000:.0f} ms"
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


def _probe(audio: str) -> tuple[int, int] | str:
    """Sample rate and number of samples, or what is wrong.

    Reading the last sample tells a file that was cut off, at the price of a seek instead of a whole decoding.
    """
    source: io.BytesIO | str = audio
    if audio.endswith("|"):
        done = subprocess.run(audio.removesuffix("|"), shell=True, capture_output=True, check=False)
        if done.returncode:
            return f"audio command failed with status {done.returncode}: {audio}"
        source = io.BytesIO(done.stdout)
    elif not Path(audio).is_file():
        return f"audio file missing: {audio}"
    elif not Path(audio).stat().st_size:
        return f"audio file empty: {audio}"
    try:
        with soundfile.SoundFile(source) as file:
            if not file.frames:
                return f"audio without samples: {audio}"
            file.seek(file.frames - 1)
            if len(file.read(1)) != 1:
                return f"audio cut off: {audio}"
            return file.samplerate, file.frames
    except (soundfile.SoundFileError, OSError) as error:
        return f"audio unreadable ({str(error).split(': ')[-1]}): {audio}"
