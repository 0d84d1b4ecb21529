"""The whole pipeline on a tiny embedded corpus: every stage real, from synthesis to the table."""

import json
import os
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from asr_kd.cli import app
from asr_kd.pipeline import STAGE_NAMES

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

SYSTEMS = ("gmm-sat", "baseline", "ensemble", "student")
RECIPE = """
name: tiny
corpus:
  kind: embedded
  embedded:
    train_utterances: 120
    dev_utterances: 16
    test_utterances: 24
    train_speakers: 12
    dev_speakers: 2
    test_speakers: 4
    lm_sentences: 1500
    snr_db: [20, 30]
lang:
  ngram: {order: 2, cutoffs: [0]}
hmm:
  min_occupancy: 50
  mono: {iterations: 12, realign: [1, 2, 3, 4, 5, 6, 8, 10], gaussians: 300}
  tri: {iterations: 8, realign: [3, 6], leaves: 150, gaussians: 600}
  lda: {iterations: 8, realign: [3, 6], leaves: 150, gaussians: 600}
  sat: {iterations: 8, realign: [3, 6], leaves: 150, gaussians: 600}
  mllt_iterations: [2, 4]
  fmllr_iterations: [2, 4]
teachers:
  members: 2
  network: {layers: 2, width: 128}
  train: {epochs: 3}
student:
  network: {layers: 1, width: 64}
  train: {epochs: 3}
decode:
  max_active: 1000
  first_pass: {beam: 9, max_active: 500}
  gmm: {lm_scale: [8, 12, 16], word_penalty: [0, 1]}
  network: {lm_scale: [8, 12, 16], word_penalty: [0, 1]}
"""


def run(folder: Path, *arguments: str) -> list[str]:
    """Run the recipe; returns the names of the stages that were not skipped."""
    options = [
        "--recipe",
        str(folder / "tiny.yaml"),
        "--exp",
        str(folder / "exp"),
        "--jobs",
        str(os.cpu_count()),
    ]
    result = CliRunner().invoke(app, ["run", *options, *arguments], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return [name for name in STAGE_NAMES if f" {name}: done already" not in result.output]


def results_of(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "exp" / "results.json").read_text())


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with the recipe and its finished experiment."""
    folder = tmp_path_factory.mktemp("end_to_end")
    (folder / "tiny.yaml").write_text(RECIPE)
    assert run(folder) == list(STAGE_NAMES)
    return folder


def test_every_system_is_in_the_table_with_plausible_figures(folder: Path) -> None:
    results = results_of(folder)
    assert tuple(results["systems"]) == SYSTEMS
    chance = 1 / results["num_pdfs"]
    for name, system in results["systems"].items():
        for split in ("dev", "test"):
            errors = system["wer"][split]
            assert errors["words"] > 0 and 0 < errors["wer"] <= 1, f"{name} on {split}"
            assert errors["ci95"][0] <= errors["wer"] <= errors["ci95"][1]
            if name != "gmm-sat":
                assert chance < system["frame_accuracy"][split] < 1, f"{name} on {split}"
        assert system["rtf"] > 0
    assert results["systems"]["ensemble"]["members"] == 2
    assert set(results["gain_retained"]) == {"frame_accuracy", "wer"}
    assert set(results["significance"]) == {"student_vs_baseline", "ensemble_vs_baseline"}


def test_sizes_are_those_of_the_recipe(folder: Path) -> None:
    results, window, pdfs = results_of(folder), 26 * 40, results_of(folder)["num_pdfs"]
    member = window * 128 + 128 + 128 * 128 + 128 + 128 * pdfs + pdfs
    parameters = {name: system["parameters"] for name, system in results["systems"].items()}
    assert parameters["baseline"] == member
    assert parameters["ensemble"] == 2 * member
    assert parameters["student"] == window * 64 + 64 + 64 * pdfs + pdfs
    assert results["targets"]["top_k"] == 20
    assert results["targets"]["bytes_per_frame"] == pytest.approx(20 * (2 + 2) + 4 * 2, rel=0.01)
    assert results["targets"]["frames"] == pytest.approx(results["hours"]["train"] * 360_000, rel=0.05)


def test_the_networks_learn_more_than_the_commonest_state(folder: Path) -> None:
    systems = results_of(folder)["systems"]
    assert all(systems[name]["frame_accuracy"]["test"] > 0.2 for name in ("baseline", "ensemble"))


def test_report_and_plots_are_written(folder: Path) -> None:
    report = (folder / "exp" / "report.md").read_text()
    assert all(f"| {name} " in report for name in SYSTEMS)
    assert {path.name for path in (folder / "exp" / "plots").iterdir()} == {"systems.png", "training.png"}
    assert not list((folder / "exp").rglob("*.tmp"))


def test_a_second_run_skips_everything_and_a_temperature_redoes_the_student(folder: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in (folder / "exp" / "models").rglob("member-*/*")}
    assert run(folder) == []
    assert run(folder, "--set", "student.temperature=4") == ["student", "decode", "score"]
    assert {path: path.stat().st_mtime_ns for path in before} == before


def test_word_boundaries_are_near_the_true_ones(folder: Path) -> None:
    for split, boundaries in json.loads((folder / "exp" / "hmm" / "boundaries.json").read_text()).items():
        assert boundaries["median_seconds"] <= 0.02, split
        assert boundaries["within_60_ms"] >= 0.9, split


def test_networks_read_adapted_features_on_request(folder: Path) -> None:
    inputs = ["--set", "teachers.network.input=fmllr", "--set", "student.network.input=fmllr+fbank"]
    redone = run(folder, *inputs, "--set", "decode.systems=[baseline, student]")
    assert redone == ["teachers", "targets", "student", "decode", "score"]
    systems = results_of(folder)["systems"]
    for name in ("baseline", "student"):
        assert systems[name]["frame_accuracy"]["test"] > 0.2, name
        assert systems[name]["wer"]["test"]["wer"] < 1, name
