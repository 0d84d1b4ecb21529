import math
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor
from toy_experiment import NETWORK, TRAINING

from asr_kd.errors import UserError
from asr_kd.files import read_json
from asr_kd.nn.checkpoint import CHECKPOINT, Begun, History, restore_checkpoint, save_checkpoint
from asr_kd.nn.inputs import Inputs
from asr_kd.nn.metrics import read_history
from asr_kd.nn.model import DESCRIPTION, WEIGHTS, load_model
from asr_kd.nn.training import HardTargets, Run, evaluate, train
from asr_kd.recipe import Training
from asr_kd.workspace import Workspace

TIMES = {"seconds": 0, "frames_per_second": 0}


class Interrupted(Exception):
    pass


def silent(batches: Sequence[Tensor], title: str) -> Iterable[Tensor]:
    return batches


def train_toy(path: Path, inputs: Inputs, training: Training = TRAINING, member: int = 0) -> History:
    run = Run(NETWORK, training, (0, "member", member), inputs.num_pdfs, inputs.data)
    return train(path, run, inputs.train, inputs.dev, HardTargets(inputs.train.labels), silent)


def weights(path: Path) -> dict[str, Tensor]:
    return load_file(path / WEIGHTS)


def same(first: dict[str, Tensor], second: dict[str, Tensor]) -> bool:
    return all(torch.equal(tensor, second[name]) for name, tensor in first.items())


def test_learns_what_depends_on_the_window(trained: Workspace, inputs: Inputs) -> None:
    history = read_history(trained.member(0))
    chance = float(torch.bincount(inputs.dev.labels).max()) / len(inputs.dev)
    assert history[-1]["dev_frame_accuracy"] > chance + 0.3
    assert [row["epoch"] for row in history] == [1, 2, 3]
    assert history[-1]["dev_cross_entropy"] < history[0]["dev_cross_entropy"]
    assert history[-1]["train_loss"] < history[0]["train_loss"]


def test_keeps_the_epoch_best_on_dev(trained: Workspace, inputs: Inputs) -> None:
    history, model = read_history(trained.member(0)), load_model(trained.member(0))
    row = evaluate(model, inputs.dev.standardised(model), torch.float32)
    best = max(history, key=lambda row: row["dev_frame_accuracy"])
    assert row["dev_frame_accuracy"] == pytest.approx(best["dev_frame_accuracy"])
    assert row["dev_cross_entropy"] == pytest.approx(best["dev_cross_entropy"], rel=1e-5)
    assert read_json(trained.member(0) / DESCRIPTION)["epoch"] == best["epoch"]


def test_members_differ_and_a_seed_does_not(trained: Workspace, inputs: Inputs, tmp_path: Path) -> None:
    train_toy(tmp_path / "again", inputs)
    assert same(weights(trained.member(0)), weights(tmp_path / "again"))
    assert not torch.equal(weights(trained.member(0))["weights.0"], weights(trained.member(1))["weights.0"])


@pytest.mark.parametrize("changes", [{}, {"optimizer": "sgd", "learning_rate": 0.05, "schedule": "newbob"}])
def test_an_interrupted_run_ends_in_the_same_bits(inputs: Inputs, tmp_path: Path, changes: dict[str, object]) -> None:
    training = TRAINING.model_copy(update=changes)

    def interrupt(batches: Sequence[Tensor], title: str) -> Iterable[Tensor]:
        if title.endswith("epoch 3"):
            yield from batches[:2]
            raise Interrupted
        yield from batches

    run = Run(NETWORK, training, (0, "member", 0), inputs.num_pdfs, inputs.data)
    targets = HardTargets(inputs.train.labels)
    with pytest.raises(Interrupted):
        train(tmp_path / "resumed", run, inputs.train, inputs.dev, targets, interrupt)
    assert (tmp_path / "resumed" / CHECKPOINT).exists()
    assert not (tmp_path / "resumed" / WEIGHTS).exists()
    resumed, straight = (train_toy(tmp_path / name, inputs, training) for name in ("resumed", "straight"))
    assert same(weights(tmp_path / "resumed"), weights(tmp_path / "straight"))
    for ours, theirs in zip(resumed, straight, strict=True):
        assert ours | TIMES == theirs | TIMES
    assert not (tmp_path / "resumed" / CHECKPOINT).exists()


def test_a_finished_network_is_not_trained_again(trained: Workspace, inputs: Inputs) -> None:
    before = (trained.member(0) / WEIGHTS).stat().st_mtime_ns
    history = train_toy(trained.member(0), inputs)
    assert history == read_history(trained.member(0))
    assert (trained.member(0) / WEIGHTS).stat().st_mtime_ns == before


def test_another_recipe_is_trained_anew(inputs: Inputs, tmp_path: Path) -> None:
    train_toy(tmp_path, inputs, TRAINING.model_copy(update={"epochs": 1}))
    before = weights(tmp_path)
    history = train_toy(tmp_path, inputs, TRAINING.model_copy(update={"epochs": 1, "learning_rate": 1e-3}))
    assert len(history) == 1
    assert not same(before, weights(tmp_path))


def test_newbob_halves_the_rate_or_stops(inputs: Inputs, tmp_path: Path) -> None:
    training = TRAINING.model_copy(update={"epochs": 40, "schedule": "newbob"})
    rates = [row["learning_rate"] for row in train_toy(tmp_path, inputs, training)]
    assert len(rates) < 40
    assert rates[0] == TRAINING.learning_rate
    assert rates[-1] < TRAINING.learning_rate


def test_a_loss_that_is_not_finite_names_the_utterance(inputs: Inputs, tmp_path: Path) -> None:
    rows = inputs.train.rows.clone()
    rows[int(inputs.train.starts[3]) + 5, 0] = math.nan
    broken = replace(inputs.train, rows=rows)
    # Moments of the broken frames would spoil every utterance; a network that keeps them names the one.
    broken.moments = inputs.train.moments  # type: ignore[method-assign]
    run = Run(NETWORK, TRAINING, (0, "member", 0), inputs.num_pdfs, "broken")
    with pytest.raises(UserError, match=r"not finite at utterances train-03;"):
        train(tmp_path, run, broken, inputs.dev, HardTargets(broken.labels), silent)


def test_a_gradient_that_is_not_finite_names_the_utterances(inputs: Inputs, tmp_path: Path) -> None:
    class Steep(HardTargets):
        def loss(self, logits: Tensor, frames: Tensor) -> Tensor:
            return super().loss(logits, frames) + (logits - logits.detach()).abs().sqrt().sum()  # 0, its slope infinite

    run = Run(NETWORK, TRAINING, (0, "member", 0), inputs.num_pdfs, "steep")
    with pytest.raises(UserError, match=r"the loss or its gradient is not finite at utterances train-\d\d"):
        train(tmp_path, run, inputs.train, inputs.dev, Steep(inputs.train.labels), silent)


def test_an_epoch_goes_on_in_its_middle_to_the_same_bits(
    inputs: Inputs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ASR_KD_CHECKPOINT_SECONDS", "0")
    steps = list[int]()

    def nine_at_a_time(batches: Sequence[Tensor], title: str) -> Iterable[Tensor]:
        for number, batch in enumerate(batches):
            if number == 9:
                raise KeyboardInterrupt
            steps.append(number)
            yield batch

    training = TRAINING.model_copy(update={"epochs": 2})
    straight = train_toy(tmp_path / "straight", inputs, training)
    run = Run(NETWORK, training, (0, "member", 0), inputs.num_pdfs, inputs.data)
    for _ in range(50):
        try:
            targets = HardTargets(inputs.train.labels)
            resumed = train(tmp_path / "resumed", run, inputs.train, inputs.dev, targets, nine_at_a_time)
            break
        except KeyboardInterrupt:
            continue
    batches = math.ceil(len(inputs.train) / training.batch_frames)
    assert len(steps) == 2 * batches and batches > 20, "no step was made twice"
    assert same(weights(tmp_path / "straight"), weights(tmp_path / "resumed"))
    for ours, theirs in zip(resumed, straight, strict=True):
        assert ours | TIMES == theirs | TIMES


def test_a_damaged_checkpoint_is_as_good_as_none(inputs: Inputs, tmp_path: Path) -> None:
    def once(batches: Sequence[Tensor], title: str) -> Iterable[Tensor]:
        if title.endswith("epoch 2"):
            raise KeyboardInterrupt
        return batches

    run = Run(NETWORK, TRAINING, (0, "member", 0), inputs.num_pdfs, inputs.data)
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path, run, inputs.train, inputs.dev, HardTargets(inputs.train.labels), once)
    content = bytearray((tmp_path / CHECKPOINT).read_bytes())
    content[-1] ^= 1  # of the last tensor's numbers
    (tmp_path / CHECKPOINT).write_bytes(content)
    assert [row["epoch"] for row in train_toy(tmp_path, inputs)] == [1, 2, 3]


@pytest.mark.parametrize("bit", [1, 0x80])
def test_a_change_of_any_byte_of_a_checkpoint_is_noticed(tmp_path: Path, bit: int) -> None:
    """Of the header's size, of identity, history and begun, of names, types and shapes, of tensors, of the checksum."""

    def made() -> tuple[torch.nn.Linear, torch.optim.Adam]:
        model = torch.nn.Linear(2, 1)
        return model, torch.optim.Adam(model.parameters())

    model, optimizer = made()
    model(torch.ones(1, 2)).sum().backward()
    optimizer.step()
    history: History = [{"epoch": 1, "train_loss": 2.5}]
    begun = Begun(3, 1.5, 4, 0.25, [torch.arange(4, dtype=torch.uint8)])
    save_checkpoint(tmp_path, "this one", model, model.state_dict(), optimizer, history, begun)
    whole = (tmp_path / CHECKPOINT).read_bytes()

    other, its_optimizer = made()
    before = {name: tensor.clone() for name, tensor in other.state_dict().items()}
    for position in range(len(whole)):
        content = bytearray(whole)
        content[position] ^= bit
        (tmp_path / CHECKPOINT).write_bytes(content)
        assert restore_checkpoint(tmp_path, "this one", other, its_optimizer) is None, f"byte {position}"
    assert all(torch.equal(tensor, before[name]) for name, tensor in other.state_dict().items())
    assert not its_optimizer.state_dict()["state"]

    (tmp_path / CHECKPOINT).write_bytes(whole)
    restored = restore_checkpoint(tmp_path, "this one", other, its_optimizer)
    assert restored is not None and restored[1] == history and restored[2] is not None
    assert (restored[2].steps, restored[2].nats, restored[2].correct, restored[2].seconds) == (3, 1.5, 4, 0.25)
    assert torch.equal(other.weight, model.weight) and torch.equal(restored[0]["bias"], model.bias)


def test_finished_weights_that_changed_are_trained_again(inputs: Inputs, tmp_path: Path) -> None:
    training = TRAINING.model_copy(update={"epochs": 1})
    train_toy(tmp_path, inputs, training)
    content = bytearray((tmp_path / WEIGHTS).read_bytes())
    whole, content[-1] = bytes(content), content[-1] ^ 1
    (tmp_path / WEIGHTS).write_bytes(content)
    with pytest.raises(UserError, match=r"model\.safetensors: not the weights that model\.json was written with"):
        load_model(tmp_path)
    train_toy(tmp_path, inputs, training)
    assert (tmp_path / WEIGHTS).read_bytes() == whole


def test_dropout_draws_leave_the_global_generator_alone(inputs: Inputs, tmp_path: Path) -> None:
    before = torch.get_rng_state()
    train_toy(tmp_path, inputs, TRAINING.model_copy(update={"epochs": 1}))
    assert torch.equal(torch.get_rng_state(), before)
