"""A bundle's own error rates and speed: what it recognises is scored, failures too, and the files stay whole."""

import json
from pathlib import Path

import numpy as np
import pytest
from lhotse import CutSet, MonoCut, SupervisionSegment
from tiny_experiment import RECIPE, make_experiment
from typer.testing import CliRunner

from asr_kd.cli import app
from asr_kd.deploy.bundle import load_bundle
from asr_kd.deploy.export import export
from asr_kd.deploy.measuring import measure
from asr_kd.deploy.recogniser import Recogniser
from asr_kd.errors import UserError
from asr_kd.features.store import FrameStore
from asr_kd.score.wer import Words, word_errors
from asr_kd.workspace import Workspace


def recognised(work: Workspace, root: Path, int8: bool) -> Words:
    """The words of every test utterance by the bundle."""
    recogniser, store = Recogniser.load(load_bundle(root), int8), FrameStore(work.features("fbank", "test"))
    return {name: [word.word for word in recogniser.recognise(np.array(store[name]))] for name in store}


def write_manifest(work: Workspace, references: Words) -> None:
    cuts = []
    for name, words in references.items():
        speech = SupervisionSegment(name, name, start=0, duration=2.0, text=" ".join(words), speaker="one")
        cuts.append(MonoCut(name, start=0, duration=2.0, channel=0, supervisions=[speech]))
    work.manifest("test").parent.mkdir(exist_ok=True)
    CutSet.from_cuts(cuts).to_file(work.manifest("test"))


def test_errors_by_hand_and_a_failed_utterance_is_empty(tmp_path: Path) -> None:
    """References are the float32 words and one more; an utterance without features loses all of its words."""
    work, folder = make_experiment(tmp_path / "exp"), tmp_path / "bundle"
    export(work, "student", folder)
    float32, int8 = (recognised(work, folder, quantised) for quantised in (False, True))
    references = {name: [*words, "unheard"] for name, words in float32.items()} | {"test-lost": ["oh", "no"]}
    write_manifest(work, references)
    said = sum(map(len, float32.values()))
    assert said > 0

    asked = ["export", str(work.root), "--to", str(folder), "--measure", "--jobs", "2"]
    result = CliRunner().invoke(app, asked, catch_exceptions=False)
    assert result.exit_code == 0
    figures = load_bundle(folder).about["measured"]["bundle"]
    assert list(figures) == ["float32", "int8"]
    counts = {key: figures["float32"][key] for key in ("ins", "del", "sub", "words", "failed")}
    assert counts == {"ins": 0, "del": len(float32) + 2, "sub": 0, "words": said + len(float32) + 2, "failed": 1}
    assert figures["float32"]["wer"] == pytest.approx(counts["del"] / counts["words"])
    expected = word_errors(references, {**int8, "test-lost": []}, RECIPE.score.bootstrap_samples, RECIPE.seed)
    assert {key: figures["int8"][key] for key in expected} == expected
    for found in figures.values():
        assert found["ci95"][0] <= found["wer"] <= found["ci95"][1]
        assert found["network_rtf"] >= 0 and found["search_rtf"] >= 0
    assert f"test, float32: WER {figures['float32']['wer']:.2%}" in result.output

    card = (folder / "README.md").read_text()
    _, rate = [line for line in card.splitlines() if line.startswith("| word error rate")]  # the experiment's is first
    assert rate.split(" | ")[1].startswith(f"{figures['float32']['wer']:.1%} [")
    assert rate.split(" | ")[2].startswith(f"{figures['int8']['wer']:.1%} [")
    assert "| utterances that failed | 1 | 1 |" in card and "not measured" not in card
    assert card.count("`HCLG.fst` |") == 1 and "`README.md` |" not in card


def test_without_being_asked_the_card_says_what_is_not_known(bundle: Path) -> None:
    assert "bundle" not in json.loads((bundle / "bundle.json").read_text())["measured"]
    card = (bundle / "README.md").read_text()
    assert "the word error rate of its 8-bit weights is not known" in card and "--measure" in card


def test_what_is_measured_does_not_depend_on_the_number_of_processes(tmp_path: Path) -> None:
    work, folder = make_experiment(tmp_path / "exp", pieces=True), tmp_path / "bundle"
    export(work, "student", folder)
    words = {name: said for name, said in recognised(work, folder, int8=False).items() if said}
    write_manifest(work, words)
    for jobs in (1, 3):
        figures = measure(work, folder, jobs)
        assert figures["float32"]["wer"] == 0 and figures["float32"]["failed"] == 0
        assert figures["float32"]["words"] == sum(map(len, words.values()))


def test_without_a_manifest_the_bundle_stays_as_it_was(tmp_path: Path) -> None:
    work, folder = make_experiment(tmp_path / "exp"), tmp_path / "bundle"
    export(work, "student", folder)
    before = (folder / "bundle.json").read_bytes()
    with pytest.raises(UserError, match=rf"{work.manifest('test').name}: missing; run --stage 0"):
        measure(work, folder)
    assert (folder / "bundle.json").read_bytes() == before and load_bundle(folder)
