"""The utterances that a reader can listen to: chosen, and packed for templates/viewer.js."""

import io
import logging
import zlib
from base64 import b64encode
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import soundfile
import torch
from jinja2.utils import htmlsafe_json_dumps
from lhotse import MonoCut

from asr_kd import scratch
from asr_kd.corpora.manifest import read_cuts, samples_of
from asr_kd.features.filterbank import FRAME_SHIFT_MS
from asr_kd.features.store import FrameStore
from asr_kd.lang.phones import PhoneSet
from asr_kd.report.document import Viewer
from asr_kd.report.panel import Panel
from asr_kd.score.listing import GAP, align_hypotheses, worst_utterances
from asr_kd.score.wer import Words, utterance_errors
from asr_kd.workspace import Workspace

TOP, LEVELS, BATCH = 3, 16, 512
CUTS = 100  # of the manifest in memory at once
OPUS_RATES = (8000, 12000, 16000, 24000, 48000)
OPUS_COMPRESSION = 0.93  # about 24 kbit/s: speech that sounds like itself, a sixth of FLAC's size
PDF, PHONE, WORD = 0, 2, 5  # columns of an alignment
Progress = Callable[[Sequence[str], str], Iterable[str]]
log = logging.getLogger("asr_kd")


@dataclass(frozen=True)
class Listing:
    """What the viewer compares: references and the hypotheses of two systems, `names`, on test."""

    references: Words
    hypotheses: dict[str, Words]
    names: tuple[str, str]

    def ranked(self, worst: int) -> list[str]:
        """All utterances, the second system's `worst` first, then by difference of the two error rates."""
        before, after = (utterance_errors(self.references, self.hypotheses[name]) for name in self.names)
        difference = {key: abs(after[key] - before[key]) / max(1, len(words)) for key, words in self.references.items()}
        first = [key for key, _ in worst_utterances(self.references, self.hypotheses[self.names[1]], worst)]
        rest = sorted(self.references.keys() - set(first), key=lambda key: (-difference[key], key))
        return first + rest


class Packer:
    """Packs single utterances: words, audio, filterbanks, alignment and, with a panel, the likeliest states."""

    def __init__(self, work: Workspace, listing: Listing, panel: Panel | None) -> None:
        self.listing, self.panel = listing, panel
        self.manifest = work.manifest("test")
        self.features = FrameStore(work.features("fbank", "test"))
        self.alignment = FrameStore(work.alignment("test"))
        self.phones = PhoneSet.read(work.lang / "phones.txt")
        self._numbers = {name: number for number, name in enumerate(panel.utterances)} if panel else {}

    def can_show(self, utterance: str) -> bool:
        """Whether it has features and an alignment of one length, and is one of the panel's."""
        known = utterance in self.features and utterance in self.alignment
        same = known and self.features.frames(utterance) == self.alignment.frames(utterance)
        return same and (self.panel is None or utterance in self._numbers)

    def cuts(self, utterances: Sequence[str]) -> Iterator[MonoCut]:
        """Their cuts in the given order; the manifest is read again for every CUTS of them."""
        for first in range(0, len(utterances), CUTS):
            some = utterances[first : first + CUTS]
            found = {cut.id: cut for cut in read_cuts(self.manifest, only=set(some))}
            yield from map(found.__getitem__, some)

    def pack(self, cut: MonoCut) -> dict[str, Any]:
        """What viewer.js needs of one utterance; `audio` and `data` are base64.

        data: zlib over the pdf of each frame (uint16), then, of each system of `posteriors`, its TOP states of each
        frame, rank by rank (uint16), then their posteriors in 1/255 (uint8), then the filterbanks, band by band, in
        LEVELS levels (uint8).
        """
        listing, utterance = self.listing, cut.id
        reference = listing.references[utterance]
        hypotheses = [listing.hypotheses[name][utterance] for name in listing.names]
        errors = [utterance_errors({utterance: reference}, {utterance: words})[utterance] for words in hypotheses]
        rows = np.asarray(self.alignment[utterance])
        audio = encode_audio(cut)
        return {
            "id": utterance,
            "speaker": cut.supervisions[0].speaker,
            "seconds": round(cut.duration, 3),
            "words": len(reference),
            "errors": errors,
            "columns": align_hypotheses(reference, *hypotheses),
            "spans": word_spans(rows[:, WORD], len(reference)),
            "phones": segments(rows[:, PHONE]),
            "frames": len(rows),
            "audio": b64encode(audio[0]).decode() if audio else None,
            "type": audio[1] if audio else None,
            "data": b64encode(zlib.compress(self._frames(utterance, rows[:, PDF]), 9)).decode(),
        }

    def viewer(self, utterances: Iterable[str]) -> Viewer:
        panel = self.panel
        data = {
            "systems": self.listing.names,
            "posteriors": [panel.teacher, "student"] if panel else [],
            "states": panel.states if panel else [str(pdf) for pdf in range(self.alignment.meta["num_pdfs"])],
            "phones": [self.phones.base(number) for number in range(len(self.phones))],
            "top": TOP,
            "bands": self.features.dim,
            "levels": LEVELS,
            "shift": FRAME_SHIFT_MS / 1000,
            "gap": GAP,
            "total": len(self.listing.references),
        }
        return Viewer(data, utterances)

    def _frames(self, utterance: str, pdfs: np.ndarray) -> bytes:
        states, shares = self._top_states(utterance)
        bands = quantise(np.asarray(self.features[utterance], np.float32))
        parts = [pdfs.astype("<u2"), *(s.astype("<u2") for s in states), *shares, bands.T]
        return b"".join(np.ascontiguousarray(part).tobytes() for part in parts)

    def _top_states(self, utterance: str) -> tuple[list[np.ndarray], list[np.ndarray]]:
        """Of teachers and student: (TOP, frames) states and their posteriors as uint8."""
        if self.panel is None:
            return [], []
        number = self._numbers[utterance]
        start, end = self.panel.starts[number : number + 2].tolist()
        found: dict[str, list[torch.Tensor]] = {self.panel.teacher: [], "student": []}
        for batch in torch.arange(start, end, device=self.panel.labels.device).split(BATCH):
            log_post = self.panel.log_posteriors(batch)
            for name, tops in found.items():
                values, states = log_post[name].topk(TOP, 1)
                tops.append(torch.stack([states.double(), (255 * values.exp()).round().double()]).cpu())
        joined = [torch.cat(tops, 1).numpy() for tops in found.values()]  # (2, frames, TOP) each
        return [top[0].T for top in joined], [top[1].T.astype(np.uint8) for top in joined]


def encode_audio(cut: MonoCut) -> tuple[bytes, str] | None:
    """The cut's audio as Ogg Opus, or FLAC at a rate that Opus has not, and its media type; None if unreadable."""
    try:
        samples = samples_of(cut)
    except Exception as error:  # lhotse's readers raise errors of many libraries; the page shows the others
        log.warning("%s: no audio in report.html: %s", cut.id, error)
        return None
    buffer, rate = io.BytesIO(), int(cut.sampling_rate)
    if rate in OPUS_RATES and "OPUS" in soundfile.available_subtypes("OGG"):
        soundfile.write(buffer, samples, rate, "OPUS", format="OGG", compression_level=OPUS_COMPRESSION)
        return buffer.getvalue(), "audio/ogg; codecs=opus"
    soundfile.write(buffer, samples, rate, "PCM_16", format="FLAC")
    return buffer.getvalue(), "audio/flac"


def quantise(bands: np.ndarray) -> np.ndarray:
    """(frames, bands) to LEVELS levels between the 1st and 99th percentile, uint8."""
    low, high = np.quantile(bands, (0.01, 0.99))
    shares = (bands - low) / max(float(high - low), 1e-6)
    return np.clip(np.rint(shares * (LEVELS - 1)), 0, LEVELS - 1).astype(np.uint8)


def segments(values: np.ndarray) -> list[list[int]]:
    """Runs of equal values: [first frame, frame after the last, value]."""
    edges = np.flatnonzero(np.diff(values)) + 1
    starts, ends = [0, *edges.tolist()], [*edges.tolist(), len(values)]
    return [[start, end, int(values[start])] for start, end in zip(starts, ends, strict=True) if end > start]


def word_spans(numbers: np.ndarray, words: int) -> list[list[int] | None]:
    """First frame and frame after the last of each word of the reference; None for a word without frames."""
    spans: list[list[int] | None] = [None] * words
    for start, end, number in segments(numbers):
        if 0 <= number < words:
            before = spans[number]
            spans[number] = [before[0] if before else start, end]
    return spans


class Lines:
    """Lines of a text, which can be read again and again; in a file, for a page of utterances takes megabytes."""

    def __init__(self) -> None:
        self._file, self._count = scratch.text_file(), 0

    def __len__(self) -> int:
        return self._count

    def append(self, line: str) -> None:
        self._file.write(f"{line}\n")
        self._count += 1

    def __iter__(self) -> Iterator[str]:
        self._file.seek(0)
        return (line.rstrip("\n") for line in self._file)


def pack_within(packer: Packer, ranked: list[str], most: int | None, room: int, progress: Progress) -> Lines:
    """JSON of the first utterances of `ranked` that `packer` can show: at most `most`, and no more than fill `room`
    bytes.
    """
    chosen, packed = [utterance for utterance in ranked if packer.can_show(utterance)][:most], Lines()
    for _, cut in zip(progress(chosen, "utterances of report.html"), packer.cuts(chosen), strict=True):
        line = htmlsafe_json_dumps(packer.pack(cut))
        room -= len(line) + 1  # ASCII, and the end of the line
        if room < 0:
            break
        packed.append(line)
    return packed
