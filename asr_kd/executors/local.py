"""Tasks side by side on this machine: in worker processes, or in threads of this one."""

import multiprocessing
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import FIRST_EXCEPTION, CancelledError, Future, ThreadPoolExecutor, wait
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.connection import wait as wait_for
from pathlib import Path
from queue import SimpleQueue
from threading import Event
from typing import Any

from asr_kd.executors.contract import Ledger, Progress, TaskError, Work, portable, silent
from asr_kd.interruption import become_worker
from asr_kd.recipe import Need
from asr_kd.torchrun import processes_in_all

DEATH = "its process died, probably for lack of memory; use fewer --jobs"
GRACE_SECONDS = 5.0


@dataclass(frozen=True)
class LocalExecutor:
    """At most `jobs` cores at a time."""

    jobs: int = 1
    remote: bool = False

    def run(
        self,
        work: Work,
        items: Sequence[Any],
        need: Need,
        stage_log: Path,
        loaded: Any = None,
        progress: Progress | None = None,
    ) -> Iterator[Any]:
        """See Executor. Without `need.cpus` threads share the cores evenly, those of the last few tasks too."""
        ledger = Ledger(work, items)
        run = _Run(work, items, ledger, stage_log, progress or silent)
        workers = max(1, min(self.jobs // (need.cpus or 1), len(items)))
        if work.here == "fork" or (work.here == "spawn" and workers > 1):
            yield from run.in_processes(workers, need.cpus or 1, loaded)
        else:
            yield from run.in_this_process(workers, need.cpus, self.jobs, loaded)
        ledger.close()


class _Run:
    """The tasks of one call."""

    def __init__(self, work: Work, items: Sequence[Any], ledger: Ledger, stage_log: Path, progress: Progress) -> None:
        self.work, self.items, self.ledger, self.log, self.progress = work, items, ledger, stage_log, progress

    def in_processes(self, count: int, threads: int, loaded: Any) -> Iterator[Any]:
        """Each process has one task at a time, so that the task of one that dies is known, and the others go on."""
        if loaded is None and self.work.here == "fork":
            loaded = self.work.load()
        left = deque(range(len(self.items)))
        workers = [_Worker(self.work, loaded, threads) for _ in range(count)] if left else []
        try:
            for worker in workers:
                worker.give(left, self.items)
            while busy := {worker.pipe: worker for worker in workers if worker.task is not None}:
                for pipe in wait_for(list(busy)):
                    worker = busy[pipe]  # type: ignore[index]
                    number = worker.task
                    assert number is not None
                    result, error = worker.answer()
                    if error is None:
                        self.ledger.done(number, result)
                    elif self.ledger.failed(number, error, self.log):
                        left.appendleft(number)
                    if worker.is_dead and left:
                        workers.remove(worker)
                        worker = _Worker(self.work, loaded, threads)
                        workers.append(worker)
                    worker.give(left, self.items)
                yield from self.ledger.in_order()
            for worker in workers:
                worker.dismiss()
        finally:
            for worker in workers:
                worker.end()

    def in_this_process(self, workers: int, cpus: int | None, jobs: int, loaded: Any) -> Iterator[Any]:
        """In threads, if the work is for them. Those left over when the others fill all cores have more cores each."""
        import torch

        workers = workers if self.work.here == "threads" else 1
        before, full = torch.get_num_threads(), len(self.items) - len(self.items) % workers
        alone = (cpus or 1) if self.work.here == "spawn" else (cpus or jobs)
        loaded = self.work.load() if loaded is None else loaded
        try:
            for numbers in (range(full), range(full, len(self.items))):
                if len(numbers) > 1 and workers > 1:
                    side_by_side = min(workers, len(numbers))
                    self._in_threads(numbers, side_by_side, cpus or max(1, jobs // side_by_side), loaded)
                    yield from self.ledger.in_order()
                else:
                    torch.set_num_threads(alone)
                    for number in numbers:
                        self._attempt(number, loaded, self.progress)
                        yield from self.ledger.in_order()
        finally:
            torch.set_num_threads(before)

    def _attempt(self, number: int, loaded: Any, progress: Progress) -> None:
        """Do a task, again where that may help: not where other processes may be left in the middle of it."""
        again = True
        while again:
            try:
                self.ledger.done(number, self.work.do(loaded, self.items[number], progress))
                return
            except CancelledError:
                raise
            except Exception as error:
                if processes_in_all() > 1:
                    raise
                again = self.ledger.failed(number, error, self.log)

    def _in_threads(self, numbers: range, workers: int, cores: int, loaded: Any) -> None:
        """One Python thread a task: products release the interpreter; one core each wastes less than several."""
        import torch

        stop, ended = Event(), SimpleQueue[str]()

        def watched(items: Iterable[Any], title: str = "", *_: Any) -> Iterable[Any]:
            for item in items:
                if stop.is_set():
                    raise CancelledError
                yield item
            ended.put(title)

        def finished_epochs(futures: list[Future[None]]) -> Iterator[str]:
            """Titles of epochs as they end, until all tasks have."""
            running = set(futures)
            while running:
                done, running = wait(running, timeout=0.5, return_when=FIRST_EXCEPTION)
                while not ended.empty():
                    yield ended.get()
                for future in done:
                    future.result()

        with ThreadPoolExecutor(workers, initializer=torch.set_num_threads, initargs=(cores,)) as pool:
            futures = [pool.submit(self._attempt, number, loaded, watched) for number in numbers]
            try:
                total = len(numbers) * self.work.epochs
                for _ in self.progress(finished_epochs(futures), f"epochs of the {self.work.title}", total):
                    pass
            finally:
                stop.set()
                pool.shutdown(cancel_futures=True)


class _Worker:
    """A process, and the number of the task it has."""

    def __init__(self, work: Work, loaded: Any, threads: int) -> None:
        # torch's thread pools do not survive a fork: what loads much forks before it uses them
        context: Any = multiprocessing.get_context(work.here)
        self.pipe, other = context.Pipe()
        self._process = context.Process(target=_serve, args=(other, work, loaded, threads), daemon=True)
        self._process.start()
        other.close()
        self.task: int | None = None
        self.is_dead = False

    def give(self, left: deque[int], items: Sequence[Any]) -> None:
        """Hand over the next task, if there is one."""
        if not left:
            self.task = None
            return
        self.task = left.popleft()
        with suppress(OSError):  # if it is dead, the pipe is at its end, as `answer` finds
            self.pipe.send(items[self.task])

    def answer(self) -> tuple[Any, Exception | None]:
        """Result and error of the task."""
        try:
            return self.pipe.recv()  # type: ignore[no-any-return]
        except (EOFError, OSError):
            self.is_dead = True
            self.end()
            return None, TaskError(DEATH)

    def dismiss(self) -> None:
        """No more tasks: let it end by itself."""
        with suppress(OSError):
            self.pipe.send(_Dismissal())
            self._process.join(GRACE_SECONDS)

    def end(self) -> None:
        """End it, whatever it does, and count its CPU time."""
        self._process.terminate()
        self._process.join()
        self.pipe.close()


class _Dismissal:
    """What a worker process gets in place of a task when there are no more."""


def _serve(pipe: Connection, work: Work, loaded: Any, threads: int) -> None:
    """A worker process: tasks from the pipe, results and errors into it."""
    import torch

    become_worker()
    torch.set_num_threads(threads)
    is_loaded = loaded is not None
    while not isinstance(item := pipe.recv(), _Dismissal):
        result, trouble = None, None
        try:
            if not is_loaded:
                loaded, is_loaded = work.load(), True
            result = work.do(loaded, item, silent)
        except Exception as error:
            trouble = portable(error)
        pipe.send((result, trouble))
