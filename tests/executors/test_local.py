"""Tasks on this machine: order, failures, death, interruption."""

import errno
import logging
import multiprocessing
import os
import signal
import threading
import time
from pathlib import Path
from typing import Literal

import pytest
import torch
from toy_work import Squares, made

from asr_kd.errors import UserError
from asr_kd.executors.contract import ATTEMPTS, Progress, Work
from asr_kd.executors.local import LocalExecutor
from asr_kd.interruption import Interruption, interruptible
from asr_kd.pipeline import Job
from asr_kd.recipe import Need, Needs, Recipe
from asr_kd.workspace import Workspace

Kind = Literal["fork", "threads", "turns"]
KINDS = ("fork", "threads", "turns")
NUMBERS = range(7)


def run(work: Squares, jobs: int = 2, loaded: str | None = "loaded here") -> tuple[list[object], Exception | None]:
    return made(LocalExecutor(jobs).run(work, NUMBERS, Need(), work.folder / "squares.log", loaded))


@pytest.mark.parametrize("jobs", [1, 2, 3])
@pytest.mark.parametrize("kind", KINDS)
def test_results_come_in_the_order_of_the_items(tmp_path: Path, kind: Kind, jobs: int) -> None:
    work = Squares(tmp_path, kind)
    assert run(work, jobs) == ([(number**2, "loaded here") for number in NUMBERS], None)
    assert work.finished() == set(NUMBERS)
    assert run(work, jobs, None) == ([(number**2, "loaded there") for number in NUMBERS], None)
    assert list(LocalExecutor(jobs).run(work, [], Need(), tmp_path / "log")) == []


@pytest.mark.parametrize("kind", KINDS)
def test_a_task_that_fails_three_times_is_named_and_the_others_finish(
    tmp_path: Path, kind: Kind, caplog: pytest.LogCaptureFixture
) -> None:
    work = Squares(tmp_path, kind, bad=2, behaviour="raise")
    with caplog.at_level(logging.WARNING, "asr_kd"):
        results, error = run(work)
    assert [result for result, _ in results] == [0, 1, 9, 16, 25, 36]  # type: ignore[misc]
    assert work.finished() == {0, 1, 3, 4, 5, 6} and work.attempts == ATTEMPTS
    assert isinstance(error, UserError)
    assert "squares: square 2 (ValueError: no such square) failed 3 times" in str(error)
    assert str(tmp_path / "squares.log") in str(error)
    assert "square 2: attempt 3 failed" in caplog.text and "in misbehave" in caplog.text


@pytest.mark.parametrize("kind", KINDS)
def test_one_failure_changes_nothing(tmp_path: Path, kind: Kind) -> None:
    work = Squares(tmp_path, kind, bad=2, behaviour="raise once")
    results, error = run(work)
    assert error is None and [result for result, _ in results] == [n**2 for n in NUMBERS]  # type: ignore[misc]
    assert work.attempts == 2


def test_a_killed_process_is_replaced(tmp_path: Path) -> None:
    work = Squares(tmp_path, "fork", bad=2, behaviour="die once")
    results, error = run(work)
    assert error is None and [result for result, _ in results] == [n**2 for n in NUMBERS]  # type: ignore[misc]
    assert work.attempts == 2 and not multiprocessing.active_children()


def test_a_task_whose_process_always_dies_is_named(tmp_path: Path) -> None:
    work = Squares(tmp_path, "fork", bad=0, behaviour="die")
    results, error = run(work, jobs=3)
    assert work.finished() == {1, 2, 3, 4, 5, 6} and len(results) == 6 and work.attempts == ATTEMPTS
    assert "square 0 (its process died, probably for lack of memory; use fewer --jobs)" in str(error)


@pytest.mark.parametrize("kind", KINDS)
def test_a_users_mistake_is_not_tried_again(tmp_path: Path, kind: Kind) -> None:
    work = Squares(tmp_path, kind, bad=2, behaviour="refuse")
    results, error = run(work)
    assert str(error) == "square.bad: has no square; choose another"
    assert work.attempts == 1 and len(results) == 6


@pytest.mark.parametrize("kind", KINDS)
def test_a_full_disk_ends_all_at_once(tmp_path: Path, kind: Kind) -> None:
    work = Squares(tmp_path, kind, bad=0, behaviour="full")
    _, error = run(work, jobs=1 if kind == "turns" else 2)
    assert isinstance(error, OSError) and error.errno == errno.ENOSPC
    assert work.attempts == 1 and 6 not in work.finished()


def test_new_processes_do_the_same(tmp_path: Path) -> None:
    work = Squares(tmp_path, "spawn", bad=2, behaviour="die once")
    assert run(work, loaded=None) == ([(number**2, "loaded there") for number in NUMBERS], None)
    assert work.attempts == 2


@pytest.mark.parametrize("kind", ["fork", "threads"])
def test_an_interruption_ends_the_tasks(tmp_path: Path, kind: Kind) -> None:
    work, start = Waiting(tmp_path, kind), time.monotonic()
    with pytest.raises(Interruption), interruptible():
        threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGINT)).start()
        run(work)
    assert time.monotonic() - start < 10 and not multiprocessing.active_children()


class Waiting(Squares):
    """Tasks without an end: threads look at their progress, processes have to be ended."""

    def do(self, loaded: str, item: int, progress: Progress) -> tuple[int, str]:
        for _ in progress(range(1000), "waiting"):
            time.sleep(0.05)
        return item, loaded


def test_the_file_under_way_is_finished_first(tmp_path: Path) -> None:
    work = Squares(tmp_path, "turns", bad=2, behaviour="interrupted")
    with pytest.raises(Interruption), interruptible():
        run(work)
    assert (tmp_path / "whole").read_text() == "first half, second half" and work.finished() == {0, 1}


class Threads(Work):
    """How many threads a task's products have."""

    def __init__(self, here: Literal["fork", "threads", "turns"]) -> None:
        self._here = here

    @property
    def here(self) -> Literal["fork", "threads", "turns"]:
        return self._here

    def do(self, loaded: None, item: int, progress: Progress) -> int:
        return torch.get_num_threads()


@pytest.mark.parametrize(
    ("kind", "cpus", "jobs", "expected"),
    [
        ("threads", None, 4, [2, 2]),
        ("threads", None, 2, [1, 1]),
        ("threads", 2, 4, [2, 2]),
        ("threads", 3, 4, [3, 3]),
        ("turns", None, 4, [4, 4]),
        ("turns", 2, 4, [2, 2]),
        ("fork", None, 4, [1, 1]),
        ("fork", 2, 4, [2, 2]),
    ],
)
def test_tasks_have_the_threads_they_need(kind: Kind, cpus: int | None, jobs: int, expected: list[int]) -> None:
    before = torch.get_num_threads()
    assert list(LocalExecutor(jobs).run(Threads(kind), range(2), Need(cpus=cpus), Path("log"))) == expected
    assert torch.get_num_threads() == before


def test_a_job_asks_for_what_the_recipe_says_of_its_stage(tmp_path: Path) -> None:
    recipe = Recipe(needs=Needs(teachers=Need(cpus=2)))
    job = Job(recipe, Workspace(tmp_path), jobs=4, stage="teachers")
    assert list(job.spread(Threads("turns"), range(1))) == [2]
    assert list(Job(recipe, Workspace(tmp_path), jobs=4, stage="student").spread(Threads("turns"), range(1))) == [4]
