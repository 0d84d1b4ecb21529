"""The stage runner: which stages a recipe needs, which are already done, and what each left behind.

A stage is a function of (recipe, files of earlier stages) → files. Its completion record, `.done/NAME.json`, holds a
fingerprint of the recipe keys it uses and of the records of the stages it reads, so that a changed recipe redoes
exactly what depends on the change, and the checksums of its files, which every stage compares before it reads them.
"""

import hashlib
import importlib
import importlib.metadata
import json
import logging
import os
import platform
import resource
import shutil
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import yaml
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from asr_kd import __version__
from asr_kd.checksums import files_below, record_files
from asr_kd.errors import UserError
from asr_kd.files import FULL, read_json, remove_temporaries, write_json, write_text
from asr_kd.integrity import FILES
from asr_kd.lock import locked
from asr_kd.memory import forget_peak, peak_bytes
from asr_kd.plan import STAGE_NAMES, STAGES, Stage, required
from asr_kd.recipe import Recipe
from asr_kd.verification import check_done, check_inputs, mend
from asr_kd.workspace import Workspace

Item = TypeVar("Item")
console = Console(stderr=True)


@dataclass
class Job:
    """What a stage is given: the recipe, the experiment's paths, the machine's means, and a log.

    page: whether stage 8 writes report.html too.
    """

    recipe: Recipe
    work: Workspace
    device: str = "cpu"
    jobs: int = 1
    log: logging.Logger = field(default_factory=lambda: logging.getLogger("asr_kd"))
    page: bool = True

    def progress(self, items: Iterable[Item], title: str, total: int | None = None) -> Iterator[Item]:
        """Iterate with a progress bar on a terminal; the log gets the title and the count at the end."""
        if total is None and hasattr(items, "__len__"):
            total = len(items)  # type: ignore[arg-type]
        count, start = 0, time.monotonic()
        columns = (TextColumn("  {task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        with Progress(
            *columns, TimeRemainingColumn(), console=console, transient=True, disable=not console.is_terminal
        ) as bar:
            task = bar.add_task(title, total=total)
            for item in items:
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
) -> None:
    """Run stages first..last that are not done.

    repair: make what is damaged anew, whichever stage makes it. Raises UserError when an input is missing or damaged,
    when a stage refuses, and when another run is in the directory.
    """
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
        _run_stages(recipe, work, first, last, device, jobs, page)


def _run_stages(recipe: Recipe, work: Workspace, first: int, last: int, device: str, jobs: int, page: bool) -> None:
    for number in range(first, last + 1):
        stage = STAGES[number]
        for need in required(stage):
            if not _is_done(recipe, work, need):
                maker = STAGE_NAMES.index(need)
                raise UserError(
                    f"{work.record(need)}: stage {number} ({stage.name}) reads the files of stage {maker} ({need}), "
                    f"which is missing or older than the recipe; run --stage {maker} first"
                )
        if _is_done(recipe, work, stage.name):
            _warn(check_done(stage, work, jobs, _is_done(recipe, work, "features")))
            console.print(f"stage {number} {stage.name}: done already")
            continue
        _run_stage(stage, number, Job(recipe, work, device, jobs, page=page))


def stage_seconds(work: Workspace) -> dict[str, dict[str, float]]:
    """Wall and CPU seconds of each finished stage, by name, from the completion records."""
    records = {name: work.record(name) for name in STAGE_NAMES}
    done = {name: read_json(path) for name, path in records.items() if path.exists()}
    return {name: {"seconds": record["seconds"], "cpu_seconds": record["cpu_seconds"]} for name, record in done.items()}


def fingerprint(recipe: Recipe, name: str) -> str:
    """SHA-256 over the values of the recipe keys that stage `name` uses and the fingerprints of the stages it reads."""
    stage = STAGES[STAGE_NAMES.index(name)]
    content = {
        "stage": name,
        "keys": {key: _recipe_value(recipe, key) for key in stage.keys},
        "needs": {need: fingerprint(recipe, need) for need in stage.needs},
    }
    return digest(content)


def digest(content: Any) -> str:
    """SHA-256 of what JSON can hold, keys that are null left out: an option that is off is as good as absent.

    So a release that adds such an option to the recipe leaves finished stages finished.
    """
    return hashlib.sha256(json.dumps(_without_nulls(content), sort_keys=True).encode()).hexdigest()


def _without_nulls(content: Any) -> Any:
    if isinstance(content, dict):
        return {key: _without_nulls(value) for key, value in content.items() if value is not None}
    return [_without_nulls(value) for value in content] if isinstance(content, list | tuple) else content


def _recipe_value(recipe: Recipe, key: str) -> Any:
    value: Any = recipe.model_dump(mode="json")
    for part in key.split("."):
        value = value[part]
    return value


def _is_done(recipe: Recipe, work: Workspace, name: str) -> bool:
    path = work.record(name)
    return path.exists() and read_json(path).get("fingerprint") == fingerprint(recipe, name)


def stage_code(stage: Stage, recipe: Recipe) -> tuple[str, Callable[[Job], None]]:
    """The stage's title and function; for images some have others, see asr_kd.stages.images."""
    if recipe.corpus.of_images:
        others = importlib.import_module("asr_kd.stages.images").STAGES
        if stage.name in others:
            return others[stage.name]
    if stage.name == "align" and recipe.hmm.external:
        return "Kaldi's alignment", importlib.import_module("asr_kd.stages.external").run
    return stage.title, importlib.import_module(f"asr_kd.stages.{stage.name}").run


def _run_stage(stage: Stage, number: int, job: Job) -> None:
    path = job.work.log(stage.name)
    path.parent.mkdir(parents=True, exist_ok=True)
    handler = StageLog(path, encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    logger = logging.getLogger("asr_kd")
    logger.setLevel(logging.INFO)
    logger.addHandler(handler)
    title, run = stage_code(stage, job.recipe)
    console.print(f"stage {number} {stage.name}: {title} (log: {path})", soft_wrap=True)
    job.log.info("command: %s", " ".join(sys.argv))
    start, cpu = time.monotonic(), _cpu_seconds()
    try:
        _warn(check_inputs(stage, job.work, job.jobs))
        job.log.info("inputs are as they were finished: %.1f s", time.monotonic() - start)
        job.work.record(stage.name).unlink(missing_ok=True)  # its files are about to change
        forget_peak()
        run(job)
        peak = peak_bytes()
        paths = files_below(path for pattern in stage.files for path in job.work.root.glob(pattern))
        files = record_files(job.work.root, paths, job.jobs)
    except KeyboardInterrupt:
        job.log.warning("stage %s interrupted", stage.name)
        raise
    except Exception:
        job.log.exception("stage %s failed", stage.name)
        raise
    finally:
        logger.removeHandler(handler)
        handler.close()
    seconds, cpu = time.monotonic() - start, _cpu_seconds() - cpu
    record = {
        "stage": stage.name,
        "fingerprint": fingerprint(job.recipe, stage.name),
        "keys": {key: _recipe_value(job.recipe, key) for key in stage.keys},
        "needs": {need: fingerprint(job.recipe, need) for need in stage.needs},
        "seconds": round(seconds, 2),
        "cpu_seconds": round(cpu, 2),
        "peak_bytes": peak,
        "finished": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        FILES: files,
    }
    write_json(job.work.record(stage.name), record)
    shutil.rmtree(job.work.partial, ignore_errors=True)
    console.print(f"stage {number} {stage.name}: {seconds:.0f} s ({cpu:.0f} CPU s)")


def _warn(lines: list[str]) -> None:
    for line in lines:
        console.print(line, style="yellow", markup=False, highlight=False, soft_wrap=True)


class StageLog(logging.FileHandler):
    """A log whose own trouble with a full disk goes unsaid: the stage meets it too, and says so in one line."""

    def handleError(self, record: logging.LogRecord) -> None:
        if getattr(sys.exception(), "errno", None) not in FULL:
            super().handleError(record)

    def close(self) -> None:
        try:
            super().close()
        except OSError as error:
            if error.errno not in FULL:
                raise


def _cpu_seconds() -> float:
    usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def _write_records_of_run(recipe: Recipe, work: Workspace) -> None:
    write_text(work.root / "recipe.yaml", yaml.safe_dump(recipe.model_dump(mode="json"), sort_keys=False))
    packages = (
        "torch",
        "torchaudio",
        "numpy",
        "lhotse",
        "kaldifst",
        "kaldi-decoder",
        "kaldingram",
        "jiwer",
        "kaldialign",
    )
    environment = {
        "asr_kd": __version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cpus": os.cpu_count(),
        "packages": {name: importlib.metadata.version(name) for name in packages},
        "command": sys.argv,
    }
    write_json(work.root / "environment.json", environment)
