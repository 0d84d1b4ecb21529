"""Damaged files of every kind are read, or refused in one line: no other error, whatever the damage."""

import gzip
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
import yaml
from damage import EXAMPLES, Steps, damaged, damages, read_or_refuse
from hypothesis import example, given
from hypothesis import strategies as st
from lhotse import MonoCut, Recording, SupervisionSegment
from typer.testing import CliRunner

from asr_kd.cli import app
from asr_kd.corpora.kaldi import read_kaldi
from asr_kd.corpora.librispeech import read_librispeech
from asr_kd.corpora.manifest import read_cuts, words_of
from asr_kd.corpora.splits import check_utterances, read_sentences, write_cuts
from asr_kd.distill.store import StoreWriter, TargetStore, condense
from asr_kd.errors import UserError
from asr_kd.features.store import FrameStore, write_store
from asr_kd.lang.arpa import Arpa
from asr_kd.lang.lexicon import Lexicon
from asr_kd.nn.frames import Frames
from asr_kd.nn.model import AcousticModel, load_model
from asr_kd.nn.seeds import generator
from asr_kd.recipe import Corpus, Network, Recipe
from asr_kd.recipe_file import load_recipe

RECIPE = yaml.safe_dump(
    {
        "name": "fuzz",
        "corpus": {"kind": "kaldi", "dir": "data", "train": ["a"], "max_bad_fraction": 0.1},
        "lang": {"ngram": {"order": 2, "cutoffs": [1]}},
        "teachers": {"members": 2, "network": {"layers": 2, "width": 16}},
        "student": {"temperature": 2.0, "transfer_classes": [1, 2]},
        "decode": {"systems": ["student"]},
    }
).encode()


@EXAMPLES
@given(damages())
@example([("replace", 0.0, 1.0, b"name: 2026-13-45")])
@example([("replace", 0.0, 1.0, b"a: " + b"[" * 3000)])
@example([("replace", 0.0, 1.0, b"extends: 'x\\0y'")])
@example([("replace", 0.0, 1.0, b"{1: 2, teachers: {3: 4}}")])
@example([("replace", 0.0, 1.0, b"teachers: {networks: [{width: x}], train: 5}")])
@example([("replace", 0.0, 1.0, b'"a\\nb": 1')])
def test_recipes(tmp_path: Path, steps: Steps) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_bytes(damaged(RECIPE, steps))
    read_or_refuse(lambda: load_recipe(path))


@EXAMPLES
@given(damages())
def test_lexicons(tmp_path: Path, steps: Steps) -> None:
    path = tmp_path / "lexicon.txt"
    path.write_bytes(damaged(b"<sil> SIL\na AH0\na EY1\ntomato T AH M EY T OW\n", steps))
    read_or_refuse(lambda: Lexicon.read(path).without_stress().phones)


ARPA = (
    b"\\data\\\nngram 1=4\nngram 2=2\n\n\\1-grams:\n-1.0\t<s>\t-0.3\n-0.5\t</s>\n-0.7\ta\t-0.2\n-0.9\tb\n\n\\2-grams:\n"
)
ARPA += b"-0.1\t<s> a\n-0.4\ta </s>\n\n\\end\\\n"


@EXAMPLES
@given(damages())
def test_language_models(tmp_path: Path, steps: Steps) -> None:
    path = tmp_path / "lm.arpa"
    path.write_bytes(damaged(ARPA, steps))
    read_or_refuse(lambda: Arpa.read(path).perplexity([["a", "b"], ["c"]]))


@EXAMPLES
@given(damages())
@example([("flip", 0.5, 0.0, b"ab")])
def test_compressed_texts(tmp_path: Path, steps: Steps) -> None:

    path = tmp_path / "text.gz"
    path.write_bytes(damaged(gzip.compress(b"a fine day\nso it is\n" * 20, mtime=0), steps))
    read_or_refuse(lambda: read_sentences(path))
    path = tmp_path / "lm.arpa.gz"
    path.write_bytes(damaged(gzip.compress(ARPA * 3, mtime=0), steps))
    read_or_refuse(lambda: Arpa.read(path))


@pytest.fixture(scope="module")
def kaldi(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("kaldi")
    wave = np.random.default_rng(0).uniform(-0.5, 0.5, 16000)
    for suffix in ("wav", "flac"):
        soundfile.write(root / f"rec.{suffix}", wave, 16000, subtype="PCM_16")
    (root / "part").mkdir()
    for name, content in kaldi_files(root).items():
        (root / "part" / name).write_bytes(content)
    return root


def kaldi_files(root: Path) -> dict[str, bytes]:
    return {
        "wav.scp": f"rec1 {root}/rec.wav\nrec2 {root}/rec.flac\n".encode(),
        "text": b"utt1 hello there\nutt2 you\nutt3 too\n",
        "utt2spk": b"utt1 s1\nutt2 s1\nutt3 s2\n",
        "segments": b"utt1 rec1 0.1 0.5\nutt2 rec2 0.25 -1\nutt3 rec1 0.5 0.9\n",
        "../rec.wav": (root / "rec.wav").read_bytes(),
        "../rec.flac": (root / "rec.flac").read_bytes(),
    }


def checked(corpus: Corpus, read: Callable[[Corpus], dict]) -> None:
    """As stage 0 and `asr-kd validate` do it, to the report's last line."""
    cuts, report = check_utterances(read(corpus), corpus, 1, lambda items, *_: items)
    assert all(isinstance(cut, MonoCut) for members in cuts.values() for cut in members)
    assert report.lines() and json.dumps(report.as_json())
    report.refuse(1.0)


@EXAMPLES
@given(st.sampled_from(["wav.scp", "text", "utt2spk", "segments", "../rec.wav", "../rec.flac"]), damages())
@example("segments", [("replace", 0.0, 1.0, b"utt1 rec1 nan inf\nutt2 rec1 -5 1e300\n")])
@example("wav.scp", [("replace", 0.0, 1.0, b"rec1 \x00\nrec2 " + b"x" * 5000)])
def test_kaldi_data_directories(kaldi: Path, name: str, steps: Steps) -> None:
    whole = kaldi_files(kaldi)
    part = ("part",)
    corpus = Corpus(kind="kaldi", dir=str(kaldi), train=part, dev=part, test=part, untrusted=True, max_bad_fraction=1)
    try:
        (kaldi / "part" / name).write_bytes(damaged(whole[name], steps))
        read_or_refuse(lambda: checked(corpus, read_kaldi))
    finally:
        (kaldi / "part" / name).write_bytes(whole[name])


@EXAMPLES
@given(damages())
@example([("replace", 0.0, 1.0, b"../../x A\n\x00 B\n" + b"y" * 300 + b" C\n")])
def test_librispeech_transcripts(tmp_path: Path, steps: Steps) -> None:
    chapter = tmp_path / "part" / "1" / "2"
    chapter.mkdir(parents=True, exist_ok=True)
    (chapter / "1-2.trans.txt").write_bytes(damaged(b"1-2-0000 HELLO THERE\n1-2-0001 YOU\n", steps))
    part = ("part",)
    corpus = Corpus(kind="librispeech", dir=str(tmp_path), train=part, dev=part, test=part, max_bad_fraction=1)
    read_or_refuse(lambda: checked(corpus, read_librispeech))


@EXAMPLES
@given(damages(), st.booleans())
def test_manifests(tmp_path: Path, steps: Steps, inside: bool) -> None:
    """inside: the JSON is damaged, not the compressed file."""

    recording = Recording("r", [], 16000, 16000, 1.0)
    cuts = []
    for name in ("a", "b"):
        speech = SupervisionSegment(name, "r", 0.0, 0.5, text="hello there", speaker="s")
        cuts.append(MonoCut(name, 0.25, 0.5, 0, supervisions=[speech], recording=recording))
    path = tmp_path / "cuts.jsonl.gz"
    write_cuts(path, cuts)
    assert [cut.to_dict() for cut in read_cuts(path)] == [cut.to_dict() for cut in cuts]
    content = path.read_bytes()
    changed = gzip.compress(damaged(gzip.decompress(content), steps)) if inside else damaged(content, steps)
    path.write_bytes(changed)
    read_or_refuse(lambda: [words_of(cut) for cut in read_cuts(path)])


@EXAMPLES
@given(st.sampled_from(["index.json", "shard-000.npy"]), damages())
@example("index.json", [("replace", 0.0, 1.0, b"[" * 100000)])
@example("index.json", [("replace", 0.0, 1.0, b'{"meta": {}, "shards": ["../../x"], "utterances": {}}')])
@example("index.json", [("replace", 0.0, 1.0, b'{"meta": {}, "shards": [], "utterances": {"a": [0, 0, 1]}}')])
def test_frame_stores(tmp_path: Path, name: str, steps: Steps) -> None:
    rows = {f"u{number}": np.full((5 + number, 4), number, np.float16) for number in range(3)}
    write_store(tmp_path / "store", rows, {"kind": "fbank"})
    path = tmp_path / "store" / name
    path.write_bytes(damaged(path.read_bytes(), steps))

    def read() -> None:
        store = FrameStore(tmp_path / "store")
        assert all(len(store[name]) == store.frames(name) for name in store)

    read_or_refuse(read)


@EXAMPLES
@given(st.sampled_from(["index.json", "states-000.npy", "log_tail-000.npy"]), damages())
def test_soft_target_stores(tmp_path: Path, name: str, steps: Steps) -> None:
    log_post = torch.randn(9, 12, generator=generator((0,))).log_softmax(1)
    starts = torch.tensor([0, 4, 9])
    frames = Frames(torch.zeros(9, 2), torch.zeros(9, dtype=torch.int64), ["a", "b"], starts)
    writer = StoreWriter(tmp_path / "targets")
    writer.add(condense(log_post, 3, (1.0, 2.0)))
    writer.finish(frames, {"num_pdfs": 12, "top_k": 3, "temperatures": [1.0, 2.0], "teachers": {"member-00": "abc"}})
    path = tmp_path / "targets" / name
    path.write_bytes(damaged(path.read_bytes(), steps))

    def read() -> None:
        store = TargetStore(tmp_path / "targets")
        store.check({"teachers": {"member-00": "abc"}})
        store.gather(store.rows_of(frames).numpy())

    read_or_refuse(read)


@EXAMPLES
@given(st.sampled_from(["model.json", "model.safetensors"]), damages())
@example("model.json", [("replace", 0.0, 1.0, b'{"network": {"layers": 99999999}, "dim": 4, "num_pdfs": 5}')])
@example("model.json", [("replace", 0.0, 1.0, b'{"network": {"width": 99999999999}, "dim": 9999999, "num_pdfs": 5}')])
@example("model.json", [("replace", 0.0, 1.0, b'{"network": {}, "dim": -4, "num_pdfs": 5}')])
@example("model.json", [("replace", 0.0, 1.0, b"[]")])
def test_model_directories(tmp_path: Path, name: str, steps: Steps) -> None:
    model = AcousticModel(Network(left=1, right=1, layers=1, width=8), 4, 5)
    model.initialise(generator((0,)))
    model.save(tmp_path / "model", {})
    path = tmp_path / "model" / name
    path.write_bytes(damaged(path.read_bytes(), steps))
    read_or_refuse(lambda: load_model(tmp_path / "model")(torch.zeros(2, 3, 4)))


def test_what_a_user_sees_of_a_damaged_recipe(tmp_path: Path) -> None:
    for content in (b"\xff", b"teachers: [", b"{1: 2}", b'"a\\nb": 1', b"seed: -1", b"extends: [1]", b"name: ''"):
        (tmp_path / "r.yaml").write_bytes(content)
        for command in (["run", "--recipe"], ["validate"]):
            result = CliRunner().invoke(app, [*command, str(tmp_path / "r.yaml")])
            assert result.exit_code == 2, content
            assert len(result.output.splitlines()) == 1 and result.output.startswith("asr-kd: "), content


def test_a_weights_file_is_never_unpickled(tmp_path: Path) -> None:
    model = AcousticModel(Network(left=0, right=0, layers=1, width=8), 4, 5)
    model.save(tmp_path, {})

    class Trap:
        def __reduce__(self) -> tuple[Callable[[Path], None], tuple[Path]]:
            return Path.touch, (tmp_path / "sprung",)

    torch.save({"weights.0": Trap()}, tmp_path / "model.safetensors")
    np.save(tmp_path / "shard-000.npy", np.array([Trap()], dtype=object), allow_pickle=True)
    (tmp_path / "index.json").write_text(json.dumps({"meta": {}, "shards": ["shard-000.npy"], "utterances": {}}))
    with pytest.raises(UserError, match="cannot be read"):
        load_model(tmp_path)
    with pytest.raises(UserError, match="cannot be read"):
        FrameStore(tmp_path)
    assert not (tmp_path / "sprung").exists()


def test_a_recipe_without_damage_is_read(tmp_path: Path) -> None:
    (tmp_path / "recipe.yaml").write_bytes(RECIPE)
    assert isinstance(load_recipe(tmp_path / "recipe.yaml"), Recipe)
