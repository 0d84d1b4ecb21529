"""The ensemble's posteriors as training targets: written once for every frame, read back batch by batch."""

import json
import logging
import math
from collections.abc import Callable, Iterable
from contextlib import closing
from pathlib import Path
from typing import Any, Literal, NoReturn

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from asr_kd.distill.asking import Asking, Shard
from asr_kd.distill.losses import distillation_loss, drawn_loss, logit_loss, tail_at, tempered_logits
from asr_kd.distill.noise import LogitNoise
from asr_kd.distill.store import INDEX, SoftFrames, StoreWriter, TargetStore
from asr_kd.errors import UserError
from asr_kd.files import write_json
from asr_kd.nn.frames import Frames
from asr_kd.nn.hashes import file_hash, joint_hash, store_hash
from asr_kd.nn.inputs import input_path
from asr_kd.nn.model import WEIGHTS
from asr_kd.nn.posteriors import Ensemble, Mean
from asr_kd.nn.training import Progress
from asr_kd.recipe import Network, Noise, Targets
from asr_kd.workspace import Workspace

log = logging.getLogger("asr_kd")
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
    batch: int = 512,
    seed: int = 0,
    *,
    spread: Callable[[Asking, range], Iterable[Shard]] | None = None,
) -> dict[str, Any]:
    """Write the ensemble's mean posteriors of all `frames` to a store and summary.json; returns the summary.

    seed: of the random pruning and of dropout. spread: writes the shards of the given numbers elsewhere; not with
    dropout, whose masks come from one stream. The summary's means are over frames: probability left out of the top k,
    share whose most probable state is the alignment's, entropy in nats, all at T = 1. The first is None where states
    are drawn at random: no probability is left out then. Raises UserError when the states do not fit the store's
    uint16, or when random pruning is asked for at none or several temperatures.
    """
    num_pdfs = ensemble.num_pdfs
    if num_pdfs > MAX_PDFS:
        raise UserError(f"{path}: holds at most {MAX_PDFS} tied states, not {num_pdfs}; lower the hmm leaves")
    if targets.pruning and (targets.top_k is None or len(targets.temperatures) != 1):
        raise UserError(
            "targets.pruning: random needs a top_k and one temperature, the student's; set targets.top_k and "
            "targets.temperatures, for example to 20 and [2.0]"
        )
    asking = Asking(path, ensemble, frames, targets, batch, seed)
    top_k, options = asking.top_k, {"pruning": asking.pruning, "dropout": targets.dropout}
    shape = {"num_pdfs": num_pdfs, "top_k": top_k, "temperatures": targets.temperatures, "frames": len(frames)}
    meta = {**made_from, **shape, **{name: value for name, value in options.items() if value}}
    # With dropout a frame's masks depend on how many were drawn before: such a dump begins anew.
    writer = StoreWriter(path, None if targets.dropout else joint_hash([json.dumps(meta), f"{batch} {seed}"]))
    if writer.frames:
        log.info("%s: continues after frame %d of %d", path, writer.frames, len(frames))
    sums = torch.tensor(writer.sums or [0.0] * 3, dtype=torch.float64, device=frames.rows.device)
    if spread and not targets.dropout:
        left = range(writer.shards, math.ceil(len(asking.batches) / asking.batches_of_shard))
        for shard in spread(asking, left):
            for figures in shard.figures:
                sums += sums.new_tensor(figures)
            writer.take(shard.frames, shard.size, shard.files, sums.tolist())
    else:
        with closing(asking.asked(asking.batches[math.ceil(writer.frames / batch) :], progress)) as answers:
            for soft, found in answers:
                sums += found
                writer.add(soft, sums.tolist())
    kept, entropy, agreed = sums.tolist()
    count = len(frames)
    writer.finish(frames, meta)
    summary: dict[str, Any] = {
        "frames": count,
        "top_k": top_k,
        "bytes_per_frame": writer.bytes / count,
        "mean_tail_mass": None if asking.pruning else max(0.0, 1 - kept / count) if top_k else 0.0,
        "agreement": agreed / count,
        "mean_entropy": entropy / count,
    }
    write_json(path / SUMMARY, summary)
    writer.close()
    return summary


def tail_mass(summary: dict[str, Any]) -> str:
    """A summary's mean tail mass for reading; a dash where the states were drawn at random."""
    mass = summary["mean_tail_mass"]
    return "–" if mass is None else f"{mass:.4f}"


class SoftTargets:
    """A store's targets at one temperature and hard weight, for the frames of the split that a student trains on.

    match: None for the soft cross-entropy, "logits" for squared error between logits, which has no temperature. The
    teacher's logits are a frame's log posteriors: of all states, or, in a truncated store, of the k states and of the
    bin of all others. At a temperature they are what its softmax is taken of. `noise` falls on them, by `seed`.
    UserError when the store cannot tell what is asked for.
    """

    def __init__(
        self,
        store: TargetStore,
        frames: Frames,
        temperature: float,
        hard_weight: float,
        match: Literal["logits"] | None = None,
        noise: Noise | None = None,
        seed: int = 0,
    ) -> None:
        self._store, self._labels = store, frames.labels
        self._rows = store.rows_of(frames).numpy()
        self._match, self._hard_weight = match, hard_weight
        self._temperature = 1.0 if match == "logits" else temperature
        audible = noise is not None and noise.alpha > 0 and noise.sigma > 0
        self._noise = LogitNoise(noise, store.num_pdfs, seed) if noise and audible else None
        if store.pruned:
            self._check_pruned()
        elif not store.dense and self._temperature < min(store.temperatures):
            self._refuse_temperature()

    def _refuse_temperature(self) -> NoReturn:
        lowest = min(self._store.temperatures)
        if self._match:
            raise UserError(
                f"student.loss: logits needs temperature 1, targets.temperatures begins at {lowest}; add 1.0"
            )
        raise UserError(
            f"student.temperature: {self._temperature} is below the lowest of targets.temperatures, {lowest}; "
            "raise it or store that temperature too"
        )

    def _check_pruned(self) -> None:
        (stored,) = self._store.temperatures
        if self._match or self._noise:
            key = "student.loss: logits" if self._match else "student.noise"
            raise UserError(f"{key}: needs every frame's largest logits; set targets.pruning to null")
        if self._temperature != stored:
            raise UserError(
                f"student.temperature: {self._temperature}, but the targets were pruned for {stored}; set it to that, "
                "or targets.temperatures to the student's"
            )

    @property
    def identity(self) -> str:
        parts = [file_hash(self._store.path / INDEX), str(self._temperature), str(self._hard_weight)]
        if self._match:
            parts.append(self._match)
        if self._noise:
            parts.append(f"noise {self._noise.noise.model_dump_json()} {self._noise.seed}")
        return joint_hash(parts)

    def loss(self, logits: Tensor, frames: Tensor) -> Tensor:
        """The distillation loss of logits (batch, num_pdfs) at the training frames numbered (batch,)."""
        labels, temperature, hard_weight = self._labels[frames], self._temperature, self._hard_weight
        if hard_weight == 1:
            return cross_entropy(logits, labels)
        rows = self._rows[frames.cpu().numpy()]
        soft = self._store.gather(rows)
        states = soft.states.to(logits.device) if soft.states is not None else None
        if states is not None and soft.log_tail is None:
            values = soft.log_post.exp().to(logits.device)
            return drawn_loss(logits, labels, states, values, temperature, hard_weight)
        teacher = self._teacher_logits(soft, rows)
        if self._match == "logits":
            return logit_loss(logits, labels, states, teacher.to(logits.device), hard_weight)
        target = teacher.softmax(1).to(logits.device)
        return distillation_loss(logits, labels, states, target, temperature, hard_weight)

    def _teacher_logits(self, soft: SoftFrames, rows: np.ndarray) -> Tensor:
        """(batch, k + 1) or (batch, num_pdfs): what the softmax of the softened posteriors is taken of, with noise."""
        log_tail = None
        if soft.states is not None and soft.log_tail is not None:
            left_out = self._store.num_pdfs - soft.states.shape[1]
            log_tail = tail_at(soft.log_tail, self._store.temperatures, self._temperature, left_out)
        teacher = tempered_logits(soft.log_post, log_tail, self._temperature)
        return self._noise(teacher, soft.states, rows) if self._noise else teacher
