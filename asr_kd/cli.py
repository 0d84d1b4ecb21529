"""The `asr-kd` command."""

import errno
import os
import shlex
import sys
import webbrowser
from functools import partial
from pathlib import Path
from typing import Annotated

import rich
import typer

from asr_kd.deploy.command import transcribe
from asr_kd.errors import UserError
from asr_kd.files import FULL, write_text
from asr_kd.interruption import Interruption, interruptible
from asr_kd.pipeline import STAGES, Job, console, run_stages
from asr_kd.recipe_file import load_recipe
from asr_kd.verification import check as check_files
from asr_kd.workspace import Workspace

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, rich_markup_mode="rich")

FORBIDDEN = (errno.EACCES, errno.EPERM, errno.EROFS)
STAGE_HELP = ", ".join(f"{number} {stage.name}" for number, stage in enumerate(STAGES))


hmm_app = typer.Typer(no_args_is_help=True, help="Look into the GMM-HMM half.")
app.add_typer(hmm_app, name="hmm")
targets_app = typer.Typer(no_args_is_help=True, help="Look into the soft targets.")
app.add_typer(targets_app, name="targets")
app.command()(transcribe)


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
    repair: Annotated[bool, typer.Option("--repair", help="Check every file, and make damaged ones anew.")] = False,
    page: Annotated[bool, typer.Option("--page/--no-page", help="Write report.html in stage 8.")] = True,
) -> None:
    """Run a recipe's stages; those already done with the same recipe keys and inputs are skipped."""
    with user_errors():
        check_device(device)
        if stop_stage < stage:
            raise UserError(f"--stop-stage {stop_stage} comes before --stage {stage}")
        loaded = load_recipe(recipe, overrides)
        root, cores = exp or Path("exp") / loaded.name, jobs or os.cpu_count() or 1
        with interruptible():
            run_stages(loaded, root, stage, stop_stage, device, cores, repair, page)


@app.command()
def validate(
    recipe: Annotated[Path, typer.Argument(help="Recipe file (YAML).")],
    overrides: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY.PATH=VALUE", help="Override a recipe key; may be repeated."),
    ] = None,
    jobs: Annotated[int | None, typer.Option(min=1, help="Files read side by side [default: the cores].")] = None,
) -> None:
    """Report what is wrong with a recipe's corpus, by kind; status 2 where stage 0 would refuse it. Writes nothing."""
    from asr_kd.corpora.validation import SHARED_SPEAKER
    from asr_kd.stages.prepare import validate as find_faults

    with user_errors(), interruptible():
        loaded = load_recipe(recipe, overrides)
        found = find_faults(Job(loaded, Workspace(Path()), jobs=jobs or os.cpu_count() or 1))
        for line in found.lines():
            console.print(line, markup=False, highlight=False, soft_wrap=True)
        if SHARED_SPEAKER in found.by_kind():
            raise UserError(f"{recipe}: two splits share a speaker; choose parts whose speakers are disjoint")
        found.refuse(loaded.corpus.max_bad_fraction)


@app.command()
def check(
    exp: Annotated[Path, typer.Argument(help="Experiment directory.")],
    jobs: Annotated[int | None, typer.Option(min=1, help="Files read side by side [default: the cores].")] = None,
) -> None:
    """Read every finished file of an experiment and compare it with its recorded checksum."""
    with user_errors():
        damaged = check_files(exp, jobs or os.cpu_count() or 1)
        for line in damaged:
            console.print(line, markup=False, highlight=False, soft_wrap=True)
        if damaged:
            raise UserError(f"{exp}: {len(damaged)} files are not as they were finished; asr-kd run --repair mends it")
        console.print(f"{exp}: all files are as they were finished", highlight=False, soft_wrap=True)


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
        with interruptible():
            failed = run_experiment(request, None if table_only else partial(StageProcess, device=device))
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


@app.command()
def export(
    exp: Annotated[Path, typer.Argument(help="Directory of a finished experiment.")],
    to: Annotated[Path, typer.Option(metavar="DIR", help="Directory to write the bundle to.")],
    model: Annotated[str, typer.Option(help="student or baseline.")] = "student",
) -> None:
    """Write a network with all that recognition needs as a bundle, which runs without torch: asr-kd transcribe."""
    from asr_kd.deploy.export import export as write_bundle

    with user_errors():
        about = write_bundle(Workspace(exp), model, to)
        megabytes = sum(entry["bytes"] for entry in about["files"].values()) / 1e6
        console.print(f"{to}: {model} of {about['name']}, {megabytes:.1f} MB", highlight=False, soft_wrap=True)


@app.command("write-kaldi")
def write_kaldi(
    exp: Annotated[Path, typer.Argument(help="Experiment directory.")],
    to: Annotated[Path, typer.Option(metavar="DIR", help="Where to write; each split gets a folder.")],
    split: Annotated[str, typer.Option(help="Splits, with commas between.")] = "train,dev,test",
    what: Annotated[
        str,
        typer.Option(
            help="alignment: pdf.ark and phones.ark, a number a frame; posteriors: logpost_SYSTEM.ark, natural "
            "logarithms, 4 bytes a pdf and frame; ctm: words.ctm, phones.ctm; textgrid: for Praat, a file an utterance."
        ),
    ] = "alignment,ctm",
    system: Annotated[str, typer.Option(help="Whose posteriors: student, baseline, ensemble, member-03 …")] = "student",
    compress: Annotated[bool, typer.Option("--compress", help="Posteriors in about 1 byte, rounded.")] = False,
) -> None:
    """Write the alignment as Kaldi archives, CTM or TextGrids, and a network's posteriors.

    DIR also gets phones.txt, the tree as Kaldi's text and ali_train_pdf.counts, whose relative frequencies are the
    priors: what Kaldi decodes with is log posterior minus log prior. docs/interoperability.md has examples.
    """
    from asr_kd.kaldi.writing import Writer
    from asr_kd.kaldi.writing import write_kaldi as write
    from asr_kd.pipeline import Job

    with user_errors():
        job = Job(load_recipe(exp / "recipe.yaml"), Workspace(exp))
        for line in write(Writer(job, to, system, compress), split.split(","), what.split(",")):
            console.print(line, markup=False, highlight=False, soft_wrap=True)


@app.command()
def report(
    exp: Annotated[Path, typer.Argument(help="Directory of an experiment with results.")],
    open_page: Annotated[bool, typer.Option("--open", help="Show it in the browser.")] = False,
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
    jobs: Annotated[int | None, typer.Option(min=1, help="Threads [default: the machine's cores].")] = None,
    overrides: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY.PATH=VALUE", help="For example score.page_utterances=20; may be repeated."),
    ] = None,
) -> None:
    """Write an experiment's report.html anew, from its results, networks and test speech."""
    from asr_kd.report.page import read_results, write_page

    with user_errors():
        check_device(device)
        work = Workspace(exp)
        results = read_results(work)
        recipe = load_recipe(exp / "recipe.yaml", overrides)
        with interruptible():
            write_page(Job(recipe, work, device, jobs or os.cpu_count() or 1), results)
        console.print(f"report: {work.page}", highlight=False, soft_wrap=True)
    if open_page:
        webbrowser.open(work.page.resolve().as_uri())


@app.command()
def compare(
    exps: Annotated[list[Path], typer.Argument(metavar="EXP1 EXP2 …", help="Directories of experiments with results.")],
    html: Annotated[Path | None, typer.Option(metavar="FILE", help="Write the comparison as a page too.")] = None,
) -> None:
    """Print experiments over one test set side by side, with paired significance against the first."""
    from asr_kd.report.compare import compare as compare_experiments
    from asr_kd.report.compare import page, terminal_tables

    with user_errors():
        comparison = compare_experiments(exps)
        for table in terminal_tables(comparison):
            rich.print(table)
        if html:
            write_text(html, page(comparison))
            console.print(f"page: {html}", highlight=False, soft_wrap=True)


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
    """Turn a UserError, a full disk and a folder without permission into one line on standard error and status 2, an
    interruption into one with the command that continues and the status 130 or 143.
    """

    def __enter__(self) -> None: ...

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        status = 2
        if isinstance(error, Interruption):
            line, status = f"stopped by {error.name}; to continue: {continuation()}", error.status
        elif isinstance(error, OSError) and error.errno in FULL:
            line = f"{error.filename or 'a temporary file'}: the disk is full; finished files are intact: "
            line += "free some space and run the same command again"
        elif isinstance(error, OSError) and error.errno in FORBIDDEN:
            line = f"{error.filename}: {error.strerror}; choose a place that can be written"
        elif isinstance(error, UserError):
            line = str(error)
        else:
            return
        console.print(f"asr-kd: {line}", style="red", markup=False, highlight=False, soft_wrap=True)
        raise typer.Exit(status)


def continuation() -> str:
    """This command, for a shell."""
    return f"asr-kd {shlex.join(sys.argv[1:])}"


def check_device(device: str) -> None:
    """Raise UserError unless `device` is cpu or a CUDA device that this machine has."""
    if device == "cpu":
        return
    if device.split(":")[0] != "cuda":
        raise UserError(f"--device {device}: unknown device; use cpu or cuda")
    import torch

    if not torch.cuda.is_available():
        raise UserError(f"--device {device}: no CUDA device here; use --device cpu")
