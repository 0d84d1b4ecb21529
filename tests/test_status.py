"""`asr-kd status` of experiments whose stages only write a file each."""

import json
import os
import signal
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType

import pytest
from typer.testing import CliRunner

from asr_kd import checksums
from asr_kd.cli import app
from asr_kd.files import write_text
from asr_kd.pipeline import STAGE_NAMES, Job, run_stages
from asr_kd.recipe import Recipe
from asr_kd.recipe_file import load_recipe
from asr_kd.status import DAMAGED, DONE, OPEN, RUNNING, STALE, STOPPED, StageState, read_status
from asr_kd.workspace import Workspace

FILE = "hmm/steps.json"  # of stage align
KILLED = """
import os, signal, sys
from pathlib import Path
from asr_kd.live import Board
from asr_kd.lock import locked
from asr_kd.workspace import Workspace
work = Workspace(Path(sys.argv[1]))
with locked(work.root):
    board = Board(work.board, "targets")
    board._file.is_due = lambda: True  # as if a while had passed
    for shard in board.watched(range(8), "soft targets", 8):
        if shard == 3:
            print("at it", flush=True)
            signal.pause()
"""


@pytest.fixture
def ran(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the stages as they run."""
    calls: list[str] = []

    def run(job: Job) -> None:
        calls.append(job.stage)
        if job.stage == "align":
            write_text(job.work.root / FILE, "what it holds")

    for name in STAGE_NAMES:
        replace_stage(monkeypatch, name, run)
    monkeypatch.setattr("asr_kd.files._synchronise", lambda path: None)
    return calls


def replace_stage(monkeypatch: pytest.MonkeyPatch, name: str, run: object) -> None:
    module = ModuleType(f"asr_kd.stages.{name}")
    module.run = run  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, f"asr_kd.stages.{name}", module)


@pytest.fixture
def work(tmp_path: Path, ran: list[str]) -> Workspace:
    """A finished experiment of the default recipe."""
    run_stages(Recipe(), tmp_path / "exp")
    ran.clear()
    return Workspace(tmp_path / "exp")


def with_keys(work: Workspace, *overrides: str) -> Recipe:
    return load_recipe(work.root / "recipe.yaml", list(overrides))


def by_name(work: Workspace, recipe: Recipe, thorough: bool | None = None) -> dict[str, StageState]:
    return {stage.name: stage for stage in read_status(work, recipe, thorough).stages}


@pytest.mark.parametrize(
    ("override", "stage", "why"),
    [
        ("teachers.train.epochs=10", "teachers", "teachers.train.epochs: 8 -> 10"),
        ("features.mfcc.num_ceps=20", "features", "features.mfcc.num_ceps: 13 -> 20"),
        ("lang.max_words=100", "lang", "lang.max_words: null -> 100"),
        ("lang.ngram.cutoffs=[0]", "lang", "lang.ngram.cutoffs: [1, 2] -> [0]"),
        ("hmm.sat.leaves=9", "align", "hmm.sat.leaves: 1800 -> 9"),
        ("targets.mean=geometric", "targets", "targets.mean: arithmetic -> geometric"),
        ("decode.adapt=utterance", "decode", "decode.adapt: null -> utterance"),
    ],
)
def test_a_changed_key_is_named_and_so_are_the_stages_that_a_run_would_redo(
    work: Workspace, ran: list[str], override: str, stage: str, why: str
) -> None:
    recipe = with_keys(work, override)
    states = by_name(work, recipe)
    assert why in states[stage].why
    stale = [name for name, state in states.items() if state.state == STALE]
    assert all(states[name].why for name in stale)
    assert {state.state for name, state in states.items() if name not in stale} <= {DONE}
    run_stages(recipe, work.root)
    assert ran == stale
    assert {state.state for state in by_name(work, recipe).values()} == {DONE}


def test_what_a_stale_stage_depends_on_is_named(work: Workspace) -> None:
    recipe = with_keys(work, "hmm.sat.leaves=100", "student.temperature=3")
    states = by_name(work, recipe)
    assert states["align"].why == ("hmm.sat.leaves: 1800 -> 100",)
    assert states["teachers"].why == ("depends on align, which is stale",)
    assert states["student"].why[0] == "student.temperature: 2.0 -> 3.0"
    assert "depends on targets, which is stale" in states["student"].why
    run_stages(recipe, work.root, 3, 3)
    assert by_name(work, recipe)["teachers"].why == ("depends on align, which was made anew since",)


def test_a_key_that_decides_nothing_makes_nothing_stale(work: Workspace) -> None:
    recipe = with_keys(work, "description=words", "track.tensorboard=true")
    assert {state.state for state in by_name(work, recipe).values()} == {DONE}


def test_a_section_that_appears_is_one_line(work: Workspace) -> None:
    why = by_name(work, with_keys(work, "specialists={}"))["teachers"].why
    assert why == ("specialists: null -> {...}",)


def test_a_damaged_file_is_named_by_its_size_and_with_check_by_its_contents(
    work: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = work.root / FILE
    about = path.stat()
    path.write_text("what it HOLDS")
    os.utime(path, ns=(about.st_atime_ns, about.st_mtime_ns + 5))
    with monkeypatch.context() as patch:
        patch.setattr(checksums, "checksum", lambda path: pytest.fail(f"{path} was read"))
        assert by_name(work, Recipe())["align"].state == DONE
    found = by_name(work, Recipe(), thorough=True)["align"]
    assert (found.state, found.why) == (DAMAGED, (f"{path}: contents have changed",))
    path.write_text("what it hol")
    assert by_name(work, Recipe())["align"].why == (f"{path}: 11 bytes, once 13",)
    path.unlink()
    assert by_name(work, Recipe())["align"].why == (f"{path}: missing",)
    assert by_name(work, Recipe())["teachers"].state == DONE


def test_a_stage_at_work_is_running_and_the_later_ones_are_to_do(
    tmp_path: Path, ran: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[str] = []

    def look(job: Job) -> None:
        status = read_status(job.work, job.recipe)
        assert status.is_running and status.holder and status.holder.pid == os.getpid()
        seen.extend(stage.state for stage in status.stages)

    replace_stage(monkeypatch, "lang", look)
    run_stages(Recipe(), tmp_path / "exp")
    assert seen == [DONE, DONE, RUNNING, *[OPEN] * 6]
    assert not read_status(Workspace(tmp_path / "exp"), Recipe()).is_running


@pytest.mark.parametrize(
    ("error", "how"), [(KeyboardInterrupt(), "was interrupted"), (RuntimeError("no memory"), "failed")]
)
def test_a_stage_that_did_not_finish_says_how_it_ended(
    work: Workspace, monkeypatch: pytest.MonkeyPatch, error: BaseException, how: str
) -> None:
    def end(job: Job) -> None:
        raise error

    recipe = with_keys(work, "student.temperature=3")
    replace_stage(monkeypatch, "student", end)
    with pytest.raises(type(error)):
        run_stages(recipe, work.root)
    found = by_name(work, recipe)["student"]
    assert found.state == STOPPED and found.why[0].startswith(f"it {how}; the log is {work.log('student')}")


def test_a_killed_run_is_told_from_one_that_runs(work: Workspace) -> None:
    work.record("targets").unlink()
    process = subprocess.Popen([sys.executable, "-c", KILLED, str(work.root)], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None and process.stdout.readline() == "at it\n"
        running = read_status(work, Recipe())
        assert running.is_running and running.running == "targets"
        assert running.board["tasks"][0]["done"] == 3
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    dead = read_status(work, Recipe())
    assert dead.holder and dead.holder.pid == process.pid and not dead.is_running
    assert by_name(work, Recipe())["targets"].state == STOPPED
    result = CliRunner().invoke(app, ["status", str(work.root)])
    assert f"no run; process {process.pid} on " in result.output and "its process was killed" in result.output
    assert "soft targets: 3 of 8" in result.output


def test_the_command_compares_with_a_recipe_and_says_so(work: Workspace, tmp_path: Path) -> None:
    (tmp_path / "wide.yaml").write_text("name: default\nstudent: {train: {epochs: 30}}\n")
    for options in (["--recipe", str(tmp_path / "wide.yaml")], ["--set", "student.train.epochs=30"]):
        result = CliRunner().invoke(app, ["status", str(work.root), *options])
        assert result.exit_code == 0
        assert "    student.train.epochs: 12 -> 30\n" in result.output
        assert "    depends on student, which is stale\n" in result.output
    assert "stale" not in CliRunner().invoke(app, ["status", str(work.root)]).output


def test_mistakes_are_one_line(work: Workspace, tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["status", str(tmp_path)])
    assert result.exit_code == 2 and "no recipe.yaml, so no run has begun here" in result.output
    result = CliRunner().invoke(app, ["status", str(work.root), "--check", "--watch"])
    assert result.exit_code == 2 and "choose one of them" in result.output
    work.record("lang").write_text(json.dumps(["no record"]))
    result = CliRunner().invoke(app, ["status", str(work.root)])
    assert result.exit_code == 2 and "lang.json: not a completion record; stage 2 (lang) makes it" in result.output
    assert "run the command with --repair to make it again" in result.output


def test_tensorboard_without_its_package_is_one_line_before_anything_runs(
    tmp_path: Path, ran: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "importlib.util.find_spec", lambda name, find=find_spec: None if name == "tensorboard" else find(name)
    )
    (tmp_path / "r.yaml").write_text("track: {tensorboard: true}\n")
    result = CliRunner().invoke(app, ["run", "--recipe", str(tmp_path / "r.yaml"), "--exp", str(tmp_path / "exp")])
    assert result.exit_code == 2 and "asr-kd[tensorboard]" in result.output
    assert ran == [] and not (tmp_path / "exp").exists()
