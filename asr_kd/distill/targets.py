"""The ensemble's posteriors as training targets: written once for every frame, read back batch by batch."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from asr_kd.distill.losses import distillation_loss, tail_at, temper
from asr_kd.distill.store import SoftFrames, StoreWriter, TargetStore, condense
from asr_kd.errors import UserError
from asr_kd.nn.frames import Frames
from asr_kd.nn.hashes import joint_hash
from asr_kd.nn.posteriors import Ensemble
from asr_kd.nn.training import Progress
from asr_kd.recipe import Targets

MAX_PDFS = 1 << 16
SHARD_BYTES = 1 << 28


@dataclass
class Summary:
    """Means over all frames: entropy in nats at T = 1, tail mass at T = 1, share whose best state is the alignment's."""

    frames: int
    top_k: int | None
    bytes_per_frame: float
    mean_tail_mass: float
    agreement: float
    mean_entropy: float


def dump_targets(
    path: Path, ensemble: Ensemble, frames: Frames, targets: Targets, meta: dict[str, Any], progress: Progress, batch: int = 1024
) -> dict[str, Any]:
    """Write the ensemble's mean posteriors of all `frames` (as loaded) to a store; returns and writes its summary."""
    if ensemble.num_pdfs > MAX_PDFS:
        raise UserError(f"hmm.sat.leaves: soft targets hold at most {MAX_PDFS} tied states, the tree has {ensemble.num_pdfs}")
    top_k = None if targets.top_k is None or targets.top_k >= ensemble.num_pdfs else targets.top_k
    standardised, writer, totals = frames.standardised(ensemble.models[0]), StoreWriter(path), torch.zeros(3, dtype=torch.float64)
    pending: list[SoftFrames] = []
    for lengths, numbers in _shards(frames, top_k or ensemble.num_pdfs):
        ...
