"""The `asr-kd` command."""

import errno
import os
import re
import shlex
import shutil
import sys
import webbrowser
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import rich
import typer
from rich.console import Console

from asr_kd.deploy.command import transcribe
from asr_kd.errors import UserError
from asr_kd.executors.choice import chosen as chosen_executor
from asr_kd.executors.contract import RemoteExecutor
from asr_kd.files import FULL, write_text
from asr_kd.interruption import Interruption, interruptible
from asr_kd.pipeline import STAGES, Job, console, run_stages
from asr_kd.recipe import Recipe
from asr_kd.recipe_file import load_recipe
from asr_kd.torchrun import give_way, led, processes_here, refuse_several, speaks
from asr_kd.verification import check as check_files
from asr_kd.workspace import Workspace

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)

FORBIDDEN = (errno.EACCES, errno.EPERM, errno.EROFS)
STAGE_HELP = ", ".join(f"{number} {stage.name}" for number, stage in enumerate(STAGES))
ExecutorOption = Annotated[
    str, typer.Option(help="Where tasks run: local, on this machine's cores, or ray; see docs/cluster.md.")
]
AddressOption = Annotated[
    str | None,
    typer.Option(metavar="HOST:PORT", help="Of a running Ray [default: RAY_ADDRESS, or one on this machine alone]."),
]


hmm_app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Look into the GMM-HMM half.")
app.add_typer(hmm_app, name="hmm")
targets_app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Look into the soft targets.")
app.add_typer(targets_app, name="targets")
app.command()(transcribe)


@app.callback()
def main() -> None:
    """Distil an ensemble of acoustic models into one network."""
    console.quiet = not speaks()


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
    executor: ExecutorOption = "local",
    address: AddressOption = None,
) -> None:
    """Run a recipe's stages; those already done with the same recipe keys and inputs are skipped."""
    with user_errors():
        check_device(device)
        if stop_stage < stage:
            raise UserError(f"--stop-stage {stop_stage} comes before --stage {stage}")
        loaded = load_recipe(recipe, overrides)
        root, cores = exp or Path("exp") / loaded.name, jobs or os.cpu_count() or 1
        with interruptible(), led(device) as leads:
            if leads:
                with chosen_executor(executor, address, root, cores) as tasks:
                    run_stages(loaded, root, stage, stop_stage, device, cores, repair, page, tasks)


@app.command()
def validate(
    recipe: Annotated[Path, typer.Argument(help="Recipe file (YAML).")],
    overrides: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY.PATH=VALUE", help="Override a recipe key; may be repeated."),
    ] = None,
    jobs: Annotated[int | None, typer.Option(min=1, help="Files read side by side [default: the cores].")] = None,
) -> None:
    """Report what is wrong with a recipe's corpus, by kind; status 2 where stage 0 would refuse it. Writes and
    downloads nothing: what corpus.download would fetch is reported as missing.
    """
    from asr_kd.corpora.validation import SHARED_SPEAKER
    from asr_kd.stages.prepare import validate as find_faults

    with user_errors(), interruptible():
        loaded = load_recipe(recipe, overrides)
        found = find_faults(Job(loaded, Workspace(Path()), jobs=jobs or os.cpu_count() or 1))
        if found is None:
            line = "the embedded corpus is made and checked by stage 0; there is nothing to do"
            console.print(f"{recipe}: {line}", markup=False, highlight=False, soft_wrap=True)
            return
        for line in found.lines():
            console.print(line, markup=False, highlight=False, soft_wrap=True)
        if SHARED_SPEAKER in found.by_kind():
            raise UserError(f"{recipe}: two splits share a speaker; choose parts whose speakers are disjoint")
        found.refuse(loaded.corpus.max_bad_fraction)


@app.command()
def plan(
    recipe: Annotated[Path, typer.Argument(help="Recipe file (YAML).")],
    exp: Annotated[Path | None, typer.Option(help="A finished experiment to take the stages' unit costs from.")] = None,
    hours: Annotated[float | None, typer.Option(help="Of training speech [default: the corpus's].")] = None,
    overrides: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY.PATH=VALUE", help="Override a recipe key; may be repeated."),
    ] = None,
    device: Annotated[str, typer.Option(help="cpu or cuda, whose products are measured.")] = "cpu",
    jobs: Annotated[int | None, typer.Option(min=1, help="Cores to use [default: the machine's].")] = None,
    tflops: Annotated[
        str | None,
        typer.Option(
            metavar="TRAIN,FLOAT32", help="10¹² operations a second of large products, instead of measuring: 400,50."
        ),
    ] = None,
) -> None:
    """Estimate seconds, bytes and memory of every stage before anything runs; docs/scale.md says how."""
    from asr_kd.scale.plan import make_plan

    with user_errors():
        check_device(device)
        speeds = parse_tflops(tflops) if tflops else None
        loaded = load_recipe(recipe, overrides)
        made = make_plan(loaded, hours, exp, device, jobs or os.cpu_count() or 1, speeds)
        for line in made.lines():
            rich.print(line)
        rich.print(made.table())


def parse_tflops(text: str) -> tuple[float, float]:
    """`400,50` to (400, 50)."""
    try:
        train, infer = map(float, text.split(","))
    except ValueError:
        train = infer = 0.0
    if not (0 < train < 1e9 and 0 < infer < 1e9):
        raise UserError(f"--tflops {text}: write two numbers, of training's products and of float32's, such as 400,50")
    return train, infer


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
def status(
    exp: Annotated[Path, typer.Argument(help="Experiment directory.")],
    recipe: Annotated[
        Path | None, typer.Option(help="Compare with this one; without it, with the experiment's own.")
    ] = None,
    overrides: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY.PATH=VALUE", help="Compare with this value; may be repeated."),
    ] = None,
    check: Annotated[bool, typer.Option("--check", help="Read every file, instead of comparing sizes.")] = False,
    watch: Annotated[bool, typer.Option("--watch", help="Show how the run goes on, until it ends.")] = False,
    jobs: Annotated[int | None, typer.Option(min=1, help="Files read side by side; without it, the cores.")] = None,
) -> None:
    """Show which stages are done, running, or stale and why; of a run its epochs, frames per second and time left.

    A stage is stale when a recipe key that it uses, or a stage that it reads, is not as it was. With --watch the view
    is kept up to date; where the output is no terminal, a line says when something happens. Ctrl-C ends only the view.
    Of an experiment over recipes there is a line for each cell: the last stage that it has, and whether it is done.
    """
    from asr_kd.status import read_progress, read_status
    from asr_kd.watch import View, show
    from asr_kd.watch import watch as watch_run

    work = Workspace(exp)
    of_a_run = {"--recipe": recipe, "--set": overrides, "--check": check, "--watch": watch}

    def look() -> View:
        own = load_own_recipe(exp)
        wanted = load_recipe(recipe or exp / "recipe.yaml", overrides) if recipe or overrides else own
        if watch:
            return View.of(read_progress(work, wanted), work, own)
        return View.of(read_status(work, wanted, True if check else None, jobs or os.cpu_count() or 1), work, own)

    with user_errors():
        if check and watch:
            raise UserError("--check reads every file, --watch none; choose one of them")
        if show_cells(exp, [option for option, given in of_a_run.items() if given]):
            return
        if not watch:
            show(look(), Console(emoji=False))
            return
        with suppress(KeyboardInterrupt):
            watch_run(look, Console(emoji=False))


def show_cells(exp: Path, options: list[str]) -> bool:
    """Show how far an experiment's cells are; False where the directory is of a run. options: those for a run alone."""
    from asr_kd.experiment.cells import is_grid, read_cells

    if not is_grid(exp):
        return False
    if options:
        raise UserError(f"{options[0]}: {exp} holds the cells of an experiment; name one, {exp}/cells/NAME/seed-S")
    for line in read_cells(exp).lines():
        Console(emoji=False).print(line, highlight=False, soft_wrap=True)
    return True


def load_own_recipe(exp: Path) -> Recipe:
    """The recipe of an experiment's last run."""
    if not (exp / "recipe.yaml").exists():
        raise UserError(f"{exp}: no recipe.yaml, so no run has begun here; name an experiment directory")
    return load_recipe(exp / "recipe.yaml")


@app.command()
def experiment(
    file: Annotated[Path, typer.Argument(help="Experiment file (YAML), see docs/experiments.md.")],
    base: Annotated[Path | None, typer.Option(help="Base recipe [default: the file's].")] = None,
    base_exp: Annotated[
        Path | None, typer.Option(help="Experiment directory of the base recipe, shared from [default: exp/RECIPE].")
    ] = None,
    exp: Annotated[Path | None, typer.Option(help="Where the cells and the table go [default: exp/FILE].")] = None,
    seeds: Annotated[str | None, typer.Option(help="Seeds, for example 0,1,2 [default: the file's].")] = None,
    cells: Annotated[
        str | None, typer.Option(help="Names of the cells to run, as patterns: 'plain,width-800*' [default: all].")
    ] = None,
    overrides: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY.PATH=VALUE", help="Override a recipe key in all cells; may be repeated."),
    ] = None,
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
    jobs: Annotated[int | None, typer.Option(min=1, help="Cores to use [default: the machine's].")] = None,
    table_only: Annotated[bool, typer.Option("--table-only", help="Run nothing; gather what there is.")] = False,
    executor: ExecutorOption = "local",
    address: AddressOption = None,
) -> None:
    """Run a grid of recipes × seeds over a base experiment; what is done or can be shared is not run again."""
    from asr_kd.experiment.definition import load_experiment
    from asr_kd.experiment.remote import starter
    from asr_kd.experiment.run import Request, run_experiment

    with user_errors():
        refuse_several("experiment")
        check_device(device)
        root, cores = exp or Path("exp") / load_experiment(file).name, jobs or os.cpu_count() or 1
        wanted = tuple(cells.split(",")) if cells else ()
        request = Request(file, base, base_exp, exp, parse_seeds(seeds), wanted, overrides or [], cores)
        where = "local" if table_only else executor
        with interruptible(), chosen_executor(where, None if table_only else address, root, cores) as tasks:
            if isinstance(tasks, RemoteExecutor):
                request = replace(request, jobs=jobs or tasks.cores, most_jobs=tasks.most_cores)
            failed = run_experiment(request, None if table_only else starter(tasks, device))
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
    measure: Annotated[
        bool,
        typer.Option("--measure", help="Recognise test with the bundle, float32 and 8 bits: error rates and speed."),
    ] = False,
    jobs: Annotated[int | None, typer.Option(min=1, help="Processes of --measure [default: the cores].")] = None,
) -> None:
    """Write a network with all that recognition needs as a bundle, which runs without torch: asr-kd transcribe."""
    from asr_kd.deploy.export import export as write_bundle
    from asr_kd.deploy.measuring import measure as measure_bundle

    with user_errors(), interruptible():
        refuse_several("export")
        about = write_bundle(Workspace(exp), model, to)
        megabytes = sum(entry["bytes"] for entry in about["files"].values()) / 1e6
        console.print(f"{to}: {model} of {about['name']}, {megabytes:.1f} MB", highlight=False, soft_wrap=True)
        figures = measure_bundle(Workspace(exp), to, jobs or os.cpu_count() or 1) if measure else {}
        for weights, found in figures.items():
            speed = f"real-time factor {found['network_rtf']:.3f} network + {found['search_rtf']:.3f} search"
            console.print(f"test, {weights}: WER {found['wer']:.2%}, {speed}", highlight=False, soft_wrap=True)


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
        refuse_several("write-kaldi")
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
        refuse_several("report")
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
        if html:
            refuse_several("compare --html")
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
            give_way()
        else:
            return
        console.print(f"asr-kd: {line}", style="red", markup=False, highlight=False, soft_wrap=True)
        raise typer.Exit(status)


def continuation() -> str:
    """This command, for a shell: by its path where a shell would not find it, as after `./run.sh`."""
    called = sys.argv[0]
    if Path(called).name == "__main__.py":
        name = [sys.executable, "-m", "asr_kd"]
    else:
        name = [called if "/" in called and shutil.which("asr-kd") != called else "asr-kd"]
    return shlex.join([*name, *sys.argv[1:]])


def check_device(device: str) -> None:
    """Raise UserError unless `device` is cpu or a CUDA device that this machine has."""
    if device == "cpu":
        return
    cuda = re.fullmatch(r"cuda(?::(0|[1-9][0-9]{0,3}))?", device)
    if cuda is None:
        raise UserError(f"--device {device}: unknown device; use cpu or cuda, with several devices also cuda:0, cuda:1")
    import torch

    if not torch.cuda.is_available():
        raise UserError(f"--device {device}: no CUDA device here; use --device cpu")
    found, wanted = torch.cuda.device_count(), processes_here()
    if found < wanted:
        raise UserError(f"--device {device}: {wanted} processes share {found} CUDA devices; --nproc-per-node {found}")
    if cuda[1] and int(cuda[1]) >= found:
        raise UserError(f"--device {device}: no such device; the last of the {found} here is cuda:{found - 1}")
    if wanted > 1 and device != "cuda":
        raise UserError(f"--device {device}: each of {wanted} processes has a device of its own; use --device cuda")
