"""What is packed for the viewer, unpacked and compared with what it was made of."""

import base64
import io
import zlib
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st

from asr_kd.corpora.manifest import samples_of
from asr_kd.features.store import FrameStore
from asr_kd.pipeline import Job
from asr_kd.report.panel import Panel
from asr_kd.report.viewer import LEVELS, TOP, Listing, Packer, quantise, segments, word_spans
from asr_kd.score.wer import read_transcripts


@pytest.fixture(scope="module")
def packer(scored: Job) -> Packer:
    transcripts = read_transcripts(scored.work, ("baseline", "student"))
    hypotheses = {name: both["test"] for name, both in transcripts.hypotheses.items()}
    listing = Listing(transcripts.references["test"], hypotheses, ("baseline", "student"))
    panel = Panel(scored.recipe, scored.work, "cpu")
    return Packer(scored.work, listing, panel)


def packed(packer: Packer, utterance: str) -> dict[str, Any]:
    (cut,) = packer.cuts([utterance])
    return packer.pack(cut)


def test_the_manifest_is_read_in_pieces_and_the_order_stays(packer: Packer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("asr_kd.report.viewer.CUTS", 2)
    names = ["utt-3", "utt-1", "utt-2"]
    assert [cut.id for cut in packer.cuts(names)] == names


def test_frames_are_packed_as_documented(packer: Packer, scored: Job) -> None:
    assert packer.panel is not None
    for number, name in enumerate(packer.panel.utterances):
        entry = packed(packer, name)
        data = zlib.decompress(base64.b64decode(entry["data"]))
        count, bands = entry["frames"], packer.features.dim
        shapes = [(np.uint16, (1, count)), *2 * [(np.uint16, (TOP, count))], *2 * [(np.uint8, (TOP, count))]]
        arrays, at = [], 0
        for kind, shape in [*shapes, (np.uint8, (bands, count))]:
            array = np.frombuffer(data, np.dtype(kind).newbyteorder("<"), shape[0] * count, at)
            arrays.append(array.reshape(shape))
            at += array.nbytes
        assert at == len(data)
        aligned, *tops, picture = arrays
        rows = FrameStore(scored.work.alignment("test"))[name]
        assert (aligned[0] == rows[:, 0]).all()
        start, end = packer.panel.starts[number : number + 2].tolist()
        scores = packer.panel.log_posteriors(packer.panel.sample(None)[start:end])
        for states, shares, system in zip(tops[:2], tops[2:], ("ensemble", "student"), strict=True):
            posteriors = scores[system].exp().numpy()
            order = np.argsort(-posteriors, 1)[:, :TOP]
            expected = np.take_along_axis(posteriors, order, 1).T
            chosen = np.take_along_axis(posteriors, states.T.astype(int), 1).T
            assert chosen == pytest.approx(expected, abs=1e-6)
            assert shares / 255 == pytest.approx(expected, abs=0.5 / 255 + 1e-6)
        assert (picture == quantise(np.asarray(packer.features[name], np.float32)).T).all()


def test_audio_is_the_utterances(packer: Packer, scored: Job) -> None:
    (cut,) = packer.cuts(["utt-1"])
    entry = packed(packer, "utt-1")
    heard, rate = soundfile.read(io.BytesIO(base64.b64decode(entry["audio"])))
    said = samples_of(cut)
    assert entry["type"] == "audio/ogg; codecs=opus" and rate == cut.sampling_rate
    assert len(heard) == len(said) and np.corrcoef(heard, said)[0, 1] > 0.5
    assert entry["seconds"] == pytest.approx(cut.duration, abs=1e-3)


def test_audio_that_is_gone_is_no_error(packer: Packer, monkeypatch: pytest.MonkeyPatch) -> None:
    def gone(cut: object) -> np.ndarray:
        raise OSError("disk pulled out")

    monkeypatch.setattr("asr_kd.report.viewer.samples_of", gone)
    entry = packed(packer, "utt-1")
    assert entry["audio"] is None and entry["frames"] > 0


def test_words_and_errors_of_an_utterance(packer: Packer) -> None:
    entry = packed(packer, "utt-1")
    assert (entry["words"], entry["errors"], entry["speaker"]) == (2, [2, 1], "ann")
    assert entry["columns"] == [("call", "call", "call"), ("anna", "hannah", "hannah"), ("***", "now", "***")]
    (first, second), frames = entry["spans"], entry["frames"]
    assert first[1] == second[0] and first[0] > 0 and second[1] < frames
    assert [packer.phones.base(phone) for _, _, phone in entry["phones"]] == ["SIL", "AA", "S", "SIL"]


def test_the_worst_come_first_then_the_most_different(packer: Packer) -> None:
    # errors baseline/student: utt-1 2/1, utt-2 0/1, utt-3 1/1 of two words each
    assert packer.listing.ranked(1)[0] in ("utt-1", "utt-2", "utt-3")
    assert packer.listing.ranked(0) == ["utt-1", "utt-2", "utt-3"]


@given(st.lists(st.integers(-1, 3), min_size=1, max_size=30))
def test_segments_cover_every_frame_once(values: list[int]) -> None:
    found = segments(np.array(values))
    assert [value for start, end, value in found for _ in range(start, end)] == values
    assert all(before[2] != after[2] for before, after in pairwise(found))


def test_a_word_without_frames_has_no_span() -> None:
    assert word_spans(np.array([-1, 0, 0, -1, 2]), 3) == [[1, 3], None, [4, 5]]


def test_levels_keep_the_order() -> None:
    bands = np.random.default_rng(0).normal(size=(50, 4)).astype(np.float32)
    levels = quantise(bands)
    assert levels.min() == 0 and levels.max() == LEVELS - 1
    order = np.argsort(bands, axis=None)
    assert (np.diff(levels.flatten()[order].astype(int)) >= 0).all()
    assert (quantise(np.zeros((3, 2), np.float32)) == 0).all()
