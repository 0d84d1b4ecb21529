"""The tiny recipe of the tests that kill runs, run once on this machine."""

import multiprocessing
import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parent.parent / "crash"))


@pytest.fixture(scope="session")
def straight(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Its directory, which was then renamed."""
    from tiny_run import run_in_process

    folder = tmp_path_factory.mktemp("tiny")
    run_in_process(folder)
    assert not multiprocessing.active_children()
    return (folder / "exp").rename(folder / "straight")
