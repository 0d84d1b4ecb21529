"""Runs the stages that an experiment's cells lack, side by side, each in a process of its own."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import yaml
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from asr_kd.errors import UserError
from asr_kd.experiment.sharing import CellRun, Shelf
from asr_kd.files import write_text
from asr_kd.interruption import become_worker
from asr_kd.lock import locked
from asr_kd.pipeline import STAGES, Stage, console

POLL_SECONDS = 0.2
GRACE_SECONDS = 5.0
OUTPUT = "output"  # logs/output.log: what the cell's processes print
THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


class Process(Protocol):
    """One stage of one cell at work."""

    def poll(self) -> int | None:
        """Exit status; None while it runs."""

    def stop(self) -> None:
        """End it and its own processes."""


Start = Callable[[CellRun, Stage, int], Process]


@dataclass(frozen=True)
class Task:
    """A stage of a cell at work: the pieces it makes, the cores it was given, when it began."""

    run: CellRun
    stage: Stage
    process: Process
    makes: set[str]
    cores: int
    began: float = field(default_factory=time.monotonic)


def run_cells(
    runs: list[CellRun], providers: Iterable[Path], last: int, jobs: int, start: Start, most: int | None = None
) -> None:
    """Bring every cell to stage number `last`; a failure is noted in the cell (`failure`) and in those that need it.

    A stage that a provider or another cell has is linked. Of cells that need the same stage, or a piece that nobody
    has yet, one makes it while the others wait. At most `jobs` cores are given away at any time, `most` to a stage.
    """
    scheduler = _Scheduler(runs, Shelf.of(providers, runs), last, jobs, start, most or jobs)
    try:
        scheduler.run()
    finally:
        for task in scheduler.tasks:
            task.process.stop()


class _Scheduler:
    def __init__(self, runs: list[CellRun], shelf: Shelf, last: int, jobs: int, start: Start, most: int) -> None:
        self.runs, self.shelf, self.last, self.jobs, self.start, self.most = runs, shelf, last, jobs, start, most
        self.tasks: list[Task] = []
        self.failed: dict[tuple[str, str], CellRun] = {}

    def run(self) -> None:
        columns = (TextColumn("  {task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
            row = bar.add_task("stages of cells", total=len(self.runs) * (self.last + 1))
            while True:
                for run in self.runs:
                    self.advance(run)
                self.launch()
                bar.update(row, completed=sum(self.last + 1 if r.failure else r.position for r in self.runs))
                if not self.tasks:
                    return
                self.wait()

    def advance(self, run: CellRun) -> None:
        """Pass the stages that the cell has or can link."""
        while run.position <= self.last and not run.failure:
            stage = STAGES[run.position]
            if not self.shelf.is_done(run, stage.name):
                if self.shelf.provider(run, stage.name) is None:
                    maker = self.failed.get((stage.name, run.fingerprints[stage.name]))
                    if maker:
                        run.failure = f"stage {stage.name} failed in {title(maker)}"
                    return
                try:
                    with locked(run.root):
                        self.shelf.link(run, stage)
                except UserError as error:
                    run.failure = str(error)
                    return
            run.position += 1

    def launch(self) -> None:
        """Start what can start, and share the free cores among it."""
        free = self.jobs - sum(task.cores for task in self.tasks)
        chosen: list[tuple[CellRun, Stage, set[str]]] = []
        busy = {id(task.run) for task in self.tasks}
        making = {key for task in self.tasks for key in self._claims(task.run, task.stage, task.makes)}
        for run in self.runs:
            if len(chosen) >= free or run.failure or run.position > self.last or id(run) in busy:
                continue
            stage = STAGES[run.position]
            makes = self.shelf.missing(run, stage)
            claims = self._claims(run, stage, makes)
            if making.isdisjoint(claims):
                chosen.append((run, stage, makes))
                making |= claims
        for number, (run, stage, makes) in enumerate(chosen):
            cores = min(free // (len(chosen) - number), self.most)
            free -= cores
            self.shelf.prepare(run, stage)
            self.tasks.append(Task(run, stage, self.start(run, stage, cores), makes, cores))

    @staticmethod
    def _claims(run: CellRun, stage: Stage, makes: set[str]) -> set[str]:
        return {*makes, f"{stage.name} {run.fingerprints[stage.name]}"}

    def wait(self) -> None:
        """Wait until a task ends, and put what it made on the shelf."""
        while not (ended := [task for task in self.tasks if task.process.poll() is not None]):
            time.sleep(POLL_SECONDS)
        for task in ended:
            self.tasks.remove(task)
            run, stage, seconds = task.run, task.stage, time.monotonic() - task.began
            status = task.process.poll()
            self.shelf.add(run.root, run)
            if status == 0 and self.shelf.is_done(run, stage.name):
                console.print(f"{title(run)}: {stage.name}, {seconds:.0f} s", soft_wrap=True, highlight=False)
                continue
            self.failed[stage.name, run.fingerprints[stage.name]] = run
            run.failure = f"stage {stage.name} failed (status {status}); see {run.work.log(OUTPUT)}"
            console.print(f"{title(run)}: {run.failure}", style="red", markup=False, soft_wrap=True)


def title(run: CellRun) -> str:
    return f"{run.name} seed {run.seed}"


class StageProcess:
    """`asr-kd run` for one stage in a session of its own, its output behind the cell's logs/output.log.

    ends_with_parent: even where that was killed.
    """

    def __init__(self, run: CellRun, stage: Stage, cores: int, device: str, ends_with_parent: bool = False) -> None:
        recipe, number = run.root / "recipe.yaml", str(STAGES.index(stage))
        write_text(recipe, yaml.safe_dump(run.recipe.model_dump(mode="json"), sort_keys=False))
        options = ["--recipe", str(recipe), "--exp", str(run.root), "--stage", number, "--stop-stage", number]
        options.append("--no-page")  # a cell's takes a minute and 15 MB; asr-kd report makes those that are wanted
        command = [sys.executable, "-m", "asr_kd", "run", *options, "--jobs", str(cores), "--device", device]
        log = run.work.log(OUTPUT)
        log.parent.mkdir(parents=True, exist_ok=True)
        environment = {**os.environ, **dict.fromkeys(THREAD_VARIABLES, str(cores))}
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=environment,
                start_new_session=True,
                preexec_fn=become_worker if ends_with_parent else None,
            )

    def poll(self) -> int | None:
        return self._process.poll()

    def stop(self) -> None:
        """SIGTERM to the process and its workers; SIGKILL to what is left after some seconds."""
        for number in (signal.SIGTERM, signal.SIGKILL):
            if self._process.poll() is not None:
                return
            os.killpg(self._process.pid, number)
            try:
                self._process.wait(GRACE_SECONDS)
            except subprocess.TimeoutExpired:
                continue
