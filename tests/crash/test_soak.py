"""Thirty kills over all stages of a tiny recipe change no bit of its files; and damage to any of them is noticed."""

import re
import subprocess
import sys
from collections.abc import Iterator
from itertools import cycle
from pathlib import Path

import pytest

from asr_kd.checksums import SEAL, sealed
from asr_kd.integrity import files_of
from asr_kd.pipeline import STAGE_NAMES
from asr_kd.verification import check
from asr_kd.workspace import Workspace

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def soaked(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The undisturbed run's directory, and what was said in the end."""
    # In a process of its own: it forks the runs that it kills, and other tests leave a server for workers behind.
    folder = tmp_path_factory.mktemp("soak")
    command = [sys.executable, str(Path(__file__).with_name("soak.py")), "--kills", "30", "--folder", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder / "straight", done.stdout


def test_a_killed_and_resumed_run_ends_in_the_same_bits(soaked: tuple[Path, str]) -> None:
    kills = {name: int(count) for name, count in re.findall(r"(\w+) (\d+)[,)]", soaked[1])}
    assert set(kills) == set(STAGE_NAMES) and all(kills.values()), soaked[1]
    assert sum(kills.values()) >= 30 and "0 files differ" in soaked[1]


def recorded(root: Path) -> Iterator[tuple[str, str]]:
    """The stage that makes it and the path of every file whose checksum is known."""
    for name in STAGE_NAMES:
        yield from ((name, file) for file in files_of(Workspace(root), name)[0])
    yield from (("decode", f"graph/sat/{file}") for file in sealed(root / "graph" / "sat"))


def damage(path: Path, how: str) -> None:
    content = path.read_bytes()
    path.unlink()
    if how == "truncated" and content:
        path.write_bytes(content[:-1])
    elif how != "missing":
        path.write_bytes(bytes([content[0] ^ 1]) + content[1:] if content else b"x")


def test_every_kind_of_file_is_missed_when_it_is_damaged(soaked: tuple[Path, str]) -> None:
    root, kinds = soaked[0], dict[tuple[str, str], str]()
    for stage, file in recorded(root):  # one of those whose names differ in numbers only, and one recording
        kinds.setdefault((stage, ".flac" if file.endswith(".flac") else re.sub(r"\d+", "N", file)), file)
    files = {file: stage for (stage, _), file in kinds.items()}
    suffixes = {Path(file).suffix for file in files}
    assert suffixes >= {".gz", ".json", ".flac", ".npy", ".txt", ".arpa", ".safetensors", ".fst", ".md", ".png"}
    assert len(files) > 50 and check(root) == [] and (root / "graph" / "sat" / SEAL).exists()
    for (file, stage), how in zip(files.items(), cycle(("truncated", "flipped", "missing")), strict=False):
        whole = (root / file).read_bytes()
        damage(root / file, how)
        (line,) = check(root)
        assert line.startswith(f"{root / file}: ") and line.endswith(f"({stage}) makes it"), (line, how)
        (root / file).write_bytes(whole)
    assert check(root) == []
