import numpy as np
import pytest
import torch

from asr_kd.errors import UserError
from asr_kd.nn.chosen import ChosenFrames
from asr_kd.nn.frames import Frames
from asr_kd.nn.seeds import generator

COUNT, CLASSES = 60, (1, 4)


@pytest.fixture
def frames() -> Frames:
    draws = generator((0,))
    rows, labels = torch.randn(COUNT, 3, generator=draws).half(), torch.randint(0, 6, (COUNT,), generator=draws)
    return Frames(rows, labels, ["a", "b"], torch.tensor([0, 25, COUNT]))


def test_an_epoch_is_the_frames_of_the_classes_once(frames: Frames) -> None:
    chosen = ChosenFrames.of_classes(frames, CLASSES)
    wanted = [number for number in range(COUNT) if int(frames.labels[number]) in CLASSES]
    assert len(chosen) == len(wanted)
    for batches in (chosen.shuffled_batches(4, (0, "order", 1)), chosen.ordered_batches(4)):
        assert [len(batch) for batch in batches[:-1]] == [4] * (len(batches) - 1)
        assert sorted(torch.cat(list(batches)).tolist()) == wanted
    first, again, other = (torch.cat(list(chosen.shuffled_batches(4, (0, "order", n)))) for n in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_windows_see_neighbours_that_are_not_chosen(frames: Frames) -> None:
    chosen = ChosenFrames.of_classes(frames, CLASSES)
    numbers = chosen.ordered_batches(len(chosen))[0]
    assert torch.equal(chosen.windows(numbers, 2, 2), frames.windows(numbers, 2, 2))


def test_moments_and_prior_are_of_the_chosen_frames(frames: Frames) -> None:
    chosen = ChosenFrames.of_classes(frames, CLASSES)
    some = np.isin(frames.labels.numpy(), CLASSES)
    mean, scale = chosen.moments()
    rows = frames.rows[torch.from_numpy(some)].double().numpy()
    assert np.allclose(mean, rows.mean(0), atol=1e-5)
    assert np.allclose(scale, 1 / rows.std(0), rtol=1e-4)
    counts = np.bincount(frames.labels.numpy()[some], minlength=6) + 1
    assert np.allclose(chosen.log_prior(6), np.log(counts / counts.sum()), atol=1e-6)


def test_all_classes_are_the_same_training_set(frames: Frames) -> None:
    chosen = ChosenFrames.of_classes(frames, range(6))
    for ours, plain in zip(chosen.shuffled_batches(8, (3,)), frames.shuffled_batches(8, (3,)), strict=True):
        assert torch.equal(ours, plain)
    assert all(torch.equal(ours, plain) for ours, plain in zip(chosen.moments(), frames.moments(), strict=True))


def test_classes_that_nothing_has_are_refused(frames: Frames) -> None:
    with pytest.raises(UserError, match=r"student\.transfer_classes: no training frame has a label of \[8\]"):
        ChosenFrames.of_classes(frames, (8,))
