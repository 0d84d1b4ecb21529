"""`asr-kd experiment`: cells made, run where they must be, and gathered in a table and a plot."""

from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path

from asr_kd.errors import UserError
from asr_kd.experiment.cells import write_grid
from asr_kd.experiment.definition import Experiment, load_experiment
from asr_kd.experiment.plot import write_plot
from asr_kd.experiment.scheduler import Start, run_cells, title
from asr_kd.experiment.sharing import CELLS, CellRun, cell_root
from asr_kd.experiment.table import make_table, write_table
from asr_kd.lock import locked
from asr_kd.pipeline import STAGE_NAMES, console
from asr_kd.recipe_file import load_recipe


@dataclass(frozen=True)
class Request:
    """What the command line asks for; None takes the experiment file's, or exp/NAME.

    cells: patterns of names, of which cells to run; none: all. The table has all in any case.
    """

    file: Path
    base: Path | None = None
    base_exp: Path | None = None
    exp: Path | None = None
    seeds: tuple[int, ...] = ()
    cells: tuple[str, ...] = ()
    overrides: list[str] = field(default_factory=list)
    jobs: int = 1
    most_jobs: int | None = None  # of one stage


def run_experiment(request: Request, start: Start | None) -> list[CellRun]:
    """Run the cells (start None: only gather what is there) and write the table; returns the cells that failed."""
    experiment = load_experiment(request.file)
    base = experiment.base(request.base)
    folder = request.exp or Path("exp") / experiment.name
    base_exp = request.base_exp or Path("exp") / load_recipe(base).name
    runs = make_cells(experiment, base, folder, request.seeds, request.overrides)
    every = [run for seeds in runs.values() for run in seeds.values()]
    if own := next((run for run in every if run.root.resolve() == base_exp.resolve()), None):
        raise UserError(f"--base-exp {base_exp}: is cell {own.name} of this experiment, which may change; name another")
    chosen = [run for run in every if is_chosen(run.name, request.cells)]
    for pattern in request.cells:
        if not any(is_chosen(name, (pattern,)) for name in runs):
            raise UserError(f"--cells {pattern}: no cell is called so; one of {', '.join(runs)}")
    if start is not None:
        providers = [base_exp, *sorted(path for path in (folder / CELLS).glob("*/seed-*") if path.is_dir())]
        by_seed = sorted(chosen, key=lambda run: run.seed)  # the whole grid at the first seed before the next seed
        with locked(folder):
            write_grid(folder, chosen, experiment.definition.last_stage)
            last = STAGE_NAMES.index(experiment.definition.last_stage)
            run_cells(by_seed, providers, last, request.jobs, start, request.most_jobs)
    table = make_table(experiment, runs, base)
    write_table(folder, experiment, table)  # before the plot, which may fail
    write_plot(folder / "plot.png", experiment, table, runs)
    console.print(f"table: {folder / 'table.md'}", soft_wrap=True, highlight=False)
    failed = [run for run in every if run.failure]
    for run in failed:
        console.print(f"not finished: {title(run)}: {run.failure}", style="red", markup=False, soft_wrap=True)
    return failed


def is_chosen(cell: str, patterns: tuple[str, ...]) -> bool:
    """Whether the cell's name is like one of the shell patterns; without any, it is."""
    return not patterns or any(fnmatchcase(cell, pattern) for pattern in patterns)


def make_cells(
    experiment: Experiment, base: Path, folder: Path, seeds: tuple[int, ...], overrides: list[str]
) -> dict[str, dict[int, CellRun]]:
    """The runs of each cell by seed, every recipe checked before anything runs."""
    return {
        cell.name: {
            seed: CellRun(
                cell.name,
                seed,
                cell_root(folder, cell.name, seed),
                experiment.recipe(base, cell, seed, overrides),
            )
            for seed in seeds or experiment.definition.seeds
        }
        for cell in experiment.cells
    }
