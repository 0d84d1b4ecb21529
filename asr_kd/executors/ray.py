"""Tasks on the workers of a Ray cluster; the only module that imports Ray.

Arguments, results and the small `Work` go through Ray. Everything else goes through the experiment directory, which all
workers see under the same path; a file shows that, before anything runs.
"""

import logging
import os
import re
import secrets
import shutil
import signal
import socket
import uuid
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")

import ray
from ray.exceptions import GetTimeoutError, RayError, RayTaskError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from asr_kd.errors import UserError
from asr_kd.executors.contract import Ledger, Progress, TaskError, Work
from asr_kd.executors.worker import Sight, Surroundings, look_around, marked, perform
from asr_kd.files import make_folder
from asr_kd.recipe import Need

CONNECT_SECONDS = 5.0
PROBE_SECONDS = 300.0  # a worker's first process imports Ray and this package, on a busy machine slowly
POLL_SECONDS = 0.5
LOOPBACK = "127.0.0.1"


class RayExecutor:
    """The workers of the cluster at `address` (HOST:PORT), or of one of `jobs` cores that is started on this machine.

    Raises UserError where no Ray answers, and for workers with other versions or without a view of `root`; a worker
    that joins later is refused by its first task.
    """

    remote = True

    def __init__(self, address: str | None, root: Path, jobs: int = 1) -> None:
        self._surroundings = Surroundings.present(root)
        before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
        connect(address, jobs)
        for number, handler in before.items():  # Ray has put its own in their place
            signal.signal(number, handler)
        self._perform = ray.remote(perform)
        try:
            check_workers(self._surroundings)
        except BaseException:
            ray.shutdown()
            raise

    def close(self) -> None:
        ray.shutdown()

    @property
    def cores(self) -> int:
        return int(sum(node["Resources"].get("CPU", 0) for node in workers()))

    @property
    def most_cores(self) -> int:
        return int(max(node["Resources"].get("CPU", 0) for node in workers()))

    def submit(self, work: Work, item: Any, need: Need, task_log: Path) -> Any:
        check_need(work.title, need)
        return self._begin(need, ray.put(work), uuid.uuid4().hex, item, task_log.absolute())

    def outcome(self, task: Any) -> tuple[Any, Exception | None] | None:
        return _outcome(task) if ray.wait([task], timeout=0)[0] else None

    def cancel(self, task: Any) -> None:
        ray.cancel(task, force=False)

    def run(
        self,
        work: Work,
        items: Sequence[Any],
        need: Need,
        stage_log: Path,
        loaded: Any = None,
        progress: Progress | None = None,
    ) -> Iterator[Any]:
        """See Executor. A task's log is stage_log's name without suffix, as a folder, / NAME.log."""
        results = self._run(work, items, need, stage_log)
        if progress and work.here in ("threads", "turns"):
            yield from progress(results, work.title, len(items))
        else:
            yield from results

    def _run(self, work: Work, items: Sequence[Any], need: Need, stage_log: Path) -> Iterator[Any]:
        check_need(work.title, need)
        ledger, shared, number_of_run = Ledger(work, items), ray.put(work), uuid.uuid4().hex
        left, running = deque(range(len(items))), dict[Any, int]()
        try:
            while left or running:
                while left:
                    number = left.popleft()
                    path = log_of_task(stage_log, ledger.name(number))
                    running[self._begin(need, shared, number_of_run, items[number], path)] = number
                for task in ray.wait(list(running), timeout=POLL_SECONDS)[0]:
                    number = running.pop(task)
                    result, error = _outcome(task)
                    if error is None:
                        ledger.done(number, result)
                    elif ledger.failed(number, error, log_of_task(stage_log, ledger.name(number))):
                        left.append(number)
                yield from ledger.in_order()
        finally:
            for task in running:
                self.cancel(task)
        ledger.close()

    def _begin(self, need: Need, work: Any, run: str, item: Any, path: Path) -> Any:
        wanted = resources(need)
        task = self._perform.options(
            num_cpus=wanted["CPU"], num_gpus=wanted["GPU"], memory=int(wanted["memory"]) or None, max_retries=0
        )
        return task.remote(work, run, item, path, need.cpus or 1, self._surroundings)


def log_of_task(stage_log: Path, name: str) -> Path:
    return stage_log.absolute().with_suffix("") / f"{re.sub(r'[^A-Za-z0-9_.-]', '_', name)}.log"


def connect(address: str | None, jobs: int) -> None:
    """Join the cluster at `address`, or start one of `jobs` cores on this machine's loopback interface."""
    options: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    if address is None:
        ray.init("local", num_cpus=jobs, include_dashboard=False, _node_ip_address=LOOPBACK, **options)
        return
    host, _, port = address.rpartition(":")
    if not host or not port.isdigit() or not 0 < int(port) < 1 << 16:
        raise UserError(f"--address {address}: write it as HOST:PORT, for example 10.0.0.1:6379")
    nobody = f"--address {address}: no Ray answers there; start one with ray start --head, or correct the address"
    try:
        socket.create_connection((host, int(port)), CONNECT_SECONDS).close()
    except OSError:
        raise UserError(nobody) from None
    try:
        ray.init(address, **options)
    except (ConnectionError, RuntimeError, ValueError, RayError) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        if "ersion mismatch" in reason:
            raise UserError(f"--address {address}: {reason}; install the same Ray and Python here") from None
        raise UserError(f"{nobody} ({reason[:200]})") from None


def workers() -> list[dict[str, Any]]:
    """The nodes that are alive and have cores."""
    return [node for node in ray.nodes() if node["Alive"] and node["Resources"].get("CPU", 0) > 0]


def check_workers(wanted: Surroundings) -> None:
    """Raise UserError for a worker with other versions, or that does not see the experiment or working directory."""
    token, look = secrets.token_hex(8), ray.remote(look_around)
    probe = wanted.root / f".probe-{token}.tmp"
    make_folder(probe)
    try:
        (probe / "token").write_text(token)
        with marked(wanted.folder, token) as mark:
            looks: dict[Any, dict[str, Any]] = {}
            for node in workers():
                strategy = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
                there = look.options(num_cpus=0, scheduling_strategy=strategy, max_retries=0)
                looks[there.remote(str(probe), token, node["NodeID"], str(wanted.folder), mark)] = node
            if not looks:
                raise UserError("--executor ray: the cluster has no worker with a core; start one with ray start")
            for task, node in looks.items():
                place = f"worker {node['NodeManagerHostname']} ({node['NodeManagerAddress']})"
                sight = _sight(task, place, wanted.version)
                answered = (probe / node["NodeID"]).exists()
                replace(sight, sees_root=sight.sees_root and answered).check(place, wanted)
    finally:
        shutil.rmtree(probe, ignore_errors=True)


def _sight(task: Any, place: str, ours: str) -> Sight:
    """What a worker saw; UserError where it does not answer, or cannot load this package."""
    try:
        sight: Sight = ray.get(task, timeout=PROBE_SECONDS)
    except GetTimeoutError:
        raise UserError(f"--executor ray: {place} does not answer; look at its logs or stop it") from None
    except RayError as error:
        reason = next((line for line in reversed(str(error).splitlines()) if "Error" in line), "")
        raise UserError(
            f"--executor ray: {place} cannot load asr_kd {ours} ({reason.strip()}); install it there"
        ) from None
    return sight


def check_need(title: str, need: Need) -> None:
    """Raise UserError for what no worker has: its tasks would wait for ever."""
    wanted = {name: amount for name, amount in resources(need).items() if amount}
    if any(all(node["Resources"].get(name, 0) >= amount for name, amount in wanted.items()) for node in workers()):
        return
    given = {"cpus": need.cpus or 1, "gpus": need.gpus, "memory_gb": need.memory_gb}
    listed = ", ".join(f"{name} {amount:g}" for name, amount in given.items() if amount)
    raise UserError(f"needs: no worker has what {title} need ({listed}); add such a worker or lower the recipe's needs")


def resources(need: Need) -> dict[str, float]:
    """As Ray counts them; memory in bytes."""
    return {"CPU": need.cpus or 1, "GPU": need.gpus or 0, "memory": (need.memory_gb or 0) * 1e9}


def _outcome(task: Any) -> tuple[Any, Exception | None]:
    try:
        return ray.get(task)  # type: ignore[no-any-return]
    except RayTaskError as error:  # before or after `perform`, which returns what is raised within
        return None, TaskError(f"it could not begin or end there: {str(error).strip().splitlines()[-1]}", str(error))
    except RayError as error:
        return None, TaskError(f"its process or machine was lost: {type(error).__name__}", str(error))
