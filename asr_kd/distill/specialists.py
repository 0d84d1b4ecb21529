"""Specialists: networks that tell a few confusable states apart, all others in one dustbin (Hinton et al. 2015, §5)."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from asr_kd.errors import UserError
from asr_kd.files import read_json
from asr_kd.nn.checkpoint import History
from asr_kd.nn.frames import Frames
from asr_kd.nn.hashes import joint_hash
from asr_kd.nn.inputs import Inputs
from asr_kd.nn.model import DESCRIPTION, AcousticModel, load_model
from asr_kd.nn.seeds import Seed, generator
from asr_kd.nn.tracking import Tracker
from asr_kd.nn.training import HardTargets, Progress, Run, train
from asr_kd.recipe import Training


@dataclass
class BalancedFrames(Frames):
    """A split as a specialist sees it: labels (N,) are a state's place in the subset, or `dustbin`.

    An epoch, and so the length, is every frame of the subset once and as many frames of the others; `log_prior`
    still counts all frames of the split.
    """

    dustbin: int

    @staticmethod
    def of(frames: Frames, subset: Tensor, num_pdfs: int) -> "BalancedFrames":
        """`frames` labelled for the specialist of the states `subset` (classes,).

        Raises UserError when all of the frames, or none, are of the subset.
        """
        dustbin, device = len(subset), frames.labels.device
        places = torch.full((num_pdfs,), dustbin, device=device)
        places[subset.to(device)] = torch.arange(dustbin, device=device)
        balanced = BalancedFrames(frames.rows, places[frames.labels], frames.utterances, frames.starts, dustbin)
        if not 0 < balanced.num_own < len(frames):
            raise UserError(
                f"specialists.classes: {balanced.num_own} of {len(frames)} frames are of a specialist's {dustbin} "
                "states; choose another number of classes or specialists"
            )
        return balanced

    def __len__(self) -> int:
        return 2 * self.num_own

    @property
    def num_own(self) -> int:
        return int((self.labels != self.dustbin).sum())

    @property
    def dustbin_correction(self) -> float:
        """What the dustbin's logit lacks after training: the log of how much oftener than the others the subset's
        frames were drawn.

        The subset's N frames are drawn N times, the M others N times too: 1 against N / M times each.
        """
        return math.log((len(self.labels) - self.num_own) / self.num_own)

    def shuffled_batches(self, size: int, key: Seed) -> tuple[Tensor, ...]:
        own, others = self._own_and_others()
        draws, device = generator(key), self.labels.device
        rounds = [torch.randperm(len(others), generator=draws) for _ in range(math.ceil(len(own) / len(others)))]
        drawn = others[torch.cat(rounds)[: len(own)].to(device)]
        order = torch.randperm(len(self), generator=draws).to(device)
        return torch.cat([own, drawn])[order].split(size)

    def ordered_batches(self, size: int) -> tuple[Tensor, ...]:
        """The subset's frames and as many others at even distances, in storage order."""
        own, others = self._own_and_others()
        evenly = torch.arange(len(own), device=own.device) * len(others) // len(own)
        return torch.cat([own, others[evenly]]).sort().values.split(size)

    def _own_and_others(self) -> tuple[Tensor, Tensor]:
        mine = self.labels != self.dustbin
        return mine.nonzero()[:, 0], (~mine).nonzero()[:, 0]


def start_network(generalist: AcousticModel, subset: Tensor) -> AcousticModel:
    """The generalist with an output layer of the states `subset` (classes,) and the dustbin: classes + 1 logits.

    The dustbin starts as the linear function nearest below the log-sum of the other states' exponentials: with π
    their shares of the training frames, log Σ exp z ≥ Σ π z + H(π) (Jensen).
    """
    if generalist.network.kind is not None:
        raise UserError(
            f"specialists: not for teachers.network.kind {generalist.network.kind}; leave kind out for fully connected "
            "layers, or specialists out"
        )
    model = AcousticModel(generalist.network, generalist.dim, len(subset) + 1).to(generalist.log_prior.device)
    others = torch.ones(generalist.num_pdfs, dtype=torch.bool, device=generalist.log_prior.device)
    others[subset] = False
    log_share = generalist.log_prior[others].log_softmax(0)
    share = log_share.exp()
    weight, bias = generalist.weights[-1].detach(), generalist.biases[-1].detach()
    dustbin = share @ weight[others], share @ bias[others] - share @ log_share
    state = generalist.state_dict()
    last = len(generalist.weights) - 1
    state[f"weights.{last}"] = torch.cat([weight[subset], dustbin[0][None]])
    state[f"biases.{last}"] = torch.cat([bias[subset], dustbin[1][None]])
    state["log_prior"] = model.log_prior
    model.load_state_dict(state)
    return model


def train_specialist(
    path: Path,
    generalist: AcousticModel,
    generalist_hash: str,
    subset: Tensor,
    training: Training,
    inputs: Inputs,
    seed: Seed,
    progress: Progress,
    device: str = "cpu",
    tracker: Tracker | None = None,
) -> History:
    """Train the specialist of the states `subset` (classes,) on hard labels, half of the frames from outside.

    model.json gets `classes`, `dustbin_correction` and the generalist's hash; the weights are as training left them.
    """
    frames, dev = (BalancedFrames.of(split, subset, inputs.num_pdfs) for split in (inputs.train, inputs.dev))
    description = {
        "classes": subset.tolist(),
        "dustbin_correction": frames.dustbin_correction,
        "generalist": generalist_hash,
    }
    run = Run(generalist.network, training, seed, len(subset) + 1, inputs.data, description)
    targets = HardTargets(frames.labels, joint_hash(["specialist", generalist_hash, *map(str, subset.tolist())]))
    return train(path, run, frames, dev, targets, progress, device, start_network(generalist, subset), tracker)


def load_specialist(path: Path, generalist_hash: str, device: str = "cpu") -> tuple[AcousticModel, Tensor]:
    """A specialist with its dustbin's logit corrected, and its states (classes,).

    UserError when it is no specialist of the generalist.
    """
    description: dict[str, Any] = read_json(path / DESCRIPTION)
    if description.get("generalist") != generalist_hash:
        raise UserError(f"{path / DESCRIPTION}: a specialist of another generalist; run --stage 4 (teachers) again")
    model = load_model(path, device)
    with torch.no_grad():
        model.biases[-1][-1] += description["dustbin_correction"]
    return model, torch.tensor(description["classes"], device=device)
