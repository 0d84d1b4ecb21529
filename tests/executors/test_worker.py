"""What a worker checks, and how it does a task, in this process and without Ray."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from toy_work import Squares

from asr_kd.errors import UserError
from asr_kd.executors.worker import Surroundings, look_around, marked, package_version, perform

OTHER = "9.9.9 (code 12345678, Python 3.11)"


@pytest.fixture
def surroundings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Surroundings:
    """With an experiment directory below the working directory."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "exp").mkdir()
    return Surroundings.present(Path("exp"))


def error_of(surroundings: Surroundings, folder: Path) -> Exception | None:
    """That of a task, which must have done nothing; None of one that was done."""
    work, log = Squares(folder), folder / "logs" / "square.log"
    result, error = perform(work, "run", 3, log, torch.get_num_threads(), surroundings)
    assert work.finished() == (set() if error else {3}) and log.exists() == (error is None)
    assert result == (None if error else (9, "loaded there"))
    return error


def test_versions_of_what_computes_are_named() -> None:
    assert f"torch {torch.__version__.partition('+')[0]}, numpy {np.__version__}" in package_version()


def test_a_task_is_done_where_all_is_alike(surroundings: Surroundings) -> None:
    assert error_of(surroundings, surroundings.root) is None


def test_a_task_of_another_version_is_refused(surroundings: Surroundings) -> None:
    error = error_of(replace(surroundings, version=OTHER), surroundings.root)
    assert isinstance(error, UserError) and str(error).startswith("--executor ray: worker ")
    assert str(error).endswith(f" has asr_kd {package_version()}, this is {OTHER}; install the same there")


def test_a_task_without_its_directories_is_refused(surroundings: Surroundings) -> None:
    elsewhere = surroundings.root / "elsewhere"
    error = error_of(replace(surroundings, root=elsewhere), surroundings.root)
    assert str(error).startswith(f"{elsewhere}: worker ") and "does not see this directory" in str(error)
    error = error_of(replace(surroundings, folder=elsewhere), surroundings.root)
    assert str(error).startswith(f"{elsewhere}: worker ") and "does not see the working directory" in str(error)
    assert not elsewhere.exists()


def test_a_working_directory_of_the_same_name_is_not_the_same(surroundings: Surroundings, tmp_path: Path) -> None:
    (tmp_path / "exp" / "token").write_text("abc")
    probe = str(tmp_path / "exp")
    (tmp_path / "other").mkdir()
    with marked(tmp_path, "abc") as mark:
        assert look_around(probe, "abc", "node", str(tmp_path), mark).sees_folder
        assert not look_around(probe, "abc", "node", str(tmp_path / "other"), mark).sees_folder
        assert not look_around(probe, "abc", "node", str(tmp_path / "nowhere"), mark).sees_folder
        (tmp_path / mark).write_text("of another process")
        sight = look_around(probe, "abc", "node", str(tmp_path), mark)
        assert sight.sees_root and not sight.sees_folder
        with pytest.raises(UserError, match="w does not see the working directory; start from one that all workers"):
            sight.check("w", surroundings)
    assert not (tmp_path / mark).exists()


def test_a_directory_that_cannot_be_written_has_to_be_there(tmp_path: Path) -> None:
    with marked(tmp_path / "nowhere", "abc") as mark:
        assert mark == ""
    assert look_around(str(tmp_path), "abc", "node", str(tmp_path), mark).sees_folder
    assert not look_around(str(tmp_path), "abc", "node", str(tmp_path / "nowhere"), mark).sees_folder
