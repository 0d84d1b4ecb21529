"""Stages of cells on an executor's workers, each there in a process of its own."""

import time
from dataclasses import dataclass
from functools import partial

from asr_kd.errors import UserError
from asr_kd.executors.contract import ATTEMPTS, Executor, Progress, RemoteExecutor, Work
from asr_kd.experiment.scheduler import GRACE_SECONDS, OUTPUT, POLL_SECONDS, Process, StageProcess, Start, title
from asr_kd.experiment.sharing import CellRun
from asr_kd.pipeline import Stage, console

Cell = tuple[CellRun, Stage, int]  # a stage of a cell, and its cores


@dataclass(frozen=True)
class CellStages(Work):
    """What a worker does with a cell: as the scheduler does on its own machine, and with the worker's death it ends."""

    device: str
    title = "stages of cells"

    def name(self, item: Cell) -> str:
        return f"{title(item[0])} {item[1].name}"

    def do(self, loaded: None, item: Cell, progress: Progress) -> int:
        process = StageProcess(*item, self.device, ends_with_parent=True)
        try:
            while (status := process.poll()) is None:
                time.sleep(POLL_SECONDS)
            return status
        finally:
            process.stop()


class RemoteStage:
    """One stage of one cell on a worker; it begins again where the worker is lost."""

    def __init__(self, run: CellRun, stage: Stage, cores: int, executor: RemoteExecutor) -> None:
        need = run.recipe.need(stage.name)
        self._executor, self._cell = executor, (run, stage, cores)
        self._work = CellStages("cuda" if need.gpus else "cpu")
        self._need = need.model_copy(update={"cpus": cores})
        self._log = run.work.log(OUTPUT).with_name("worker.log")
        self._attempts = 0
        self._status: int | None = None
        self._begin()

    def _begin(self) -> None:
        self._attempts += 1
        self._task = self._executor.submit(self._work, self._cell, self._need, self._log)

    def poll(self) -> int | None:
        outcome = self._executor.outcome(self._task) if self._status is None else None
        if outcome is None:
            return self._status
        status, error = outcome
        if error is None:
            self._status = status
        elif isinstance(error, UserError) or self._attempts == ATTEMPTS:
            console.print(f"{self._work.name(self._cell)}: {error.args[0]}; see {self._log}", style="red", markup=False)
            self._status = 1
        else:
            self._begin()
        return self._status

    def stop(self) -> None:
        if self.poll() is None:
            self._executor.cancel(self._task)
            deadline = time.monotonic() + 2 * GRACE_SECONDS
            while self._executor.outcome(self._task) is None and time.monotonic() < deadline:
                time.sleep(POLL_SECONDS)


def starter(executor: "Executor | RemoteExecutor", device: str) -> Start:
    """What starts a stage of a cell: on this machine, or on the executor's workers."""
    if isinstance(executor, RemoteExecutor):
        return partial(_start_remote, executor)
    return partial(StageProcess, device=device)


def _start_remote(executor: RemoteExecutor, run: CellRun, stage: Stage, cores: int) -> Process:
    return RemoteStage(run, stage, cores, executor)
