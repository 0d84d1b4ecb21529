"""One network on two processes, and batches in parts, against one process and whole batches."""

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from toy_experiment import NETWORK, TRAINING, distilled, toy_workspace
from typer.testing import CliRunner

from asr_kd import torchrun
from asr_kd.cli import app
from asr_kd.errors import UserError
from asr_kd.files import write_json
from asr_kd.nn.checkpoint import CHECKPOINT, History
from asr_kd.nn.dropout import PartDraws, random_octets
from asr_kd.nn.inputs import Inputs, load_inputs
from asr_kd.nn.metrics import read_history
from asr_kd.nn.model import WEIGHTS
from asr_kd.nn.training import HardTargets, Progress, Run, train
from asr_kd.pipeline import console, fingerprint
from asr_kd.plan import STAGE_NAMES
from asr_kd.recipe import Network, Recipe, Student, Targets, Teachers, Training

RECIPE = Recipe(
    name="toy",
    teachers=Teachers(members=2, network=NETWORK, train=TRAINING),
    targets=Targets(top_k=4),
    student=Student(train=TRAINING.model_copy(update={"epochs": 2}), temperature=2.0, hard_weight=0.3),
)


def silent(batches: Sequence[Tensor], title: str) -> Iterable[Tensor]:
    return batches


def train_toy(
    path: Path, inputs: Inputs, training: Training, network: Network = NETWORK, progress: Progress = silent
) -> History:
    run = Run(network, training, (0, "member", 0), inputs.num_pdfs, inputs.data)
    return train(path, run, inputs.train, inputs.dev, HardTargets(inputs.train.labels), progress)


def assert_alike(ours: History, theirs: History) -> None:
    assert len(ours) == len(theirs)
    for row, other in zip(ours, theirs, strict=True):
        for key in ("learning_rate", "train_loss", "dev_cross_entropy"):
            assert row[key] == pytest.approx(other[key], rel=1e-3)
        for key in ("train_frame_accuracy", "dev_frame_accuracy"):
            assert row[key] == pytest.approx(other[key], abs=5e-3)


def test_a_part_draws_its_rows_of_the_whole_batch() -> None:
    whole = random_octets((10, 7), torch.Generator().manual_seed(4))
    for first, count in ((0, 4), (4, 6), (9, 1), (3, 0)):
        draws = torch.Generator().manual_seed(4)
        assert torch.equal(random_octets((count, 7), PartDraws(draws, 10, first)), whole[first : first + count])


@pytest.mark.parametrize(
    ("network", "most"), [({}, 20), ({"norm": "layer", "input_dropout": 0.1}, 64), ({"dropout": 0.0}, 1000)]
)
def test_parts_of_batches_change_nothing(inputs: Inputs, tmp_path: Path, network: dict[str, Any], most: int) -> None:
    shape, training = NETWORK.model_copy(update=network), TRAINING.model_copy(update={"epochs": 2})
    parts = training.model_copy(update={"micro_batch": most})
    assert_alike(
        train_toy(tmp_path / "parts", inputs, parts, shape), train_toy(tmp_path / "whole", inputs, training, shape)
    )


def test_a_network_trained_in_parts_is_finished_without(inputs: Inputs, tmp_path: Path) -> None:
    training = TRAINING.model_copy(update={"epochs": 1})
    train_toy(tmp_path, inputs, training.model_copy(update={"micro_batch": 48}))
    before = (tmp_path / WEIGHTS).stat().st_mtime_ns
    train_toy(tmp_path, inputs, training)
    assert (tmp_path / WEIGHTS).stat().st_mtime_ns == before


def test_a_batch_in_parts_that_diverges_names_the_utterance(inputs: Inputs, tmp_path: Path) -> None:
    class Broken(HardTargets):
        def loss(self, logits: Tensor, frames: Tensor) -> Tensor:
            with torch.no_grad():
                logits[frames == bad] = torch.nan
            return super().loss(logits, frames)

    bad = int(inputs.train.starts[7]) + 3
    run = Run(NETWORK, TRAINING.model_copy(update={"micro_batch": 10}), (0, "member", 0), inputs.num_pdfs, inputs.data)
    with pytest.raises(UserError, match=r"not finite at utterances train-07;"):
        train(tmp_path, run, inputs.train, inputs.dev, Broken(inputs.train.labels), silent)


def test_batch_normalisation_needs_whole_batches(inputs: Inputs, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"train\.micro_batch: network\.norm: batch is over whole batches"):
        train_toy(
            tmp_path,
            inputs,
            TRAINING.model_copy(update={"micro_batch": 8}),
            NETWORK.model_copy(update={"norm": "batch"}),
        )


def test_keys_that_say_how_much_a_device_takes_leave_stages_finished() -> None:
    def changed(**train: Any) -> Recipe:
        teachers = RECIPE.teachers.model_copy(
            update={"together": train.pop("together", None), "train": TRAINING.model_copy(update=train)}
        )
        return RECIPE.model_copy(update={"teachers": teachers})

    assert fingerprint(changed(micro_batch=8, together=3), "student") == fingerprint(RECIPE, "student")
    assert fingerprint(changed(shuffle_frames=8), "student") != fingerprint(RECIPE, "student")


# Run by Python's start: from RANK, what a process opens for writing, makes, renames or removes below WATCHED, in MARKS.
WATCH = """
import os, sys

if "RANK" in os.environ:
    root = os.environ["WATCHED"]
    marks = os.open(os.environ["MARKS"] + os.environ["RANK"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    def note(event, arguments):
        if event == "open":
            writes = arguments[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
        else:
            writes = event in ("os.rename", "os.mkdir", "os.remove", "os.rmdir", "os.truncate")
        if writes and isinstance(arguments[0], (str, bytes, os.PathLike)):
            path = os.fsdecode(arguments[0])
            if path.startswith(root):
                os.write(marks, f"{event} {path}\\n".encode())

    sys.addaudithook(note)
"""


def watched(folder: Path, root: Path) -> dict[str, str]:
    """The environment of processes that leave in `folder`/marks-RANK what each of them wrote below `root`."""
    (folder / "site").mkdir()
    (folder / "site" / "sitecustomize.py").write_text(WATCH)
    path = os.pathsep.join(filter(None, [str(folder / "site"), os.environ.get("PYTHONPATH")]))
    return {**os.environ, "PYTHONPATH": path, "WATCHED": str(root), "MARKS": str(folder / "marks-")}


def launch(
    processes: int, *arguments: str, environment: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", str(processes)]
    command = [*torchrun, "--master-port", str(port), "-m", "asr_kd", "run", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, check=False, env=environment)


@pytest.mark.slow
def test_two_processes_train_what_one_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Members and student on two gloo processes; the first member was left amid an epoch by one."""
    work, straight = toy_workspace(tmp_path / "two"), distilled(tmp_path / "one", RECIPE)
    recipe = tmp_path / "toy.yaml"
    recipe.write_text(json.dumps(RECIPE.model_dump(mode="json")))
    for stage in STAGE_NAMES[:4]:
        write_json(work.record(stage), {"fingerprint": fingerprint(RECIPE, stage)})

    def half(batches: Sequence[Tensor], title: str) -> Iterable[Tensor]:
        yield from batches[: len(batches) // 2] if title.endswith("epoch 2") else batches
        if title.endswith("epoch 2"):
            raise KeyboardInterrupt

    monkeypatch.setenv("ASR_KD_CHECKPOINT_SECONDS", "0")
    with pytest.raises(KeyboardInterrupt):
        train_toy(work.member(0), load_inputs(work, NETWORK), TRAINING, progress=half)
    monkeypatch.delenv("ASR_KD_CHECKPOINT_SECONDS")
    assert (work.member(0) / CHECKPOINT).exists() and len(read_history(work.member(0))) == 1
    options = ["--recipe", str(recipe), "--exp", str(work.root), "--stage", "4", "--stop-stage", "6", "--jobs", "2"]
    environment = watched(tmp_path, work.root)
    done = launch(2, *options, "--set", "student.train.micro_batch=20", environment=environment)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("stage 4 teachers: the ensemble") == 1, "one process speaks"
    for path in (work.member(0), work.member(1), work.model("student")):
        assert_alike(read_history(path), read_history(straight.root / path.relative_to(work.root)))
    log = work.log("teachers").read_text()
    batches = -(-len(load_inputs(work, NETWORK).train) // TRAINING.batch_frames)
    assert f"member-00: continues after epoch 1, step {batches // 2}" in log
    assert "member-01: trained by 2 processes" in log
    assert "os.rename" in (tmp_path / "marks-0").read_text(), "what process 0 writes is seen"
    assert (tmp_path / "marks-1").read_text() == "", "only process 0 writes"


@pytest.mark.parametrize(("rank", "lines"), [("0", 1), ("1", 0)])
def test_more_processes_than_devices_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rank: str, lines: int
) -> None:
    monkeypatch.setattr(console, "quiet", False)
    monkeypatch.setattr(torchrun, "GRACE_SECONDS", 0.0)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    for name, value in {"WORLD_SIZE": "4", "LOCAL_WORLD_SIZE": "4", "RANK": rank, "LOCAL_RANK": rank}.items():
        monkeypatch.setenv(name, value)
    result = CliRunner().invoke(app, ["run", "--device", "cuda", "--exp", str(tmp_path)])
    assert result.exit_code == 2
    said = [line for line in result.output.splitlines() if line.strip()]
    assert len(said) == lines
    assert all("asr-kd: --device cuda: 4 processes share 2 CUDA devices; --nproc-per-node 2" in line for line in said)


@pytest.mark.slow
def test_a_mistake_is_said_once(tmp_path: Path) -> None:
    done = launch(2, "--recipe", str(tmp_path / "nowhere.yaml"), "--exp", str(tmp_path / "exp"))
    assert done.returncode != 0
    assert done.stderr.count("asr-kd: ") == 1 and "nowhere.yaml: No such file or directory" in done.stderr
