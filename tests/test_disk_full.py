"""A full disk, a real one of half a megabyte: one line, status 2, earlier files intact, and it goes on after."""

import errno
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import soundfile
import torch
from safetensors.torch import save_file
from typer.testing import CliRunner

from asr_kd import scratch
from asr_kd.cli import app
from asr_kd.errors import UserError
from asr_kd.features.store import write_store
from asr_kd.files import atomic_path, require_space, write_text
from asr_kd.pipeline import STAGE_NAMES, Job

MEGABYTE = 1 << 20


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 512 kB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=512k", "tmpfs", str(disk)], capture_output=True)
    if mounted.returncode:
        pytest.skip("mounting a small tmpfs is not permitted here")
    try:
        yield disk
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=True)


def write_weights(path: Path) -> None:
    save_file({"weights": torch.zeros(MEGABYTE // 4)}, path)


def write_audio(path: Path) -> None:
    soundfile.write(path, np.random.default_rng(0).uniform(-1, 1, MEGABYTE), 16000, format="FLAC")


WRITERS: dict[str, Callable[[Path], object]] = {
    "text": lambda path: path.write_text("x" * MEGABYTE),
    "array": lambda path: np.save(path.open("wb"), np.zeros(MEGABYTE), allow_pickle=False),
    "raw array": lambda path: np.zeros(MEGABYTE).tofile(path.open("wb")),
    "weights": write_weights,
    "audio": write_audio,
}


@pytest.mark.parametrize("writer", WRITERS)
def test_every_library_that_writes_ends_in_the_same_error(small_disk: Path, writer: str) -> None:
    write_text(small_disk / "before", "intact")
    with pytest.raises(OSError, match="No space left") as error, atomic_path(small_disk / "new") as temporary:
        WRITERS[writer](temporary)
    assert error.value.errno == errno.ENOSPC and error.value.filename == str(small_disk / "new")
    assert [path.name for path in small_disk.iterdir()] == ["before"]
    assert (small_disk / "before").read_text() == "intact"


def test_an_array_that_finds_no_room_is_an_error_before_it_is_used(small_disk: Path) -> None:
    with scratch.scratch_in(small_disk), pytest.raises(OSError, match="No space left"):
        scratch.array((MEGABYTE + 1,), np.uint8)
    assert list(small_disk.iterdir()) == []


def test_other_errors_stay_what_they_are(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), atomic_path(tmp_path / "new") as temporary:
        temporary.write_text("half")
        1 / 0  # noqa: B018
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("stage", STAGE_NAMES)
def test_any_stage_says_so_in_one_line_and_goes_on_when_there_is_space(
    small_disk: Path, tmp_path: Path, stage: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fill(job: Job) -> None:
        for number in range(100):
            job.log.info("a line for the log, which has no more room in the end: %s", "x" * 1000)
            rows = {"utterance": np.zeros((100, 100), np.float16)}
            write_store(job.work.features("fbank", f"part-{number}"), rows, {})

    for name in STAGE_NAMES:
        module = ModuleType(f"asr_kd.stages.{name}")
        module.run = fill if name == stage else lambda job: None  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, f"asr_kd.stages.{name}", module)
    (tmp_path / "r.yaml").write_text("seed: 0\n")
    command = ["run", "--recipe", str(tmp_path / "r.yaml"), "--exp", str(small_disk / "exp")]
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 2
    (line,) = [line for line in result.output.splitlines() if line.startswith("asr-kd: ")]
    assert "the disk is full; finished files are intact: free some space and run the same command again" in line
    assert "Traceback" not in result.output and "Logging error" not in result.output
    done = {path.stem for path in (small_disk / "exp" / ".done").glob("*.json")}
    assert done == set(STAGE_NAMES[: STAGE_NAMES.index(stage)])
    assert not [path for path in small_disk.rglob("*") if ".tmp" in path.name]
    subprocess.run(["mount", "-o", "remount,size=20m", str(small_disk)], check=True)
    assert CliRunner().invoke(app, command).exit_code == 0


def test_the_space_of_what_is_there_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("asr_kd.files._free_bytes", lambda folder: 1000)
    (tmp_path / "store").mkdir()
    (tmp_path / "store" / "old").write_bytes(b"x" * 500)
    require_space(tmp_path / "store", 1500, "features")
    with pytest.raises(UserError, match=r"store: features need about 1\.5 kB, 1\.5 kB are free; free some space or"):
        require_space(tmp_path / "store", 1501, "features")
    with pytest.raises(UserError, match=r"1\.0 kB are free"):
        require_space(tmp_path / "nothing" / "yet", 1501, "features")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    (result) = CliRunner().invoke(app, ["run", "--exp", str(tmp_path / "exp")])
    assert result.exit_code == 2 and "Permission denied; choose a place that can be written" in result.output
