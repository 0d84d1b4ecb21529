"""Networks trained together come out as if trained one by one, but for rounding."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from toy_experiment import NETWORK, TRAINING, toy_workspace

from asr_kd.errors import UserError
from asr_kd.nn.checkpoint import CHECKPOINT, History
from asr_kd.nn.inputs import Inputs
from asr_kd.nn.model import WEIGHTS
from asr_kd.nn.schedule import make_optimizer
from asr_kd.nn.stack import train_together
from asr_kd.nn.stacked_optimizer import Stacked, StackedOptimizer
from asr_kd.nn.tracking import Tracker
from asr_kd.nn.training import HardTargets, Progress, Run, train
from asr_kd.pipeline import Job
from asr_kd.recipe import Network, Recipe, Teachers, Training
from asr_kd.stages.teachers import MembersTogether, groups

MEMBERS = range(3)


def silent(batches: Sequence[Tensor], title: str) -> Iterable[Tensor]:
    return batches


def runs(inputs: Inputs, network: Network, training: Training) -> list[Run]:
    return [Run(network, training, (0, "member", m), inputs.num_pdfs, inputs.data) for m in MEMBERS]


def together(
    root: Path, inputs: Inputs, network: Network, training: Training, progress: Progress = silent
) -> list[History]:
    paths, trackers = [root / f"member-{m}" for m in MEMBERS], [Tracker() for _ in MEMBERS]
    plans = runs(inputs, network, training)
    return train_together(paths, plans, inputs.train, inputs.dev, progress, "cpu", trackers)


def one_by_one(
    root: Path, inputs: Inputs, network: Network, training: Training, progress: Progress = silent
) -> list[History]:
    targets = HardTargets(inputs.train.labels)
    return [
        train(root / f"member-{m}", run, inputs.train, inputs.dev, targets, progress)
        for m, run in enumerate(runs(inputs, network, training))
    ]


def assert_alike(first: Path, second: Path, ours: list[History], theirs: list[History]) -> None:
    for m in MEMBERS:
        assert len(ours[m]) == len(theirs[m])
        for row, other in zip(ours[m], theirs[m], strict=True):
            assert row["learning_rate"] == pytest.approx(other["learning_rate"])
            for key in ("train_loss", "dev_cross_entropy"):
                assert row[key] == pytest.approx(other[key], rel=1e-3)
            for key in ("train_frame_accuracy", "dev_frame_accuracy"):
                assert row[key] == pytest.approx(other[key], abs=5e-3)
        weights = [load_file(root / f"member-{m}" / WEIGHTS) for root in (first, second)]
        for name, tensor in weights[0].items():
            assert torch.allclose(tensor, weights[1][name], atol=2e-3), name


@pytest.mark.parametrize(
    ("network", "training"),
    [
        ({}, {}),
        ({"norm": "batch", "input_dropout": 0.1}, {"epochs": 2}),
        ({"norm": "layer"}, {"max_norm": 1.5, "epochs": 2}),
        ({}, {"optimizer": "sgd", "learning_rate": 0.05, "schedule": "newbob", "epochs": 4, "shuffle_frames": 300}),
    ],
)
def test_as_if_one_by_one(inputs: Inputs, tmp_path: Path, network: dict[str, Any], training: dict[str, Any]) -> None:
    shape, plan = NETWORK.model_copy(update=network), TRAINING.model_copy(update=training)
    ours = together(tmp_path / "together", inputs, shape, plan)
    theirs = one_by_one(tmp_path / "alone", inputs, shape, plan)
    assert_alike(tmp_path / "together", tmp_path / "alone", ours, theirs)
    assert not list((tmp_path / "together").rglob(CHECKPOINT))
    assert len({history[0]["train_loss"] for history in ours}) == len(MEMBERS), "members differ"


@pytest.mark.parametrize("begin", [together, one_by_one])
def test_either_way_goes_on_from_the_other(inputs: Inputs, tmp_path: Path, begin: Any) -> None:
    def interrupted(batches: Sequence[Tensor], title: str) -> Iterable[Tensor]:
        if title.endswith("epoch 3"):
            raise KeyboardInterrupt
        return batches

    finish = one_by_one if begin is together else together
    with pytest.raises(KeyboardInterrupt):
        begin(tmp_path / "resumed", inputs, NETWORK, TRAINING, interrupted)
    resumed = finish(tmp_path / "resumed", inputs, NETWORK, TRAINING)
    straight = together(tmp_path / "straight", inputs, NETWORK, TRAINING)
    assert_alike(tmp_path / "resumed", tmp_path / "straight", resumed, straight)


def test_a_run_left_amid_an_epoch_finishes_it_alone(
    inputs: Inputs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ASR_KD_CHECKPOINT_SECONDS", "0")

    def seven(batches: Sequence[Tensor], title: str) -> Iterable[Tensor]:
        yield from batches[:7]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        one_by_one(tmp_path / "resumed", inputs, NETWORK, TRAINING, seven)
    monkeypatch.delenv("ASR_KD_CHECKPOINT_SECONDS")
    resumed = together(tmp_path / "resumed", inputs, NETWORK, TRAINING)
    straight = together(tmp_path / "straight", inputs, NETWORK, TRAINING)
    assert_alike(tmp_path / "resumed", tmp_path / "straight", resumed, straight)


@pytest.mark.parametrize("name", ["adamw", "sgd"])
def test_steps_are_those_of_torch_at_each_ones_rate(name: str) -> None:
    training = Training(optimizer=name, weight_decay=0.1)  # type: ignore[arg-type]
    draws = torch.Generator().manual_seed(0)
    modules = [nn.Linear(3, 4) for _ in range(6)]
    alone, own = modules[:3], modules[3:]
    for first, second in zip(alone, own, strict=True):
        second.load_state_dict(first.state_dict())
    ours, theirs = ([make_optimizer(module, training) for module in some] for some in (own, alone))  # type: ignore[arg-type]
    parameters = [Stacked.of([getattr(module, key) for module in own]) for key in ("weight", "bias")]
    optimizer, rates = StackedOptimizer(training, parameters, ours), torch.tensor([0.1, 0.01, 0.03])
    for _ in range(4):
        for stacked, key in zip(parameters, ("weight", "bias"), strict=True):
            stacked.whole.grad = torch.randn(stacked.whole.shape, generator=draws) * 3
            for number, module in enumerate(alone):
                getattr(module, key).grad = stacked.gradient[number].clone()
        lengths = [float(nn.utils.clip_grad_norm_(module.parameters(), 5.0)) for module in alone]
        assert optimizer.clip(5.0).tolist() == pytest.approx(lengths, rel=1e-5)
        optimizer.step(rates)
        for rate, each in zip(rates.tolist(), theirs, strict=True):
            for group in each.param_groups:
                group["lr"] = rate
            each.step()
    for first, second, mine, other in zip(alone, own, ours, theirs, strict=True):
        for key, tensor in first.state_dict().items():
            assert torch.allclose(tensor, second.state_dict()[key], rtol=1e-5, atol=1e-6)
        for state, expected in zip(mine.state.values(), other.state.values(), strict=True):
            assert set(state) == set(expected)
            assert all(torch.allclose(state[key], expected[key], rtol=1e-5, atol=1e-6) for key in state)


def test_a_member_that_diverges_is_named(inputs: Inputs, tmp_path: Path) -> None:
    plans = runs(inputs, NETWORK, TRAINING.model_copy(update={"learning_rate": 1e30, "schedule": "newbob"}))
    paths = [tmp_path / f"member-{m}" for m in MEMBERS]
    with pytest.raises(UserError, match=r"member-\d: the loss or its gradient is not finite at utterances train-"):
        train_together(paths, plans, inputs.train, inputs.dev, silent, "cpu", [Tracker() for _ in MEMBERS])


def test_groups_are_of_one_architecture() -> None:
    narrow, wide = Network(width=8), Network(width=9)
    assert groups(Teachers(members=5), 2) == [(0, 1), (2, 3), (4,)]
    assert groups(Teachers(members=5, networks=(narrow, wide)), 4) == [(0, 2, 4), (1, 3)]
    image = Network(kind="lenet", input="pixels", left=0, right=0)
    assert groups(Teachers(members=2, network=image), 2) == [(0,), (1,)]


def test_as_tasks_of_the_stage(inputs: Inputs, tmp_path: Path) -> None:
    training = TRAINING.model_copy(update={"epochs": 1})
    job = Job(Recipe(teachers=Teachers(members=3, network=NETWORK, train=training)), toy_workspace(tmp_path))
    list(job.spread(MembersTogether(job), [(0, 1), (2,)], inputs))
    alone = one_by_one(tmp_path / "alone", inputs, NETWORK, training)
    assert len(alone) == 3
    for m in MEMBERS:
        weights = [load_file(path / WEIGHTS) for path in (job.work.member(m), tmp_path / "alone" / f"member-{m}")]
        assert all(torch.allclose(tensor, weights[1][name], atol=2e-3) for name, tensor in weights[0].items())
