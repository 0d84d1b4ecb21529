"""What a soft-target store holds, and how far it is from a dense one."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Group
from rich.table import Table
from rich.text import Text
from torch import Tensor

from asr_kd.distill.losses import tail_at, temper
from asr_kd.distill.store import SoftFrames, TargetStore
from asr_kd.distill.targets import SUMMARY
from asr_kd.errors import UserError
from asr_kd.files import read_json

SAMPLE, BATCH, SHORT = 10_000, 500, 12
TITLES = {"mean": "mean of the teachers", "features": "features", "alignment": "alignment"}


def describe_targets(path: Path) -> Group:
    """A renderable account of the soft targets in `path`, an experiment directory or its `targets`.

    UserError when there are none.
    """
    store = TargetStore(path / "targets" if (path / "targets").is_dir() else path)
    summary = read_json(store.path / SUMMARY)
    table = Table(show_header=False)
    for row in _rows(store, summary):
        table.add_row(*row)
    teachers = Table("teacher", "SHA-256 of its weights", show_edge=True)
    for name, digest in store.meta.get("teachers", {}).items():
        teachers.add_row(name, digest[:SHORT])
    return Group(Text(str(store.path), style="bold"), table, teachers)


def _rows(store: TargetStore, summary: dict[str, Any]) -> list[tuple[str, str]]:
    softest = ", ".join(f"{temperature:g}" for temperature in store.temperatures)
    if store.pruned:
        kept = f"{store.meta['top_k']} drawn at random for temperature {softest}, of {store.num_pdfs}"
    elif store.dense:
        kept = f"all {store.num_pdfs}"
    else:
        kept = f"the {store.meta['top_k']} most probable of {store.num_pdfs}"
    rows = [
        ("frames", f"{summary['frames']:,}"),
        ("bytes a frame", f"{summary['bytes_per_frame']:.1f}"),
        ("states a frame", kept),
        ("most probable state is the alignment's", f"{summary['agreement']:.2%}"),
        ("mean entropy", f"{summary['mean_entropy']:.3f} nats"),
    ]
    if not store.dense:
        rows.append(("mean tail mass", "–" if store.pruned else f"{summary['mean_tail_mass']:.2%}"))
    if not (store.dense or store.pruned):
        rows += [
            (f"mean tail mass softened at T = {temperature:g}", f"{mass:.2%}")
            for temperature, mass in softened_tails(store).items()
            if temperature != 1
        ]
    if "dropout" in store.meta:
        rows.append(("dropout in the teachers", f"{store.meta['dropout']:g}"))
    for key, title in TITLES.items():
        if key in store.meta:
            rows.append((title, store.meta[key] if key == "mean" else store.meta[key][:SHORT]))
    return rows


def softened_tails(store: TargetStore, frames: int = SAMPLE) -> dict[float, float]:
    """For each stored temperature the mean share of the softened posteriors that the states left out hold."""
    masses = dict.fromkeys(store.temperatures, 0.0)
    rows = sample_rows(store, frames)
    for some in np.split(rows, range(BATCH, len(rows), BATCH)):
        soft = store.gather(some)
        for temperature in store.temperatures:
            masses[temperature] += float(softened(store, soft, temperature)[:, -1].sum()) / len(rows)
    return masses


def mean_kl_to_dense(
    store: TargetStore, dense: TargetStore, temperature: float, frames: int = SAMPLE, spread: bool = False
) -> float:
    """Mean KL(p_T, r_T) in nats over evenly spaced frames; p is of the dense store, r of the other.

    spread=False: over the k states of a frame in `store` and one bin of all the others, which is what the loss sees:
    0 but for float16 at stored temperatures, between them the error of interpolation. spread=True: over all states,
    the bin's probability spread evenly over its states: what the student is not told. Infinite for a randomly pruned
    store, in which the states not drawn have no probability; it is right in the mean of many draws.
    UserError when the two are not of the same teachers and frames.
    """
    if not dense.dense:
        raise UserError(f"{dense.path}: not dense; make it with targets.top_k: null")
    keys = ("num_pdfs", "frames", "teachers", "mean", "features", "alignment")
    store.check({key: dense.meta[key] for key in keys if key in dense.meta})
    if store.pruned:
        return float("inf")
    rows, total = sample_rows(dense, frames), 0.0
    for some in np.split(rows, range(BATCH, len(rows), BATCH)):
        soft, p = store.gather(some), softened(dense, dense.gather(some), temperature).double()
        r = softened(store, soft, temperature).double()
        if soft.states is not None and spread:
            total += float(divergence(p, evenly_spread(r, soft.states, store.num_pdfs)).sum())
        elif soft.states is not None:
            top = p.gather(1, soft.states)
            rest = p.scatter(1, soft.states, 0.0).sum(1, keepdim=True)
            total += float(divergence(torch.cat([top, rest], 1), r).sum())
        else:
            total += float(divergence(p, r).sum())
    return total / len(rows)


def sample_rows(store: TargetStore, frames: int) -> np.ndarray:
    """(at most `frames`,) rows at even distances."""
    return np.arange(0, len(store), max(1, -(-len(store) // frames)))


def softened(store: TargetStore, soft: SoftFrames, temperature: float) -> Tensor:
    """The store's p_T: (batch, num_pdfs), or (batch, k + 1) with the bin of all others in the last column."""
    if soft.states is None or soft.log_tail is None:
        return temper(soft.log_post, None, temperature)
    left_out = store.num_pdfs - soft.states.shape[1]
    return temper(soft.log_post, tail_at(soft.log_tail, store.temperatures, temperature, left_out), temperature)


def evenly_spread(binned: Tensor, states: Tensor, num_pdfs: int) -> Tensor:
    """(batch, k + 1) probabilities of `states` (batch, k) and of the bin of all others to (batch, num_pdfs)."""
    share = binned[:, -1:] / (num_pdfs - states.shape[1])
    return share.repeat(1, num_pdfs).scatter(1, states, binned[:, :-1])


def divergence(p: Tensor, q: Tensor) -> Tensor:
    """KL(p, q) of rows, (batch,) nats; 0 log 0 is 0."""
    return (torch.xlogy(p, p) - torch.xlogy(p, q)).sum(1)
