"""A miniature experiment with real networks, and the command line."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from toy_experiment import NETWORK, TRAINING, toy_workspace
from typer.testing import CliRunner

from asr_kd.cli import app
from asr_kd.experiment.run import Request, run_experiment
from asr_kd.experiment.scheduler import OUTPUT, StageProcess
from asr_kd.experiment.sharing import CellRun
from asr_kd.files import read_json, write_json
from asr_kd.nn.products import threads
from asr_kd.pipeline import STAGE_NAMES, STAGES, Stage, fingerprint, run_stages
from asr_kd.recipe import Recipe
from asr_kd.recipe_file import load_recipe
from asr_kd.workspace import Workspace

RECIPE = {
    "teachers": {"members": 2, "network": NETWORK.model_dump(), "train": TRAINING.model_dump()},
    "targets": {"top_k": 4},
    "student": {"train": TRAINING.model_dump(), "hard_weight": 0.3},
}
GRID = """
grid:
  student.temperature: [2, 5]
  targets: {soft: {}, hard: {student.hard_weight: 1}, dense: {targets.top_k: null}}
exclude: [{student.temperature: 5, targets: hard}]
cells:
  a tenth: {student.train.fraction: 0.1}
seeds: [0, 1]
baseline: {targets: hard, student.temperature: 2}
plot: {x: student.temperature}
"""


class InProcess:
    """Runs a stage at once, in this process."""

    def __init__(self, run: CellRun, stage: Stage, cores: int) -> None:
        number = STAGES.index(stage)
        with threads(1):
            run_stages(run.recipe, run.root, number, number, jobs=cores)

    def poll(self) -> int:
        return 0

    def stop(self) -> None: ...


def pretend(recipe: Recipe, work: Workspace, stages: tuple[str, ...]) -> None:
    """Records of stages whose files are there."""
    for name in stages:
        record = {"fingerprint": fingerprint(recipe, name), "seconds": 0.0, "cpu_seconds": 0.0}
        write_json(work.record(name), record)


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The experiment over the toy base experiment, run twice."""
    folder = tmp_path_factory.mktemp("toy")
    (folder / "toy.yaml").write_text(yaml.safe_dump(RECIPE))
    (folder / "grid.yaml").write_text(GRID)
    recipe, work = load_recipe(folder / "toy.yaml"), toy_workspace(folder / "base")
    pretend(recipe, work, STAGE_NAMES[:4])
    with threads(1):
        run_stages(recipe, work.root, 4, 6)
    request = Request(folder / "grid.yaml", folder / "toy.yaml", work.root, folder / "exp", jobs=1)
    started: list[str] = []

    def start(run: CellRun, stage: Stage, cores: int) -> InProcess:
        started.append(stage.name)
        return InProcess(run, stage, cores)

    assert run_experiment(request, start) == []
    first = read_json(folder / "exp" / "table.json")
    assert started.count("teachers") == 0 and started.count("targets") == 1
    assert started.count("student") == 11, "one of twelve is the base's"
    assert run_experiment(request, start) == [] and len(started) == 12
    assert read_json(folder / "exp" / "table.json")["cells"] == first["cells"]
    assert (folder / "exp" / "plot.png").exists()
    return {"root": folder / "exp", **first}


def figures(table: dict[str, Any], name: str) -> dict[str, Any]:
    return next(cell["figures"] for cell in table["cells"] if cell["name"] == name)


def test_the_table_has_what_the_cells_measured(table: dict[str, Any]) -> None:
    for cell in table["cells"]:
        for seed, measured in cell["seeds"].items():
            path = table["root"] / "cells" / cell["name"] / f"seed-{seed}" / "models" / "student" / "accuracy.json"
            accuracy = read_json(path)
            for split in ("train", "dev", "test"):
                assert measured["figures"][f"frame_accuracy.{split}"] == accuracy[split]["frame_accuracy"]
                if split != "train":
                    low, high = measured["ci95"][f"frame_accuracy.{split}"]
                    assert low <= accuracy[split]["frame_accuracy"] <= high
            assert cell["compared_with"] is None or 0 <= measured["figures"]["p_more_correct.test"] <= 1
    soft = figures(table, "temperature-2_targets-soft")
    assert soft["frame_accuracy.dev"]["seeds"] == 2 and soft["frame_accuracy.dev"]["sd"] > 0
    assert soft["difference.frame_accuracy.dev"]["mean"] == pytest.approx(
        soft["frame_accuracy.dev"]["mean"] - figures(table, "temperature-2_targets-hard")["frame_accuracy.dev"]["mean"]
    )


def test_accuracy_of_the_finished_network_is_that_of_training(table: dict[str, Any]) -> None:
    path = table["root"] / "cells" / "a-tenth" / "seed-1" / "models" / "student"
    accuracy, description = read_json(path / "accuracy.json"), read_json(path / "model.json")
    assert accuracy["dev"]["frame_accuracy"] == pytest.approx(description["dev_frame_accuracy"])
    assert description["seed"] == [1, "student"]
    assert accuracy["train"]["frames"] < 0.2 * 24 * 60, "a tenth of the training utterances"


def test_dense_targets_are_the_reference_of_the_others(table: dict[str, Any]) -> None:
    assert figures(table, "temperature-2_targets-dense")["kl_to_dense"]["mean"] == pytest.approx(0, abs=1e-6)
    soft = figures(table, "temperature-2_targets-soft")
    assert 0.01 < soft["kl_to_dense"]["mean"] < 0.5
    assert 0 <= soft["kl_to_dense_binned"]["mean"] < 1e-3, "2 is a stored temperature"


def test_every_file_of_the_stages_can_be_shared(table: dict[str, Any]) -> None:
    base = table["root"].parent / "base"
    owned = {path for stage in STAGES for pattern in stage.files for path in base.glob(pattern)}
    of_the_run = {base / "recipe.yaml", base / "environment.json", base / ".done", base / "logs"}
    files = [path for path in base.rglob("*") if path.is_file()]
    assert files and all(owned & {path, *path.parents} or of_the_run & {path, *path.parents} for path in files)


def test_a_stage_in_a_process_of_its_own_leaves_its_words_in_the_cell(tmp_path: Path) -> None:
    recipe = Recipe.model_validate({"corpus": {"kind": "librispeech", "dir": "/no/such/corpus"}})
    run = CellRun("cell", 0, tmp_path / "cell", recipe)
    process = StageProcess(run, STAGES[0], 1, "cpu")
    assert process._process.wait(120) == 2 == process.poll()
    assert "asr-kd: /no/such/corpus" in run.work.log(OUTPUT).read_text()


def test_a_stage_can_be_stopped(tmp_path: Path) -> None:
    process = StageProcess(CellRun("cell", 0, tmp_path / "cell", Recipe()), STAGES[0], 1, "cpu")
    assert process.poll() is None
    process.stop()
    assert process.poll() is not None


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere.yaml"], "nowhere.yaml: No such file or directory"),
        (["grid.yaml", "--seeds", "0;1"], "--seeds 0;1: write whole numbers"),
        (["grid.yaml"], "grid.yaml: base: no base recipe; name one here or with --base"),
        (
            ["grid.yaml", "--base", "toy.yaml", "--base-exp", "exp/grid/cells/a-tenth/seed-0"],
            "--base-exp exp/grid/cells/a-tenth/seed-0: is cell a-tenth of this experiment",
        ),
    ],
)
def test_a_mistake_is_one_line_and_status_2(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("grid.yaml").write_text(GRID)
    Path("toy.yaml").write_text(yaml.safe_dump(RECIPE))
    result = CliRunner().invoke(app, ["experiment", *arguments, "--table-only"])
    assert result.exit_code == 2
    assert message in result.output and "Traceback" not in result.output
