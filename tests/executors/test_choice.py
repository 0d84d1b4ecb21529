"""What the command line may ask for."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from asr_kd.cli import app


@pytest.mark.parametrize("command", ["run", "experiment"])
@pytest.mark.parametrize(
    ("options", "line"),
    [
        (["--executor", "slurm"], "--executor slurm: unknown; use local or ray"),
        (["--address", "10.0.0.1:6379"], "--address 10.0.0.1:6379: is that of a Ray; add --executor ray"),
        (["--executor", "ray"], "--executor ray: Ray is not installed; run: pip install 'asr-kd[ray]'"),
    ],
)
def test_a_bad_choice_is_one_line_and_status_2(
    command: str, options: list[str], line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("asr_kd.executors.choice.find_spec", lambda name: None)
    (tmp_path / "base.yaml").write_text("name: base\n")
    (tmp_path / "grid.yaml").write_text("base: base.yaml\ngrid: {student.temperature: [1, 2]}\n")
    file = ["--recipe", str(tmp_path / "base.yaml")] if command == "run" else [str(tmp_path / "grid.yaml")]
    result = CliRunner().invoke(app, [command, *file, "--exp", str(tmp_path / "exp"), *options])
    assert result.exit_code == 2
    assert result.output == f"asr-kd: {line}\n"
    assert not (tmp_path / "exp").exists()
