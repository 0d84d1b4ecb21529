"""The tiny recipe of the tests that kill runs, run here and run elsewhere, and what the two left."""

import multiprocessing
import os
import re
import shutil
import time
from collections.abc import Callable
from pathlib import Path

from soak import RECIPE

from asr_kd.checksums import checksum
from asr_kd.cli import app
from asr_kd.workspace import Workspace

STAGES = ("features", "align", "teachers", "targets", "student", "decode")  # with tasks
FOLDERS = ("features", "hmm", "models", "targets", "decode")
OVERRIDES = (
    "teachers.train.epochs=10",
    "decode.systems=[gmm-sat,ensemble]",
    "decode.lattice={nbest: 5, beams: [3.0], keep: 2.0}",
)
TIMES = r'"(\w*rtf|\w*seconds|frames_per_second|finished)": ("[^"]*"|[-+.e\d]+)'


def run_tiny(folder: Path, *options: str) -> None:
    """`asr-kd run` of the recipe in `folder`/exp up to the search, with shards as small as the corpus."""
    from asr_kd.distill import store
    from asr_kd.features import extract
    from asr_kd.hmm import shards

    extract.SHARD_SECONDS, store.SHARD_BYTES, shards.SHARD_FRAMES = 8.0, 1 << 17, 2000
    (folder / "tiny.yaml").write_text(RECIPE)
    command = ["run", "--recipe", str(folder / "tiny.yaml"), "--exp", str(folder / "exp"), "--stop-stage", "7"]
    app([*command, "--jobs", "2", *options, *(word for override in OVERRIDES for word in ("--set", override))])


def run_in_process(folder: Path, *options: str) -> None:
    """`run_tiny` in a process of its own: sizes of shards are changed there, and the search forks."""
    process = multiprocessing.get_context("spawn").Process(target=run_tiny, args=(folder, *options))
    process.start()
    process.join()
    logs = (folder / "exp" / "logs").glob("*.log")
    assert process.exitcode == 0, "\n".join(path.read_text()[-2000:] for path in logs)


def begun(straight: Path) -> Path:
    """A copy, where the first one was made, without what the stages with tasks have left."""
    exp = straight.with_name("exp")
    shutil.copytree(straight, exp)
    for name in (*FOLDERS, "graph", "logs"):
        shutil.rmtree(exp / name)
    for stage in STAGES:
        Workspace(exp).record(stage).unlink()
    return exp


def differences(straight: Path, exp: Path) -> list[str]:
    """The files of the stages that are not the same; what they say of times aside."""
    expected, found = results(straight), results(exp)
    assert len(expected) > 50
    return sorted(name for name in {*expected, *found} if expected.get(name) != found.get(name))


def results(root: Path) -> dict[str, str]:
    """Contents of the text files, checksums of the others."""
    paths = sorted(path for folder in FOLDERS for path in (root / folder).rglob("*") if path.is_file())
    # Seals and the record of finished steps hold checksums and times of files.
    paths = [path for path in paths if path.name[0] != "." and path.name != "checksums.json"]
    return {path.relative_to(root).as_posix(): content(path) for path in paths}


def content(path: Path) -> str:
    return re.sub(TIMES, "", path.read_text()) if path.suffix in (".json", ".jsonl") else checksum(path)


def with_path(folder: Path) -> dict[str, str]:
    """The environment of a process that also finds the modules in `folder`."""
    before = os.environ.get("PYTHONPATH")
    return {**os.environ, "PYTHONPATH": os.pathsep.join([str(folder), *([before] if before else [])])}


def wait_until(holds: Callable[[], object], seconds: float) -> None:
    """Poll until it does."""
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.005)
