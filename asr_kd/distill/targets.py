"""The ensemble's posteriors as training targets: written once for every frame, read back batch by batch."""

import json
import logging
import math
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, NoReturn

import numpy as np
import torch
from torch import Tensor
from torch.nn import Module
from torch.nn.functional import cross_entropy

from asr_kd.distill.losses import distillation_loss, drawn_loss, logit_loss, tail_at, tempered_logits
from asr_kd.distill.noise import LogitNoise
from asr_kd.distill.pruning import prune
from asr_kd.distill.store import INDEX, SoftFrames, StoreWriter, TargetStore, condense
from asr_kd.errors import UserError
from asr_kd.files import write_json
from asr_kd.nn.frames import Frames
from asr_kd.nn.hashes import file_hash, joint_hash, store_hash
from asr_kd.nn.inputs import input_path
from asr_kd.nn.model import WEIGHTS, AcousticModel
from asr_kd.nn.posteriors import Ensemble, Mean
from asr_kd.nn.products import threads
from asr_kd.nn.seeds import Seed, generator
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
) -> dict[str, Any]:
    """Write the ensemble's mean posteriors of all `frames` to a store and summary.json; returns the summary.

    seed: of the random pruning and of dropout. The summary's means are over frames: probability left out of the top k,
    share whose most probable state is the alignment's, entropy in nats, all at T = 1. Raises UserError when the states
    do not fit the store's uint16, or when random pruning is asked for at none or several temperatures.
    """
    num_pdfs = ensemble.num_pdfs
    if num_pdfs > MAX_PDFS:
        raise UserError(f"{path}: holds at most {MAX_PDFS} tied states, not {num_pdfs}; lower the hmm leaves")
    if targets.pruning and (targets.top_k is None or len(targets.temperatures) != 1):
        raise UserError(
            "targets.pruning: random needs a top_k and one temperature, the student's; set targets.top_k and "
            "targets.temperatures, for example to 20 and [2.0]"
        )
    top_k = None if targets.top_k is None or targets.top_k >= num_pdfs else targets.top_k
    pruning = targets.pruning if top_k else None
    standardised, options = frames.standardised(ensemble.models[0]), {"pruning": pruning, "dropout": targets.dropout}
    shape = {"num_pdfs": num_pdfs, "top_k": top_k, "temperatures": targets.temperatures, "frames": len(frames)}
    meta = {**made_from, **shape, **{name: value for name, value in options.items() if value}}
    # With dropout a frame's masks depend on how many were drawn before: such a dump begins anew.
    writer = StoreWriter(path, None if targets.dropout else joint_hash([json.dumps(meta), f"{batch} {seed}"]))
    if writer.frames:
        log.info("%s: continues after frame %d of %d", path, writer.frames, len(frames))

    def ask(numbers: Tensor) -> tuple[SoftFrames, Tensor]:
        """The targets of some frames, and sums over them: probability kept, entropy, agreement."""
        with torch.inference_mode():
            log_post = ensemble.log_posteriors(ensemble.windows(standardised, numbers))
            entropy = -log_post.exp().mul_(log_post).sum()
            if pruning and top_k:
                soft = draw_states(log_post, top_k, targets.temperatures[0], (seed, "pruning", int(numbers[0])))
            else:
                soft = condense(log_post, top_k, targets.temperatures)
            # Best first; the states drawn at random are not.
            answers = log_post.argmax(1) if soft.states is None or pruning else soft.states[:, 0]
            agreed = (answers == frames.labels[numbers]).sum()
            return soft, torch.stack([soft.log_post.exp().sum(), entropy, agreed]).double()

    batches = frames.ordered_batches(batch)[math.ceil(writer.frames / batch) :]
    sums = torch.tensor(writer.sums or [0.0] * 3, dtype=torch.float64, device=frames.rows.device)
    # Side by side, a core each: what follows a forward pass keeps two cores busy less well than two batches do. But
    # dropout draws from one stream.
    workers = torch.get_num_threads() if frames.rows.device.type == "cpu" and not targets.dropout else 1
    pool = ThreadPoolExecutor(workers)
    with threads(torch.get_num_threads() // workers), dropout_active(ensemble.models, targets.dropout or 0.0, seed):
        try:
            for numbers, (soft, figures) in zip(progress(batches, "soft targets"), pool.map(ask, batches), strict=True):
                sums += figures
                totals = sums.tolist()
                if not math.isfinite(totals[0]):
                    raise not_finite(path, frames, numbers, soft)
                writer.add(soft, totals)
        finally:
            pool.shutdown(cancel_futures=True)
    kept, entropy, agreed = sums.tolist()
    count = len(frames)
    writer.finish(frames, meta)
    summary = {
        "frames": count,
        "top_k": top_k,
        "bytes_per_frame": writer.bytes / count,
        "mean_tail_mass": max(0.0, 1 - kept / count) if top_k else 0.0,
        "agreement": agreed / count,
        "mean_entropy": entropy / count,
    }
    write_json(path / SUMMARY, summary)
    writer.close()
    return summary


def not_finite(path: Path, frames: Frames, numbers: Tensor, soft: SoftFrames) -> UserError:
    """Names the utterances, of the frames numbered (batch,), whose posteriors are no numbers."""
    bad = frames.utterance_numbers(numbers[~soft.log_post.isfinite().all(1)]).unique().tolist()
    names = " ".join(frames.utterances[number] for number in bad[:5])
    return UserError(
        f"{path}: the teachers' posteriors are not finite at utterances {names}{' …' if len(bad) > 5 else ''}; "
        "check their features, or train the teachers again"
    )


def estimate_bytes(targets: Targets, num_pdfs: int, frames: int) -> int:
    """Of a store: 2 bytes a state and a posterior, and 2 a temperature."""
    if targets.top_k is None or targets.top_k >= num_pdfs:
        return 2 * num_pdfs * frames
    return (4 * targets.top_k + (0 if targets.pruning else 2 * len(targets.temperatures))) * frames


def draw_states(log_post: Tensor, top_k: int, temperature: float, key: Seed) -> SoftFrames:
    """The randomly pruned posteriors of dense log posteriors (frames, num_pdfs), softened at the temperature."""
    uniform = torch.rand(len(log_post), dtype=torch.float64, generator=generator(key)).to(log_post.device)
    states, values = prune(tempered_logits(log_post, None, temperature).softmax(1), top_k, uniform)
    return SoftFrames(values.log(), states, None)


@contextmanager
def dropout_active(models: Sequence[AcousticModel], rate: float, seed: int) -> Iterator[None]:
    """Ask the networks with dropout after every hidden layer, one mask for each frame and unit; rate 0: without."""
    networks, hooks = [model.network for model in models], []
    for number, model in enumerate(models if rate else ()):
        model.network = model.network.model_copy(update={"dropout": rate, "input_dropout": None})
        draws = generator((seed, "teacher dropout", number), model.log_prior.device.type)
        hooks.append(model.register_forward_pre_hook(_drawing_from(draws), with_kwargs=True))
    try:
        yield
    finally:
        for model, network in zip(models, networks, strict=True):
            model.network = network
        for hook in hooks:
            hook.remove()


def _drawing_from(draws: torch.Generator) -> Callable[[Module, tuple[Any, ...], dict[str, Any]], tuple[Any, Any]]:
    return lambda _, arguments, keywords: (arguments, keywords | {"draws": draws})


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
