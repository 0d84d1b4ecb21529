"""Posteriors of one network, or the mean of several: for decoding, frame accuracy and soft targets."""

import math
from collections.abc import Sequence
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from asr_kd.errors import UserError
from asr_kd.features.store import FrameStore
from asr_kd.nn.frames import Frames
from asr_kd.nn.inputs import input_path
from asr_kd.nn.model import AcousticModel, load_model
from asr_kd.recipe import Network
from asr_kd.workspace import Workspace

Mean = Literal["arithmetic", "geometric"]


def mean_log_posteriors(logits: Sequence[Tensor], mean: Mean) -> Tensor:
    """Log of the members' mean posterior: one (batch, num_pdfs) float32 of logits a member, same shape back.

    arithmetic: log of the mean of the posteriors; geometric: the mean of their logs, normalised again.
    """
    if len(logits) == 1:
        return logits[0].log_softmax(1)
    # One buffer for all members: a fresh one each costs half as much again in page faults.
    own = torch.empty_like(logits[0])
    if mean == "geometric":
        total = logits[0].log_softmax(1)
        for member in logits[1:]:
            total += torch.log_softmax(member, 1, out=own)
        return (total / len(logits)).log_softmax(1)
    total = logits[0].softmax(1)
    for member in logits[1:]:
        total += torch.softmax(member, 1, out=own)
    # A posterior below float32's smallest number would have an infinite log.
    return total.clamp_(min=torch.finfo(total.dtype).tiny).log_().sub_(math.log(len(logits)))


class Ensemble:
    """Networks that see the same windows; a single network is an ensemble of one."""

    def __init__(self, models: Sequence[AcousticModel], mean: Mean = "arithmetic") -> None:
        self.models, self.mean = models, mean
        self.network: Network = models[0].network
        self.num_pdfs = models[0].num_pdfs
        self.parameters = sum(model.parameter_count for model in models)

    def windows(self, standardised: Frames, numbers: Tensor) -> Tensor:
        """(batch,) frame numbers to (batch, window, dim) float32."""
        return standardised.windows(numbers, self.network.left, self.network.right).float()

    def logits(self, windows: Tensor) -> list[Tensor]:
        """Each member's (batch, num_pdfs) float32."""
        return [model(windows).float() for model in self.models]

    def log_posteriors(self, windows: Tensor) -> Tensor:
        """The mean's log posteriors, (batch, num_pdfs) float32."""
        return mean_log_posteriors(self.logits(windows), self.mean)


def load_ensemble(work: Workspace, names: Sequence[str], mean: Mean = "arithmetic", device: str = "cpu") -> Ensemble:
    """The networks `models/NAME`; UserError when they differ in input, tied states or standardisation."""
    models = [load_model(work.model(name), device) for name in names]
    for name, model in zip(names, models, strict=True):
        for what, ours, first in zip(
            ("input", "dim", "tied states"), _interface(model), _interface(models[0]), strict=True
        ):
            if ours != first:
                raise UserError(
                    f"{work.model(name)}: {what} {ours} differs from {first} of {names[0]}; "
                    "train both on the same features and alignment"
                )
        if not (torch.equal(model.mean, models[0].mean) and torch.equal(model.scale, models[0].scale)):
            raise UserError(f"{work.model(name)}: trained on other frames than {names[0]}; train both again")
    return Ensemble(models, mean)


def _interface(model: AcousticModel) -> tuple[tuple[str, int, int], int, int]:
    network = model.network
    return (network.input, network.left, network.right), model.dim, model.num_pdfs


class Scorer:
    """Log posteriors of a system, an utterance at a time; an utterance needs features but no alignment.

    log_prior: (num_pdfs,) float32; parameters: of all its networks together.
    """

    def __init__(self, work: Workspace, ensemble: Ensemble, device: str) -> None:
        self.ensemble = ensemble
        self.log_prior: np.ndarray = ensemble.models[0].log_prior.cpu().numpy()
        self.parameters = ensemble.parameters
        self._work, self._device = work, device
        self._stores: dict[str, FrameStore] = {}

    def log_posteriors(self, split: str, utterance: str) -> np.ndarray:
        """(T, num_pdfs) float32 natural logs; KeyError for an utterance without features."""
        if split not in self._stores:
            self._stores[split] = FrameStore(input_path(self._work, self.ensemble.network, split))
        rows = torch.from_numpy(np.array(self._stores[split][utterance], np.float16)).to(self._device)
        frames = Frames.of_utterance(utterance, rows).standardised(self.ensemble.models[0])
        with torch.inference_mode():
            windows = self.ensemble.windows(frames, torch.arange(len(rows), device=rows.device))
            return self.ensemble.log_posteriors(windows).cpu().numpy()


def load_scorer(work: Workspace, names: Sequence[str], mean: Mean = "arithmetic", device: str = "cpu") -> Scorer:
    """The system of the networks `models/NAME`; several names are an ensemble."""
    return Scorer(work, load_ensemble(work, names, mean, device), device)
