"""Every fault of a corpus is found, counted by kind and, where it is the utterance's own, left out."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from typer.testing import CliRunner

from asr_kd.cli import app
from asr_kd.corpora.manifest import read_cuts
from asr_kd.errors import UserError
from asr_kd.files import read_json
from asr_kd.hmm.transcript import TranscriptCompiler
from asr_kd.images.download import CHECKSUMS
from asr_kd.lang.lexicon import Lexicon
from asr_kd.lang.phones import PhoneSet
from asr_kd.pipeline import Job
from asr_kd.recipe import Recipe
from asr_kd.stages.prepare import FRAMES_OF_A_PHONE, validate
from asr_kd.workspace import Workspace

WriteTone = Callable[..., Path]
Prepare = Callable[..., Workspace]
LIBRISPEECH = {"kind": "librispeech", "train": ["train-x"], "dev": ["dev-x"], "test": ["test-x"]}


def kinds_of(corpus: dict[str, Any], lang: dict[str, Any] | None = None) -> dict[str, list[str]]:
    """What validation finds: ids by kind."""
    recipe = Recipe.model_validate({"name": "test", "corpus": corpus, "lang": lang or {}})
    found = validate(Job(recipe, Workspace(Path("/nowhere"))))
    assert found is not None
    return {kind: [finding.id for finding in findings] for kind, findings in found.by_kind().items()}


def chapter(librispeech: Path, part: str = "train-x", speaker: str = "1") -> Path:
    return librispeech / part / speaker / "7"


def append(path: Path, content: bytes) -> None:
    with path.open("ab") as file:
        file.write(content)


def test_a_good_corpus_has_no_findings(librispeech: Path) -> None:
    assert kinds_of(LIBRISPEECH | {"dir": str(librispeech)}) == {}


def test_every_fault_of_audio_and_text_has_its_kind(librispeech: Path, write_tone: WriteTone) -> None:
    first, second = chapter(librispeech), chapter(librispeech, speaker="2")
    names = first / "1-7.trans.txt"
    (first / "1-7-0000.flac").unlink()
    (first / "1-7-0001.flac").write_bytes(b"")
    whole = (first / "1-7-0002.flac").read_bytes()
    (first / "1-7-0002.flac").write_bytes(whole[: len(whole) // 2])
    (second / "2-7-0000.flac").write_bytes(b"no audio")
    soundfile.write(second / "2-7-0001.flac", np.zeros(8000), 8000)
    write_tone(chapter(librispeech, "dev-x", "11") / "11-7-0009.flac")
    append(names, "1-7-0003 caf\xe9\n".encode("latin-1") + b"../../../../secret WORDS\n/etc/passwd WORDS\n")
    append(second / "2-7.trans.txt", b"2-7-0002 AGAIN\n2-7-0004\n")
    assert kinds_of(LIBRISPEECH | {"dir": str(librispeech)}) == {
        "audio outside the corpus": ["../../../../secret", "/etc/passwd"],
        "audio cut off": ["1-7-0002"],
        "audio file empty": ["1-7-0001"],
        "audio file missing": ["1-7-0000"],
        "audio unreadable": ["2-7-0000"],
        "empty transcript": ["2-7-0004"],
        "sample rate": ["2-7-0001"],
        "text is not UTF-8": ["1-7-0003"],
        "utterance id occurs twice": ["2-7-0002"],
        "audio without transcript": ["11-7-0009"],
    }


def test_a_wav_file_with_less_than_its_header_says(tmp_path: Path, write_tone: WriteTone) -> None:
    paths = [
        write_tone(tmp_path / "waves_yesno" / f"{'_'.join(f'{number:03b}')}.wav", rate=8000) for number in range(8)
    ]
    content = paths[0].read_bytes()
    paths[0].write_bytes(content[: len(content) // 2])
    # As a program writes it that does not know how much will follow.
    size = b"data" + (8000).to_bytes(4, "little")
    paths[1].write_bytes(paths[1].read_bytes().replace(size, b"data\xff\xff\xff\xff"))
    corpus = {"kind": "yesno", "dir": str(tmp_path / "waves_yesno"), "sample_rate": 8000}
    assert kinds_of(corpus) == {"audio cut off": ["0_0_0"]}


def test_a_changed_middle_of_a_transcript_line_is_one_utterance(librispeech: Path, run_prepare: Prepare) -> None:
    names = chapter(librispeech) / "1-7.trans.txt"
    names.write_bytes(names.read_bytes().replace(b"1-7-0001 THE", b"1-7-0001 TH\xff"))
    work = run_prepare(LIBRISPEECH | {"dir": str(librispeech), "max_bad_fraction": 0.1})
    (excluded,) = read_json(work.excluded)
    assert excluded["id"] == "1-7-0001" and excluded["reason"].endswith("1-7.trans.txt:2: not UTF-8 text")
    assert len(list(read_cuts(work.manifest("train")))) == 5
    report = read_json(work.validation)
    assert report["left_out"] == {"train": 1, "dev": 0, "test": 0} and report["utterances"]["train"] == 6
    assert report["kinds"]["text is not UTF-8"] == {
        "count": 1,
        "left_out": True,
        "first": [{"split": "train", "id": "1-7-0001", "reason": excluded["reason"]}],
    }


def test_shared_speakers_are_all_named_and_an_error(librispeech: Path, tmp_path: Path) -> None:
    for old, new in (("21", "1"), ("22", "2")):
        folder = librispeech / "test-x" / old
        text = (folder / "7" / f"{old}-7.trans.txt").read_text().replace(f"{old}-7", f"{new}-7-9")
        (folder / "7" / f"{old}-7.trans.txt").write_text(text)
    corpus = LIBRISPEECH | {"dir": str(librispeech)}
    assert kinds_of(corpus)["speaker in two splits"] == ["1", "2"]
    (tmp_path / "r.yaml").write_text(f"corpus: {corpus}\n")
    result = CliRunner().invoke(app, ["validate", str(tmp_path / "r.yaml")])
    assert result.exit_code == 2
    assert "speaker in two splits: 2 (not left out)" in result.output and "  train 1: in test too" in result.output
    assert result.output.splitlines()[-1].startswith("asr-kd: ")


def test_words_and_lengths_are_noted_and_leave_nothing_out(librispeech: Path, run_prepare: Prepare) -> None:
    names = chapter(librispeech) / "1-7.trans.txt"  # of half a second, 48 windows, and more
    names.write_text("1-7-0000 EXTRAORDINARILY UNINTERESTING\n1-7-0001 <NOISE> CAT\n1-7-0002 CAT\n")
    corpus = LIBRISPEECH | {"dir": str(librispeech)}
    assert kinds_of(corpus) == {"too short for its transcript": ["1-7-0000"], "word without pronunciation": ["<noise>"]}
    assert read_json(run_prepare(corpus).excluded) == []


def test_the_fewest_frames_are_those_of_the_shortest_path() -> None:
    lexicon = Lexicon.cmudict().restrict({"a", "tomato", "reading", "the"})
    compiler = TranscriptCompiler(PhoneSet(lexicon.phones), lexicon.entries)
    for words in (["a"], ["tomato", "the"], ["reading", "<noise>", "a", "the"]):
        phones = sum(min(map(len, lexicon[word])) if word in lexicon else 1 for word in words)
        assert compiler.compile(words).shortest == FRAMES_OF_A_PHONE * phones


@pytest.fixture
def kaldi(tmp_path: Path, write_tone: WriteTone) -> Path:
    """Three data directories of two utterances each, 2 s long."""
    root = tmp_path / "data"
    for split in ("train", "dev", "test"):
        names = [f"{split}-1", f"{split}-2"]
        for name in names:
            write_tone(root / "wav" / f"{name}.wav", seconds=2.0)
        files = {
            "wav.scp": "".join(f"{name} {root}/wav/{name}.wav\n" for name in names),
            "text": "".join(f"{name} cat\n" for name in names),
            "utt2spk": "".join(f"{name} {split}\n" for name in names),
        }
        for file, content in files.items():
            (root / split).mkdir(exist_ok=True)
            (root / split / file).write_text(content)
    return root


def test_faults_of_kaldi_tables(kaldi: Path) -> None:
    train = kaldi / "train"
    segments = {"a": "0.5 1.5", "b": "1 9", "c": "x 1", "d": "nan 1", "e": "-1 1", "f": "1.5 1", "g": "1.6 2.4"}
    (train / "segments").write_text("".join(f"{name} train-1 {times}\n" for name, times in segments.items()))
    (train / "text").write_text("".join(f"{name} cat\n" for name in [*segments, "lost"][1:]) + "g cat\n")
    (train / "utt2spk").write_text("".join(f"{name} s\n" for name in [*segments, "lost"]))
    assert kinds_of({"kind": "kaldi", "dir": str(kaldi), "max_bad_fraction": 1}) == {
        "segment": ["b", "c", "d", "e"],
        "audio file missing": ["lost"],
        "too short": ["f"],
        "utterance id occurs twice": ["g"],
        "audio without transcript": ["a"],
    }


def test_whole_recordings_are_not_utterances(kaldi: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("asr_kd.corpora.utterance.LONGEST_SECONDS", 1.9)
    assert set(kinds_of({"kind": "kaldi", "dir": str(kaldi)})) == {"too long"}


def test_a_strangers_lists_name_neither_commands_nor_files_elsewhere(
    kaldi: Path, tmp_path: Path, write_tone: WriteTone
) -> None:
    elsewhere, mark = write_tone(tmp_path / "private.wav", seconds=2.0), tmp_path / "ran"
    (kaldi / "wav" / "link.wav").symlink_to(elsewhere)
    lines = [f"train-1 touch {mark}; cat {elsewhere} |", f"train-2 {kaldi}/wav/../../private.wav"]
    (kaldi / "train" / "wav.scp").write_text("\n".join(lines) + "\n")
    (kaldi / "dev" / "wav.scp").write_text(f"dev-1 {elsewhere}\ndev-2 {kaldi}/wav/link.wav\n")
    corpus = {"kind": "kaldi", "dir": str(kaldi)}
    assert kinds_of(corpus | {"untrusted": True}) == {
        "audio outside the corpus": ["train-2", "dev-1", "dev-2"],
        "command as audio": ["train-1"],
    }
    assert not mark.exists()
    assert kinds_of(corpus) == {}, "one's own lists may, as in Kaldi"
    assert mark.exists()


def test_the_report_has_the_first_ten_and_the_total(kaldi: Path, tmp_path: Path) -> None:
    with (kaldi / "train" / "text").open("a") as file:
        file.writelines(f"lost-{number:02d} cat\n" for number in range(14))
    (tmp_path / "r.yaml").write_text(f"corpus: {{kind: kaldi, dir: {kaldi}}}\n")
    result = CliRunner().invoke(app, ["validate", str(tmp_path / "r.yaml")])
    lines = result.output.splitlines()
    assert result.exit_code == 2 and "no speaker: 14" in lines
    assert [line for line in lines if line.startswith("  train lost")][-1] == "  train lost-09: no speaker"
    assert "  and 4 more" in lines and "20 utterances, 14 cannot be used" in lines
    assert lines[-1].startswith("asr-kd: corpus.max_bad_fraction: 14 of 20 utterances cannot be used, more than 1.0%")
    result = CliRunner().invoke(app, ["validate", str(tmp_path / "r.yaml"), "--set", "corpus.max_bad_fraction=0.8"])
    assert result.exit_code == 0


def test_a_corpus_in_use_is_recorded_file_by_file(librispeech: Path, run_prepare: Prepare) -> None:
    lost = chapter(librispeech) / "1-7-0000.flac"
    lost.unlink()
    work = run_prepare(LIBRISPEECH | {"dir": str(librispeech), "max_bad_fraction": 0.1})
    audio = read_json(work.audio)
    assert set(audio["left_out"]) == {str(lost)}
    assert set(audio["used"]) == {str(path) for path in librispeech.rglob("*.flac")}


def test_nothing_usable_is_refused(kaldi: Path) -> None:
    (kaldi / "dev" / "utt2spk").write_text("")
    with pytest.raises(UserError, match=r"corpus\.dev: no usable utterance \(2 of 6 .* no speaker \(2 times\)"):
        recipe = Recipe.model_validate({"corpus": {"kind": "kaldi", "dir": str(kaldi)}})
        found = validate(Job(recipe, Workspace(Path("/nowhere"))))
        assert found is not None
        found.refuse(1.0)


def test_the_embedded_corpus_is_left_to_stage_0(repository: Path) -> None:
    command = ["validate", str(repository / "recipes" / "default.yaml")]
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 0
    (line,) = result.output.splitlines()
    assert line.endswith("/default.yaml: the embedded corpus is made and checked by stage 0; there is nothing to do")
    result = CliRunner().invoke(app, [*command, "--set", "corpus.lm_text=/no/such/text"])
    assert result.exit_code == 2 and "corpus.lm_text: /no/such/text: no such file" in result.output


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """A download fails the test."""

    def download(*_: object, **__: object) -> None:
        pytest.fail("validation downloads")

    for name in ("lhotse.recipes.download_librispeech", "lhotse.recipes.download_yesno", "urllib.request.urlopen"):
        monkeypatch.setattr(name, download)


@pytest.mark.parametrize(
    ("kind", "folder", "missing"),
    [
        ("librispeech", "LibriSpeech", ["dev-x", "test-x", "train-x"]),
        ("mini_librispeech", "LibriSpeech", ["dev-x", "test-x", "train-x"]),
        ("yesno", "waves_yesno", [""]),
        ("mnist", "mnist", [f"{name}.gz" for name in CHECKSUMS]),
    ],
)
def test_what_would_be_downloaded_is_missing(
    tmp_path: Path, no_network: None, kind: str, folder: str, missing: list[str]
) -> None:
    root = tmp_path / folder
    corpus = LIBRISPEECH | {"kind": kind, "dir": str(root), "download": True}
    with pytest.raises(UserError) as error:
        kinds_of(corpus)
    named, _, remedy = str(error.value).partition(": missing; ")
    assert named == ", ".join(str(root / name) for name in missing)
    assert remedy == "corpus.download lets asr-kd run --stop-stage 0 fetch them, or put them there"
    assert not root.exists()


def test_a_corpus_that_is_there_is_read_whether_or_not_it_could_be_downloaded(
    librispeech: Path, no_network: None
) -> None:
    corpus = LIBRISPEECH | {"dir": str(librispeech), "download": True}
    assert kinds_of(corpus) == {}
    (librispeech / "dev-x").rename(librispeech / "elsewhere")
    with pytest.raises(UserError, match=r"^\S+/LibriSpeech/dev-x: missing; "):
        kinds_of(corpus)
