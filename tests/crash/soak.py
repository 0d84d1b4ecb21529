"""Kills a tiny recipe's run at random moments of every stage, resumes it, and compares all files with an undisturbed
run's.

    python tests/crash/soak.py --kills 300

Each attempt is a process group of its own that gets SIGKILL. Attempts are forked from this process, which has imported
everything: a start costs nothing. Clocks stand still for what ends up in files, so that all bytes can be compared.
"""

import argparse
import importlib
import os
import random
import resource
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from unittest import mock

from asr_kd.checksums import SEAL, checksum, sealed
from asr_kd.cli import app
from asr_kd.distill import store
from asr_kd.features import extract
from asr_kd.files import read_json
from asr_kd.integrity import files_of
from asr_kd.interval import VARIABLE
from asr_kd.lang.lexicon import Lexicon
from asr_kd.pipeline import STAGE_NAMES
from asr_kd.verification import check
from asr_kd.workspace import Workspace

RECIPE = """
name: soak
corpus:
  embedded:
    train_utterances: 27
    dev_utterances: 3
    test_utterances: 3
    train_speakers: 3
    dev_speakers: 1
    test_speakers: 1
    lm_sentences: 200
    snr_db: [25, 30]
lang: {ngram: {order: 2, cutoffs: [0]}}
hmm:
  min_occupancy: 30
  mono: {iterations: 4, realign: [1, 3], gaussians: 150}
  tri: {iterations: 4, realign: [2], leaves: 60, gaussians: 150}
  lda: {iterations: 4, realign: [2], leaves: 60, gaussians: 150}
  sat: {iterations: 4, realign: [2], leaves: 60, gaussians: 150}
  mllt_iterations: [2]
  fmllr_iterations: [2]
teachers: {members: 2, network: {layers: 1, width: 64}, train: {epochs: 3, batch_frames: 256}}
student: {network: {layers: 1, width: 32}, train: {epochs: 3, batch_frames: 256}}
decode:
  max_active: 500
  first_pass: {beam: 9, max_active: 300}
  gmm: {lm_scale: [10, 14], word_penalty: [0.0]}
  network: {lm_scale: [10, 14], word_penalty: [0.0]}
score: {bootstrap_samples: 50}
"""
CHECKPOINT_SECONDS = 0.1
SHARD_SECONDS, SHARD_BYTES = 8.0, 1 << 17
KILLS_OF_A_STAGE = 5  # in one round, then it may finish: some stages are one step, and could be killed for ever
LONGEST_DELAYS = (0.6, 1.2)  # of the first kill and of the others, in durations of the stage
# What tells of the run, not of its results: commands, times (of files too), this very machine.
NOT_RESULTS = {".done", "logs", "environment.json", "recipe.yaml", SEAL}


@dataclass
class Outcome:
    """kills: by stage; differences: files that are not as the undisturbed run's, with the round."""

    kills: Counter[str] = field(default_factory=Counter)
    differences: list[str] = field(default_factory=list)
    rounds: int = 0
    seconds: dict[str, float] = field(default_factory=dict)
    cpu_seconds: float = 0.0

    def describe(self) -> str:
        kills = ", ".join(f"{name} {self.kills[name]}" for name in STAGE_NAMES)
        found = f"{len(self.differences)} files differ; {self.cpu_seconds:.0f} CPU s"
        return f"{self.kills.total()} kills in {self.rounds} rounds ({kills}); {found}"


class Soak:
    def __init__(self, folder: Path, seed: int, jobs: int) -> None:
        self.folder, self.jobs, self.draws = folder, jobs, random.Random(seed)
        (folder / "soak.yaml").write_text(RECIPE)
        for name in STAGE_NAMES:
            importlib.import_module(f"asr_kd.stages.{name}")
        Lexicon.cmudict()

    def run(self, kills: int) -> Outcome:
        """Undisturbed once, then round after round until there were so many kills, and some in every stage.

        All in one directory, whose name is in the manifests; what an undisturbed run and those that differ left is
        renamed.
        """
        outcome = Outcome()
        with frozen_clocks():
            for number, name in enumerate(STAGE_NAMES):
                start = time.monotonic()
                self.finish(self.start(number), None)
                outcome.seconds[name] = time.monotonic() - start
            expected = hashes(self.exp)
            self.exp.rename(self.folder / "straight")
            while outcome.kills.total() < kills or not all(outcome.kills[name] for name in STAGE_NAMES):
                for number, name in enumerate(STAGE_NAMES):
                    most = min(KILLS_OF_A_STAGE, max(kills - outcome.kills.total(), not outcome.kills[name]))
                    outcome.kills[name] += self.disturb(number, outcome.seconds[name], most)
                different = compare(expected, self.exp)
                outcome.differences += [f"round {outcome.rounds}: {name}" for name in different]
                if different:
                    self.exp.rename(self.folder / f"round-{outcome.rounds:02d}")
                else:
                    shutil.rmtree(self.exp)
                outcome.rounds += 1
        usage = resource.getrusage(resource.RUSAGE_CHILDREN)
        outcome.cpu_seconds = usage.ru_utime + usage.ru_stime
        return outcome

    @property
    def exp(self) -> Path:
        return self.folder / "exp"

    def disturb(self, number: int, seconds: float, most: int) -> int:
        """Bring a stage to its end in spite of kills, at most so many; how many there were."""
        for kills in range(most):
            delay = self.draws.uniform(0, LONGEST_DELAYS[kills > 0] * seconds)
            if self.finish(self.start(number), delay):
                return kills
        self.finish(self.start(number), None)
        return most

    def start(self, number: int) -> int:
        """Fork a run of one stage; its process id, which is its group's."""
        recipe, exp, stage = str(self.folder / "soak.yaml"), str(self.exp), str(number)
        options = ["--recipe", recipe, "--exp", exp, "--stage", stage, "--stop-stage", stage, "--jobs", str(self.jobs)]
        sys.stdout.flush()
        process = os.fork()
        if process:
            return process
        status = 70
        try:
            os.setsid()
            output = os.open(self.folder / "output.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
            os.dup2(output, 1)
            os.dup2(output, 2)
            app(["run", "--no-page", *options])
        except SystemExit as ended:
            status = ended.code if isinstance(ended.code, int) else 1
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(status)

    def finish(self, process: int, delay: float | None) -> bool:
        """Wait for a process, at most `delay` seconds, then kill its group; whether it ended by itself."""
        end = None if delay is None else time.monotonic() + delay
        while end is None or time.monotonic() < end:
            ended, status = os.waitpid(process, 0 if end is None else os.WNOHANG)
            if ended:
                if os.waitstatus_to_exitcode(status):
                    raise RuntimeError(f"status {os.waitstatus_to_exitcode(status)}; see {self.folder}/output.log")
                return True
            time.sleep(0.002)
        try:
            os.killpg(process, signal.SIGKILL)
        except ProcessLookupError:  # not a group yet
            os.kill(process, signal.SIGKILL)
        os.waitpid(process, 0)
        return False


def hashes(root: Path) -> dict[str, str]:
    """Checksum of every final file."""
    files = [
        path for path in root.rglob("*") if path.is_file() and NOT_RESULTS.isdisjoint(path.relative_to(root).parts)
    ]
    return {path.relative_to(root).as_posix(): checksum(path) for path in sorted(files)}


def compare(expected: dict[str, str], root: Path) -> list[str]:
    """Files that are missing, too many, or other than expected or than recorded; records of another recipe."""
    found = hashes(root)
    names = sorted(set(expected) | set(found))
    different = [name for name in names if expected.get(name) != found.get(name)]
    straight = Workspace(root.parent / "straight")
    for name in STAGE_NAMES:
        ours, theirs = (read_json(work.record(name))["fingerprint"] for work in (Workspace(root), straight))
        different += [f".done/{name}.json"] * (ours != theirs)
    return different + check(root) + unrecorded(root)


def unrecorded(root: Path) -> list[str]:
    """Final files of which no stage has the checksum, and no shared folder."""
    recorded = {file for name in STAGE_NAMES for file in files_of(Workspace(root), name)[0]}
    for folder in {path.parent for path in root.rglob(SEAL)}:
        recorded |= {(folder / file).relative_to(root).as_posix() for file in sealed(folder)}
    return [f"{name}: not recorded" for name in hashes(root) if name not in recorded and name[0] != "."]


@contextmanager
def frozen_clocks() -> Iterator[None]:
    """Modules of the package see a time and a memory use of zero; shards and intervals are small."""
    clock = SimpleNamespace(
        monotonic=lambda: 0.0,
        perf_counter=lambda: 0.0,
        process_time=lambda: 0.0,
        thread_time=lambda: 0.0,
        time=lambda: 0.0,
        sleep=time.sleep,
        strftime=lambda form: "2026-01-01T00:00:00+0000",
    )
    usage = SimpleNamespace(
        RUSAGE_SELF=0, RUSAGE_CHILDREN=1, getrusage=lambda who: SimpleNamespace(ru_utime=0.0, ru_stime=0.0, ru_maxrss=0)
    )
    patches = [
        mock.patch.dict(os.environ, {VARIABLE: str(CHECKPOINT_SECONDS)}),
        mock.patch.object(extract, "SHARD_SECONDS", SHARD_SECONDS),
        mock.patch.object(store, "SHARD_BYTES", SHARD_BYTES),
        mock.patch("asr_kd.pipeline.peak_bytes", lambda: 0),
        mock.patch("asr_kd.wfst.build.os", SimpleNamespace(times=lambda: (0.0,) * 5)),
    ]
    for name, module in list(sys.modules.items()):
        if name.startswith("asr_kd.") and name != "asr_kd.interval":
            patches += [mock.patch.object(module, "time", clock)] * (getattr(module, "time", None) is time)
            patches += [mock.patch.object(module, "resource", usage)] * hasattr(module, "resource")
    for patch in patches:
        patch.start()
    try:
        yield
    finally:
        for patch in reversed(patches):
            patch.stop()


def soak(kills: int, folder: Path, seed: int = 0, jobs: int = 1) -> Outcome:
    return Soak(folder, seed, jobs).run(kills)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=30)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument(
        "--folder", type=Path, help="where to work, and to leave what differs [default: a temporary one]"
    )
    chosen = parser.parse_args()
    place = chosen.folder or Path(tempfile.mkdtemp(prefix="soak-"))
    place.mkdir(parents=True, exist_ok=True)
    result = soak(chosen.kills, place, chosen.seed, chosen.jobs)
    sys.stdout.write("\n".join([result.describe(), *result.differences]) + "\n")
    sys.exit(bool(result.differences))
