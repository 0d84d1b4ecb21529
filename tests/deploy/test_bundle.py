"""What a bundle holds, and one line for what is none."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from damage import EXAMPLES, Steps, damaged, damages, read_or_refuse
from hypothesis import example, given
from tiny_experiment import (
    BINS,
    NETWORK,
    NUM_PDFS,
    SCALES,
    leave_decoded,
    make_experiment,
    monophone_tree,
    random_model,
)
from typer.testing import CliRunner

from asr_kd.cli import app
from asr_kd.deploy.bundle import ABOUT, load_bundle
from asr_kd.deploy.export import _owners, export
from asr_kd.errors import UserError
from asr_kd.files import write_json
from asr_kd.nn.model import load_model
from asr_kd.wfst.graph import Graph
from asr_kd.workspace import Workspace


@pytest.fixture
def copy(bundle: Path, tmp_path: Path) -> Path:
    """A bundle to damage."""
    return shutil.copytree(bundle, tmp_path / "bundle")


def test_the_bundle_says_what_it_is(experiment: Workspace, bundle: Path) -> None:
    loaded = load_bundle(bundle)
    about = loaded.about
    assert about["format"] == 1 and about["name"] == "tiny" and about["system"] == "student"
    assert set(about["files"]) == {path.name for path in bundle.iterdir()} - {ABOUT}
    assert about["measured"]["wer"]["test"]["wer"] == 0.35 and about["measured"]["search_rtf"] == 0.1
    assert about["network"]["parameters"] == load_model(experiment.model("student")).parameter_count
    np.testing.assert_allclose(loaded.normalisation.global_mean, np.full(BINS, 19.0))
    np.testing.assert_allclose(loaded.normalisation.global_std, np.full(BINS, np.sqrt(0.75 * 4 + 0.25 * 16)), atol=1e-6)
    states = loaded.states
    assert [states.phones[number] for number in states.phone] == ["SIL"] * 5 + ["SPN"] * 5 + list("AAABBBCCC")
    assert states.state.tolist() == [*range(5), *range(5), *range(3), *range(3), *range(3)]
    np.testing.assert_array_equal(states.log_prior, load_model(experiment.model("student")).log_prior.numpy())
    assert loaded.pronunciations["no"] == [("C", "A"), ("C", "B", "B")]
    assert loaded.words[1:3] == ["yes", "yea"]
    assert str(experiment.root) not in (bundle / ABOUT).read_text() + (bundle / "README.md").read_text()


def test_the_word_penalty_is_in_the_graph(experiment: Workspace, bundle: Path) -> None:
    before, after = Graph.read(experiment.graph("sat") / "HCLG.fst").arcs, Graph.read(bundle / "HCLG.fst").arcs
    np.testing.assert_allclose(after["weight"], before["weight"] + 0.5 * (before["olabel"] > 0), atol=1e-6)


def test_the_card_has_the_figures(bundle: Path) -> None:
    card = (bundle / "README.md").read_text()
    assert "# tiny: student" in card
    assert "| word error rate, 95 % interval | 35.0% [33.0%, 37.0%] | 35.0% [33.0%, 37.0%] |" in card
    assert "`HCLG.fst`" in card and "12 log-mel filters" in card and f"{NUM_PDFS} tied states" in card


def edit(folder: Path, **changes: Any) -> None:
    about = json.loads((folder / ABOUT).read_text())
    (folder / ABOUT).write_text(json.dumps({**about, **changes}))


DAMAGE = {
    r"bundle\.json: format 2, this asr-kd reads 1": lambda folder: edit(folder, format=2, files=None),
    r"bundle\.json: damaged": lambda folder: (folder / ABOUT).write_text("{"),
    r"bundle\.json: damaged;": lambda folder: edit(folder, files=[]),
    r"bundle\.json: no such file": lambda folder: (folder / ABOUT).unlink(),
    r"words\.txt: missing": lambda folder: (folder / "words.txt").unlink(),
    r"HCLG\.fst: 1000 bytes where": lambda folder: (folder / "HCLG.fst").write_bytes(b"0" * 1000),
    r"states\.txt: not as it was exported": lambda folder: (folder / "states.txt").write_text(
        (folder / "states.txt").read_text().replace("A 0", "B 0")
    ),
}


@pytest.mark.parametrize("message", DAMAGE)
def test_a_damaged_or_newer_bundle_is_one_line(copy: Path, message: str) -> None:
    DAMAGE[message](copy)
    with pytest.raises(UserError, match=message) as error:
        load_bundle(copy)
    assert "\n" not in str(error.value)


@EXAMPLES
@given(damages())
@example([("replace", 0.0, 1.0, b'{"format": 1, "files": {}}')])
@example([("replace", 0.0, 1.0, b'{"format": 1, "files": {"../../x": {"bytes": 0, "sha256": ""}}}')])
def test_any_bundle_json_is_read_or_refused_in_one_line(bundle: Path, tmp_path: Path, steps: Steps) -> None:
    folder = tmp_path / "bundle"
    if not folder.exists():
        shutil.copytree(bundle, folder)
    (folder / ABOUT).write_bytes(damaged((bundle / ABOUT).read_bytes(), steps))
    read_or_refuse(lambda: load_bundle(folder).normalisation)


def test_an_export_may_be_repeated_but_covers_nothing_else(experiment: Workspace, copy: Path, tmp_path: Path) -> None:
    export(experiment, "student", copy)
    assert load_bundle(copy).about["name"] == "tiny"
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "thesis.tex").write_text("years of work")
    with pytest.raises(UserError, match="neither empty nor a bundle"):
        export(experiment, "student", tmp_path / "other")


def test_a_tree_whose_phones_share_states_is_refused() -> None:
    tree = monophone_tree()
    owners = ["SIL"] * 5 + ["SPN"] * 5 + list("AAABBBCCC")
    assert [phone for phone, _ in _owners(tree)] == owners
    shared = replace(tree, pdf=np.where(tree.pdf == 16, 10, tree.pdf))
    with pytest.raises(UserError, match="A 0 and C 0 share a tied state"):
        _owners(shared)


@pytest.mark.parametrize("system", ["ensemble", "gmm-sat", "member-07"])
def test_what_is_no_single_decoded_network(experiment: Workspace, tmp_path: Path, system: str) -> None:
    with pytest.raises(UserError, match=rf"--model {system}: no single network that was decoded"):
        export(experiment, system, tmp_path / "bundle")
    assert not (tmp_path / "bundle").exists()


def test_a_network_on_adapted_features_says_why_not(tmp_path: Path) -> None:
    work = make_experiment(tmp_path / "exp")
    random_model(NETWORK.model_copy(update={"input": "fmllr"})).save(work.model("student"), {})
    result = CliRunner().invoke(app, ["export", str(work.root), "--to", str(tmp_path / "bundle")])
    assert result.exit_code == 2
    assert "network.input is fmllr; only networks on filterbanks" in result.output


def test_an_experiment_that_is_not_decoded(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"recipe\.yaml: missing"):
        export(Workspace(tmp_path), "student", tmp_path / "bundle")
    work = make_experiment(tmp_path / "exp")
    write_json(work.record("decode"), {"fingerprint": "of another recipe"})
    with pytest.raises(UserError, match=r"decode\.json: missing or older"):
        export(work, "student", tmp_path / "bundle")


@pytest.mark.parametrize("system", ["student", "baseline"])
def test_a_system_that_the_recipe_has_not_decoded(tmp_path: Path, system: str) -> None:
    """Left over from another recipe, or never decoded."""
    work = make_experiment(tmp_path / "exp")
    write_json(work.decode("student") / "summary.json", {"made_from": "of another recipe", "scales": SCALES})
    with pytest.raises(UserError, match=rf"{system}/summary\.json: .*; name {system} in decode\.systems") as error:
        export(work, system, tmp_path / "bundle")
    assert "\n" not in str(error.value) and not (tmp_path / "bundle").exists()


def forget_score(work: Workspace) -> str:
    write_json(work.record("score"), {"fingerprint": "of another recipe"})
    return "student"


def decode_baseline_too(work: Workspace) -> str:
    """As results.json does not know it."""
    random_model(NETWORK).save(work.member(0), {})
    leave_decoded(work, "baseline")
    return "baseline"


@pytest.mark.parametrize("left_by", [forget_score, decode_baseline_too])
def test_what_is_not_scored_with_the_recipe_has_no_error_rate(
    tmp_path: Path, left_by: Callable[[Workspace], str]
) -> None:
    work = make_experiment(tmp_path / "exp")
    about = export(work, left_by(work), tmp_path / "bundle")
    assert about["measured"] == {"network_rtf": 0.01, "search_rtf": 0.1}
    assert "- not scored" in (tmp_path / "bundle" / "README.md").read_text()
