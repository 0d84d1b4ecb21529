"""The ensemble, asked for the posteriors of every training frame, batch by batch and shard by shard."""

import math
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor
from torch.nn import Module

from asr_kd.ahead import mapped_ahead
from asr_kd.checksums import Recorded
from asr_kd.distill import store as stores
from asr_kd.distill.losses import tempered_logits
from asr_kd.distill.pruning import prune
from asr_kd.distill.store import PendingShard, SoftFrames, condense
from asr_kd.errors import UserError
from asr_kd.nn.frames import Frames
from asr_kd.nn.model import AcousticModel
from asr_kd.nn.posteriors import Ensemble
from asr_kd.nn.products import threads
from asr_kd.nn.seeds import Seed, generator
from asr_kd.nn.training import Progress
from asr_kd.recipe import Targets

AHEAD = 4  # batches of a worker that may wait to be written


class Shard(NamedTuple):
    """A shard that is written: its frames, bytes and files, and sums over the frames of each batch (see Asking.ask)."""

    frames: int
    size: int
    files: Recorded
    figures: list[list[float]]


@dataclass(frozen=True)
class Asking:
    """The ensemble is asked for the targets of all `frames`, `batch` of them at a time.

    path: of the store. seed: of the random pruning and of dropout.
    """

    path: Path
    ensemble: Ensemble
    frames: Frames
    targets: Targets
    batch: int
    seed: int

    @property
    def top_k(self) -> int | None:
        """None: all states."""
        asked = self.targets.top_k
        return None if asked is None or asked >= self.ensemble.num_pdfs else asked

    @property
    def pruning(self) -> Literal["random"] | None:
        return self.targets.pruning if self.top_k else None

    @cached_property
    def batches(self) -> Sequence[Tensor]:
        return self.frames.ordered_batches(self.batch)

    @cached_property
    def standardised(self) -> Frames:
        return self.frames.standardised(self.ensemble.models[0])

    @property
    def batches_of_shard(self) -> int:
        """A shard ends with the batch that fills it."""
        of_batch = self.batch * estimate_bytes(self.targets, self.ensemble.num_pdfs, 1)
        return math.ceil(stores.SHARD_BYTES / of_batch)

    def ask(self, numbers: Tensor) -> tuple[SoftFrames, Tensor]:
        """The targets of some frames, and sums over them: probability kept, entropy, agreement."""
        with torch.inference_mode():
            log_post = self.ensemble.log_posteriors(self.ensemble.windows(self.standardised, numbers))
            entropy = -log_post.exp().mul_(log_post).sum()
            if self.pruning and self.top_k:
                key = (self.seed, "pruning", int(numbers[0]))
                soft = draw_states(log_post, self.top_k, self.targets.temperatures[0], key)
            else:
                soft = condense(log_post, self.top_k, self.targets.temperatures)
            # Best first; the states drawn at random are not.
            answers = log_post.argmax(1) if soft.states is None or self.pruning else soft.states[:, 0]
            agreed = (answers == self.frames.labels[numbers]).sum()
            return soft, torch.stack([soft.log_post.exp().sum(), entropy, agreed]).double()

    def asked(self, batches: Sequence[Tensor], progress: Progress) -> Generator[tuple[SoftFrames, Tensor], None, None]:
        """`ask` for each batch, in order. UserError names utterances whose posteriors are not finite."""
        # Side by side, a core each: what follows a forward pass keeps two cores busy less well than two batches do. But
        # dropout draws from one stream.
        cores, dropout = torch.get_num_threads(), self.targets.dropout or 0.0
        workers = cores if self.frames.rows.device.type == "cpu" and not dropout else 1
        pool = ThreadPoolExecutor(workers)
        with threads(cores // workers), dropout_active(self.ensemble.models, dropout, self.seed):
            try:
                asked = mapped_ahead(pool, self.ask, batches, AHEAD * workers)
                for numbers, (soft, figures) in zip(progress(batches, "soft targets"), asked, strict=True):
                    if not math.isfinite(figures[0]):
                        raise not_finite(self.path, self.frames, numbers, soft)
                    yield soft, figures
            finally:
                pool.shutdown(cancel_futures=True)

    def write_shard(self, number: int, count: int, progress: Progress) -> Shard:
        """Write the shard `number` of those that have `count` batches each."""
        pending, figures = PendingShard(), []
        for soft, found in self.asked(self.batches[number * count : (number + 1) * count], progress):
            pending.add(soft)
            figures.append(found.tolist())
        return Shard(pending.frames, pending.bytes, pending.write(self.path, number), figures)


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
