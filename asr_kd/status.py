"""Which stages of an experiment are done, running, stale or not run, and why: `asr-kd status`."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from asr_kd.integrity import examine, examine_audio, examine_pieces, read_record
from asr_kd.live import ENDED, read_live
from asr_kd.lock import Holder, find_holder
from asr_kd.pipeline import digest, fingerprint, recipe_keys
from asr_kd.plan import STAGE_NAMES, STAGES
from asr_kd.recipe import Recipe
from asr_kd.sources import changed_sources, describe
from asr_kd.workspace import Workspace

DONE, RUNNING, STALE, DAMAGED, STOPPED, OPEN = "done", "running", "stale", "damaged", "stopped", "to do"


@dataclass(frozen=True)
class StageState:
    """A stage's state, a line for each reason that it is not done, and its completion record, if any."""

    name: str
    state: str
    why: tuple[str, ...] = ()
    record: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Status:
    """running: name of the stage at work; board: what it shows, or what a killed one showed (see asr_kd.live)."""

    root: Path
    holder: Holder | None
    stages: tuple[StageState, ...]
    running: str | None
    board: Mapping[str, Any]

    @property
    def is_running(self) -> bool:
        return self.holder is not None and self.holder.alive is not False


def read_status(work: Workspace, recipe: Recipe, thorough: bool | None = None, jobs: int = 1) -> Status:
    """The state of every stage under `recipe`. thorough: how files are compared with their records, see find_damage."""
    status = read_progress(work, recipe)
    done = {stage.name for stage in status.stages if stage.state == DONE}
    findings = examine(work, (name for name in STAGE_NAMES if name in done), thorough, jobs)
    findings += [finding for finding in examine_pieces(work, None, thorough, jobs) if finding.stage in done]
    changed = examine_audio(work, jobs, thorough).changed
    audio = [f"{damage.path}: {damage.what}, and the features are those of before" for damage in changed]
    stages = []
    for stage in status.stages:
        damages = [finding.damage for finding in findings if finding.stage == stage.name]
        if damages:
            why = _some([f"{damage.path}: {damage.what}" for damage in damages])
            stage = replace(stage, state=DAMAGED, why=why)
        elif stage.state == DONE:
            texts = [describe(stage.name, damage) for damage in changed_sources(work, stage.name, bool(thorough), jobs)]
            stage = replace(stage, why=_some(texts + (audio if stage.name == "features" else [])))
        stages.append(stage)
    return replace(status, stages=tuple(stages))


def read_progress(work: Workspace, recipe: Recipe) -> Status:
    """As `read_status`, but no finished file is looked at: cheap enough to be asked every second."""
    holder, board = find_holder(work.root), read_live(work.board) or {}
    alive = holder is not None and holder.alive is not False
    running = str(board["stage"]) if holder and alive and board.get("pid") == holder.pid else None
    states: dict[str, StageState] = {}
    for name in STAGE_NAMES:
        record = read_record(work, name)
        if name == running:
            states[name] = StageState(name, RUNNING)
        elif record is None and name == board.get("stage"):
            states[name] = StageState(name, STOPPED, (_stopped(work, name, board),))
        elif record is None:
            states[name] = StageState(name, OPEN)
        elif record.get("fingerprint") == fingerprint(recipe, name):
            states[name] = StageState(name, DONE, record=record)
        else:
            states[name] = StageState(name, STALE, tuple(reasons(recipe, name, record, states)), record)
    return Status(work.root, holder, tuple(states.values()), running, board)


def reasons(recipe: Recipe, name: str, record: Mapping[str, Any], states: Mapping[str, StageState]) -> list[str]:
    """Why a finished stage does not count under `recipe`. states: of the stages before it."""
    stage = STAGES[STAGE_NAMES.index(name)]
    recorded, present = record.get("keys", {}), recipe_keys(recipe, stage)
    lines = [line for key in {**recorded, **present} for line in differences(recorded.get(key), present.get(key), key)]
    for need in stage.needs:
        if record.get("needs", {}).get(need) != fingerprint(recipe, need):
            state = states[need].state
            lines.append(f"depends on {need}, which " + ("was made anew since" if state == DONE else f"is {state}"))
    return lines or ["was finished by a release that counted other keys of the recipe"]


def differences(before: Any, now: Any, key: str) -> list[str]:
    """A line `key.path: before -> now` for each value that differs; null is as good as absent."""
    name = key.rpartition(".")[2]
    if digest({name: before}) == digest({name: now}):
        return []
    if isinstance(before, dict) and isinstance(now, dict):
        parts = {**before, **now}
        return [line for part in parts for line in differences(before.get(part), now.get(part), f"{key}.{part}")]
    return [f"{key}: {_value(before)} -> {_value(now)}"]


def _value(value: Any) -> str:
    if isinstance(value, dict):
        return "{...}"
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _stopped(work: Workspace, name: str, board: Mapping[str, Any]) -> str:
    how = board.get(ENDED)
    tale = f"it {'was ' * (how == 'interrupted')}{how}" if how else "its process was killed"
    return f"{tale}; the log is {work.log(name)}, and the same command goes on"


def _some(lines: list[str], most: int = 3) -> tuple[str, ...]:
    return tuple(lines[:most]) + ((f"and {len(lines) - most} more; asr-kd check lists them",) * (len(lines) > most))
