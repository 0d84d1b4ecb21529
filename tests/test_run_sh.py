"""run.sh beside a stand-in for Python that records what it is asked to install: no network, no waiting."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

# Stands for python3.11 and, copied by `-m venv`, for the environment's python and asr-kd.
STAND_IN = """#!/bin/sh
echo "$(basename "$0") $*" >>"$CALLS"
case "$*" in
    *"-m venv"*) mkdir -p "$3/bin"; cp "$0" "$3/bin/python"; cp "$0" "$3/bin/asr-kd" ;;
    *"import asr_kd"*) exit "${NO_PACKAGE:-0}" ;;
    *"--editable"*) exit "${NO_NETWORK:-0}" ;;
esac
"""


class Checkout:
    """A copy of run.sh whose Python is the stand-in."""

    def __init__(self, root: Path, script: Path) -> None:
        self.root, self.calls, self.bin = root / "checkout", root / "calls", root / "bin"
        for folder in (self.root / "recipes", self.bin):
            folder.mkdir(parents=True)
        shutil.copy(script, self.root / "run.sh")
        (self.root / "pyproject.toml").write_text("[project]\n")
        (self.root / "recipes" / "default.yaml").touch()
        self.stand_in(self.bin / "python3.11")

    @staticmethod
    def stand_in(path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(STAND_IN)
        path.chmod(0o755)

    def run(self, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
        """Call run.sh from another directory; what Python was called with is left in `self.calls`."""
        self.calls.write_text("")
        environment = {key: value for key, value in os.environ.items() if key != "VIRTUAL_ENV"}
        environment |= {"PATH": f"{self.bin}:/usr/bin:/bin", "CALLS": str(self.calls), **variables}
        command = [str(self.root / "run.sh"), *arguments]
        return subprocess.run(command, cwd=self.bin, env=environment, text=True, capture_output=True, check=False)

    @property
    def called(self) -> list[str]:
        return self.calls.read_text().splitlines()

    @property
    def installed(self) -> bool:
        return any("--editable . --group dev" in call for call in self.called)


@pytest.fixture
def checkout(tmp_path: Path, repository: Path) -> Checkout:
    return Checkout(tmp_path, repository / "run.sh")


def test_first_use_installs_and_says_so_and_the_second_does_not(checkout: Checkout) -> None:
    first = checkout.run()
    assert first.returncode == 0
    assert checkout.installed
    assert "run.sh: installing into" in first.stderr and "setup.log" in first.stderr
    assert checkout.called[-1] == f"asr-kd run --recipe {checkout.root}/recipes/default.yaml"
    second = checkout.run()
    assert not checkout.installed
    assert second.stderr == ""


def test_a_changed_pyproject_or_a_moved_checkout_installs_again(checkout: Checkout) -> None:
    checkout.run()
    (checkout.root / "pyproject.toml").write_text("[project]\ndependencies = []\n")
    checkout.run()
    assert checkout.installed
    checkout.root = checkout.root.rename(checkout.root.with_name("moved"))
    checkout.run()
    assert checkout.installed


def test_an_installation_that_failed_is_tried_again(checkout: Checkout) -> None:
    failed = checkout.run(NO_NETWORK="1")
    assert failed.returncode == 2
    assert "run.sh: the installation failed; the log is" in failed.stderr
    assert checkout.run().returncode == 0
    assert checkout.installed


def test_an_active_environment_is_reused_only_if_it_has_the_package(checkout: Checkout, tmp_path: Path) -> None:
    active = tmp_path / "active"
    for name in ("python", "asr-kd"):
        checkout.stand_in(active / "bin" / name)
    checkout.run("--stage", "1", VIRTUAL_ENV=str(active))
    assert not (checkout.root / ".venv").exists()
    assert checkout.called[-1].endswith("default.yaml --stage 1")
    checkout.run(VIRTUAL_ENV=str(active), NO_PACKAGE="1")
    assert checkout.installed


def test_options_are_handed_on(checkout: Checkout) -> None:
    options = "--stage 1 --stop-stage 3 --repair --exp x --set a.b=c --set d=e --device cpu --jobs 2"
    checkout.run("--recipe", "recipes/default.yaml", *options.split())
    assert checkout.called[-1] == f"asr-kd run --recipe {checkout.root}/recipes/default.yaml {options}"


def test_test_runs_pytest(checkout: Checkout) -> None:
    checkout.run("--test")
    assert checkout.called[-1] == "python -m pytest"


def test_help_teaches_without_installing(checkout: Checkout) -> None:
    shown = checkout.run("--help")
    assert shown.returncode == 0
    for option in ("--recipe", "--stage", "--stop-stage", "--exp", "--set", "--device", "--jobs", "--repair", "--test"):
        assert option in shown.stdout
    assert "./run.sh --recipe recipes/libri_mini.yaml" in shown.stdout
    assert checkout.called == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--recipee"], "unknown option --recipee"),
        (["--stage"], "--stage needs a value"),
        (["x"], "unknown option x"),
    ],
)
def test_a_bad_option_is_one_line_and_status_2(checkout: Checkout, arguments: list[str], message: str) -> None:
    result = checkout.run(*arguments)
    assert result.returncode == 2
    assert result.stderr == f"run.sh: {message}; see --help\n"
    assert checkout.called == []


def test_without_python_3_11(checkout: Checkout) -> None:
    (checkout.bin / "python3.11").write_text("#!/bin/sh\nexit 1\n")
    for tool in ("bash", "dirname", "cat", "cksum", "tail", "mkdir"):
        path = shutil.which(tool)
        assert path
        (checkout.bin / tool).symlink_to(path)
    result = checkout.run(PATH=str(checkout.bin))
    assert result.returncode == 2
    assert result.stderr.startswith("run.sh: needs Python 3.11") and result.stderr.count("\n") == 1
