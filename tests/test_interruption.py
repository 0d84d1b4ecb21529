"""SIGINT and SIGTERM finish the file under way, end the workers, and say how to continue."""

import multiprocessing
import os
import shlex
import signal
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from types import ModuleType

import pytest
from typer.testing import CliRunner, Result

from asr_kd.cli import app, continuation
from asr_kd.files import atomic_path
from asr_kd.interruption import Interruption, become_worker, interruptible, uninterrupted
from asr_kd.pipeline import STAGE_NAMES, Job

RunWith = Callable[[Callable[[Job], None]], Result]


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_file_under_way_is_finished_first(tmp_path: Path, number: signal.Signals, status: int) -> None:
    before = signal.getsignal(number)
    with pytest.raises(Interruption) as raised, interruptible():
        with uninterrupted(), atomic_path(tmp_path / "whole") as temporary:
            temporary.write_text("first half, ")
            os.kill(os.getpid(), number)
            temporary.write_text("first half, second half")
        pytest.fail("the interruption was forgotten")
    assert raised.value.status == status and raised.value.name == number.name
    assert (tmp_path / "whole").read_text() == "first half, second half"
    assert [path.name for path in tmp_path.iterdir()] == ["whole"]
    assert signal.getsignal(number) == before


def test_outside_of_files_it_is_at_once_and_what_was_before_is_put_back() -> None:
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(Interruption), interruptible():
        os.kill(os.getpid(), signal.SIGTERM)
        pytest.fail("nothing was raised")
    assert signal.getsignal(signal.SIGINT) == before


def test_other_threads_do_as_they_are_told() -> None:
    def work() -> None:
        with interruptible(), uninterrupted():
            done.append(1)

    done: list[int] = []
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert done == [1]


@pytest.fixture
def run_with(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RunWith:
    """`asr-kd run` where every stage does one thing."""

    def run(behaviour: Callable[[Job], None]) -> Result:
        for name in STAGE_NAMES:
            module = ModuleType(f"asr_kd.stages.{name}")
            module.run = behaviour  # type: ignore[attr-defined]
            monkeypatch.setitem(sys.modules, f"asr_kd.stages.{name}", module)
        (tmp_path / "my recipe.yaml").write_text("name: mine\nseed: 3\n")
        arguments = ["run", "--recipe", str(tmp_path / "my recipe.yaml"), "--exp", str(tmp_path / "exp")]
        monkeypatch.setattr(sys, "argv", ["asr-kd", *arguments])
        return CliRunner().invoke(app, arguments)

    return run


def hang(_: int) -> None:
    time.sleep(60)


def work_with_others(job: Job) -> None:
    """A stage whose workers never end."""
    with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("fork")) as pool:
        threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGTERM)).start()
        list(pool.map(hang, range(4)))


def test_a_run_ends_with_one_line_that_continues_it(run_with: RunWith, tmp_path: Path) -> None:
    start = time.monotonic()
    result = run_with(work_with_others)
    assert result.exit_code == 143
    assert time.monotonic() - start < 20 and not multiprocessing.active_children()
    (line,) = [line for line in result.output.splitlines() if line.startswith("asr-kd: ")]
    stopped, command = line.split("to continue: ")
    assert stopped == "asr-kd: stopped by SIGTERM; "
    assert shlex.split(command) == sys.argv
    assert "Traceback" not in result.output
    assert not list((tmp_path / "exp" / ".done").glob("*")) and not (tmp_path / "exp" / ".lock").exists()
    assert "stage prepare interrupted" in (tmp_path / "exp" / "logs" / "prepare.log").read_text()
    assert run_with(lambda job: None).exit_code == 0
    assert len(list((tmp_path / "exp" / ".done").iterdir())) == len(STAGE_NAMES)


@pytest.mark.skipif(sys.platform != "linux", reason="prctl is Linux's")
def test_workers_end_with_a_run_that_was_killed(tmp_path: Path) -> None:
    run = os.fork()
    if run == 0:
        with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("fork"), initializer=become_worker) as pool:
            worker = pool.submit(os.getpid).result()
            (tmp_path / "worker").write_text(str(worker))
            os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(run, 0)
    worker = int((tmp_path / "worker").read_text())
    for _ in range(200):
        state = Path(f"/proc/{worker}/stat")
        if not state.exists() or state.read_text().rpartition(")")[2].split()[0] == "Z":
            return
        time.sleep(0.05)
    os.kill(worker, signal.SIGKILL)
    pytest.fail("the worker waits for ever")


@pytest.mark.parametrize(
    ("called", "found", "name"),
    [
        ("/project/.venv/bin/asr-kd", None, "/project/.venv/bin/asr-kd"),
        ("/project/.venv/bin/asr-kd", "/usr/bin/asr-kd", "/project/.venv/bin/asr-kd"),
        ("/usr/bin/asr-kd", "/usr/bin/asr-kd", "asr-kd"),
        ("/project/asr_kd/__main__.py", None, f"{sys.executable} -m asr_kd"),
    ],
)
def test_the_command_that_continues_can_be_run_where_it_is_said(
    monkeypatch: pytest.MonkeyPatch, called: str, found: str | None, name: str
) -> None:
    monkeypatch.setattr(sys, "argv", [called, "run", "--exp", "my run"])
    monkeypatch.setattr("shutil.which", lambda command: found)
    assert continuation() == f"{name} run --exp 'my run'"


def test_the_keyboards_signal_is_130(run_with: RunWith) -> None:
    result = run_with(lambda job: os.kill(os.getpid(), signal.SIGINT))
    assert result.exit_code == 130 and "asr-kd: stopped by SIGINT; to continue: asr-kd run" in result.output
