"""Batches made when they are asked for, and the bounded shuffle of train.shuffle_frames."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file
from torch import Tensor
from toy_experiment import NETWORK, TRAINING

from asr_kd.distill.specialists import BalancedFrames
from asr_kd.errors import UserError
from asr_kd.nn.checkpoint import History
from asr_kd.nn.chosen import ChosenFrames
from asr_kd.nn.inputs import Inputs
from asr_kd.nn.model import WEIGHTS
from asr_kd.nn.order import Batches, BufferedBatches
from asr_kd.nn.training import HardTargets, Run, train
from asr_kd.recipe import Training

BUFFERED = TRAINING.model_copy(update={"shuffle_frames": 200, "epochs": 2})


def starts_of(lengths: Sequence[int]) -> Tensor:
    return torch.tensor([0, *lengths]).cumsum(0)


@given(st.integers(0, 50), st.integers(1, 20), st.integers(0, 9), st.integers(0, 60))
def test_batches_are_those_of_split(count: int, size: int, first: int, end: int) -> None:
    numbers = torch.arange(count) * 3
    batches, expected = Batches(numbers, size), numbers.split(size) if count else ()
    assert [batch.tolist() for batch in batches] == [part.tolist() for part in expected]
    assert len(batches) == len(expected)
    assert [batch.tolist() for batch in batches[first:end]] == [part.tolist() for part in expected[first:end]]
    assert [batch.tolist() for batch in batches[first:][:-1]] == [part.tolist() for part in expected[first:][:-1]]


@given(
    st.lists(st.integers(1, 30), min_size=1, max_size=40), st.integers(1, 50), st.integers(1, 200), st.integers(0, 9)
)
def test_every_frame_comes_once_and_any_batch_can_be_had(
    lengths: list[int], size: int, buffer: int, epoch: int
) -> None:
    starts = starts_of(lengths)
    batches = BufferedBatches(starts, size, buffer, (0, "order", epoch))
    one_by_one = list(batches)
    assert torch.cat(one_by_one).sort().values.tolist() == list(range(sum(lengths)))
    assert [len(batch) for batch in one_by_one[:-1]] == [size] * (len(batches) - 1)
    middle = len(batches) // 2
    for ours, theirs in zip(batches[middle:], one_by_one[middle:], strict=True):
        assert torch.equal(ours, theirs)
    assert torch.equal(BufferedBatches(starts, size, buffer, (0, "order", epoch))[-1], one_by_one[-1])


def test_an_utterance_is_read_within_a_buffer_and_mixed_with_others() -> None:
    lengths = torch.randint(20, 90, (200,), generator=torch.Generator().manual_seed(0))
    starts, buffer = starts_of(lengths.tolist()), 1000
    order = torch.cat(list(BufferedBatches(starts, 64, buffer, (3,))))
    utterance = torch.searchsorted(starts, order, right=True) - 1
    places = [(utterance == number).nonzero()[:, 0] for number in range(200)]
    for at in places:
        assert at[-1] - at[0] < buffer + 90
    neighbours = (utterance[1:] == utterance[:-1]).double().mean()
    assert neighbours < 3 * 55 / buffer  # by chance one neighbour in `buffer` / 55 utterances is of the same
    middles = torch.stack([at.double().mean() for at in places])
    correlation = torch.corrcoef(torch.stack([middles, torch.arange(200.0).double()]))[0, 1]
    assert abs(correlation) < 0.25, "the utterances come in another order than they lie in storage"


def test_epochs_differ_and_a_key_does_not() -> None:
    starts = starts_of([30] * 20)
    orders = [torch.cat(list(BufferedBatches(starts, 16, 100, (0, "order", epoch)))) for epoch in (0, 0, 1)]
    assert torch.equal(orders[0], orders[1]) and not torch.equal(orders[0], orders[2])


def train_toy(path: Path, inputs: Inputs, training: Training, progress: object = None) -> History:
    def silent(batches: Sequence[Tensor], title: str) -> Iterable[Tensor]:
        return batches

    run = Run(NETWORK, training, (0, "member", 0), inputs.num_pdfs, inputs.data)
    targets = HardTargets(inputs.train.labels)
    return train(path, run, inputs.train, inputs.dev, targets, progress or silent)  # type: ignore[arg-type]


def test_training_goes_on_amid_an_epoch_to_the_same_bits(
    inputs: Inputs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ASR_KD_CHECKPOINT_SECONDS", "0")

    def eleven(batches: Sequence[Tensor], title: str) -> Iterable[Tensor]:
        for number, batch in enumerate(batches):
            if number == 11:
                raise KeyboardInterrupt
            yield batch

    straight = train_toy(tmp_path / "straight", inputs, BUFFERED)
    assert straight[-1]["train_loss"] < straight[0]["train_loss"]
    for _ in range(9):
        try:
            train_toy(tmp_path / "resumed", inputs, BUFFERED, eleven)
            break
        except KeyboardInterrupt:
            continue
    ours, theirs = (load_file(tmp_path / name / WEIGHTS) for name in ("resumed", "straight"))
    assert all(torch.equal(tensor, theirs[name]) for name, tensor in ours.items())


def test_it_is_another_network(inputs: Inputs) -> None:
    runs = [
        Run(NETWORK, TRAINING.model_copy(update=changes), (0,), 1, "data").identity(HardTargets(inputs.train.labels))
        for changes in ({}, {"shuffle_frames": 200}, {"micro_batch": 16})
    ]
    assert runs[0] != runs[1]
    assert runs[0] == runs[2], "how much a device takes at once decides nothing"


def test_parts_of_utterances_are_refused(inputs: Inputs) -> None:
    for frames in (
        ChosenFrames.of_classes(inputs.train, [0, 1]),
        BalancedFrames.of(inputs.train, torch.tensor([0, 1]), inputs.num_pdfs),
    ):
        with pytest.raises(UserError, match=r"train\.shuffle_frames: shuffles whole utterances"):
            frames.buffered_batches(8, 100, (0,))
    assert len(replace(inputs.train).buffered_batches(8, 100, (0,))) == -(-len(inputs.train) // 8)
