"""Softened targets and the distillation loss, over the k stored states and one bin for all the others."""

import math

import torch
from torch import Tensor
from torch.autograd.function import FunctionCtx
from torch.nn.functional import cross_entropy


def temper(log_post: Tensor, log_tail: Tensor | None, temperature: float) -> Tensor:
    """Soften stored posteriors: p_T ∝ p^(1/T), the states outside the top k as one bin.

    log_post: (frames, k) natural log of p; log_tail: (frames,) natural log of the sum of p^(1/T) over the states
    left out, for this temperature (see `tail_at`), or None where no state was left out. Returns probabilities
    summing to 1, (frames, k + 1) with the tail in the last column, or (frames, k). Hinton et al. 2015, eq. 1.
    Raises ValueError if temperature <= 0.
    """
    if temperature <= 0:
        raise ValueError(f"temperature {temperature} is not above 0")
    logits = log_post.float() / temperature
    if log_tail is not None:
        logits = torch.cat([logits, log_tail.float()[:, None]], 1)
    return logits.softmax(1)


def tail_at(log_tails: Tensor, temperatures: tuple[float, ...], temperature: float, states_left_out: int) -> Tensor:
    """The log tail at any temperature: exact at the stored ones, between them linear in 1/T.

    log_tails: (frames, len(temperatures)), one column a temperature. Above the highest stored temperature the
    other end is 1/T = 0, where the sum of p^(1/T) is `states_left_out`. Returns (frames,) float32. Raises
    ValueError below the lowest stored temperature.
    """
    if temperature < min(temperatures):
        raise ValueError(f"temperature {temperature} is below the lowest stored one, {min(temperatures)}")
    colder = max(stored for stored in temperatures if stored <= temperature)
    cold = log_tails[:, temperatures.index(colder)].float()
    if colder == temperature:
        return cold
    hotter = min((stored for stored in temperatures if stored > temperature), default=math.inf)
    if hotter == math.inf:
        hot = torch.full_like(cold, math.log(states_left_out))
    else:
        hot = log_tails[:, temperatures.index(hotter)].float()
    share = (1 / colder - 1 / temperature) / (1 / colder - 1 / hotter)
    return cold + share * (hot - cold)


class _BinnedCrossEntropy(torch.autograd.Function):
    """Cross-entropy over the k states and the bin of all others, its gradient in closed form.

    With q_rest the bin's probability, dCE/dz_j is (q_j − p_j) / T at the k states and, at the others,
    (q_rest − p_rest) / T times their share of the bin: a softmax over the others. Left to autograd, the masked
    log-sum-exp takes a dozen passes over (frames, num_pdfs), a quarter of a training step on a CPU.
    """

    @staticmethod
    def forward(ctx: FunctionCtx, logits: Tensor, states: Tensor, target: Tensor, temperature: float) -> Tensor:
        scaled = logits / temperature
        top = scaled.gather(1, states)
        # The bin has its own maximum: subtracting the k probabilities from 1 would cancel where they hold all mass.
        others = scaled.scatter_(1, states, -math.inf)
        share = others.softmax(1)
        rest = others.amax(1, keepdim=True) - share.amax(1, keepdim=True).log()
        log_q = torch.cat([top, rest], 1).log_softmax(1)
        difference = (log_q.exp() - target) / (temperature * len(logits))
        gradient = share.mul_(difference[:, -1:]).scatter_(1, states, difference[:, :-1])
        ctx.save_for_backward(gradient)
        return -(target * log_q).sum(1).mean()

    @staticmethod
    def backward(ctx: FunctionCtx, *gradients: Tensor) -> tuple[Tensor, None, None, None]:
        (gradient,) = ctx.saved_tensors  # type: ignore[attr-defined]
        return gradient * gradients[0], None, None, None


def soft_cross_entropy(logits: Tensor, states: Tensor | None, target: Tensor, temperature: float) -> Tensor:
    """CE(p_T, q_T) of softened student posteriors q_T, mean over the frames, scalar.

    logits: (frames, num_pdfs) float32; states: (frames, k) int64 with target (frames, k + 1), the last column
    being the bin of all other states; or None with a dense target (frames, num_pdfs). q_T is normalised over all
    states and its bin is summed over those outside `states`.
    """
    if states is None:
        return cross_entropy(logits / temperature, target)
    return _BinnedCrossEntropy.apply(logits, states, target, temperature)


def distillation_loss(
    logits: Tensor,
    labels: Tensor,
    states: Tensor | None,
    target: Tensor,
    temperature: float,
    hard_weight: float,
) -> Tensor:
    """(1 - w) · T² · CE(p_T, q_T) + w · CE(labels, q_1), mean over the frames (Hinton et al. 2015, section 2).

    labels: (frames,) int64; hard_weight: w in [0, 1]; the rest as in `soft_cross_entropy`. At w = 1 the soft
    targets are not looked at, at w = 0 the labels.
    """
    if hard_weight == 1:
        return cross_entropy(logits, labels)
    soft = temperature**2 * soft_cross_entropy(logits, states, target, temperature)
    if hard_weight == 0:
        return soft
    return (1 - hard_weight) * soft + hard_weight * cross_entropy(logits, labels)
