"""recipes/kaldi_dir.yaml on data directories as people have them: spaces, pieces of recordings, missing audio."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from asr_kd.corpora.manifest import read_cuts, samples_of
from asr_kd.errors import UserError
from asr_kd.files import read_json
from asr_kd.pipeline import Job
from asr_kd.recipe import Recipe
from asr_kd.recipe_file import load_recipe
from asr_kd.stages import prepare
from asr_kd.workspace import Workspace

WriteTone = Callable[..., Path]
FILES = ("wav.scp", "text", "utt2spk", "segments")


@pytest.fixture
def recipe(tmp_path: Path, write_tone: WriteTone, repository: Path, monkeypatch: pytest.MonkeyPatch) -> Recipe:
    """The recipe as it is, its corpus at ${ASR_KD_CORPORA}/kaldi, in a folder whose name has spaces."""
    root = tmp_path / "my corpora"
    monkeypatch.setenv("ASR_KD_CORPORA", str(root))
    audio = root / "two words" / "a recording.wav"
    write_tone(audio, seconds=3.0)
    for number, part in enumerate(("train", "dev", "test")):
        write(root / "kaldi" / part, {
            "wav.scp": f"rec{number} {audio}\n",
            "text": f"s{number}-a  HELLO   there \ns{number}-b\tyou\n",
            "utt2spk": f"s{number}-a s{number}\ns{number}-b s{number}\n",
            "segments": f"s{number}-a rec{number} 0.50 1.25\ns{number}-b  rec{number}\t2  -1\n",
        })  # fmt: skip
    return load_recipe(repository / "recipes" / "kaldi_dir.yaml")


def write(folder: Path, contents: dict[str, str]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in contents.items():
        (folder / name).write_text(content, encoding="utf-8")


def add(folder: Path, *lines: str) -> None:
    """A line to each of FILES; an empty one adds none."""
    for name, line in zip(FILES, lines, strict=True):
        if line:
            with (folder / name).open("a", encoding="utf-8") as file:
                file.write(line + "\n")


def run(recipe: Recipe, root: Path, **corpus: object) -> Workspace:
    work = Workspace(root)
    prepare.run(Job(recipe.model_copy(update={"corpus": recipe.corpus.model_copy(update=corpus)}), work))
    return work


def folder(recipe: Recipe) -> Path:
    assert recipe.corpus.dir
    return Path(recipe.corpus.dir) / "train"


def test_segments_spaces_and_tabs(recipe: Recipe, tmp_path: Path) -> None:
    work = run(recipe, tmp_path / "exp")
    for number, split in enumerate(("train", "dev", "test")):
        first, second = read_cuts(work.manifest(split))
        assert (first.id, first.start, first.duration) == (f"s{number}-a", 0.5, 0.75)
        assert (second.id, second.start, second.duration) == (f"s{number}-b", 2.0, 1.0)
        assert [cut.supervisions[0].text for cut in (first, second)] == ["hello there", "you"]
        assert first.supervisions[0].speaker == f"s{number}"
        whole = 0.3 * np.sin(2 * np.pi * 300 * np.arange(48000) / 16000)
        np.testing.assert_allclose(samples_of(first), whole[8000:20000], atol=2**-15)
    assert read_json(work.excluded) == []


def test_what_is_missing_is_left_out_with_its_reason(recipe: Recipe, tmp_path: Path) -> None:
    lost = tmp_path / "no such folder" / "x.wav"
    add(folder(recipe), f"gone {lost}", "s0-c file is gone", "s0-c s0", "s0-c gone 0 1")
    add(folder(recipe), "", "s0-d recording is not listed", "s0-d s0", "s0-d nowhere 0 1")
    add(folder(recipe), "", "s0-e segment is not listed", "s0-e s0", "")
    add(folder(recipe), "", "s0-f begins behind the end", "s0-f s0", "s0-f rec0 7 8")
    add(folder(recipe), "", "s0-g ends behind the end", "s0-g s0", "s0-g rec0 2.5 3.3")
    add(folder(recipe), "", "s0-h", "s0-h s0", "s0-h rec0 0 1")
    work = run(recipe, tmp_path / "exp", max_bad_fraction=0.9)
    reasons = {row["id"]: row["reason"] for row in read_json(work.excluded)}
    assert set(reasons) == {"s0-c", "s0-d", "s0-e", "s0-f", "s0-h"}
    assert "missing" in reasons["s0-c"] and str(lost) in reasons["s0-c"]
    assert "nowhere" in reasons["s0-d"] and "wav.scp" in reasons["s0-d"]
    assert "s0-e" in reasons["s0-e"]
    assert "recording of 3 s" in reasons["s0-f"]
    assert reasons["s0-h"].startswith("empty transcript")
    clipped = {cut.id: cut for cut in read_cuts(work.manifest("train"))}["s0-g"]
    assert (clipped.start, clipped.duration) == (2.5, 0.5)
    with pytest.raises(UserError, match=r"corpus\.max_bad_fraction: 5 of 12 utterances cannot be used"):
        run(recipe, tmp_path / "strict")


@pytest.mark.parametrize("times", ["nan 1", "0 inf", "-1 2", "one two"])
def test_a_segment_without_times_harms_no_other(recipe: Recipe, tmp_path: Path, times: str) -> None:
    add(folder(recipe), "", "s0-c hello", "s0-c s0", f"s0-c rec0 {times}")
    work = run(recipe, tmp_path / "exp", max_bad_fraction=0.9)
    (row,) = read_json(work.excluded)
    assert row["id"] == "s0-c"
    assert "segments: s0-c rec0" in row["reason"] or "s of a recording of 3 s" in row["reason"]
    assert [cut.id for cut in read_cuts(work.manifest("train"))] == ["s0-a", "s0-b"]


def test_a_missing_file_is_named(recipe: Recipe, tmp_path: Path) -> None:
    (folder(recipe) / "utt2spk").unlink()
    with pytest.raises(UserError, match=r"train/utt2spk: missing; a Kaldi data directory has"):
        run(recipe, tmp_path / "exp")
