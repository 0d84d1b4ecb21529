"""What is lost on the way from the ensemble's posteriors to the store, and what `asr-kd targets inspect` prints."""

from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.special import softmax
from torch import Tensor
from typer.testing import CliRunner

from asr_kd.cli import app
from asr_kd.distill.inspection import mean_kl_to_dense, softened_tails
from asr_kd.distill.pruning import prune
from asr_kd.distill.store import SoftFrames, StoreWriter, TargetStore, condense
from asr_kd.errors import UserError
from asr_kd.files import write_json
from asr_kd.nn.frames import Frames
from asr_kd.nn.posteriors import Mean, mean_log_posteriors
from asr_kd.nn.seeds import generator

NUM_PDFS, TOP, FRAMES = 300, 20, 400
TEMPERATURES = (1.0, 2.0, 5.0, 10.0)
BETWEEN = (1.5, 3.0, 7.0)


def ensemble_log_posteriors(mean: Mean) -> Tensor:
    """Three members that agree on much, as sure as networks on speech are."""
    draws = generator((0,))
    common = 2 * torch.randn(FRAMES, NUM_PDFS, generator=draws)
    return mean_log_posteriors([common + torch.randn(FRAMES, NUM_PDFS, generator=draws) for _ in range(3)], mean)


def write(path: Path, soft: SoftFrames, top_k: int | None, **meta: object) -> TargetStore:
    writer = StoreWriter(path)
    writer.add(soft)
    frames = Frames(torch.zeros(FRAMES, 2), torch.zeros(FRAMES, dtype=torch.int64), ["a"], torch.tensor([0, FRAMES]))
    shape = {"num_pdfs": NUM_PDFS, "top_k": top_k, "temperatures": TEMPERATURES, "frames": FRAMES}
    writer.finish(frames, {"teachers": {"member-00": "0123456789abcdef"}, "mean": "arithmetic", **shape, **meta})
    return TargetStore(path)


@pytest.fixture(params=["arithmetic", "geometric"])
def stores(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[TargetStore, TargetStore, Tensor]:
    """Truncated, dense, and the posteriors of both."""
    log_post = ensemble_log_posteriors(request.param)
    truncated, dense = (
        write(tmp_path / str(top_k), condense(log_post.clone(), top_k, TEMPERATURES), top_k) for top_k in (TOP, None)
    )
    return truncated, dense, log_post


@pytest.mark.parametrize("temperature", TEMPERATURES)
def test_softening_at_stored_temperatures_is_exact_to_float16(
    stores: tuple[TargetStore, TargetStore, Tensor], temperature: float
) -> None:
    """float16 keeps 11 bits: logs of size up to 16 are off by at most 2⁻⁸, divided by T, in both stores."""
    truncated, dense, log_post = stores
    assert log_post.topk(TOP, 1).values.min() > -16
    worst = 2.0**-8 / temperature + 2.0**-9
    assert 0 <= mean_kl_to_dense(truncated, dense, temperature) < worst**2
    assert mean_kl_to_dense(truncated, dense, temperature, spread=True) > 0


def test_interpolation_between_them_is_close(stores: tuple[TargetStore, TargetStore, Tensor]) -> None:
    truncated, dense, _ = stores
    kls = [mean_kl_to_dense(truncated, dense, temperature) for temperature in BETWEEN]
    assert all(kl < 5e-3 for kl in kls)
    assert all(kl > 10 * mean_kl_to_dense(truncated, dense, 2.0) for kl in kls)


@pytest.mark.parametrize("spread", [False, True])
def test_divergence_is_that_of_the_definition(
    stores: tuple[TargetStore, TargetStore, Tensor], spread: bool, temperature: float = 3.0
) -> None:
    truncated, dense, _ = stores
    rows = np.arange(0, FRAMES, 4)
    p = softmax(dense.gather(rows).log_post.double().numpy() / temperature, 1)
    soft = truncated.gather(rows)
    assert soft.states is not None
    assert soft.log_tail is not None
    # 1 / 3 lies 5 / 9 of the way from 1 / 2 to 1 / 5.
    tail = soft.log_tail[:, 1] + 5 / 9 * (soft.log_tail[:, 2] - soft.log_tail[:, 1])
    r = softmax(np.hstack([soft.log_post.numpy() / temperature, tail[:, None].numpy()]).astype(float), 1)
    expected = 0.0
    for frame, states in enumerate(soft.states.numpy()):
        outside = np.setdiff1d(np.arange(NUM_PDFS), states)
        expected += (p[frame, states] * np.log(p[frame, states] / r[frame, :-1])).sum()
        if spread:
            expected += (p[frame, outside] * np.log(p[frame, outside] / (r[frame, -1] / len(outside)))).sum()
        else:
            expected += p[frame, outside].sum() * np.log(p[frame, outside].sum() / r[frame, -1])
    found = mean_kl_to_dense(truncated, dense, temperature, frames=len(rows), spread=spread)
    assert found == pytest.approx(expected / len(rows), rel=1e-3)


def test_more_states_are_nearer_and_all_are_there(tmp_path: Path) -> None:
    log_post = ensemble_log_posteriors("arithmetic")
    dense = write(tmp_path / "dense", SoftFrames(log_post, None, None), None)
    kls = [
        mean_kl_to_dense(
            write(tmp_path / str(k), condense(log_post.clone(), k, TEMPERATURES), k), dense, 2.0, spread=True
        )
        for k in (1, 5, 20, 100)
    ]
    assert kls == sorted(kls, reverse=True)
    assert mean_kl_to_dense(dense, dense, 2.0) == pytest.approx(0, abs=1e-12)


def test_stores_that_cannot_be_compared_are_refused(tmp_path: Path) -> None:
    log_post = ensemble_log_posteriors("arithmetic")
    dense = write(tmp_path / "dense", SoftFrames(log_post, None, None), None)
    top = write(tmp_path / "top", condense(log_post.clone(), 5, TEMPERATURES), 5, teachers={"member-00": "other"})
    with pytest.raises(UserError, match=r"teachers\.member-00 of the soft targets is other"):
        mean_kl_to_dense(top, dense, 2.0)
    with pytest.raises(UserError, match="top: not dense"):
        mean_kl_to_dense(dense, top, 2.0)
    states, values = prune(log_post.exp(), 5, torch.full((FRAMES,), 0.5, dtype=torch.float64))
    meta = {"pruning": "random", "temperatures": [1.0]}
    pruned = write(tmp_path / "pruned", SoftFrames(values.log(), states, None), 5, **meta)
    assert mean_kl_to_dense(pruned, dense, 1.0) == float("inf")


def test_softened_tails_are_the_share_of_the_states_left_out(tmp_path: Path) -> None:
    log_post = ensemble_log_posteriors("arithmetic")
    tails = softened_tails(write(tmp_path, condense(log_post.clone(), TOP, TEMPERATURES), TOP))
    for temperature, mass in tails.items():
        p = (log_post / temperature).softmax(1)
        assert mass == pytest.approx(1 - float(p.topk(TOP, 1).values.sum(1).mean()), abs=1e-3)


@pytest.mark.parametrize("below", ["targets", ""])
def test_inspect_prints_the_figures(tmp_path: Path, below: str) -> None:
    log_post = ensemble_log_posteriors("arithmetic")
    write(tmp_path / below, condense(log_post, TOP, TEMPERATURES), TOP)
    figures = {"frames": FRAMES, "bytes_per_frame": 88.0, "mean_tail_mass": 0.0421, "agreement": 0.3714}
    write_json(tmp_path / below / "summary.json", {**figures, "top_k": TOP, "mean_entropy": 2.125})
    result = CliRunner().invoke(app, ["targets", "inspect", str(tmp_path)])
    assert result.exit_code == 0
    for text in ("400", "88.0", "the 20 most probable of 300", "4.21%", "37.14%", "2.125 nats", "T = 5"):
        assert text in result.output
    assert "0123456789ab" in result.output
    assert "0123456789abc" not in result.output


def test_inspect_has_a_dash_for_the_tail_of_states_drawn_at_random(tmp_path: Path) -> None:
    log_post = ensemble_log_posteriors("arithmetic")
    states, values = prune(log_post.exp(), 5, torch.full((FRAMES,), 0.5, dtype=torch.float64))
    write(tmp_path, SoftFrames(values.log(), states, None), 5, pruning="random", temperatures=[1.0])
    figures = {"frames": FRAMES, "bytes_per_frame": 20.0, "mean_tail_mass": None, "agreement": 0.3714}
    write_json(tmp_path / "summary.json", {**figures, "top_k": 5, "mean_entropy": 2.125})
    result = CliRunner().invoke(app, ["targets", "inspect", str(tmp_path)])
    assert result.exit_code == 0
    (row,) = [line for line in result.output.splitlines() if "mean tail mass" in line]
    assert "–" in row and "%" not in row


def test_inspecting_nothing_is_one_line_and_status_2(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["targets", "inspect", str(tmp_path / "nowhere")])
    assert result.exit_code == 2
    assert "nowhere: no soft targets here; run --stage 5 (targets)" in result.output
    assert "Traceback" not in result.output
