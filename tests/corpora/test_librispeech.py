"""Stage 0 on LibriSpeech's layout: manifests, bad utterances, speakers, the language model's text."""

import gzip
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile

from asr_kd.corpora.manifest import read_cuts, samples_of, words_of
from asr_kd.errors import UserError
from asr_kd.files import read_json
from asr_kd.workspace import Workspace

PARTS = {"kind": "librispeech", "train": ["train-x"], "dev": ["dev-x"], "test": ["test-x"]}
Prepare = Callable[..., Workspace]


def test_manifests_hold_the_corpus(librispeech: Path, run_prepare: Prepare) -> None:
    work = run_prepare(PARTS | {"dir": str(librispeech)}, jobs=2)
    cuts = list(read_cuts(work.manifest("dev")))
    assert [cut.id for cut in cuts] == [f"{speaker}-7-000{n}" for speaker in (11, 12) for n in range(3)]
    assert [cut.supervisions[0].id for cut in cuts] == [cut.id for cut in cuts]
    assert {cut.supervisions[0].speaker for cut in cuts} == {"11", "12"}
    assert words_of(cuts[0]) == ["the", "dev"] and cuts[0].supervisions[0].text == "the dev"
    assert len(samples_of(cuts[2])) == 0.7 * 16000
    assert work.lm_text.read_text().splitlines() == ["the tra"] * 6
    assert read_json(work.excluded) == []


def test_lm_text_is_normalised_and_may_be_compressed(librispeech: Path, run_prepare: Prepare, tmp_path: Path) -> None:
    with gzip.open(tmp_path / "text.gz", "wt") as file:
        file.write("A  Fine DAY\n\nso IT is\n")
    work = run_prepare(PARTS | {"dir": str(librispeech), "lm_text": str(tmp_path / "text.gz")})
    assert work.lm_text.read_text() == "a fine day\nso it is\n"


def test_bad_utterances_are_listed_not_fatal(librispeech: Path, run_prepare: Prepare) -> None:
    speaker = librispeech / "train-x" / "1" / "7"
    whole = (speaker / "1-7-0002.flac").read_bytes()
    (speaker / "1-7-0000.flac").unlink()
    (speaker / "1-7-0001.flac").write_bytes(b"")
    (speaker / "1-7-0002.flac").write_bytes(whole[: len(whole) // 2])
    other = librispeech / "train-x" / "2" / "7"
    (other / "2-7-0000.flac").write_bytes(b"no audio")
    soundfile.write(other / "2-7-0001.flac", np.zeros(0), 16000, format="WAV")
    soundfile.write(librispeech / "dev-x" / "11" / "7" / "11-7-0000.flac", np.zeros(8000), 8000)
    soundfile.write(librispeech / "dev-x" / "11" / "7" / "11-7-0001.flac", np.zeros(300), 16000)
    with (librispeech / "test-x" / "21" / "7" / "21-7.trans.txt").open("a") as file:
        file.write("21-7-0000 AGAIN\n21-7-0009\n")
    work = run_prepare(PARTS | {"dir": str(librispeech), "max_bad_fraction": 0.5})
    reasons = {row["id"]: (row["split"], row["reason"]) for row in read_json(work.excluded)}
    expected = {
        "1-7-0000": "missing",
        "1-7-0001": "empty",
        "1-7-0002": "audio",
        "2-7-0000": "unreadable",
        "2-7-0001": "without samples",
        "11-7-0000": "sample rate 8000 Hz",
        "11-7-0001": "shorter than one window",
        "21-7-0000": "twice",
        "21-7-0009": "empty transcript",
    }
    assert set(reasons) == set(expected)
    assert all(words in reasons[name][1] for name, words in expected.items())
    assert reasons["11-7-0000"][0] == "dev"
    assert [cut.id for cut in read_cuts(work.manifest("train"))] == ["2-7-0002"]
    assert "21-7-0000" in {cut.id for cut in read_cuts(work.manifest("test"))}  # its first occurrence


def test_too_many_bad_utterances_are_refused(librispeech: Path, run_prepare: Prepare) -> None:
    (librispeech / "train-x" / "1" / "7" / "1-7-0000.flac").unlink()
    with pytest.raises(UserError, match=r"corpus.max_bad_fraction: 1 of 18 .* audio file missing \(1 times\)"):
        run_prepare(PARTS | {"dir": str(librispeech)})


def test_a_shared_speaker_is_named_with_both_splits(librispeech: Path, run_prepare: Prepare) -> None:
    (librispeech / "test-x" / "21").rename(librispeech / "test-x" / "2")
    (librispeech / "test-x" / "2" / "7" / "21-7.trans.txt").write_text("2-7-0100 THE TES\n")
    with pytest.raises(UserError, match=r"corpus\.train, corpus\.test: both have speaker 2 "):
        run_prepare(PARTS | {"dir": str(librispeech)})


def test_one_part_for_dev_and_test_is_shared_out_by_speaker(librispeech: Path, run_prepare: Prepare) -> None:
    work = run_prepare(PARTS | {"kind": "mini_librispeech", "dir": str(librispeech), "test": ["dev-x"]})
    for split, speaker in (("dev", "11"), ("test", "12")):
        cuts = list(read_cuts(work.manifest(split)))
        assert len(cuts) == 3 and {cut.supervisions[0].speaker for cut in cuts} == {speaker}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"dir": "/no/such/corpus"}, r"/no/such/corpus/train-x: no such folder; download .*ASR_KD_CORPORA"),
        ({"dir": None}, r"corpus.dir: not set"),
        ({"lm_text": "/no/such/text"}, r"corpus.lm_text: /no/such/text: no such file"),
        ({"test": ["."]}, r"corpus\.train, corpus\.test: both have speaker 1 "),
    ],
)
def test_a_wrong_corpus_is_one_line(librispeech: Path, run_prepare: Prepare, change: dict, message: str) -> None:
    with pytest.raises(UserError, match=message) as error:
        run_prepare(PARTS | {"dir": str(librispeech)} | change)
    assert "\n" not in str(error.value)


def test_real_recordings(shared_data: Path, run_prepare: Prepare) -> None:
    parts = {"train": ["train-mini"], "dev": ["dev-mini"], "test": ["test-mini"]}
    work = run_prepare({"kind": "librispeech", "dir": str(shared_data / "LibriSpeech")} | parts, jobs=2)
    counts = {"train": (1055, 260), "dev": (169, 3), "test": (366, 6)}
    for split, (utterances, speakers) in counts.items():
        cuts = list(read_cuts(work.manifest(split)))
        assert len(cuts) == utterances
        assert len({cut.supervisions[0].speaker for cut in cuts}) == speakers
    assert read_json(work.excluded) == []
