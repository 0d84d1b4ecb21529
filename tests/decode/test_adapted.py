"""Speaker-adapted features with filterbanks beside them."""

from pathlib import Path

import numpy as np
import pytest

from asr_kd.decode.adapted import side_by_side
from asr_kd.errors import UserError
from asr_kd.features.store import FrameStore, write_store


def store(path: Path, frames: dict[str, int], dim: int) -> FrameStore:
    draws = np.random.default_rng(dim)
    write_store(path, {name: draws.normal(size=(count, dim)).astype(np.float16) for name, count in frames.items()}, {})
    return FrameStore(path)


def test_each_frame_has_the_values_of_both_stores(tmp_path: Path) -> None:
    first = store(tmp_path / "fmllr", {"a": 7, "b": 5, "c": 6}, 3)
    second = store(tmp_path / "fbank", {"c": 6, "a": 7, "d": 9}, 2)
    joined = dict(side_by_side(first, second))
    assert list(joined) == ["a", "c"]
    for name, rows in joined.items():
        assert rows.dtype == np.float16
        assert np.array_equal(rows[:, :3], first[name]) and np.array_equal(rows[:, 3:], second[name])


def test_frames_that_differ_in_number_name_the_utterance(tmp_path: Path) -> None:
    first, second = store(tmp_path / "fmllr", {"a": 7}, 3), store(tmp_path / "fbank", {"a": 8}, 2)
    with pytest.raises(UserError, match=r"fmllr: a has 7 frames, 8 in .*--stage 1 \(features\)"):
        list(side_by_side(first, second))
