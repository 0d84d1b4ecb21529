"""The optimisers of networks that are trained together: one step for all, each at its own learning rate."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from asr_kd.recipe import Training

STATES = {"adamw": ("exp_avg", "exp_avg_sq"), "sgd": ("momentum_buffer",)}


@dataclass(frozen=True)
class Stacked:
    """A parameter of several networks, (networks, …); `own`: that of each, a view of it."""

    whole: nn.Parameter
    own: Sequence[nn.Parameter]

    @staticmethod
    def of(own: Sequence[nn.Parameter]) -> "Stacked":
        """Make the parameters, of one shape, views of a new one."""
        whole = nn.Parameter(torch.stack([parameter.detach() for parameter in own]))
        for parameter, part in zip(own, whole.detach(), strict=True):
            parameter.data = part
        return Stacked(whole, own)

    @property
    def gradient(self) -> Tensor:
        assert self.whole.grad is not None
        return self.whole.grad

    def spread(self, figures: Tensor) -> Tensor:
        """(networks,) to a shape that multiplies the parameter."""
        return figures.view(-1, *[1] * (self.whole.ndim - 1))


class StackedOptimizer:
    """What `make_optimizer` makes for one network, for several: torch's AdamW, or its SGD with momentum.

    The networks' own optimisers go on holding the states, as views, so that a network's checkpoint is that of one
    trained alone.
    """

    def __init__(
        self, training: Training, parameters: Sequence[Stacked], optimizers: Sequence[torch.optim.Optimizer]
    ) -> None:
        self._training, self._parameters, self._defaults = training, parameters, optimizers[0].defaults
        made = [optimizer.state[own] for optimizer, own in zip(optimizers, parameters[0].own, strict=True)]
        self._steps = torch.tensor([float(state.get("step", 0)) for state in made], device=parameters[0].whole.device)
        self._states: list[list[Tensor]] = []
        for stacked in parameters:
            joined = []
            for name in STATES[training.optimizer]:
                parts = [optimizer.state[own].get(name) for optimizer, own in zip(optimizers, stacked.own, strict=True)]
                whole = torch.zeros_like(stacked.whole, requires_grad=False)
                for place, part in zip(whole, parts, strict=True):
                    if part is not None:
                        place.copy_(part)
                joined.append(whole)
            self._states.append(joined)
            for number, (optimizer, own) in enumerate(zip(optimizers, stacked.own, strict=True)):
                views = zip(STATES[training.optimizer], joined, strict=True)
                optimizer.state[own] = {name: whole[number] for name, whole in views}
                if training.optimizer == "adamw":
                    optimizer.state[own]["step"] = self._steps[number]

    @torch.no_grad()
    def clip(self, longest: float) -> Tensor:
        """Shorten each network's gradient to at most `longest`; returns their lengths before, (networks,)."""
        lengths = torch.stack([stacked.gradient.flatten(1).norm(dim=1) for stacked in self._parameters]).norm(dim=0)
        factors = (longest / (lengths + 1e-6)).clamp(max=1)  # as torch's clip_grad_norm_
        for stacked in self._parameters:
            stacked.gradient.mul_(stacked.spread(factors))
        return lengths

    @torch.no_grad()
    def step(self, rates: Tensor) -> None:
        """Update all networks and forget the gradients; rates: (networks,), the learning rates."""
        self._steps += 1
        for stacked, states in zip(self._parameters, self._states, strict=True):
            decay = self._training.weight_decay if stacked.own[0].ndim > 1 else 0.0  # biases do not
            update = self._adamw if self._training.optimizer == "adamw" else self._sgd
            update(stacked, states, rates, decay)
            stacked.whole.grad = None

    def _adamw(self, stacked: Stacked, states: list[Tensor], rates: Tensor, decay: float) -> None:
        """Loshchilov and Hutter 2019, algorithm 2."""
        (mean, square), gradient, (first, second) = states, stacked.gradient, self._defaults["betas"]
        steps = self._steps.double()  # 1 - 0.999 has few digits left in float32
        corrections = (-rates / (1 - first**steps)).float(), (1 - second**steps).sqrt().float()
        stacked.whole.mul_(stacked.spread(1 - rates * decay))
        mean.lerp_(gradient, 1 - first)
        square.mul_(second).addcmul_(gradient, gradient, value=1 - second)
        deviation = square.sqrt().div_(stacked.spread(corrections[1])).add_(self._defaults["eps"])
        stacked.whole.addcdiv_(mean * stacked.spread(corrections[0]), deviation)

    def _sgd(self, stacked: Stacked, states: list[Tensor], rates: Tensor, decay: float) -> None:
        gradient = stacked.gradient.add(stacked.whole, alpha=decay)
        states[0].mul_(self._training.momentum).add_(gradient)
        stacked.whole.sub_(states[0] * stacked.spread(rates))
