"""Every real stage on a disk that is full half-way through: one line, earlier files intact, and then the same bits."""

import subprocess
import sys
from pathlib import Path

import pytest

NOT_PERMITTED = 77


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_every_stage_refuses_in_one_line_and_goes_on_to_the_same_bits() -> None:
    # In a process of its own, as the soak: it forks the runs.
    command = [sys.executable, str(Path(__file__).with_name("full_disk.py"))]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode == NOT_PERMITTED:
        pytest.skip(done.stdout.strip())
    assert done.returncode == 0, done.stdout + done.stderr
    assert "9 stages, 0 faults" in done.stdout
