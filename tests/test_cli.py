"""What a user sees of a mistake: one line, status 2."""

from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from asr_kd import torchrun
from asr_kd.cli import app, check_device
from asr_kd.errors import UserError
from asr_kd.pipeline import console


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--recipe", "nowhere.yaml"], "nowhere.yaml: No such file or directory"),
        (["--device", "abacus"], "--device abacus: unknown device; use cpu or cuda"),
        (["--device", "cuda:x"], "--device cuda:x: unknown device; use cpu or cuda"),
        (["--device", "cuda:"], "--device cuda:: unknown device; use cpu or cuda"),
        (["--set", "student.temprature=2"], "student.temprature: unknown key; did you mean temperature?"),
        (["--stage", "3", "--stop-stage", "2"], "--stop-stage 2 comes before --stage 3"),
        (["--stage", "8"], "targets.json: stage 8 (score) reads the files of stage 5 (targets)"),
        (
            ["--set", "corpus.kind=librispeech", "--set", "corpus.dir=/no/such/corpus", "--stop-stage", "0"],
            "/no/such/corpus",
        ),
    ],
)
def test_a_mistake_is_one_line_and_status_2(
    tmp_path: Path, repository: Path, arguments: list[str], message: str
) -> None:
    recipe = str(repository / "recipes" / "default.yaml")
    result = CliRunner().invoke(app, ["run", "--recipe", recipe, "--exp", str(tmp_path / "exp"), *arguments])
    assert result.exit_code == 2
    mistakes = [line for line in result.output.splitlines() if line.startswith("asr-kd: ")]
    assert len(mistakes) == 1
    assert message in mistakes[0]
    assert "Traceback" not in result.output


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a CUDA device")
def test_cuda_without_a_device(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["run", "--device", "cuda", "--exp", str(tmp_path)])
    assert result.exit_code == 2
    assert "--device cuda: no CUDA device here; use --device cpu" in result.output


def test_a_cuda_device_is_one_of_those_that_are_here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    for device in ("cpu", "cuda", "cuda:0", "cuda:1"):
        check_device(device)
    with pytest.raises(UserError, match="--device cuda:9: no such device; the last of the 2 here is cuda:1"):
        check_device("cuda:9")


@pytest.mark.parametrize("below", ["", "/exp"])
def test_a_file_in_the_place_of_the_experiment(tmp_path: Path, repository: Path, below: str) -> None:
    (tmp_path / "file").write_text("mine")
    exp = f"{tmp_path}/file{below}"
    result = CliRunner().invoke(app, ["run", "--recipe", str(repository / "recipes" / "default.yaml"), "--exp", exp])
    (line,) = result.output.splitlines()
    assert result.exit_code == 2
    assert line == f"asr-kd: {exp}: a file is in the place of this directory; name another directory"
    assert (tmp_path / "file").read_text() == "mine"


@pytest.mark.parametrize(("rank", "lines"), [("0", 1), ("1", 0)])
@pytest.mark.parametrize(
    ("arguments", "command"),
    [
        (["experiment", "{}/grid.yaml", "--exp", "{}/to"], "experiment"),
        (["export", "{}/exp", "--to", "{}/to"], "export"),
        (["write-kaldi", "{}/exp", "--to", "{}/to"], "write-kaldi"),
        (["report", "{}/exp"], "report"),
        (["compare", "{}/exp", "{}/other", "--html", "{}/to"], "compare --html"),
    ],
)
def test_only_run_goes_under_torchrun(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], command: str, rank: str, lines: int
) -> None:
    monkeypatch.setattr(console, "quiet", False)
    monkeypatch.setattr(torchrun, "GRACE_SECONDS", 0.0)
    for name, value in {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "RANK": rank, "LOCAL_RANK": rank}.items():
        monkeypatch.setenv(name, value)
    result = CliRunner().invoke(app, [argument.format(tmp_path) for argument in arguments])
    assert result.exit_code == 2
    line = f"asr-kd: {command}: 2 processes would write the same files; run it without torchrun"
    assert [said for said in result.output.splitlines() if said] == [line] * lines
    assert not list(tmp_path.iterdir())


def test_one_process_of_torchrun_is_as_good_as_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "1")
    result = CliRunner().invoke(app, ["report", str(tmp_path)])
    assert result.exit_code == 2 and "results.json: missing; run --stage 8 (score)" in result.output


def test_help_names_the_stages() -> None:
    result = CliRunner().invoke(app, ["run", "--help"])
    assert result.exit_code == 0
    assert "0 prepare" in result.output
