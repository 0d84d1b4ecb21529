"""A Ray on the loopback interface with two workers against this machine's own processes."""

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from soak import RECIPE
from tiny_run import begun, differences, run_in_process, wait_until, with_path
from toy_work import Squares, made
from typer.testing import CliRunner

from asr_kd.cli import app
from asr_kd.errors import UserError
from asr_kd.executors.choice import chosen
from asr_kd.files import read_json
from asr_kd.recipe import Need
from asr_kd.workspace import Workspace

pytest.importorskip("ray", reason="Ray is not installed: pip install 'asr-kd[ray]'")
pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
HOST = "127.0.0.1"
NUMBERS = range(5)


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """That of a Ray with two cores, which starts as many workers; they know the tests' modules."""
    with socket.socket() as free:
        free.bind((HOST, 0))
        port = free.getsockname()[1]
    folder = tmp_path_factory.mktemp("ray")
    options = [f"--node-ip-address={HOST}", f"--port={port}", "--num-cpus=2", "--include-dashboard=false"]
    options += ["--object-store-memory=100000000", "--disable-usage-stats", "--block"]
    command = [sys.executable, "-m", "ray.scripts.scripts", "start", "--head", *options]
    environment = with_path(Path(__file__).parent)
    with (folder / "log").open("wb") as log:
        head = subprocess.Popen(command, stdout=log, stderr=log, env=environment, start_new_session=True)
    try:
        wait_until(lambda: head.poll() is not None or "Ray runtime started" in (folder / "log").read_text(), 300)
        assert head.poll() is None, (folder / "log").read_text()
        found = re.search(rf"--address='(\S+:{port})'", (folder / "log").read_text())
        yield found[1] if found else f"{HOST}:{port}"
    finally:
        head.terminate()
        try:
            head.wait(30)
        except subprocess.TimeoutExpired:
            os.killpg(head.pid, signal.SIGKILL)


def test_a_runs_files_are_the_same_though_a_worker_is_killed(straight: Path, address: str) -> None:
    exp = begun(straight)
    killed: list[int] = []

    def kill() -> None:
        """The worker that trains member 1, in its epochs."""
        epochs, log = Workspace(exp).member(1) / "metrics.jsonl", exp / "logs" / "teachers" / "member-01.log"
        wait_until(lambda: not running.is_set() or (epochs.exists() and epochs.read_text()), 400)
        if running.is_set():
            killed.append(int(re.findall(r"process (\d+)", log.read_text())[-1]))
            os.kill(killed[0], signal.SIGKILL)

    running = threading.Event()
    running.set()
    killer = threading.Thread(target=kill)
    killer.start()
    try:
        run_in_process(exp.parent, "--stage", "1", "--executor", "ray", "--address", address)
    finally:
        running.clear()
        killer.join()
    logs = exp / "logs"
    processes = re.findall(r"process (\d+)", (logs / "teachers" / "member-01.log").read_text())
    assert len(killed) == 1 and len(processes) == 2 and processes[0] == str(killed[0]) != processes[1]
    assert "member-01: attempt 1 failed: its process or machine was lost" in (logs / "teachers.log").read_text()
    assert "continues after epoch" in (logs / "teachers" / "member-01.log").read_text()
    for stage, tasks in (("features", 5), ("align", 20), ("teachers", 2), ("targets", 3), ("decode", 2)):
        assert len(list((logs / stage).iterdir())) >= tasks
    assert differences(straight, exp) == []
    shutil.rmtree(exp)


def test_results_failures_and_deaths(address: str, tmp_path: Path) -> None:
    with chosen("ray", address, tmp_path, 1) as executor:

        def run(number: int, behaviour: str) -> tuple[Squares, list[Any], Exception | None]:
            (folder := tmp_path / str(number)).mkdir()
            work = Squares(folder, "fork", bad=2, behaviour=behaviour)
            return work, *made(executor.run(work, NUMBERS, Need(), folder / "squares.log", "loaded here"))

        work, found, error = run(0, "")
        assert error is None and found == [(number**2, "loaded there") for number in NUMBERS]
        work, found, error = run(1, "die once")
        assert error is None and found == [(number**2, "loaded there") for number in NUMBERS] and work.attempts == 2
        work, found, error = run(2, "raise")
        assert work.finished() == {0, 1, 3, 4} and work.attempts == 3 and len(found) == 4
        log = tmp_path / "2" / "squares" / "square_2.log"
        assert f"squares: square 2 (ValueError: no such square) failed 3 times, the others are done; see {log}" in str(
            error
        )
        assert log.read_text().count("ValueError: no such square") == 3 and "in misbehave" in log.read_text()
        work, found, error = run(3, "refuse")
        assert str(error) == "square.bad: has no square; choose another" and work.attempts == 1 and len(found) == 4
        with pytest.raises(UserError, match=r"needs: no worker has what squares need \(cpus 3\); add such a worker or"):
            list(executor.run(work, NUMBERS, Need(cpus=3), tmp_path / "log"))


def test_cells_run_on_workers(address: str, tmp_path: Path) -> None:
    """A cell's stage 0 there, in a process of its own; what it asks for but is not there is its failure, in a line."""
    (tmp_path / "base.yaml").write_text(RECIPE)
    grid = {"grid": {"corpus.embedded.train_utterances": [6, 9]}, "seeds": [0], "last_stage": "prepare"}
    (tmp_path / "grid.yaml").write_text(yaml.safe_dump({"base": "base.yaml", **grid}))
    command = ["experiment", str(tmp_path / "grid.yaml"), "--exp", str(tmp_path / "exp"), "--executor", "ray"]
    result = CliRunner().invoke(app, [*command, "--base-exp", str(tmp_path / "base"), "--address", address])
    assert result.exit_code == 0, result.output
    for cell, utterances in (("train_utterances-6", 6), ("train_utterances-9", 9)):
        work = Workspace(tmp_path / "exp" / "cells" / cell / "seed-0")
        assert read_json(work.root / "environment.json")["command"][1] == "run" and work.record("prepare").exists()
        assert len(list(work.corpus.glob("train/*"))) == utterances
        assert "process" in (work.root / "logs" / "worker.log").read_text()


def one_line(folder: Path, exp: Path | str, address: str) -> str:
    """What `asr-kd run` says, in one line, and ends with status 2."""
    (folder / "base.yaml").write_text("name: base\n")
    arguments = ["--recipe", str(folder / "base.yaml"), "--exp", str(exp), "--executor", "ray", "--address", address]
    result = CliRunner().invoke(app, ["run", *arguments])
    assert result.exit_code == 2, result.output
    (line,) = result.output.splitlines()
    return line


def test_a_worker_of_another_version_is_refused(address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("asr_kd.executors.worker.package_version", lambda: "9.9.9 (code 12345678, Python 3.11)")
    line = one_line(tmp_path, tmp_path / "exp", address)
    assert re.search(r"worker \S+ \(\S+\) has asr_kd 0\.\d.*, this is 9\.9\.9 .*; install the same there", line)


def test_a_worker_that_joins_late_is_refused_by_its_first_task(
    address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("asr_kd.executors.ray.check_workers", lambda wanted: None)
    monkeypatch.setattr("asr_kd.executors.worker.package_version", lambda: "9.9.9 (code 12345678, Python 3.11)")
    with chosen("ray", address, tmp_path, 1) as executor:
        work = Squares(tmp_path, "fork")
        found, error = made(executor.run(work, NUMBERS, Need(), tmp_path / "squares.log", "loaded here"))
    assert found == [] and work.finished() == set()
    assert re.search(r"worker \S+ has asr_kd 0\.\d.*, this is 9\.9\.9 .*; install the same there", str(error))


def test_a_directory_that_workers_do_not_see_is_refused(
    address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """/proc/self is another directory to every process."""
    monkeypatch.chdir(tmp_path)
    line = one_line(tmp_path, "/proc/self/cwd/exp", address)
    assert re.search(r"/proc/self/cwd/exp: worker \S+ \(\S+\) does not see this directory; choose an --exp on", line)
    assert not list((tmp_path / "exp").iterdir()), "nothing of the probe is left"


def test_an_address_where_no_ray_is(tmp_path: Path) -> None:
    with socket.socket() as silent:
        silent.bind((HOST, 0))
        nobody = f"{HOST}:{silent.getsockname()[1]}"
        line = one_line(tmp_path, tmp_path / "exp", nobody)
    assert f"--address {nobody}: no Ray answers there; start one with ray start --head" in line
    line = one_line(tmp_path, tmp_path / "exp", "somewhere")
    assert "--address somewhere: write it as HOST:PORT" in line
