"""What there is to watch of a network in training."""

from collections.abc import Iterable, Sequence
from pathlib import Path

import pytest
from torch import Tensor
from toy_experiment import NETWORK, TRAINING

from asr_kd import live as live_files
from asr_kd.live import read_live
from asr_kd.nn.checkpoint import History
from asr_kd.nn.inputs import Inputs
from asr_kd.nn.tracking import TAGS, Tracker
from asr_kd.nn.training import HardTargets, Run, train


def silent(batches: Sequence[Tensor], title: str) -> Iterable[Tensor]:
    return batches


def stops_in_epoch_2(batches: Sequence[Tensor], title: str) -> Iterable[Tensor]:
    for number, batch in enumerate(batches):
        if title.endswith("epoch 2") and number == 3:
            raise KeyboardInterrupt
        yield batch


def train_toy(path: Path, inputs: Inputs, tracker: Tracker, progress: object = silent) -> History:
    run = Run(NETWORK, TRAINING, (0, "member", 0), inputs.num_pdfs, inputs.data)
    targets = HardTargets(inputs.train.labels)
    return train(path, run, inputs.train, inputs.dev, targets, progress, tracker=tracker)  # type: ignore[arg-type]


def test_the_live_file_says_how_far_training_is(
    inputs: Inputs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live_files, "SECONDS", 0.0)
    path, seen = tmp_path / "live.json", list[tuple[int, int, bool]]()

    def looking(batches: Sequence[Tensor], title: str) -> Iterable[Tensor]:
        for batch in batches:
            live = read_live(path)
            assert live and live["frames"] == len(inputs.train) and live["epochs"] == TRAINING.epochs
            seen.append((live["epoch"], live["done"], live["finished"]))
            yield batch

    history = train_toy(tmp_path / "network", inputs, Tracker(path), looking)
    frames, size = len(inputs.train), TRAINING.batch_frames
    amid = list(range(size, frames, size))
    expected = [(1, 0, False), *((1, done, False) for done in amid)]
    for epoch in (2, 3):
        expected += [(epoch - 1, frames, False), *((epoch, done, False) for done in amid)]
    assert seen == expected
    live = read_live(path)
    assert live and live["finished"] and live["epoch"] == len(history)
    path.unlink()
    train_toy(tmp_path / "network", inputs, Tracker(path))  # it is finished, and says so
    live = read_live(path)
    assert live and live["finished"]


def test_event_files_hold_every_epoch_once_also_after_an_interruption(inputs: Inputs, tmp_path: Path) -> None:
    pytest.importorskip("tensorboard", reason="event files need the extra tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    def drawn(folder: Path) -> dict[str, list[tuple[int, float]]]:
        events = EventAccumulator(str(folder))
        events.Reload()
        return {tag: [(e.step, e.value) for e in events.Scalars(tag)] for tag in events.Tags()["scalars"]}

    events, network = tmp_path / "events", tmp_path / "network"
    with pytest.raises(KeyboardInterrupt):
        train_toy(network, inputs, Tracker(events=events), stops_in_epoch_2)
    assert {len(points) for points in drawn(events).values()} == {1}
    history = train_toy(network, inputs, Tracker(events=events))
    later = tmp_path / "later"  # asked for when the network is finished
    train_toy(network, inputs, Tracker(events=later))
    for folder in (events, later):
        found = drawn(folder)
        assert set(found) == set(TAGS.values())
        for key, tag in TAGS.items():
            expected = [(row["epoch"], pytest.approx(row[key], rel=1e-6)) for row in history]
            assert found[tag] == expected
