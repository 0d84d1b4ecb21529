"""All that a task needs can travel: every stage's tasks, loaded anew from what pickling leaves of them."""

import pickle
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from tiny_run import begun, differences, run_tiny, with_path

from asr_kd.executors.contract import Progress, Work
from asr_kd.executors.local import LocalExecutor
from asr_kd.recipe import Need

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


class Traveller:
    """In this process, but nothing is shared with the one that asks: as an executor of other machines is."""

    remote = True

    def __init__(self) -> None:
        self.travelled: list[str] = []

    def run(
        self,
        work: Work,
        items: Sequence[Any],
        need: Need,
        stage_log: Path,
        loaded: Any = None,
        progress: Progress | None = None,
    ) -> Iterator[Any]:
        self.travelled += [f"{stage_log.stem} {work.title}"] * len(items)
        there, brought = pickle.loads(pickle.dumps((work, list(items))))
        assert len(pickle.dumps(work)) < 100_000
        for result in Here(need.cpus or 1).run(InTurns(there), brought, need, stage_log):
            yield pickle.loads(pickle.dumps(result))


class Here(LocalExecutor):
    """Runs what has arrived."""


class InTurns(Work):
    """Another's work, one task after another in this process, with what it loads itself."""

    here = "turns"

    def __init__(self, work: Work) -> None:
        self.name, self.load, self.do = work.name, work.load, work.do  # type: ignore[method-assign]


def run_elsewhere(folder: Path) -> list[str]:
    """Run the tiny recipe with the tasks of all stages elsewhere; returns which tasks travelled."""
    from asr_kd import cli

    traveller = Traveller()
    original = cli.run_stages

    def elsewhere(*arguments: Any) -> None:
        original(*arguments[:-1], traveller)

    cli.run_stages = elsewhere  # type: ignore[assignment]
    with pytest.raises(SystemExit) as ended:
        run_tiny(folder, "--stage", "1")
    assert ended.value.code == 0
    return traveller.travelled


def test_files_are_the_same_wherever_tasks_run(straight: Path) -> None:
    exp = begun(straight)
    environment = with_path(Path(__file__).parent.parent / "crash")
    command = [sys.executable, __file__, str(exp.parent)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stdout + done.stderr
    tasks = done.stdout.splitlines()
    for kind in (
        "features features",
        "align shards of the alignment",
        "teachers members",
        "targets shards of soft targets",
    ):
        assert tasks.count(kind) >= 2, tasks
    assert sum(task.startswith("decode ") for task in tasks) > 5
    assert differences(straight, exp) == []
    shutil.rmtree(exp)


if __name__ == "__main__":
    sys.stdout.write("\n".join(run_elsewhere(Path(sys.argv[1]))))
