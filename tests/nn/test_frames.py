import logging
from pathlib import Path

import numpy as np
import pytest
import torch

from asr_kd.errors import UserError
from asr_kd.features.store import FrameStore, write_index, write_shard, write_store
from asr_kd.nn.frames import Frames

DRAWS = np.random.default_rng(0)
FEATURES = {f"u{n}": DRAWS.normal(size=(n + 2, 3)).astype(np.float16) for n in range(9)}
PDFS = {name: DRAWS.integers(0, 5, (len(rows), 2)).astype(np.int16) for name, rows in FEATURES.items()}


@pytest.fixture
def frames(tmp_path: Path) -> Frames:
    names = list(FEATURES)
    shards = [
        write_shard(tmp_path / "x", n, {u: FEATURES[u] for u in part}) for n, part in enumerate((names[:4], names[4:]))
    ]
    write_index(tmp_path / "x", shards, {})
    write_store(tmp_path / "a", PDFS, {})
    return Frames.load(FrameStore(tmp_path / "x"), FrameStore(tmp_path / "a"))


def test_windows_are_those_cut_by_hand(frames: Frames) -> None:
    left, right = 4, 2
    windows = frames.windows(torch.arange(len(frames)), left, right).numpy()
    row = 0
    for name in frames.utterances:
        features = FEATURES[name]
        for t in range(len(features)):
            by_hand = [features[min(max(t + o, 0), len(features) - 1)] for o in range(-left, right + 1)]
            assert np.array_equal(windows[row], by_hand)
            assert int(frames.labels[row]) == PDFS[name][t, 0]
            assert frames.utterances[int(frames.utterance_numbers(torch.tensor([row])))] == name
            row += 1


def test_an_epoch_visits_every_frame_once_in_an_order_of_its_own(frames: Frames) -> None:
    orders = [torch.cat(list(frames.shuffled_batches(7, (0, "order", epoch)))) for epoch in (0, 0, 1)]
    assert torch.equal(orders[0].sort().values, torch.arange(len(frames)))
    assert torch.equal(orders[0], orders[1])
    assert not torch.equal(orders[0], orders[2])
    # The shuffle reaches across shards and utterances: a batch is no run of neighbours.
    assert (orders[0].diff().abs() > 9).any()


def test_moments_and_prior_are_those_of_numpy(frames: Frames) -> None:
    rows = np.concatenate([FEATURES[name] for name in frames.utterances]).astype(np.float64)
    mean, scale = frames.moments()
    assert np.allclose(mean, rows.mean(0), atol=1e-5)
    assert np.allclose(scale, 1 / rows.std(0), atol=1e-5)
    counts = np.bincount(np.concatenate([PDFS[name][:, 0] for name in frames.utterances]), minlength=7) + 1.0
    assert np.allclose(frames.log_prior(7), np.log(counts / counts.sum()), atol=1e-6)


def test_unaligned_utterances_are_left_out_and_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write_store(tmp_path / "x", {**FEATURES, "u3": FEATURES["u3"] * np.inf}, {})
    write_store(tmp_path / "a", {"u1": PDFS["u1"], "u2": PDFS["u2"][:-1], "u3": PDFS["u3"]}, {})
    with caplog.at_level(logging.WARNING, "asr_kd"):
        frames = Frames.load(FrameStore(tmp_path / "x"), FrameStore(tmp_path / "a"))
    assert frames.utterances == ["u1"]
    assert "8 of 9" in caplog.text
    assert "u2 u3" in caplog.text


def test_nothing_aligned_is_the_users_error(tmp_path: Path) -> None:
    write_store(tmp_path / "x", FEATURES, {})
    write_store(tmp_path / "a", {"other": PDFS["u1"]}, {})
    with pytest.raises(UserError, match="aligns no utterance"):
        Frames.load(FrameStore(tmp_path / "x"), FrameStore(tmp_path / "a"))
