"""Kaldi data directories and yesno: segments, commands, speakers, damaged files."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from asr_kd.corpora.kaldi import read_data_directory
from asr_kd.corpora.manifest import read_cuts, samples_of
from asr_kd.errors import UserError
from asr_kd.files import read_json
from asr_kd.workspace import Workspace

WriteTone = Callable[..., Path]
Prepare = Callable[..., Workspace]


@pytest.fixture
def kaldi(tmp_path: Path, write_tone: WriteTone) -> Path:
    """train has segments of one recording, dev a command, test whole recordings."""
    root = tmp_path / "data"
    wav = write_tone(tmp_path / "long.wav", seconds=3.0)
    _write(
        root / "train", "rec " + str(wav), "a-1 Hello\na-2 THERE you", "a-1 a\na-2 a", "a-1 rec 0.5 1.25\na-2 rec 2 -1"
    )
    _write(root / "dev", f"b-1 cat {wav} |", "b-1 One", "b-1 b")
    _write(root / "test", f"c-1 {wav}", "c-1 two", "c-1 c")
    return root


def _write(folder: Path, wav: str, text: str, speakers: str, segments: str | None = None) -> None:
    folder.mkdir(parents=True)
    for name, content in (("wav.scp", wav), ("text", text), ("utt2spk", speakers), ("segments", segments)):
        if content is not None:
            (folder / name).write_text(content + "\n")


def test_segments_and_commands(kaldi: Path, run_prepare: Prepare) -> None:
    work = run_prepare({"kind": "kaldi", "dir": str(kaldi)})
    first, second = read_cuts(work.manifest("train"))
    assert (first.id, first.start, first.duration) == ("a-1", 0.5, 0.75)
    assert (second.start, second.duration, second.supervisions[0].text) == (2.0, 1.0, "there you")
    (command,) = read_cuts(work.manifest("dev"))
    (whole,) = read_cuts(work.manifest("test"))
    assert np.array_equal(samples_of(command), samples_of(whole))
    assert np.array_equal(samples_of(first), samples_of(whole)[8000:20000])


def test_an_utterance_without_audio_or_speaker_is_left_out(kaldi: Path, run_prepare: Prepare) -> None:
    with (kaldi / "train" / "text").open("a") as file:
        file.write("a-3 lost\na-4 lost too\n")
    with (kaldi / "train" / "utt2spk").open("a") as file:
        file.write("a-3 a\n")
    work = run_prepare({"kind": "kaldi", "dir": str(kaldi), "max_bad_fraction": 0.5})
    reasons = {row["id"]: row["reason"] for row in read_json(work.excluded)}
    assert set(reasons) == {"a-3", "a-4"}
    assert "missing" in reasons["a-3"] and "wav.scp" in reasons["a-3"] and reasons["a-4"] == "no speaker"


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("utt2spk", "a-1 a\n\n", r"utt2spk:2: empty line"),
        ("wav.scp", None, r"wav.scp: missing"),
    ],
)
def test_damaged_files_are_named(kaldi: Path, name: str, content: str | None, message: str) -> None:
    path = kaldi / "train" / name
    path.unlink() if content is None else path.write_text(content)
    with pytest.raises(UserError, match=message):
        read_data_directory(kaldi / "train")


def test_yesno_reads_the_words_from_the_name(tmp_path: Path, write_tone: WriteTone, run_prepare: Prepare) -> None:
    for number in range(8):
        write_tone(tmp_path / "waves_yesno" / f"{'_'.join(f'{number:03b}')}.wav", rate=8000)
    work = run_prepare({"kind": "yesno", "dir": str(tmp_path / "waves_yesno"), "sample_rate": 8000})
    texts = {cut.id: cut.supervisions[0].text for cut in read_cuts(work.manifest("train"))}
    assert texts == {"0_0_0": "no no no", "0_1_0": "no yes no", "1_0_0": "yes no no", "1_1_0": "yes yes no"}
    ids = [[cut.id for cut in read_cuts(work.manifest(split))] for split in ("dev", "test")]
    assert ids == [["0_0_1", "1_0_1"], ["0_1_1", "1_1_1"]]
