"""How far cells are: linked ones, finished ones, failed ones, and one at work."""

import sys
from pathlib import Path
from types import ModuleType

import pytest
from fake_stages import Factory
from typer.testing import CliRunner

from asr_kd.cli import app
from asr_kd.experiment.cells import FAILED, GRID, CellState, read_cells
from asr_kd.experiment.run import Request, run_experiment
from asr_kd.lock import locked
from asr_kd.pipeline import STAGE_NAMES, Job, run_stages
from asr_kd.recipe_file import load_recipe
from asr_kd.status import DONE, OPEN, RUNNING, STOPPED
from asr_kd.workspace import Workspace

LAST = STAGE_NAMES.index("student")


@pytest.fixture
def folder(tmp_path: Path, base_recipe: Path, factory: Factory) -> Path:
    """Of an experiment with three cells: the base's own student, another, and one whose training fails."""
    run_stages(load_recipe(base_recipe), tmp_path / "base")
    (tmp_path / "sweep.yaml").write_text("grid: {student.temperature: [2, 3, 4]}\nlast_stage: student\n")
    factory.fails = lambda run, stage: run.name == "temperature-4"
    request = Request(tmp_path / "sweep.yaml", base_recipe, tmp_path / "base", tmp_path / "exp", seeds=(0,))
    assert len(run_experiment(request, factory.start)) == 1
    return tmp_path / "exp"


def by_temperature(folder: Path) -> dict[str, CellState]:
    cells = read_cells(folder).cells
    assert all(cell.seed == 0 for cell in cells)
    return {cell.name.removeprefix("temperature-"): cell for cell in cells}


def test_cells_that_are_linked_finished_and_failed(folder: Path) -> None:
    cells = by_temperature(folder)
    assert {name: cell.state for name, cell in cells.items()} == {"2": DONE, "3": DONE, "4": FAILED}
    assert cells["3"].done == STAGE_NAMES[: LAST + 1]
    assert cells["4"].done == STAGE_NAMES[:LAST] and "stage student failed (status 2)" in cells["4"].why


def test_the_command_prints_a_line_a_cell(folder: Path) -> None:
    result = CliRunner().invoke(app, ["status", str(folder)])
    assert result.exit_code == 0, result.output
    head, *lines = result.output.splitlines()
    assert head == f"{folder}: no run; 3 cells: 2 done, 1 failed"
    assert [line.split()[:5] for line in lines] == [
        ["temperature-2", "seed", "0", "done", "student"],
        ["temperature-3", "seed", "0", "done", "student"],
        ["temperature-4", "seed", "0", "failed", "targets"],
    ]
    result = CliRunner().invoke(app, ["status", str(folder), "--watch"])
    assert result.exit_code == 2 and f"--watch: {folder} holds the cells of an experiment; name one" in result.output


def test_while_it_runs_the_last_run_tells_nothing(folder: Path) -> None:
    with locked(folder), locked(folder / "cells" / "temperature-3" / "seed-0"):
        cells = by_temperature(folder)
        assert read_cells(folder).run.is_running
    assert {name: cell.state for name, cell in cells.items()} == {"2": DONE, "3": RUNNING, "4": OPEN}
    assert cells["4"].why == ""


@pytest.mark.parametrize(("error", "state"), [(RuntimeError("no memory"), FAILED), (KeyboardInterrupt(), STOPPED)])
def test_a_stage_that_did_not_finish(
    folder: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException, state: str
) -> None:
    def end(job: Job) -> None:
        raise error

    module = ModuleType("asr_kd.stages.student")
    module.run = end  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "asr_kd.stages.student", module)
    work = Workspace(folder / "cells" / "temperature-3" / "seed-0")
    work.record("student").unlink()
    with pytest.raises(type(error)):
        run_stages(load_recipe(work.root / "recipe.yaml"), work.root, LAST, LAST)
    cell = by_temperature(folder)["3"]
    assert (cell.state, cell.done[-1]) == (state, "targets")
    assert cell.why.startswith("student: it ") and str(work.log("student")) in cell.why


def test_cells_that_have_not_begun_are_listed(folder: Path) -> None:
    for path in (folder / "cells" / "temperature-4" / "seed-0" / ".done").iterdir():
        path.unlink()
    (folder / "table.json").unlink()
    cell = by_temperature(folder)["4"]
    assert (cell.state, cell.done) == (OPEN, ())


def test_without_a_list_the_cells_are_those_that_are_there(folder: Path) -> None:
    """As a release left them that wrote no grid.json."""
    (folder / GRID).unlink()
    assert {name: cell.state for name, cell in by_temperature(folder).items()} == {"2": DONE, "3": DONE, "4": FAILED}
