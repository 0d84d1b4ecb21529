"""The ensemble's posteriors as training targets: written once for every frame, read back batch by batch."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from asr_kd.distill.losses import distillation_loss, tail_at, temper
from asr_kd.distill.store import StoreWriter, TargetStore, condense
from asr_kd.errors import UserError
from asr_kd.files import write_json
from asr_kd.nn.frames import Frames
from asr_kd.nn.hashes import file_hash, joint_hash, store_hash
from asr_kd.nn.inputs import input_path
from asr_kd.nn.model import WEIGHTS
from asr_kd.nn.posteriors import Ensemble, Mean
from asr_kd.nn.training import Progress
from asr_kd.recipe import Network, Targets
from asr_kd.workspace import Workspace

MAX_PDFS = 1 << 16
SUMMARY = "summary.json"


def origin(work: Workspace, names: list[str], mean: Mean, network: Network) -> dict[str, Any]:
    """What soft targets are made from; a store whose metadata says otherwise is not this experiment's."""
    return {
        "teachers": {name: file_hash(work.model(name) / WEIGHTS) for name in names},
        "mean": mean,
        "features": store_hash(input_path(work, network, "train")),
        "alignment": store_hash(work.alignment("train")),
    }


def dump_targets(
    path: Path,
    ensemble: Ensemble,
    frames: Frames,
    targets: Targets,
    made_from: dict[str, Any],
    progress: Progress,
    batch: int = 256,
) -> dict[str, Any]:
    """Write the ensemble's mean posteriors of all `frames` to a store and summary.json; returns the summary.

    The summary's means are over frames: probability left out of the top k, share whose most probable state is the
    alignment's, entropy in nats, all at T = 1. Raises UserError when the states do not fit the store's uint16.
    """
    num_pdfs = ensemble.num_pdfs
    if num_pdfs > MAX_PDFS:
        raise UserError(f"{path}: holds at most {MAX_PDFS} tied states, not {num_pdfs}; lower the hmm leaves")
    top_k = None if targets.top_k is None or targets.top_k >= num_pdfs else targets.top_k
    standardised, writer = frames.standardised(ensemble.models[0]), StoreWriter(path)
    kept, entropy, agreed = (torch.zeros((), dtype=torch.float64, device=frames.rows.device) for _ in range(3))
    with torch.inference_mode():
        for numbers in progress(frames.ordered_batches(batch), "soft targets"):
            log_post = ensemble.log_posteriors(ensemble.windows(standardised, numbers))
            entropy -= (log_post.exp() * log_post).sum()
            agreed += (log_post.argmax(1) == frames.labels[numbers]).sum()
            soft = condense(log_post, top_k, targets.temperatures)
            kept += soft.log_post.exp().sum()
            writer.add(soft)
    count = len(frames)
    shape = {"num_pdfs": num_pdfs, "top_k": top_k, "temperatures": targets.temperatures, "frames": count}
    writer.finish(frames, {**made_from, **shape})
    summary = {
        "frames": count,
        "top_k": top_k,
        "bytes_per_frame": writer.bytes / count,
        "mean_tail_mass": max(0.0, 1 - float(kept) / count) if top_k else 0.0,
        "agreement": float(agreed) / count,
        "mean_entropy": float(entropy) / count,
    }
    write_json(path / SUMMARY, summary)
    return summary


class SoftTargets:
    """A store's targets at one temperature and hard weight, for the frames of the split that a student trains on."""

    def __init__(self, store: TargetStore, frames: Frames, temperature: float, hard_weight: float) -> None:
        self._store, self._labels = store, frames.labels
        self._rows = store.rows_of(frames).numpy()
        self._temperature, self._hard_weight = temperature, hard_weight
        if store.meta["top_k"] is not None and temperature < min(store.temperatures):
            raise UserError(
                f"student.temperature: {temperature} is below the lowest of targets.temperatures, "
                f"{min(store.temperatures)}; raise it or store that temperature too"
            )

    @property
    def identity(self) -> str:
        index = file_hash(self._store.path / "index.json")
        return joint_hash([index, str(self._temperature), str(self._hard_weight)])

    def loss(self, logits: Tensor, frames: Tensor) -> Tensor:
        """The distillation loss of logits (batch, num_pdfs) at the training frames numbered (batch,)."""
        labels = self._labels[frames]
        if self._hard_weight == 1:
            return cross_entropy(logits, labels)
        soft = self._store.gather(self._rows[frames.cpu().numpy()])
        states, log_tail = soft.states, None
        if states is not None and soft.log_tail is not None:
            left_out = self._store.num_pdfs - states.shape[1]
            log_tail = tail_at(soft.log_tail, self._store.temperatures, self._temperature, left_out)
            states = states.to(logits.device)
        target = temper(soft.log_post, log_tail, self._temperature).to(logits.device)
        return distillation_loss(logits, labels, states, target, self._temperature, self._hard_weight)
