"""The stage runner: which stages a recipe needs, which are already done, and what each left behind.

A stage is a function of (recipe, files of earlier stages) → files. Its completion record, `.done/NAME.json`, holds a
fingerprint of the recipe keys it uses and of the records of the stages it reads, so that a changed recipe redoes
exactly what depends on the change, and the checksums of its files, which every stage compares before it reads them.
"""

import functools
import hashlib
import importlib
import json
import logging
import resource
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

import yaml
from rich.console import Console
from rich.filesize import decimal
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from asr_kd.checksums import files_below, read_checked, record_files, write_checked
from asr_kd.errors import UserError
from asr_kd.executors.contract import Executor, Work
from asr_kd.executors.local import LocalExecutor
from asr_kd.files import remove_temporaries, write_json, write_text
from asr_kd.integrity import FILES, read_record
from asr_kd.live import Board, read_live
from asr_kd.lock import locked
from asr_kd.logs import count_of, environment, origin, stage_log
from asr_kd.memory import forget_peak, peak_bytes
from asr_kd.nn.tracking import Tracker, require_tensorboard
from asr_kd.plan import STAGE_NAMES, STAGES, Stage, required
from asr_kd.recipe import Recipe
from asr_kd.scratch import scratch_in
from asr_kd.sources import SOURCES, record_sources
from asr_kd.verification import check_done, check_inputs, mend
from asr_kd.workspace import Workspace

Item = TypeVar("Item")
MEANS = ("micro_batch", "together")  # recipe keys that change a result by no more than rounding
SECONDS = ("seconds", "cpu_seconds")  # entries of a completion record
console = Console(stderr=True, emoji=False)  # `:x:` in a path stays as it is


@dataclass
class Job:
    """What a stage is given: the recipe, the experiment's paths, the machine's means, and a log.

    page: whether stage 8 writes report.html too. board: where a stage of a run shows how far it is. executor: what runs
    the tasks of the stage, whose name is `stage`; None: this machine.
    """

    recipe: Recipe
    work: Workspace
    device: str = "cpu"
    jobs: int = 1
    log: logging.Logger = field(default_factory=lambda: logging.getLogger("asr_kd"))
    page: bool = True
    board: Board | None = None
    executor: Executor | None = None
    stage: str = ""

    @property
    def tasks(self) -> Executor:
        return self.executor or LocalExecutor(self.jobs)

    def spread(self, work: Work, items: Sequence[Any], loaded: Any = None) -> Iterator[Any]:
        """What `work` returns for each of `items`, see Executor.run; they are tasks of this stage."""
        need, path = self.recipe.need(self.stage), self.work.log(self.stage or "run")
        return self.tasks.run(work, items, need, path, loaded, self.progress)

    def as_task(self) -> "Job":
        """What a task is given, which may run elsewhere: on a machine of its own with what it needs."""
        if not self.tasks.remote:
            return self
        need = self.recipe.need(self.stage)
        return replace(self, executor=None, jobs=need.cpus or 1, device="cuda" if need.gpus else "cpu")

    def tracker(self, name: str) -> Tracker:
        """What follows a network in training; name as in Workspace.model."""
        live = self.work.training(name) if self.board else None
        return Tracker(live, self.work.events(name) if self.recipe.track.tensorboard else None)

    def progress(self, items: Iterable[Item], title: str, total: int | None = None) -> Iterator[Item]:
        """Iterate with a progress bar on a terminal, and on the board; the log gets title and count at the end."""
        if total is None and hasattr(items, "__len__"):
            total = len(items)  # type: ignore[arg-type]
        count, start = 0, time.monotonic()
        columns = (TextColumn("  {task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        with Progress(
            *columns, TimeRemainingColumn(), console=console, transient=True, disable=not console.is_terminal
        ) as bar:
            task = bar.add_task(title, total=total)
            for item in self.board.watched(items, title, total) if self.board else items:
                yield item
                count += 1
                bar.update(task, advance=1)
        self.log.info("%s: %d in %.1f s", title, count, time.monotonic() - start)


def run_stages(
    recipe: Recipe,
    root: Path,
    first: int = 0,
    last: int = len(STAGES) - 1,
    device: str = "cpu",
    jobs: int = 1,
    repair: bool = False,
    page: bool = True,
    executor: Executor | None = None,
) -> None:
    """Run stages first..last that are not done.

    repair: make what is damaged anew, whichever stage makes it. executor: of their tasks; None: this machine. Raises
    UserError when an input is missing or damaged, when a stage refuses, and when another run is in the directory.
    """
    if recipe.track.tensorboard:
        require_tensorboard()
    with locked(root) as dead:
        if dead:
            console.print(f"{root}: process {dead['pid']} ended before its run did; this one continues", soft_wrap=True)
        remove_temporaries(root)
        work = Workspace(root)
        _write_records_of_run(recipe, work)
        if repair:
            mended = mend(work, jobs)
            _warn(mended.lines)
            first = min([first, *mended.stages])
        warned: dict[Path, int] = {}
        try:
            _run_stages(Job(recipe, work, device, jobs, page=page, executor=executor), first, last, warned)
        finally:
            if logs := [path for path, count in warned.items() if count]:
                _warn([f"{count_of(sum(warned.values()))}, see {', '.join(map(str, logs))}"])


def _run_stages(job: Job, first: int, last: int, warned: dict[Path, int]) -> None:
    recipe, work = job.recipe, job.work
    for number in range(first, last + 1):
        stage = STAGES[number]
        for need in required(stage):
            if not is_done(recipe, work, need):
                maker = STAGE_NAMES.index(need)
                raise UserError(
                    f"{work.record(need)}: stage {number} ({stage.name}) reads the files of stage {maker} ({need}), "
                    f"which is missing or older than the recipe; run --stage {maker} first"
                )
        if is_done(recipe, work, stage.name):
            _warn(check_done(stage, work, job.jobs, is_done(recipe, work, "features")))
            if (read_live(work.board) or {}).get("stage") == stage.name:  # killed right after it was done
                shutil.rmtree(work.partial, ignore_errors=True)
            console.print(f"stage {number} {stage.name}: done already")
            continue
        _run_stage(stage, number, job, warned)


def stage_seconds(work: Workspace) -> dict[str, dict[str, float]]:
    """Wall and CPU seconds of each finished stage, by name, from the completion records; UserError names a damaged one.

    A record that lacks them is as good as none.
    """
    seconds: dict[str, dict[str, float]] = {}
    for name in STAGE_NAMES:
        record = read_record(work, name) or {}
        found = {key: record.get(key) for key in SECONDS}
        if all(isinstance(value, int | float) for value in found.values()):
            seconds[name] = {key: record[key] for key in SECONDS}
    return seconds


def fingerprint(recipe: Recipe, name: str) -> str:
    """SHA-256 over the values of the recipe keys that stage `name` uses and the fingerprints of the stages it reads."""
    stage = STAGES[STAGE_NAMES.index(name)]
    content = {
        "stage": name,
        "keys": recipe_keys(recipe, stage),
        "needs": {need: fingerprint(recipe, need) for need in stage.needs},
    }
    return digest(content)


def digest(content: Any) -> str:
    """SHA-256 of what JSON can hold, keys that are null left out: an option that is off is as good as absent.

    So a release that adds such an option to the recipe leaves finished stages finished. So do keys that say how much of
    a device to take, MEANS.
    """
    return hashlib.sha256(json.dumps(_deciding(content), sort_keys=True).encode()).hexdigest()


def _deciding(content: Any) -> Any:
    if isinstance(content, dict):
        return {key: _deciding(value) for key, value in content.items() if value is not None and key not in MEANS}
    return [_deciding(value) for value in content] if isinstance(content, list | tuple) else content


def recipe_keys(recipe: Recipe, stage: Stage) -> dict[str, Any]:
    """The values, as JSON, of the recipe keys that the stage uses."""
    dumped = recipe.model_dump(mode="json")
    return {key: functools.reduce(lambda value, part: value[part], key.split("."), dumped) for key in stage.keys}


def is_done(recipe: Recipe, work: Workspace, name: str) -> bool:
    """Whether stage `name` was finished under `recipe`, by its completion record."""
    record = read_record(work, name)
    return record is not None and record.get("fingerprint") == fingerprint(recipe, name)


def stage_code(stage: Stage, recipe: Recipe) -> tuple[str, Callable[[Job], None]]:
    """The stage's title and function; for images some have others, see asr_kd.stages.images."""
    if recipe.corpus.of_images:
        others = importlib.import_module("asr_kd.stages.images").STAGES
        if stage.name in others:
            return others[stage.name]
    if stage.name == "align" and recipe.hmm.external:
        return "Kaldi's alignment", importlib.import_module("asr_kd.stages.external").run
    return stage.title, importlib.import_module(f"asr_kd.stages.{stage.name}").run


def _run_stage(stage: Stage, number: int, job: Job, warned: dict[Path, int]) -> None:
    """Run one stage; `warned` gets the number of warnings in its log."""
    path, made_from = job.work.log(stage.name), fingerprint(job.recipe, stage.name)
    watch = Stopwatch(job.work.seconds(stage.name), made_from)
    title, run = stage_code(stage, job.recipe)
    console.print(f"stage {number} {stage.name}: {title} (log: {path})", soft_wrap=True)
    with stage_log(path) as part:
        board = Board(job.work.board, stage.name)

        def end(how: str) -> None:
            warned[path] = part.warnings()
            watch.note()
            seconds, cpu = watch.attempt
            usage = f"{seconds:.1f} s, {cpu:.1f} CPU s"
            memory = f"peak memory {decimal(peak)}" if (peak := peak_bytes()) else "peak memory unknown"
            job.log.info("stage %s %s: %s, %s, %s", stage.name, how, usage, memory, count_of(warned[path]))

        job.log.info("=== stage %d %s: %s ===", number, stage.name, title)
        for line in origin():
            job.log.info("%s", line)
        job.log.info("seed %d, device %s, %d jobs", job.recipe.seed, job.device, job.jobs)
        try:
            for line in check_inputs(stage, job.work, job.jobs):
                _warn([line])
                job.log.warning("%s", line)
            job.log.info("inputs are as they were finished: %.1f s", watch.attempt[0])
            job.work.record(stage.name).unlink(missing_ok=True)  # its files are about to change
            forget_peak()
            with scratch_in(job.work.root):
                run(replace(job, board=board, stage=stage.name))
            peak = peak_bytes()
            paths = files_below(path for pattern in stage.files for path in job.work.root.glob(pattern))
            files = record_files(job.work.root, paths, job.jobs)
            end("finished")
        except KeyboardInterrupt:
            board.end("interrupted")
            end("interrupted")
            raise
        except Exception:
            job.log.exception("stage %s failed", stage.name)
            board.end("failed")
            end("failed")
            raise
    seconds, cpu = watch.total
    record = {
        "stage": stage.name,
        "fingerprint": made_from,
        "keys": recipe_keys(job.recipe, stage),
        "needs": {need: fingerprint(job.recipe, need) for need in stage.needs},
        "seconds": round(seconds, 2),
        "cpu_seconds": round(cpu, 2),
        "peak_bytes": peak,
        "warnings": warned[path],
        "finished": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        FILES: files,
        SOURCES: record_sources(job.recipe, stage.name, job.jobs),
    }
    write_json(job.work.record(stage.name), record)
    shutil.rmtree(job.work.partial, ignore_errors=True)
    some = f", {count_of(warned[path])}" if warned[path] else ""
    console.print(f"stage {number} {stage.name}: {seconds:.0f} s ({cpu:.0f} CPU s){some}")


class Stopwatch:
    """Wall and CPU seconds of an attempt at a stage and, from a file, of those before that did not finish it.

    made_from: the stage's fingerprint; attempts under another are not counted.
    """

    def __init__(self, path: Path, made_from: str) -> None:
        self._path, self._made_from = path, made_from
        self._start, self._cpu = time.monotonic(), _cpu_seconds()
        noted = read_checked(path) or {}
        counts = noted.get("fingerprint") == made_from
        self._before: tuple[float, float] = (noted["seconds"], noted["cpu_seconds"]) if counts else (0.0, 0.0)

    @property
    def attempt(self) -> tuple[float, float]:
        return time.monotonic() - self._start, _cpu_seconds() - self._cpu

    @property
    def total(self) -> tuple[float, float]:
        seconds, cpu = self.attempt
        return self._before[0] + seconds, self._before[1] + cpu

    def note(self) -> None:
        """For an attempt to come. A disk without space or permission goes unsaid: the stage meets it too."""
        seconds, cpu = self.total
        with suppress(OSError):
            write_checked(self._path, {"fingerprint": self._made_from, "seconds": seconds, "cpu_seconds": cpu})


def _warn(lines: list[str]) -> None:
    for line in lines:
        console.print(line, style="yellow", markup=False, highlight=False, soft_wrap=True)


def _cpu_seconds() -> float:
    usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def _write_records_of_run(recipe: Recipe, work: Workspace) -> None:
    write_text(work.root / "recipe.yaml", yaml.safe_dump(recipe.model_dump(mode="json"), sort_keys=False))
    write_json(work.root / "environment.json", environment())
