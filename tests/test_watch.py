"""How far a run is and the time it still takes, from files that another process writes."""

import io
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console
from typer.testing import CliRunner

from asr_kd import live as live_files
from asr_kd import watch as watching
from asr_kd.cli import app
from asr_kd.live import read_live
from asr_kd.nn import tracking
from asr_kd.nn.metrics import write_history
from asr_kd.nn.tracking import Tracker
from asr_kd.recipe import Recipe, Teachers, Training
from asr_kd.status import read_progress
from asr_kd.watch import NetworkState, View, duration, seconds_left, watch
from asr_kd.workspace import Workspace

EPOCHS, FRAMES = 10, 1000
RECIPE = Recipe(teachers=Teachers(members=3, train=Training(epochs=EPOCHS)))
RUN = """
import json, sys, time
from pathlib import Path
from asr_kd.live import Board
from asr_kd.lock import locked
from asr_kd.nn.tracking import Tracker
from asr_kd.workspace import Workspace
work = Workspace(Path(sys.argv[1]))
with locked(work.root):
    board = Board(work.board, "teachers")
    Tracker(work.training("member-00")).finish([None] * 10)
    tracker = Tracker(work.training("member-01"))
    tracker.begin([{}] * 2, 10, 1000)
    for line in sys.stdin:
        epoch, done, rate = json.loads(line)
        tracker._rate = lambda *_: rate
        tracker._write(epoch, done, 1.0, 2.5)
        print("done", flush=True)
"""


def history(*rates: float) -> list[dict[str, Any]]:
    """An epoch for each of the rates, in frames per second."""
    figures = {"train_loss": 2.0, "dev_frame_accuracy": 0.4, "learning_rate": 1e-3}
    return [{"epoch": n, "seconds": FRAMES / r, "frames_per_second": r, **figures} for n, r in enumerate(rates, 1)]


def live(epoch: int, done: int, rate: float | None, finished: bool = False) -> dict[str, Any]:
    figures = {"epoch": epoch, "epochs": EPOCHS, "frames": FRAMES, "done": done, "frames_per_second": rate}
    return {**figures, "seconds": 1.0, "train_loss": 2.5, "finished": finished, "written": 0.0}


def test_time_left_is_the_frames_to_come_by_the_rate() -> None:
    # Two epochs done, half of the third: seven and a half of a thousand frames to go.
    network = NetworkState("student", EPOCHS, history(9, 11), live(3, 500, 10.0))
    assert network.seconds_left() == pytest.approx(750)
    assert network.seconds_per_epoch() == pytest.approx(100)
    # Between two epochs, in the first one, right after a restart, before the first frames, and at the end.
    assert NetworkState("a", EPOCHS, history(9, 11), live(2, FRAMES, 10.0)).seconds_left() == pytest.approx(800)
    assert NetworkState("a", EPOCHS, [], live(1, 250, 20.0)).seconds_left() == pytest.approx(487.5)
    assert NetworkState("a", EPOCHS, history(9, 11), live(3, 0, None)).seconds_left() == pytest.approx(8000 / 11)
    assert NetworkState("a", EPOCHS, [], live(1, 0, None)).seconds_left() is None
    assert NetworkState("a", EPOCHS, history(*[10] * 10), live(10, FRAMES, 10.0)).seconds_left() == 0
    assert NetworkState("a", EPOCHS, [], None).seconds_left() is None


def test_time_left_of_a_stage_is_that_of_a_simulation_in_small_steps() -> None:
    """Two side by side at 100 and 140 s an epoch; those that wait take a place, and the mean, as one gets free."""
    active = [
        NetworkState("member-01", EPOCHS, history(*[10] * 7), live(7, FRAMES, FRAMES / 100)),
        NetworkState("member-02", EPOCHS, history(*[7] * 4), live(4, FRAMES, FRAMES / 140)),
    ]
    done = NetworkState("member-00", EPOCHS, history(*[10] * 10), live(10, FRAMES, None, finished=True))
    waiting = [NetworkState(f"member-{n:02d}", EPOCHS, [], None) for n in range(3, 6)]
    places, left, clock, step = [300.0, 840.0], 3, 0.0, 0.5
    while any(place > 1e-9 for place in places):
        clock += step
        for number, place in enumerate(places):
            places[number] = place - step
            if places[number] <= 1e-9 and left:
                places[number], left = EPOCHS * 120.0, left - 1
    assert seconds_left([done, *active, *waiting]) == pytest.approx(clock, abs=2)
    assert seconds_left([done, *active]) == pytest.approx(840)
    assert seconds_left([done]) is None
    assert seconds_left([*active, NetworkState("new", EPOCHS, [], live(1, 0, None))]) is None


def test_the_rate_is_of_the_last_whole_epoch_and_the_one_under_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An epoch of 1000 frames takes 80 s and 20 s more for dev, later half of that; the clock is ours."""
    clock = [1000.0]
    monkeypatch.setattr(tracking, "time", SimpleNamespace(monotonic=lambda: clock[0]))
    monkeypatch.setattr(live_files, "SECONDS", 0.0)
    tracker = Tracker(tmp_path / "live.json")

    def rate_after(seconds: float, epoch: int, done: int) -> float | None:
        clock[0] += seconds
        if done < FRAMES:
            tracker.step(epoch, done, 1.0, 2.0 * done)
        else:
            tracker.epoch({"epoch": epoch, "seconds": 1.0, "train_loss": 2.0})
        written = read_live(tmp_path / "live.json")
        assert written
        return NetworkState("a", EPOCHS, [], written).frames_per_second()

    tracker.begin([], EPOCHS, FRAMES)
    assert rate_after(8, 1, 100) is None  # from here on
    assert rate_after(32, 1, 500) == pytest.approx(400 / 32)
    assert rate_after(60, 1, FRAMES) == pytest.approx(900 / 92)
    assert rate_after(40, 2, 500) == pytest.approx(1400 / 132)
    assert rate_after(60, 2, FRAMES) == pytest.approx(1000 / 100)
    assert rate_after(20, 3, 500) == pytest.approx(1500 / 120)
    assert rate_after(30, 3, FRAMES) == pytest.approx(1000 / 50)


@pytest.fixture
def work(tmp_path: Path) -> Workspace:
    work = Workspace(tmp_path)
    (tmp_path / "recipe.yaml").write_text(f"teachers: {{members: 3, train: {{epochs: {EPOCHS}}}}}\n")
    write_history(work.model("member-00"), history(*[10] * 10))
    write_history(work.model("member-01"), history(9, 11))
    write_history(work.model("member-02"), history(*[10] * 10))  # of a run before, to be trained again
    return work


@pytest.fixture
def run(work: Workspace) -> subprocess.Popen[str]:
    """A process at stage 4, which writes what it is told."""
    process = subprocess.Popen(
        [sys.executable, "-c", RUN, str(work.root)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    tell(process, "[3, 500, 10.0]")
    return process


def tell(process: subprocess.Popen[str], figures: str) -> None:
    assert process.stdin and process.stdout
    process.stdin.write(figures + "\n")
    process.stdin.flush()
    assert process.stdout.readline() == "done\n"


def end(process: subprocess.Popen[str]) -> None:
    process.communicate()
    assert process.returncode == 0


def look(work: Workspace) -> View:
    return View.of(read_progress(work, RECIPE), work, RECIPE)


def test_a_run_in_another_process_is_followed_to_its_end(work: Workspace, run: subprocess.Popen[str]) -> None:
    output, polls = io.StringIO(), list[int]()

    def looking() -> View:
        polls.append(len(polls))
        if len(polls) == 3:
            tell(run, "[4, 250, 12.0]")
        if len(polls) == 6:
            end(run)
        return look(work)

    watch(looking, Console(file=output, width=200), poll=0.01)
    lines = output.getvalue().splitlines()
    assert [line.split(" ", 1)[1] for line in lines[:2]] == [
        "stage 4 teachers: member-01 epoch 3/10, 10 frames/s, about 29 min left",
        "stage 4 teachers: member-01 epoch 4/10, 12 frames/s, about 23 min left",
    ]
    assert lines[2] == f"{work.root}: no run" and len(polls) == 7
    assert "4 teachers stopped" in lines[7] and sum("stage 4" in line for line in lines) == 2


def test_the_view_has_the_networks_their_pace_and_the_time_left(work: Workspace, run: subprocess.Popen[str]) -> None:
    text = "\n".join(line.plain for line in look(work).lines())
    end(run)
    # 750 s of member-01, then ten epochs of member-02 at 100 s
    assert "4 teachers running  about 29 min left" in text
    assert "member-00      trained, 10 epochs, dev frame accuracy 40.00 %" in text
    assert "member-01      epoch 3 of 10,  50 %, 10 frames/s, train loss 2.5, dev frame accuracy 40.00 %, about" in text
    assert "about 12 min left" in text
    assert "member-02      waits" in text
    assert f"running: process {run.pid} on " in text


def test_on_a_terminal_the_view_is_drawn_in_place(work: Workspace, run: subprocess.Popen[str]) -> None:
    output, polls = io.StringIO(), list[int]()

    def looking() -> View:
        polls.append(1)
        if len(polls) == 3:
            end(run)
        return look(work)

    watch(looking, Console(file=output, force_terminal=True, width=120, height=40), poll=0.01)
    text = output.getvalue()
    assert "epoch 3 of 10" in text and "\x1b[1A" in text and len(polls) == 4


def test_without_a_run_there_is_one_view(work: Workspace) -> None:
    result = CliRunner().invoke(app, ["status", str(work.root), "--watch"])
    assert result.exit_code == 0
    assert result.output.count("teachers") == 1 and f"{work.root}: no run" in result.output


def test_ctrl_c_ends_the_view_quietly(work: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(look: object, console: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(watching, "watch", interrupted)
    result = CliRunner().invoke(app, ["status", str(work.root), "--watch"])
    assert (result.exit_code, result.output) == (0, "")


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 s"),
        (99, "99 s"),
        (100, "2 min"),
        (5970, "1 h 40 min"),
        (7500, "2 h 05 min"),
        (48 * 3600, "2 d 00 h"),
        (100 * 3600, "4 d 04 h"),
    ],
)
def test_durations_are_short(seconds: float, text: str) -> None:
    assert duration(seconds) == text
