"""The `asr-kd` command."""

import os
from functools import partial
from pathlib import Path
from typing import Annotated

import rich
import typer

from asr_kd.errors import UserError
from asr_kd.pipeline import STAGES, console, run_stages
from asr_kd.recipe_file import load_recipe
from asr_kd.workspace import Workspace

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, rich_markup_mode="rich")

STAGE_HELP = ", ".join(f"{number} {stage.name}" for number, stage in enumerate(STAGES))


hmm_app = typer.Typer(no_args_is_help=True, help="Look into the GMM-HMM half.")
app.add_typer(hmm_app, name="hmm")
targets_app = typer.Typer(no_args_is_help=True, help="Look into the soft targets.")
app.add_typer(targets_app, name="targets")


@app.callback()
def main() -> None:
    """Distil an ensemble of acoustic models into one network."""


@app.command()
def run(
    recipe: Annotated[Path, typer.Option(help="Recipe file (YAML).")] = Path("recipes/default.yaml"),
    stage: Annotated[int, typer.Option(min=0, max=len(STAGES) - 1, help=f"First stage: {STAGE_HELP}.")] = 0,
    stop_stage: Annotated[int, typer.Option(min=0, max=len(STAGES) - 1, help="Last stage.")] = len(STAGES) - 1,
    exp: Annotated[Path | None, typer.Option(help="Experiment directory [default: exp/RECIPE].")] = None,
    overrides: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY.PATH=VALUE", help="Override a recipe key; may be repeated."),
    ] = None,
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
    jobs: Annotated[int | None, typer.Option(min=1, help="Worker processes [default: the machine's cores].")] = None,
) -> None:
    """Run a recipe's stages; those already done with the same recipe keys and inputs are skipped."""
    with user_errors():
        check_device(device)
        if stop_stage < stage:
            raise UserError(f"--stop-stage {stop_stage} comes before --stage {stage}")
        loaded = load_recipe(recipe, overrides)
        run_stages(loaded, exp or Path("exp") / loaded.name, stage, stop_stage, device, jobs or os.cpu_count() or 1)


@app.command()
def experiment(
    file: Annotated[Path, typer.Argument(help="Experiment file (YAML), see docs/experiments.md.")],
    base: Annotated[Path | None, typer.Option(help="Base recipe [default: the file's].")] = None,
    base_exp: Annotated[
        Path | None, typer.Option(help="Experiment directory of the base recipe, shared from [default: exp/RECIPE].")
    ] = None,
    exp: Annotated[Path | None, typer.Option(help="Where the cells and the table go [default: exp/FILE].")] = None,
    seeds: Annotated[str | None, typer.Option(help="Seeds, for example 0,1,2 [default: the file's].")] = None,
    overrides: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY.PATH=VALUE", help="Override a recipe key in all cells; may be repeated."),
    ] = None,
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
    jobs: Annotated[int | None, typer.Option(min=1, help="Cores to use [default: the machine's].")] = None,
    table_only: Annotated[bool, typer.Option("--table-only", help="Run nothing; gather what there is.")] = False,
) -> None:
    """Run a grid of recipes × seeds over a base experiment; what is done or can be shared is not run again."""
    from asr_kd.experiment.run import Request, run_experiment
    from asr_kd.experiment.scheduler import StageProcess

    with user_errors():
        check_device(device)
        request = Request(file, base, base_exp, exp, parse_seeds(seeds), overrides or [], jobs or os.cpu_count() or 1)
        try:
            failed = run_experiment(request, None if table_only else partial(StageProcess, device=device))
        except KeyboardInterrupt:
            console.print("asr-kd: interrupted; the same command continues", style="red")
            raise typer.Exit(130) from None
    if failed:
        raise typer.Exit(1)


def parse_seeds(text: str | None) -> tuple[int, ...]:
    """`0,1,2` to (0, 1, 2); nothing to ()."""
    try:
        seeds = tuple(int(part) for part in text.split(",")) if text else ()
    except ValueError:
        seeds = (-1,)
    if any(seed < 0 for seed in seeds):
        raise UserError(f"--seeds {text}: write whole numbers with commas between them, for example 0,1,2")
    return tuple(dict.fromkeys(seeds))


@hmm_app.command()
def show(
    exp: Annotated[Path, typer.Argument(help="Experiment directory.")],
    step: Annotated[str, typer.Option(help="mono, tri, lda or sat.")] = "sat",
    phone: Annotated[str | None, typer.Option(help="Only this base phone's questions, for example AE.")] = None,
    depth: Annotated[int, typer.Option(min=1, help="Levels of questions to show.")] = 2,
) -> None:
    """Print the tree's first questions, the leaves of each phone, and the likelihood by iteration."""
    from asr_kd.hmm.show import describe

    with user_errors():
        rich.print(describe(Workspace(exp).gmm(step), phone, depth))


@targets_app.command()
def inspect(
    path: Annotated[Path, typer.Argument(metavar="DIR", help="Experiment directory, or its targets.")],
) -> None:
    """Print what the soft targets hold: frames, size, tails, entropy, agreement with the alignment, origin."""
    from asr_kd.distill.inspection import describe_targets

    with user_errors():
        rich.print(describe_targets(path))


class user_errors:
    """Turn a UserError into one line on standard error and exit status 2."""

    def __enter__(self) -> None: ...

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, UserError):
            console.print(f"asr-kd: {error}", style="red", markup=False, highlight=False, soft_wrap=True)
            raise typer.Exit(2)


def check_device(device: str) -> None:
    """Raise UserError unless `device` is cpu or a CUDA device that this machine has."""
    if device == "cpu":
        return
    if device.split(":")[0] != "cuda":
        raise UserError(f"--device {device}: unknown device; use cpu or cuda")
    import torch

    if not torch.cuda.is_available():
        raise UserError(f"--device {device}: no CUDA device here; use --device cpu")
