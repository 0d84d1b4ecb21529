from pathlib import Path

import numpy as np
import pytest

from asr_kd.errors import UserError
from asr_kd.features.store import FrameStore, clear_store, write_index, write_shard, write_store


def random_rows(names: str, seed: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    return {name: rng.standard_normal((rng.integers(1, 9), 3)).astype(np.float16) for name in names}


def test_rows_come_back_by_utterance_and_shard_numbers_may_have_gaps(tmp_path: Path) -> None:
    first, second = random_rows("abc", 0), random_rows("de", 1)
    write_index(tmp_path, [write_shard(tmp_path, 0, first), write_shard(tmp_path, 7, second)], {"kind": "fbank"})
    store = FrameStore(tmp_path)
    assert list(store) == list("abcde")
    for utterance, rows in (first | second).items():
        np.testing.assert_array_equal(store[utterance], rows)
        assert store.frames(utterance) == len(rows)
    assert store.total_frames == sum(map(len, (first | second).values()))
    assert (store.dim, store.meta, "z" in store) == (3, {"kind": "fbank"}, False)


def test_a_smaller_store_leaves_nothing_of_a_larger_one(tmp_path: Path) -> None:
    write_index(tmp_path, [write_shard(tmp_path, number, random_rows(name, 0)) for number, name in enumerate("ab")], {})
    write_store(tmp_path, random_rows("c", 1), {})
    assert sorted(path.name for path in tmp_path.iterdir()) == ["index.json", "shard-000.npy"]
    assert list(FrameStore(tmp_path)) == ["c"]


def test_a_store_being_written_is_no_store(tmp_path: Path) -> None:
    write_store(tmp_path, random_rows("a", 0), {})
    clear_store(tmp_path)
    write_shard(tmp_path, 0, random_rows("b", 0))
    with pytest.raises(UserError, match="no frame store"):
        FrameStore(tmp_path)


def test_a_store_may_be_empty(tmp_path: Path) -> None:
    write_store(tmp_path, {}, {})
    assert (len(FrameStore(tmp_path)), FrameStore(tmp_path).total_frames) == (0, 0)
