"""Manifests of JSON lines: lhotse's own files, and one's own."""

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from lhotse import CutSet, Recording, RecordingSet, SupervisionSegment, SupervisionSet

from asr_kd.corpora.json_manifests import read_lhotse, read_manifest
from asr_kd.corpora.manifest import read_cuts, samples_of
from asr_kd.errors import UserError
from asr_kd.files import read_json
from asr_kd.recipe import Corpus
from asr_kd.workspace import SPLITS, Workspace

WriteTone = Callable[..., Path]
Prepare = Callable[..., Workspace]


@pytest.fixture
def lhotse_corpus(tmp_path: Path, write_tone: WriteTone) -> Path:
    """As lhotse's prepare_x leaves it: of each part one recording with two supervisions."""
    folder = tmp_path / "manifests"
    folder.mkdir()
    for number, part in enumerate(SPLITS):
        recording = Recording.from_file(write_tone(tmp_path / f"rec-{part}.wav", seconds=2.0))
        pieces = [
            SupervisionSegment(f"{part}-{i}", recording.id, start, 0.7, text="Hello YOU", speaker=f"speaker {number}")
            for i, start in enumerate((0.1, 1.05))
        ]
        RecordingSet.from_recordings([recording]).to_file(folder / f"toy_recordings_{part}.jsonl.gz")
        SupervisionSet.from_segments(pieces).to_file(folder / f"toy_supervisions_{part}.jsonl.gz")
    return folder


def test_lhotse_manifests_give_the_samples_that_lhotse_gives(lhotse_corpus: Path, run_prepare: Prepare) -> None:
    work = run_prepare({"kind": "lhotse", "dir": str(lhotse_corpus)})
    for part in SPLITS:
        manifests = [lhotse_corpus / f"toy_{kind}_{part}.jsonl.gz" for kind in ("recordings", "supervisions")]
        expected = CutSet.from_manifests(
            recordings=RecordingSet.from_file(manifests[0]), supervisions=SupervisionSet.from_file(manifests[1])
        ).trim_to_supervisions()
        cuts = list(read_cuts(work.manifest(part)))
        assert len(cuts) == 2
        for ours, theirs in zip(cuts, expected, strict=True):
            assert ours.id == theirs.supervisions[0].id
            assert ours.supervisions[0].text == "hello you"
            assert ours.supervisions[0].speaker == theirs.supervisions[0].speaker
            assert np.array_equal(samples_of(ours), theirs.load_audio()[0])


def write_lines(path: Path, *rows: dict[str, Any]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def change(path: Path, **values: Any) -> None:
    """Rewrite a one-line manifest of lhotse's, unpacked, with other values."""
    packed = path.with_suffix(".jsonl.gz")
    (row,) = list(RecordingSet.from_file(packed))
    packed.unlink()
    write_lines(path, row.to_dict() | values)


def source(**values: Any) -> list[dict[str, Any]]:
    return [{"type": "file", "channels": [0], "source": "a.wav"} | values]


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        ({"id": "other"}, "audio file missing"),
        ({"sources": source(channels=[0, 1])}, "several channels"),
        ({"sources": source() + source(channels=[1])}, "several channels"),
        ({"sources": source(type="url", source="https://example.org/a.wav")}, "audio source"),
        ({"sources": source(source="touch here |")}, "audio source"),
        ({"transforms": [{"name": "Speed", "kwargs": {"factor": 0.9}}]}, "audio with transforms"),
        ({"sources": []}, "manifest line"),
    ],
)
def test_recordings_that_cannot_be_used_as_they_are_have_a_fault(
    lhotse_corpus: Path, values: dict[str, Any], kind: str
) -> None:
    change(lhotse_corpus / "toy_recordings_dev.jsonl", **values)
    for utterance in read_lhotse(Corpus(kind="lhotse", dir=str(lhotse_corpus)))["dev"]:
        assert utterance.fault and utterance.fault.kind == kind


def test_a_command_is_run_unless_the_corpus_is_untrusted(lhotse_corpus: Path) -> None:
    change(lhotse_corpus / "toy_recordings_dev.jsonl", sources=source(type="command", source="cat a.wav"))
    first, _ = read_lhotse(Corpus(kind="lhotse", dir=str(lhotse_corpus)))["dev"]
    assert first.audio == "cat a.wav|" and first.fault is None
    first, _ = read_lhotse(Corpus(kind="lhotse", dir=str(lhotse_corpus), untrusted=True))["dev"]
    assert first.fault and first.fault.kind == "command as audio"


@pytest.mark.parametrize("audio", ["../private.wav", "{elsewhere}", "wav/../../private.wav", "link.wav"])
def test_a_strangers_manifests_name_no_files_elsewhere(tmp_path: Path, write_tone: WriteTone, audio: str) -> None:
    folder, elsewhere = tmp_path / "corpus", write_tone(tmp_path / "private.wav")
    write_tone(folder / "own.wav")
    (folder / "link.wav").symlink_to(elsewhere)
    audio = audio.format(elsewhere=elsewhere)
    for part in SPLITS:
        rows = [
            {"id": f"{part}-{n}", "audio": name, "text": "a", "speaker": part}
            for n, name in enumerate((audio, "own.wav"))
        ]
        write_lines(folder / f"{part}.jsonl", *rows)
        recordings = [{"id": row["id"], "sources": source(source=str(folder / row["audio"]))} for row in rows]
        write_lines(folder / f"toy_recordings_{part}.jsonl", *recordings)
        heard = [
            {"id": row["id"], "recording_id": row["id"], "start": 0, "duration": 1, "text": "a", "speaker": part}
            for row in rows
        ]
        write_lines(folder / f"toy_supervisions_{part}.jsonl", *heard)
    for read, kind in ((read_manifest, "manifest"), (read_lhotse, "lhotse")):
        for untrusted, expected in ((True, "audio outside the corpus"), (None, None)):
            stranger, own = read(Corpus.model_validate({"kind": kind, "dir": str(folder), "untrusted": untrusted}))[
                "dev"
            ]
            assert own.fault is None and (stranger.fault and stranger.fault.kind) == expected


def test_a_manifest_missing_or_there_twice_is_named(lhotse_corpus: Path) -> None:
    corpus = Corpus(kind="lhotse", dir=str(lhotse_corpus))
    packed = lhotse_corpus / "toy_supervisions_test.jsonl.gz"
    (lhotse_corpus / "more_supervisions_test.jsonl").touch()
    with pytest.raises(UserError, match=r"more_supervisions_test.jsonl and toy_supervisions_test.jsonl.gz both match"):
        read_lhotse(corpus)
    (lhotse_corpus / "more_supervisions_test.jsonl").unlink()
    packed.unlink()
    with pytest.raises(UserError, match=r"supervisions_test.jsonl or .jsonl.gz: no such manifest"):
        read_lhotse(corpus)


def test_an_own_manifest(tmp_path: Path, write_tone: WriteTone, run_prepare: Prepare) -> None:
    write_tone(tmp_path / "own" / "wav" / "long.wav", seconds=2.0)
    for number, part in enumerate(SPLITS):
        common = {"speaker": f"s{number}", "audio": "wav/long.wav"}
        piece = {"id": f"{part}-1", "text": "Hello", "start": 0.5, "end": 1.25, "emotion": "none"} | common
        whole = {"id": f"{part}-2", "text": "THERE you"} | common
        wrong = [
            {"id": f"{part} 3", "text": "a blank"} | common,
            {"id": f"{part}-4", "text": "no speaker", "audio": "wav/long.wav"},
            {
                "id": f"{part}-5",
                "text": "a command",
                "speaker": f"s{number}",
                "audio": f"touch {tmp_path}/run; cat wav/long.wav|",
            },
            {"id": f"{part}-6", "text": "no time", "start": "soon"} | common,
        ]
        write_lines(tmp_path / "own" / f"{part}.jsonl", piece, whole, *wrong)
    work = run_prepare({"kind": "manifest", "dir": str(tmp_path / "own"), "max_bad_fraction": 0.7})
    first, second = read_cuts(work.manifest("train"))
    assert (first.id, first.start, first.duration, first.supervisions[0].text) == ("train-1", 0.5, 0.75, "hello")
    assert (second.start, second.duration, second.supervisions[0].text) == (0.0, 2.0, "there you")
    assert np.array_equal(samples_of(first), samples_of(second)[8000:20000])
    reasons = {row["id"]: row["reason"] for row in read_json(work.excluded) if row["split"] == "dev"}
    assert set(reasons) == {"dev 3", "dev-4", "dev-5", "dev-6"} and "commands" in reasons["dev-5"]
    assert "dev.jsonl:6: not a line of this manifest" in reasons["dev-6"]
    assert read_json(work.validation)["kinds"]["manifest line"]["count"] == len(SPLITS)
    assert read_json(work.audio)["left_out"] == {}, "of a line that is none no recording is known"
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("line", "name", "kind", "reason"),
    [
        (b'{"id": "a", "speaker": "s", "text": "t"}', "a", "manifest line", "has no key 'audio'"),
        (b'{"audio": "a.wav", "text": "t"}', "train.jsonl:2", "manifest line", "has no key 'id'"),
        (b'["a"]', "train.jsonl:2", "manifest line", "not a line of this manifest (not an object)"),
        (b"", "train.jsonl:2", "manifest line", "not a line of this manifest"),
        (b'{"id": "a", "audio": "a.wav", "start": "soon"}', "a", "manifest line", "'soon'"),
        (b'{"id": "a", "audio": "a.wav", "text": "\\ud800"}', "train.jsonl:2", "manifest line", "surrogates"),
        (b'{"id": "a", "audio": "a.wav", "text": "caf\xe9"}', "a", "text is not UTF-8", "byte 0xe9"),
        (b'{"id": "a", "audio": "a.wav", "text": "\xed\xa0\x80"}', "a", "text is not UTF-8", "byte 0xed"),
        pytest.param(b"[" * 100_000, "train.jsonl:2", "manifest line", "recursion", id="deep"),
    ],
)
def test_a_line_that_is_none_is_left_out_alone(tmp_path: Path, line: bytes, name: str, kind: str, reason: str) -> None:
    first, last = (f'{{"id": "{letter}", "audio": "{letter}.wav"}}\n'.encode() for letter in "bc")
    for part in SPLITS:
        (tmp_path / f"{part}.jsonl").write_bytes(first + line + b"\n" + last)
    before, bad, after = read_manifest(Corpus(kind="manifest", dir=str(tmp_path)))["train"]
    assert (before.id, before.fault, after.id, after.fault) == ("b", None, "c", None)
    assert bad.fault is not None and (bad.id, bad.fault.kind) == (name, kind)
    assert f"{tmp_path}/train.jsonl:2: " in bad.fault.reason and reason in bad.fault.reason
    assert bad.id.encode() and bad.fault.reason.encode(), "nothing that cannot be written"


def test_a_manifest_that_is_cut_off_is_refused(tmp_path: Path) -> None:
    for part in SPLITS:
        (tmp_path / f"{part}.jsonl.gz").write_bytes(gzip.compress(b'{"id": "b", "audio": "b.wav"}\n' * 3)[:-4])
    with pytest.raises(UserError, match=r"train\.jsonl\.gz: cannot be read .*; write it again"):
        read_manifest(Corpus(kind="manifest", dir=str(tmp_path)))
