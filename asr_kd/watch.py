"""How far a run is: networks and their epochs, frames per second, the expected time left; once, or live."""

import heapq
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rich.console import Console, Group
from rich.filesize import decimal
from rich.live import Live
from rich.text import Text

from asr_kd.live import read_live
from asr_kd.logs import count_of
from asr_kd.nn.checkpoint import History
from asr_kd.nn.metrics import read_history
from asr_kd.plan import STAGE_NAMES
from asr_kd.recipe import Recipe
from asr_kd.status import DAMAGED, DONE, OPEN, RUNNING, STALE, STOPPED, StageState, Status
from asr_kd.workspace import Workspace

COLOURS = {DONE: "green", RUNNING: "bold", STALE: "yellow", DAMAGED: "red", STOPPED: "yellow", OPEN: "dim"}
POLL_SECONDS = 2.0
PLAIN_SECONDS = 60.0  # between two lines that say nothing but how the time goes
ENDED_POLLS = 2  # in a row without a run: cells of an experiment give their lock back between stages


@dataclass(frozen=True)
class NetworkState:
    """A network of the stage at work. live: what its Tracker wrote during this run; none yet where it waits."""

    name: str
    epochs: int
    history: History
    live: Mapping[str, Any] | None

    @property
    def is_trained(self) -> bool:
        return bool(self.live and self.live["finished"])

    @property
    def is_training(self) -> bool:
        return bool(self.live and not self.live["finished"])

    def frames_per_second(self) -> float | None:
        """As its Tracker measured; right after a restart, of the last epoch's updates. None while it cannot be told."""
        if not self.live:
            return None
        rate = self.live["frames_per_second"] or (self.history[-1].get("frames_per_second") if self.history else None)
        return float(rate) if rate else None

    def seconds_per_epoch(self) -> float | None:
        rate = self.frames_per_second()
        return self.live["frames"] / rate if self.live and rate else None

    def seconds_left(self) -> float | None:
        """Of a network in training, if no schedule ends it early."""
        rate = self.frames_per_second()
        if rate is None or self.live is None:
            return None
        return ((self.epochs - self.live["epoch"] + 1) * self.live["frames"] - self.live["done"]) / rate


def network_states(work: Workspace, recipe: Recipe, stage: str, began: float) -> list[NetworkState]:
    """The networks that a stage trains, in their order. began: of the stage; what was written before is of no run."""
    states = []
    for name, epochs in networks_of(work, recipe, stage).items():
        live = read_live(work.training(name))
        live = live if live and live["written"] >= began else None
        states.append(NetworkState(name, epochs, read_history(work.model(name)) if live else [], live))
    return states


def networks_of(work: Workspace, recipe: Recipe, stage: str) -> dict[str, int]:
    """Name and largest number of epochs of each network that the stage trains."""
    realignment, specialists = recipe.hmm.realignment, recipe.specialists
    if stage == "align" and realignment:
        names = [f"realignment-{i:02d}" for i in range(realignment.members)] if realignment.members else ["realignment"]
        return dict.fromkeys(names, realignment.train.epochs)
    if stage == "teachers":
        members = [work.member(i).name for i in range(recipe.teachers.members)]
        special = [work.specialist(i).name for i in range(specialists.count)] if specialists else []
        epochs = specialists.train.epochs if specialists else 0
        return dict.fromkeys(members, recipe.teachers.train.epochs) | dict.fromkeys(special, epochs)
    return {"student": recipe.student.train.epochs} if stage == "student" else {}


def seconds_left(networks: Sequence[NetworkState]) -> float | None:
    """Until all are trained, if as many as now stay in training side by side, and those that wait take as long.

    None where nothing is in training, or nothing is known of it yet.
    """
    active = [network for network in networks if network.is_training]
    ends = [left for network in active if (left := network.seconds_left()) is not None]
    if not active or len(ends) < len(active):
        return None
    per_epoch = sum(network.seconds_per_epoch() or 0.0 for network in active) / len(active)
    heapq.heapify(ends)
    for network in networks:
        if network.live is None:
            heapq.heapreplace(ends, ends[0] + network.epochs * per_epoch)
    return max(ends)


@dataclass(frozen=True)
class View:
    """A status, the networks of the stage at work (or stopped), and the time that it is, or was, of."""

    status: Status
    networks: Sequence[NetworkState]
    now: float

    @staticmethod
    def of(status: Status, work: Workspace, recipe: Recipe) -> "View":
        shown = status.running or next((stage.name for stage in status.stages if stage.state == STOPPED), None)
        began, seen = float(status.board.get("began", 0.0)), float(status.board.get("written", 0.0))
        networks = network_states(work, recipe, shown, began) if shown else []
        return View(status, networks, time.time() if status.is_running else seen)

    def lines(self) -> Iterator[Text]:
        status = self.status
        yield Text(f"{status.root}: {describe_run(status)}")
        for number, stage in enumerate(status.stages):
            left = self.left() if stage.name == status.running else ""
            line = Text(f"{number} {stage.name:<9}{stage.state:<9}", COLOURS[stage.state]) + _usage(stage) + left
            line.rstrip()
            yield line
            yield from (Text(f"    {line}") for line in stage.why)
            if stage.state in (RUNNING, STOPPED):
                yield from (Text(f"    {line}") for line in self.progress())

    def progress(self) -> Iterator[str]:
        """A line a network, or a line a loop where no network is in training."""
        for network in self.networks:
            yield _describe_network(network)
        if any(network.is_training for network in self.networks):
            return
        for task in self.status.board.get("tasks", ()):
            yield _describe_task(task, self.now)

    def left(self) -> str:
        """Time left of the stage at work, as far as it can be told; of its present loop where no network is trained."""
        seconds = seconds_left(self.networks)
        if seconds is None and self.status.board.get("tasks"):
            seconds = _task_left(self.status.board["tasks"][0], self.now)
        return f"about {duration(seconds)} left" if seconds is not None else ""

    def summary(self) -> str:
        """All in one line, for a log."""
        active = [network for network in self.networks if network.is_training]
        at = [f"{network.name} epoch {network.live['epoch']}/{network.epochs}" for network in active if network.live]
        at += [] if active else [_describe_task(task, self.now) for task in self.status.board.get("tasks", ())]
        rate = sum(network.frames_per_second() or 0.0 for network in active)
        parts = [*at, f"{rate:,.0f} frames/s" if rate else "", self.left()]
        stage = self.status.running
        name = f"stage {STAGE_NAMES.index(stage)} {stage}" if stage else "between stages"
        return f"{name}: {', '.join(part for part in parts if part)}".removesuffix(": ")

    def landmarks(self) -> tuple[Any, ...]:
        """What is worth a line of its own when it changes."""
        return self.status.running, *((n.name, n.live and (n.live["epoch"], n.is_trained)) for n in self.networks)


def describe_run(status: Status) -> str:
    holder = status.holder
    if holder is None:
        return "no run"
    if holder.alive is False:
        return f"no run; {holder.describe()}, ended before its run did"
    if holder.alive:
        return f"running: {holder.describe()}"
    return f"running as far as can be seen from here: {holder.describe()}"


def _usage(stage: StageState) -> Text:
    """Seconds, peak memory and warnings of a finished stage."""
    record = stage.record
    if not record:
        return Text()
    peak, warnings = record.get("peak_bytes"), record.get("warnings")
    parts = [f"{duration(record.get('seconds', 0.0)):>10}", f"{decimal(peak):>9}" if peak else " " * 9]
    return Text("  ".join(parts) + (f"  {count_of(warnings)}" if warnings else ""))


def _describe_network(network: NetworkState) -> str:
    live, history = network.live, network.history
    if live is None:
        return f"{network.name:<14} waits"
    dev = f", dev frame accuracy {100 * history[-1]['dev_frame_accuracy']:.2f} %" if history else ""
    if network.is_trained:
        return f"{network.name:<14} trained, {len(history)} epochs{dev}"
    share = f"{100 * live['done'] / live['frames']:3.0f} %"
    rate, left = network.frames_per_second(), network.seconds_left()
    loss = live["train_loss"] if live["train_loss"] is not None else history[-1]["train_loss"] if history else None
    parts = [f"epoch {live['epoch']} of {network.epochs}, {share}"]
    parts += [f"{rate:,.0f} frames/s"] * (rate is not None) + [f"train loss {loss:.4g}"] * (loss is not None)
    ends = f", about {duration(left)} left" if left is not None else ""
    return f"{network.name:<14} {', '.join(parts)}{dev}{ends}"


def _describe_task(task: Mapping[str, Any], now: float) -> str:
    of = f" of {task['total']:,}" if task["total"] is not None else ""
    left = _task_left(task, now)
    return f"{task['title']}: {task['done']:,}{of}" + (f", about {duration(left)} left" if left is not None else "")


def _task_left(task: Mapping[str, Any], now: float) -> float | None:
    """Of a loop whose items take equally long."""
    if not task["done"] or task["total"] is None:
        return None
    ended = task["began"] + (now - task["began"]) * task["total"] / task["done"]
    return float(max(0.0, ended - now))


def duration(seconds: float) -> str:
    """8 s, 12 min, 2 h 05 min, 3 d 04 h."""
    minutes = round(seconds / 60)
    if seconds < 99.5:
        return f"{seconds:.0f} s"
    if minutes < 100:
        return f"{minutes} min"
    hours = minutes // 60
    return f"{hours} h {minutes % 60:02d} min" if hours < 48 else f"{hours // 24} d {hours % 24:02d} h"


def watch(look: Callable[[], View], console: Console, poll: float = POLL_SECONDS) -> None:
    """Show what `look` returns until the run ends: in place on a terminal, elsewhere a line when something happens."""
    if console.is_terminal:
        with Live(console=console, auto_refresh=False) as live:
            for view in views(look, poll):
                live.update(Group(*view.lines()), refresh=True)
        return
    landmarks: tuple[Any, ...] | None = None
    last = 0.0
    for view in views(look, poll):
        if view.status.is_running and (view.landmarks() != landmarks or view.now - last > PLAIN_SECONDS):
            line = f"{time.strftime('%H:%M:%S')} {view.summary()}"
            console.print(line, markup=False, highlight=False, soft_wrap=True)
            landmarks, last = view.landmarks(), view.now
    show(view, console)


def views(look: Callable[[], View], poll: float) -> Iterator[View]:
    """A view every `poll` seconds until the run has ended; one where there is none."""
    view = look()
    yield view
    left = ENDED_POLLS if view.status.is_running else 0
    while left:
        time.sleep(poll)
        view = look()
        left = ENDED_POLLS if view.status.is_running else left - 1
        yield view


def show(view: View, console: Console) -> None:
    for line in view.lines():
        console.print(line, highlight=False, soft_wrap=True)
