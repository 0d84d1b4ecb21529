from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import logsumexp
from torch import Tensor

from asr_kd.distill import store as store_module
from asr_kd.distill.store import StoreWriter, TargetStore, condense
from asr_kd.errors import UserError
from asr_kd.nn.frames import Frames
from asr_kd.nn.seeds import generator

NUM_PDFS, TEMPERATURES = 40, (1.0, 2.0, 5.0, 10.0)
LENGTHS = {"a": 5, "b": 1, "c": 11}
META = {"num_pdfs": NUM_PDFS, "temperatures": TEMPERATURES, "mean": "arithmetic", "teachers": {"member-00": "abc"}}


def frames_of(lengths: dict[str, int]) -> Frames:
    starts = torch.tensor([0, *np.cumsum(list(lengths.values()))])
    return Frames(
        torch.zeros(int(starts[-1]), 2), torch.zeros(int(starts[-1]), dtype=torch.int64), list(lengths), starts
    )


def log_posteriors(spread: float = 4.0) -> Tensor:
    return (spread * torch.randn(sum(LENGTHS.values()), NUM_PDFS, generator=generator((0,)))).log_softmax(1)


def write(path: Path, log_post: Tensor, top_k: int | None) -> TargetStore:
    writer = StoreWriter(path)
    for batch in log_post.split(4):
        writer.add(condense(batch.clone(), top_k, TEMPERATURES))
    writer.finish(frames_of(LENGTHS), {**META, "top_k": top_k})
    return TargetStore(path)


@pytest.mark.parametrize("shard_bytes", [1, 1 << 20])
def test_comes_back_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shard_bytes: int) -> None:
    monkeypatch.setattr(store_module, "SHARD_BYTES", shard_bytes)
    log_post = log_posteriors()
    store = write(tmp_path, log_post, 6)
    assert len(list(tmp_path.glob("states-*.npy"))) == (5 if shard_bytes == 1 else 1)
    rows = store.rows_of(frames_of({"c": 11, "a": 5}))
    assert rows.tolist() == [*range(6, 17), *range(5)]
    shuffled = rows[torch.randperm(16, generator=generator((1,)))]
    soft = store.gather(shuffled.numpy())
    best = log_post[shuffled].topk(6, 1)
    assert torch.equal(soft.states, best.indices)
    assert torch.allclose(soft.log_post, best.values, rtol=1e-3)
    others = log_post[shuffled].scatter(1, best.indices, -torch.inf).double().numpy()
    for column, temperature in enumerate(TEMPERATURES):
        truth = logsumexp(others / temperature, axis=1)
        assert np.allclose(soft.log_tail[:, column], truth, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("top_k", [None, NUM_PDFS, NUM_PDFS + 5])
def test_dense_keeps_every_state_in_its_place(tmp_path: Path, top_k: int | None) -> None:
    log_post = log_posteriors()
    soft = condense(log_post.clone(), top_k, TEMPERATURES)
    assert soft.states is None
    store = write(tmp_path, log_post, None)
    gathered = store.gather(np.array([3, 0, 16]))
    assert gathered.states is None
    assert torch.allclose(gathered.log_post, log_post[[3, 0, 16]], rtol=1e-3)


@settings(max_examples=30)
@given(spread=st.floats(0, 1e6), top_k=st.integers(1, NUM_PDFS - 1))
def test_stored_numbers_are_finite_and_sum_to_one(spread: float, top_k: int) -> None:
    arrays = condense(log_posteriors(spread), top_k, TEMPERATURES).arrays()
    assert all(np.isfinite(array).all() for array in arrays.values())
    mass = np.exp(arrays["log_post"].astype(float)).sum(1) + np.exp(arrays["log_tail"][:, 0].astype(float))
    assert np.allclose(mass, 1, atol=5e-3)


def test_a_mismatch_says_which(tmp_path: Path) -> None:
    store = write(tmp_path, log_posteriors(), 6)
    store.check({"mean": "arithmetic", "teachers": {"member-00": "abc"}})
    with pytest.raises(UserError, match="mean of the soft targets is arithmetic, this experiment's is geometric"):
        store.check({"mean": "geometric"})
    with pytest.raises(UserError, match=r"teachers\.member-00 of the soft targets is abc, this experiment's is def"):
        store.check({"teachers": {"member-00": "def"}})
    with pytest.raises(
        UserError, match="teachers of the soft targets is member-00, this experiment's is member-00 mem"
    ):
        store.check({"teachers": {"member-00": "abc", "member-01": "def"}})
    with pytest.raises(UserError, match="features of the soft targets is absent"):
        store.check({"features": "abc"})
    with pytest.raises(UserError, match="c has 11 frames of soft targets and 12 of features"):
        store.rows_of(frames_of({"c": 12}))
    with pytest.raises(UserError, match="new has 0 frames"):
        store.rows_of(frames_of({"new": 3}))


def test_a_store_half_written_cannot_be_read(tmp_path: Path) -> None:
    write(tmp_path, log_posteriors(), 6)
    StoreWriter(tmp_path).add(condense(log_posteriors(), 6, TEMPERATURES))
    with pytest.raises(UserError, match="no soft targets here; run --stage 5"):
        TargetStore(tmp_path)


def test_a_damaged_shard_is_named(tmp_path: Path) -> None:
    write(tmp_path, log_posteriors(), 6)
    np.save(tmp_path / "states-000.npy", np.zeros((3, 6), np.uint16))
    with pytest.raises(UserError, match=r"states-000\.npy: 3 frames, index\.json says 17"):
        TargetStore(tmp_path)
    (tmp_path / "states-000.npy").write_bytes(b"")
    with pytest.raises(UserError, match=r"states-000\.npy: cannot be read"):
        TargetStore(tmp_path)
