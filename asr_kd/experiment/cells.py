"""How far the cells of an experiment are: `asr-kd status` of its directory."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import takewhile
from pathlib import Path

from rich.text import Text

from asr_kd.checksums import read_checked, write_checked
from asr_kd.errors import UserError
from asr_kd.experiment.sharing import CELLS, CellRun, cell_root
from asr_kd.files import read_json
from asr_kd.integrity import read_record
from asr_kd.live import ENDED
from asr_kd.lock import find_holder
from asr_kd.plan import STAGE_NAMES
from asr_kd.recipe_file import load_recipe
from asr_kd.status import DONE, OPEN, RUNNING, STOPPED, Status, read_progress
from asr_kd.watch import COLOURS, describe_run
from asr_kd.workspace import Workspace

GRID = "grid.json"
FAILED = "failed"


@dataclass(frozen=True)
class CellState:
    """done: its finished stages, in order, with none missing before them; why: what it is at, or why it ended."""

    name: str
    seed: int
    state: str
    done: tuple[str, ...]
    why: str = ""


@dataclass(frozen=True)
class CellsStatus:
    """run: of the command that runs the cells."""

    run: Status
    cells: tuple[CellState, ...]

    def lines(self) -> Iterator[Text]:
        counts = Counter(cell.state for cell in self.cells)
        summary = ", ".join(f"{count} {state}" for state, count in counts.items())
        yield Text(f"{self.run.root}: {describe_run(self.run)}; {len(self.cells)} cells: {summary}")
        width = max((len(cell.name) for cell in self.cells), default=0)
        for cell in self.cells:
            reached = cell.done[-1] if cell.done else "–"
            line = f"{cell.name:<{width}}  seed {cell.seed:<3} {cell.state:<8} {reached:<9} {cell.why}"
            yield Text(line.rstrip(), COLOURS.get(cell.state, "red"))


def write_grid(folder: Path, runs: Sequence[CellRun], last_stage: str) -> None:
    """Note which cells are to be run to which stage, for `read_cells`."""
    cells = [[run.name, run.seed] for run in runs]
    write_checked(folder / GRID, {"last_stage": last_stage, "cells": cells})


def is_grid(folder: Path) -> bool:
    """Whether an experiment over recipes, not a recipe, was run in `folder`."""
    return not (folder / "recipe.yaml").exists() and ((folder / GRID).exists() or any(_cells_in(folder)))


def read_cells(folder: Path) -> CellsStatus:
    """The cells that were last asked for, then others that are there. No finished file is looked at.

    A release without grid.json left no list and no last stage: there, a cell that came as far as any is done. Raises
    UserError for a damaged recipe or completion record of a cell.
    """
    run = Status(folder, find_holder(folder), (), None, {})
    grid = read_checked(folder / GRID) or {}
    listed = [(str(name), int(seed)) for name, seed in grid.get("cells", ())]
    cells = [_read_cell(folder, name, seed) for name, seed in dict.fromkeys([*listed, *_cells_in(folder)])]
    farthest = max((len(cell.done) for cell in cells), default=0)
    last = STAGE_NAMES.index(grid["last_stage"]) + 1 if "last_stage" in grid else farthest
    failures = {} if run.is_running else _failures(folder)
    return CellsStatus(run, tuple(_judged(cell, last, failures.get((cell.name, cell.seed), "")) for cell in cells))


def _judged(cell: CellState, last: int, failure: str) -> CellState:
    """The cell as done where it has `last` stages, and else, unless it runs, as failed where a failure is noted."""
    if cell.state == RUNNING:
        return cell
    if len(cell.done) >= last > 0:
        return replace(cell, state=DONE, why="")
    return replace(cell, state=FAILED, why=failure) if failure else cell


def _cells_in(folder: Path) -> list[tuple[str, int]]:
    """Name and seed of each cell that has a directory."""
    paths = [path for path in (folder / CELLS).glob("*/seed-*") if path.is_dir()]
    named = [(path.parent.name, path.name.removeprefix("seed-")) for path in paths]
    return sorted((name, int(seed)) for name, seed in named if seed.isdecimal())


def _read_cell(folder: Path, name: str, seed: int) -> CellState:
    work = Workspace(cell_root(folder, name, seed))
    if not (work.root / "recipe.yaml").exists():  # what it has is linked
        linked = takewhile(lambda stage: read_record(work, stage) is not None, STAGE_NAMES)
        return CellState(name, seed, OPEN, tuple(linked))
    status = read_progress(work, load_recipe(work.root / "recipe.yaml"))
    done = tuple(stage.name for stage in takewhile(lambda stage: stage.state == DONE, status.stages))
    if status.is_running:
        return CellState(name, seed, RUNNING, done, f"at {status.running}" if status.running else "between stages")
    for stage in status.stages:
        if stage.state == STOPPED:
            state = FAILED if status.board.get(ENDED) == FAILED else STOPPED
            return CellState(name, seed, state, done, f"{stage.name}: {stage.why[0]}")
    return CellState(name, seed, OPEN, done)


def _failures(folder: Path) -> dict[tuple[str, int], str]:
    """By cell and seed, what the last table says of cells that were not finished."""
    try:
        cells = read_json(folder / "table.json")["cells"]
        return {(cell["name"], int(seed)): why for cell in cells for seed, why in cell["failures"].items()}
    except (UserError, KeyError, TypeError, ValueError, AttributeError):  # none yet, or of another release
        return {}
