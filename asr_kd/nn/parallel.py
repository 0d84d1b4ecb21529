"""One network on several processes that torchrun started, and batches in parts that a device's memory holds.

Process 0 runs the recipe as it would alone. The others have copies of the network that it trains and take their share
of every batch; gradients are averaged (DistributedDataParallel), so that an update is of the whole batch, however many
they are. Only process 0 writes files.
"""

import gc
import io
import logging
import os
from collections.abc import Callable
from contextlib import nullcontext, suppress
from dataclasses import dataclass, fields, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel

from asr_kd.errors import UserError
from asr_kd.nn.checkpoint import Begun
from asr_kd.nn.dropout import PartDraws
from asr_kd.nn.frames import Frames
from asr_kd.nn.loop import Run, TargetSource, TrainingLoop
from asr_kd.nn.model import AcousticModel
from asr_kd.nn.products import threads

PATIENCE = timedelta(days=30)  # the others wait while process 0 prepares, decodes …; torchrun ends them if it dies
PART_BYTES = 1 << 28  # of what is sent at once
log = logging.getLogger("asr_kd")


def processes() -> int:
    """That train together; 1 without torchrun."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def join(device: str) -> None:
    """Meet the other processes. On CUDA, process n of a machine takes its n-th device."""
    if device == "cuda":
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    dist.init_process_group("cpu:gloo,cuda:nccl" if device == "cuda" else "gloo", timeout=PATIENCE)


def dismiss() -> None:
    """Let the others end."""
    _send(None)


def leave() -> None:
    """When all have ended."""
    dist.destroy_process_group()


def follow() -> None:
    """Take a share of every epoch that process 0 trains, until it ends."""
    loop: SplitLoop | None = None
    count = 1
    while (message := _receive()) is not None:
        if "loop" in message:
            loop = None
            gc.collect()  # the network before, which DistributedDataParallel holds in a circle
            loop, count = _following(message["shape"], *message["loop"]), message["threads"]
        else:
            assert loop is not None
            with threads(count), suppress(UserError):  # which process 0 raises too
                loop.epoch(*message["epoch"])


def _following(
    shape: torch.Size,
    path: Path,
    run: Run,
    model: AcousticModel,
    optimizer: torch.optim.Optimizer,
    frames: Frames,
    targets: TargetSource,
) -> "SplitLoop":
    """The loop that process 0 sent, whose frames' rows, of this shape, come after it."""
    rows = frames.rows.new_empty(shape)
    _broadcast(rows)
    return SplitLoop(path, run, model, optimizer, replace(frames, rows=rows), targets, lambda batches, _: batches)


def divided(loop: TrainingLoop) -> TrainingLoop:
    """The loop as the processes, or the parts of train.micro_batch, ask for.

    Batch normalisation needs a batch in one place: such a network is trained by process 0 alone, and raises UserError
    with a micro_batch.
    """
    norm, micro_batch = loop.run.network.norm, loop.run.training.micro_batch
    if norm == "batch" and micro_batch:
        raise UserError("train.micro_batch: network.norm: batch is over whole batches; leave one of the two out")
    if norm == "batch" and processes() > 1:
        log.warning("%s: batch normalisation: trained by one of %d processes", loop.path, processes())
    if norm == "batch" or (processes() == 1 and not micro_batch):
        return loop
    kind = LeadingLoop if processes() > 1 else SplitLoop
    return kind(*(getattr(loop, each.name) for each in fields(TrainingLoop)))


@dataclass
class SplitLoop(TrainingLoop):
    """Updates by batches in parts: each process has a share, and takes up to `train.micro_batch` frames of it at once.

    A part draws the dropout masks of the whole batch and takes its own rows, so that no mask depends on the parts.
    """

    def __post_init__(self) -> None:
        super().__post_init__()
        # Its buffers are what features are standardised by, and the prior: no update changes them.
        together = processes() > 1
        self.module = DistributedDataParallel(self.model, broadcast_buffers=False) if together else self.model

    def gradients(self, batch: Tensor, draws: torch.Generator, moves: torch.Generator) -> tuple[float, Tensor, Tensor]:
        """See TrainingLoop; the logits are those of this process's share."""
        share, state = _share(len(batch)), draws.get_state()
        most = self.run.training.micro_batch or len(batch)
        firsts = range(share.start, share.stop, most) or [share.start]
        parts = [slice(first, min(first + most, share.stop)) for first in firsts]
        whole = self.windows(batch, moves) if self.run.training.jitter else None  # its moves are drawn for a batch
        sums = torch.zeros(2, dtype=torch.float64, device=batch.device)
        outputs = []
        for part in parts:
            some = batch[part]
            windows = self.windows(some, moves) if whole is None else whole[part]
            draws.set_state(state)
            # Gradients travel after the last part only.
            travels = not isinstance(self.module, DistributedDataParallel) or part == parts[-1]
            with nullcontext() if travels else self.module.no_sync():  # type: ignore[operator]
                logits = self.module(windows, PartDraws(draws, len(batch), part.start)).float()
                # Without frames, as at an epoch's end, a process still takes part in the averaging.
                loss = self.targets.loss(logits, some) if len(some) else logits.sum()
                (loss * (len(some) * processes() / len(batch))).backward()
            logits = logits.detach()
            hits = (logits.max(1).indices == self.frames.labels[some]).sum()
            sums += torch.stack([loss.detach().double() * len(some), hits.double()])
            outputs.append(logits)
        if processes() > 1:
            dist.all_reduce(sums)
        value, logits = float(sums[0]) / len(batch), torch.cat(outputs)
        if not torch.isfinite(sums[0]):
            raise self.divergence(logits, batch)
        return value, sums[1].long(), logits

    def divergence(self, logits: Tensor, batch: Tensor) -> UserError:
        """See TrainingLoop. Every process gets here, and tells the others which of its frames are bad."""
        marks = torch.zeros(len(batch), 1, device=batch.device)
        share = _share(len(batch))
        marks[share.start : share.stop][~logits.isfinite().all(1)] = torch.nan
        if processes() > 1:
            dist.all_reduce(marks)
        return super().divergence(marks, batch)


@dataclass
class LeadingLoop(SplitLoop):
    """That of process 0, which the loops of the others follow."""

    def __post_init__(self) -> None:
        # Processes of one machine share the cores that the stage gives to products.
        self.threads = max(1, torch.get_num_threads() // int(os.environ.get("LOCAL_WORLD_SIZE", "1")))
        log.info("%s: trained by %d processes", self.path, processes())
        gc.collect()  # as in `follow`
        rows = self.frames.rows  # most of what there is: from device to device, without a copy here
        frames = replace(self.frames, rows=rows[:0].clone())
        loop = (self.path, self.run, self.model, self.optimizer, frames, self.targets)
        _send({"loop": loop, "shape": rows.shape, "threads": self.threads})
        _broadcast(rows)
        super().__post_init__()

    def epoch(
        self, number: int, rate: float, begun: Begun | None = None, save: Callable[[Begun], None] | None = None
    ) -> dict[str, Any]:
        """See TrainingLoop."""
        _send({"epoch": (number, rate, begun)})
        with threads(self.threads):
            return super().epoch(number, rate, begun, save)


def _share(batch: int) -> slice:
    """The rows of a batch that are this process's."""
    count, rank = processes(), dist.get_rank() if processes() > 1 else 0
    return slice(rank * batch // count, (rank + 1) * batch // count)


def _broadcast(tensor: Tensor) -> None:
    """Fill it with what it is in process 0."""
    for part in tensor.split(max(1, PART_BYTES // tensor[:1].nbytes)):
        dist.broadcast(part, 0)


def _send(message: dict[str, Any] | None) -> None:
    """From process 0 to the others."""
    buffer = io.BytesIO()
    torch.save(message, buffer)
    contents = torch.frombuffer(buffer.getbuffer(), dtype=torch.uint8)
    dist.broadcast(torch.tensor(len(contents)), 0)
    _broadcast(contents)


def _receive() -> Any:
    """What process 0 sent, its tensors on this process's device. Ends this process if that one has ended."""
    length = torch.tensor(0)
    try:
        dist.broadcast(length, 0)
    except RuntimeError:
        raise SystemExit(1) from None  # process 0 has said why
    contents = torch.empty(int(length), dtype=torch.uint8)
    _broadcast(contents)
    devices = {"cuda:0": f"cuda:{torch.cuda.current_device()}"} if torch.cuda.is_initialized() else None
    # From the process that torchrun started beside this one, not from a file: what it names may be made.
    return torch.load(io.BytesIO(contents.numpy()), map_location=devices, weights_only=False)  # type: ignore[arg-type]
