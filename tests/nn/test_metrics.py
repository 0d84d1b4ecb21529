"""metrics.jsonl: one line an epoch, the same after a kill."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import pytest
from torch import Tensor
from toy_experiment import NETWORK, TRAINING

from asr_kd.errors import UserError
from asr_kd.files import write_json
from asr_kd.nn import training
from asr_kd.nn.checkpoint import History
from asr_kd.nn.inputs import Inputs
from asr_kd.nn.metrics import EARLIER, METRICS, ORDER, read_history
from asr_kd.nn.model import WEIGHTS
from asr_kd.nn.training import HardTargets, Run, train
from asr_kd.workspace import Workspace

TIMES = ("seconds", "frames_per_second")
KILLED = """
import os, signal, sys
from pathlib import Path
from toy_experiment import NETWORK, TRAINING
from asr_kd.nn.inputs import load_inputs
from asr_kd.nn.products import threads
from asr_kd.nn.training import HardTargets, Run, train
from asr_kd.workspace import Workspace

def until_amid_the_second_epoch(batches, title):
    for number, batch in enumerate(batches):
        if title.endswith("epoch 2") and number == 5:
            os.kill(os.getpid(), signal.SIGKILL)
        yield batch

inputs = load_inputs(Workspace(Path(sys.argv[1])), NETWORK)
run = Run(NETWORK, TRAINING, (0, "member", 0), inputs.num_pdfs, inputs.data)
with threads(1):
    targets = HardTargets(inputs.train.labels)
    train(Path(sys.argv[2]), run, inputs.train, inputs.dev, targets, until_amid_the_second_epoch)
"""


def silent(batches: Sequence[Tensor], title: str) -> Iterable[Tensor]:
    return batches


def train_toy(path: Path, inputs: Inputs) -> History:
    run = Run(NETWORK, TRAINING, (0, "member", 0), inputs.num_pdfs, inputs.data)
    return train(path, run, inputs.train, inputs.dev, HardTargets(inputs.train.labels), silent)


def lines(folder: Path) -> list[dict[str, Any]]:
    """As another program reads them; times aside."""
    rows = [json.loads(line) for line in (folder / METRICS).read_text().split("\n")[:-1]]
    return [{key: value for key, value in row.items() if key not in TIMES} for row in rows]


def test_one_line_an_epoch_with_its_figures(trained: Workspace, inputs: Inputs) -> None:
    rows = [json.loads(line) for line in (trained.member(0) / METRICS).read_text().splitlines()]
    assert [row["epoch"] for row in rows] == [1, 2, 3]
    for row in rows:
        assert tuple(row) == ORDER
        slowest, fastest = (len(inputs.train) / (row["seconds"] + half) for half in (0.005, -0.005))
        assert slowest - 0.1 <= row["frames_per_second"] and (
            row["seconds"] < 0.01 or row["frames_per_second"] <= fastest + 0.1
        )
    assert read_history(trained.member(0)) == rows
    assert not (trained.member(0) / EARLIER).exists()


def test_a_training_killed_amid_an_epoch_ends_with_the_same_lines(
    trained: Workspace, inputs: Inputs, tmp_path: Path
) -> None:
    tests = Path(__file__).resolve().parents[1]
    environment = {**os.environ, "PYTHONPATH": str(tests), "ASR_KD_CHECKPOINT_SECONDS": "0"}
    command = [sys.executable, "-c", KILLED, str(trained.root), str(tmp_path)]
    assert subprocess.run(command, env=environment).returncode == -signal.SIGKILL
    assert [row["epoch"] for row in lines(tmp_path)] == [1]
    train_toy(tmp_path, inputs)
    assert lines(tmp_path) == lines(trained.member(0))


@pytest.mark.parametrize("writing", [0, 1, 3])
def test_no_line_is_missing_when_the_end_comes_before_it_is_written(
    trained: Workspace, inputs: Inputs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, writing: int
) -> None:
    """Before the first epoch, the first line and the last: the checkpoint, written before, has its figures."""
    written, write = list[int](), training.write_history

    def end(folder: Path, history: History) -> None:
        written.append(len(history))
        if len(written) == writing + 1:
            raise KeyboardInterrupt
        write(folder, history)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(training, "write_history", end)
        train_toy(tmp_path, inputs)
    assert written == list(range(writing + 1))
    train_toy(tmp_path, inputs)
    assert lines(tmp_path) == lines(trained.member(0))


def test_a_network_of_an_earlier_release_stays_finished(inputs: Inputs, tmp_path: Path) -> None:
    history = train_toy(tmp_path, inputs)
    before = (tmp_path / WEIGHTS).stat().st_mtime_ns
    (tmp_path / METRICS).unlink()
    write_json(tmp_path / EARLIER, history)
    assert read_history(tmp_path) == history == train_toy(tmp_path, inputs)
    assert (tmp_path / WEIGHTS).stat().st_mtime_ns == before


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    assert read_history(tmp_path) == []
    (tmp_path / METRICS).write_text('{"epoch": 1}\n{"epoch": \n')
    with pytest.raises(UserError, match=r"metrics\.jsonl: not one JSON object a line"):
        read_history(tmp_path)
