"""Thirty kills over all stages of a tiny recipe change no bit of its files."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from asr_kd.pipeline import STAGE_NAMES

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


def test_a_killed_and_resumed_run_ends_in_the_same_bits(tmp_path: Path) -> None:
    # In a process of its own: it forks the runs that it kills, and other tests leave a server for workers behind.
    command = [sys.executable, str(Path(__file__).with_name("soak.py")), "--kills", "30", "--folder", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    kills = {name: int(count) for name, count in re.findall(r"(\w+) (\d+)[,)]", done.stdout)}
    assert set(kills) == set(STAGE_NAMES) and all(kills.values()), done.stdout
    assert sum(kills.values()) >= 30 and "0 files differ" in done.stdout
