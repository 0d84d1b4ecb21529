"""Cells and experiments that another process is in are left alone."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from fake_stages import Factory

from asr_kd.errors import UserError
from asr_kd.experiment.run import Request, run_experiment
from asr_kd.pipeline import run_stages
from asr_kd.recipe_file import load_recipe

HOLDER = """
import sys, time
from pathlib import Path
from asr_kd.lock import locked
with locked(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


@contextmanager
def held(path: Path) -> Iterator[None]:
    """Another process is in the directory."""
    process = subprocess.Popen([sys.executable, "-c", HOLDER, str(path)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None and process.stdout.readline() == "held\n"
    try:
        yield
    finally:
        process.kill()
        process.wait()


@pytest.fixture
def request_(tmp_path: Path, base_recipe: Path, factory: Factory) -> Request:
    """Two cells over a finished base experiment."""
    run_stages(load_recipe(base_recipe), tmp_path / "base")
    (tmp_path / "sweep.yaml").write_text("grid: {student.temperature: [3, 4]}\nlast_stage: student\n")
    return Request(tmp_path / "sweep.yaml", base_recipe, tmp_path / "base", tmp_path / "exp", seeds=(0,))


def test_a_cell_in_use_fails_and_the_others_run(request_: Request, factory: Factory, tmp_path: Path) -> None:
    cell = tmp_path / "exp" / "cells" / "temperature-3" / "seed-0"
    with held(cell):
        (failed,) = run_experiment(request_, factory.start)
    assert failed.name == "temperature-3" and f"{cell}: in use by process" in failed.failure
    assert factory.ran_stage("student") == ["temperature-4/0"]
    assert not (cell / "features").exists()
    assert run_experiment(request_, factory.start) == []


def test_an_experiment_in_use_is_refused(request_: Request, factory: Factory, tmp_path: Path) -> None:
    with held(tmp_path / "exp"), pytest.raises(UserError, match=r"exp: in use by process \d+ on .*; wait until it is"):
        run_experiment(request_, factory.start)
    assert factory.ran == []
