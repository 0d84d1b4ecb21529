"""What changes after a stage has read it is noticed: a recording, one that was left out, a transcript, a lexicon."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from asr_kd.corpora.manifest import read_cuts, words_of
from asr_kd.errors import UserError
from asr_kd.features.store import FrameStore
from asr_kd.files import read_json
from asr_kd.pipeline import run_stages
from asr_kd.recipe import Recipe
from asr_kd.verification import check
from asr_kd.workspace import Workspace

WriteTone = Callable[..., Path]


@pytest.fixture
def recipe(librispeech: Path) -> Recipe:
    corpus = {
        "kind": "librispeech",
        "dir": str(librispeech),
        "train": ["train-x"],
        "dev": ["dev-x"],
        "test": ["test-x"],
    }
    return Recipe.model_validate({"name": "test", "corpus": corpus | {"max_bad_fraction": 0.2}})


@pytest.fixture
def recording(librispeech: Path) -> Path:
    return librispeech / "train-x" / "1" / "7" / "1-7-0001.flac"


def test_a_changed_recording_is_refused_while_it_has_to_be_read(
    recipe: Recipe, recording: Path, tmp_path: Path, write_tone: WriteTone, capsys: pytest.CaptureFixture[str]
) -> None:
    root = tmp_path / "exp"
    run_stages(recipe, root, 0, 0)
    os.utime(recording, (1, 1))
    run_stages(recipe, root, 0, 1)
    frames = FrameStore(Workspace(root).features("fbank", "train")).frames("1-7-0001")
    content = bytearray(recording.read_bytes())
    content[-9] ^= 1
    recording.write_bytes(content)
    capsys.readouterr()
    run_stages(recipe, root, 0, 1)
    said = f"{recording}: contents have changed, not as stage 0 (prepare) read it"
    assert f"{said}; the features are those of before" in capsys.readouterr().err
    assert check(root) == [f"{recording}: contents have changed; stage 0 (prepare) read it"]
    Workspace(root).record("features").unlink()
    with pytest.raises(
        UserError, match=r"1-7-0001\.flac: contents have changed, .*; put it back, or run with --repair"
    ):
        run_stages(recipe, root, 1, 1)
    write_tone(recording, seconds=1.0)
    run_stages(recipe, root, 1, 1, repair=True)
    store = FrameStore(Workspace(root).features("fbank", "train"))
    assert store.frames("1-7-0001") > frames and check(root) == []
    assert Workspace(root).record("prepare").exists()


def test_a_mended_recording_is_named_and_taken_in_on_request(
    recipe: Recipe, recording: Path, tmp_path: Path, write_tone: WriteTone, capsys: pytest.CaptureFixture[str]
) -> None:
    root, other = tmp_path / "exp", recording.with_name("1-7-0002.flac")
    whole = {path: path.read_bytes() for path in (recording, other)}
    recording.unlink()
    other.write_bytes(b"no audio")
    run_stages(recipe, root, 0, 1)
    assert {row["id"] for row in read_json(Workspace(root).excluded)} == {"1-7-0001", "1-7-0002"}
    for path, content in whole.items():
        path.write_bytes(content)
    capsys.readouterr()
    run_stages(recipe, root, 0, 1)
    assert "(and 1 more): left out by stage 0 and changed since" in capsys.readouterr().err
    run_stages(recipe, root, 0, 1, repair=True)
    assert read_json(Workspace(root).excluded) == []
    assert {"1-7-0001", "1-7-0002"} <= set(FrameStore(Workspace(root).features("mfcc", "train")))
    run_stages(recipe, tmp_path / "straight", 0, 1)
    straight, mended = (
        {path.relative_to(base): path.read_bytes() for path in (base / "features").rglob("*") if path.is_file()}
        for base in (tmp_path / "straight", root)
    )
    assert straight == mended


def test_a_changed_transcript_is_named_and_read_again_on_request(
    recipe: Recipe, recording: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root, transcripts = tmp_path / "exp", recording.with_name("1-7.trans.txt")
    run_stages(recipe, root, 0, 1)
    os.utime(transcripts, (1, 1))
    capsys.readouterr()
    run_stages(recipe, root, 0, 1)
    assert "not as stage" not in capsys.readouterr().err
    transcripts.write_text(transcripts.read_text().replace("1-7-0001 THE  TRA", "1-7-0001 THE TRAM"))  # as many bytes
    run_stages(recipe, root, 0, 1)
    said = f"{transcripts}: contents have changed, not as stage 0 (prepare) read it; --repair begins anew there"
    assert said in capsys.readouterr().err
    run_stages(recipe, root, 0, 1, repair=True)
    cuts = {cut.id: words_of(cut) for cut in read_cuts(Workspace(root).manifest("train"))}
    assert cuts["1-7-0001"] == ["the", "tram"] and cuts["1-7-0000"] == ["the", "tra"]
    assert check(root) == []


def test_a_changed_lexicon_redoes_the_language_and_what_follows_alone(
    recipe: Recipe, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root, lexicon = tmp_path / "exp", tmp_path / "lexicon.txt"
    lexicon.write_text("the DH AH\ntra T R AA\n")
    lang = recipe.lang.model_copy(update={"lexicon": str(lexicon)})
    recipe = recipe.model_copy(update={"lang": lang})
    run_stages(recipe, root, 0, 2)
    features = Workspace(root).record("features").read_bytes()
    lexicon.write_text("the DH IY\ntra T R AA\n")
    capsys.readouterr()
    run_stages(recipe, root, 0, 2)
    assert f"{lexicon}: contents have changed, not as stage 2 (lang) read it" in capsys.readouterr().err
    assert check(root) == [f"{lexicon}: contents have changed, not as stage 2 (lang) read it"]
    run_stages(recipe, root, 0, 2, repair=True)
    assert "DH IY" in (Workspace(root).lang / "lexicon.txt").read_text()
    assert Workspace(root).record("features").read_bytes() == features and check(root) == []
