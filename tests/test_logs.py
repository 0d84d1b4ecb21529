"""What a stage's log says of a run, and how its warnings are counted."""

import logging
import multiprocessing
import platform
import shlex
import sys
import warnings
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from asr_kd import __version__
from asr_kd.files import read_json
from asr_kd.pipeline import Job, run_stages
from asr_kd.recipe import Recipe
from asr_kd.workspace import Workspace

log = logging.getLogger("asr_kd")


def run_prepare(monkeypatch: pytest.MonkeyPatch, root: Path, stage: object, seed: int = 0) -> None:
    """Stage 0 with `stage` in its place."""
    module = ModuleType("asr_kd.stages.prepare")
    module.run = stage  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "asr_kd.stages.prepare", module)
    run_stages(Recipe(seed=seed), root, 0, 0)


def warn_in_a_worker() -> None:
    log.warning("from a worker")


def warn_everywhere(job: Job) -> None:
    """Five warnings: here, of a library, of a forked worker, of a task with a log of its own; INFO is none."""
    log.info("a line with WARNING in it")
    log.warning("of two lines\n2026-01-01 WARNING in the second is none")
    job.log.warning("another")
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.warn("of a library", UserWarning, stacklevel=1)
    worker = multiprocessing.get_context("fork").Process(target=warn_in_a_worker)
    worker.start()
    worker.join()
    folder = job.work.log("prepare").with_suffix("")
    folder.mkdir(exist_ok=True)
    with (folder / "shard-0.log").open("a") as file:
        file.write("2026-01-01 00:00:00,000 WARNING of a task\n2026-01-01 00:00:00,000 INFO fine\n")


def test_warnings_of_a_run_are_counted_at_the_end_of_stage_and_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    work = Workspace(tmp_path)
    for seed in (0, 1):  # those of the run before do not count
        run_prepare(monkeypatch, tmp_path, warn_everywhere, seed)
        assert read_json(work.record("prepare"))["warnings"] == 5
        lines = capsys.readouterr().err.splitlines()
        assert sum(line.endswith(" CPU s), 5 warnings") for line in lines) == 1
        assert lines[-1] == f"5 warnings, see {work.log('prepare')}"
    run_prepare(monkeypatch, tmp_path, lambda job: None, 2)
    assert read_json(work.record("prepare"))["warnings"] == 0
    assert capsys.readouterr().err.splitlines()[-1] == "stage 0 prepare: 0 s (0 CPU s)"


def test_one_warning_is_one_and_is_told_when_the_stage_fails_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(job: Job) -> None:
        job.log.warning("a grid that is too narrow")
        raise RuntimeError("no memory")

    with pytest.raises(RuntimeError):
        run_prepare(monkeypatch, tmp_path, fail)
    assert capsys.readouterr().err.splitlines()[-1] == f"1 warning, see {Workspace(tmp_path).log('prepare')}"


def test_a_log_says_what_ran_and_how_it_ended_and_keeps_the_runs_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fill(job: Job) -> None:
        assert np.ones(20 << 20, np.uint8).sum() == 20 << 20
        job.log.info("the work of seed %d", job.recipe.seed)

    def stop(job: Job) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(sys, "argv", ["asr-kd", "run", "--exp", "a folder"])
    run_prepare(monkeypatch, tmp_path, fill, 7)
    with pytest.raises(KeyboardInterrupt):
        run_prepare(monkeypatch, tmp_path, stop, 8)
    run_prepare(monkeypatch, tmp_path, fill, 8)
    parts = Workspace(tmp_path).log("prepare").read_text().split("=== stage 0 prepare: corpus to manifests ===")[1:]
    assert len(parts) == 3
    for part, seed in zip(parts, (7, 8, 8), strict=True):
        assert shlex.join(["asr-kd", "run", "--exp", "a folder"]) in part
        assert f"asr_kd {__version__}, python {platform.python_version()}, torch 2.11" in part
        assert f"seed {seed}, device cpu, 1 jobs" in part
    assert "the work of seed 7" in parts[0] and "the work of seed 8" in parts[2]
    for part, how in zip(parts, ("finished", "interrupted", "finished"), strict=True):
        (end,) = (line for line in part.splitlines() if f"stage prepare {how}: " in line)
        figures = end.split(": ", 1)[1].split(", ")
        assert [figure.split(" ", 1)[1] for figure in figures[:2]] == ["s", "CPU s"]
        assert figures[2].startswith("peak memory ") and figures[3] == "0 warnings"
