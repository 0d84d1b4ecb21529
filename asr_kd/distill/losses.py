"""Softened targets and the distillation losses, over the k stored states and one bin for all the others."""

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.autograd.function import FunctionCtx
from torch.nn.functional import cross_entropy

ROWS = 256  # of a batch at a time on a CPU, so that what is in work stays in its cache

# (binned logits, target), both (frames, k + 1), to the loss (frames,) and its derivative by the logits.
Criterion = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
# Logits of some frames, which ones, and where to: writes the derivative of the loss by them, divided by the number of
# frames in the batch, and returns the loss (frames,).
SoftLoss = Callable[[Tensor, slice, Tensor], Tensor]


def tempered_logits(log_post: Tensor, log_tail: Tensor | None, temperature: float) -> Tensor:
    """What `temper` takes the softmax of: (frames, k + 1) with the tail in the last column, or (frames, k)."""
    if temperature <= 0:
        raise ValueError(f"temperature {temperature} is not above 0")
    logits = log_post.float() / temperature
    if log_tail is not None:
        logits = torch.cat([logits, log_tail.float()[:, None]], 1)
    return logits


def temper(log_post: Tensor, log_tail: Tensor | None, temperature: float) -> Tensor:
    """Soften stored posteriors: p_T ∝ p^(1/T), the states outside the top k as one bin.

    log_post: (frames, k) natural log of p; log_tail: (frames,) natural log of the sum of p^(1/T) over the states
    left out, for this temperature (see `tail_at`), or None where no state was left out. Returns probabilities
    summing to 1, (frames, k + 1) with the tail in the last column, or (frames, k). Hinton et al. 2015, eq. 1.
    Raises ValueError if temperature <= 0.
    """
    return tempered_logits(log_post, log_tail, temperature).softmax(1)


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


class _ClosedForm(torch.autograd.Function):
    """soft_weight · (a soft loss) + hard_weight · CE(labels), mean over the frames, with the gradient in closed form.

    Left to autograd, the two take over two dozen passes over (frames, num_pdfs), a fifth of a training step on a CPU.
    """

    @staticmethod
    def forward(
        ctx: FunctionCtx, logits: Tensor, labels: Tensor, soft: SoftLoss, soft_weight: float, hard_weight: float
    ) -> Tensor:
        count, gradient, losses = len(logits), torch.empty_like(logits), []
        size = ROWS if logits.device.type == "cpu" else count
        posteriors = torch.empty_like(logits[:size])
        for start in range(0, count, size):
            rows = slice(start, start + size)
            some, slope = logits[rows], gradient[rows]
            loss = soft_weight * soft(some, rows, slope)
            slope.mul_(soft_weight)
            if hard_weight:
                label, q = labels[rows, None], torch.softmax(some, 1, out=posteriors[: len(some)])
                log_sum = some.amax(1) - q.amax(1).log()
                loss += hard_weight * (log_sum - some.gather(1, label)[:, 0])
                q.scatter_add_(1, label, q.new_full((1, 1), -1.0).expand_as(label))
                slope.add_(q, alpha=hard_weight / count)
            losses.append(loss)
        ctx.save_for_backward(gradient)
        return torch.cat(losses).mean()

    @staticmethod
    def backward(ctx: FunctionCtx, *gradients: Tensor) -> tuple[Tensor, None, None, None, None]:
        (gradient,) = ctx.saved_tensors  # type: ignore[attr-defined]
        # The loss itself is what is differentiated, as a rule: then the factor is 1.
        return gradient if gradients[0] == 1 else gradient * gradients[0], None, None, None, None


def _binned(states: Tensor, target: Tensor, temperature: float, criterion: Criterion) -> SoftLoss:
    """A loss over the logits, divided by the temperature, of the k states and of the bin of all others.

    A bin's logit is the log-sum-exp of its states', so its derivative is shared out among them by a softmax over
    them.
    """

    def loss(logits: Tensor, rows: slice, gradient: Tensor) -> Tensor:
        scaled = logits / temperature
        top = scaled.gather(1, states[rows])
        # The bin has its own maximum: subtracting the k probabilities from 1 would cancel where they hold all mass.
        others = scaled.scatter_(1, states[rows], -math.inf)
        share = torch.softmax(others, 1, out=gradient)
        rest = others.amax(1, keepdim=True) - share.amax(1, keepdim=True).log()
        value, derivative = criterion(torch.cat([top, rest], 1), target[rows])
        difference = derivative / (temperature * len(states))
        share.mul_(difference[:, -1:]).scatter_(1, states[rows], difference[:, :-1])
        return value

    return loss


def _drawn(states: Tensor, values: Tensor, temperature: float) -> SoftLoss:
    """Cross-entropy with few weighted states: dCE/dz_j is (q_j Σ v − v_j) / T."""

    def loss(logits: Tensor, rows: slice, gradient: Tensor) -> Tensor:
        log_q = torch.log_softmax(logits / temperature, 1, out=gradient)
        value = -(values[rows] * log_q.gather(1, states[rows])).sum(1)
        share = values[rows] / (temperature * len(states))
        log_q.exp_().mul_(share.sum(1, keepdim=True)).scatter_add_(1, states[rows], -share)
        return value

    return loss


def _cross_entropy(binned: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    log_q = binned.log_softmax(1)
    return -(target * log_q).sum(1), log_q.exp() - target


def _half_squared_error(binned: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    error = _centred(binned) - _centred(target)
    return error.square().mean(1) / 2, error / error.shape[1]


def _centred(logits: Tensor) -> Tensor:
    return logits - logits.mean(1, keepdim=True)


def _mixed(soft: Tensor, logits: Tensor, labels: Tensor, hard_weight: float) -> Tensor:
    if hard_weight == 0:
        return soft
    return (1 - hard_weight) * soft + hard_weight * cross_entropy(logits, labels)


def distillation_loss(
    logits: Tensor,
    labels: Tensor,
    states: Tensor | None,
    target: Tensor,
    temperature: float,
    hard_weight: float,
) -> Tensor:
    """(1 - w) · T² · CE(p_T, q_T) + w · CE(labels, q_1), mean over the frames (Hinton et al. 2015, section 2).

    logits: (frames, num_pdfs) float32; labels: (frames,) int64; states: (frames, k) int64 with target (frames, k + 1),
    the last column being the bin of all other states; or None with a dense target (frames, num_pdfs). q_T is
    normalised over all states and its bin is summed over those outside `states`. hard_weight: w in [0, 1]; at w = 1 the
    soft targets are not looked at, at w = 0 the labels.
    """
    if hard_weight == 1:
        return cross_entropy(logits, labels)
    if states is None:
        return _mixed(temperature**2 * cross_entropy(logits / temperature, target), logits, labels, hard_weight)
    soft = _binned(states, target, temperature, _cross_entropy)
    return _ClosedForm.apply(logits, labels, soft, (1 - hard_weight) * temperature**2, hard_weight)


def drawn_loss(
    logits: Tensor, labels: Tensor, states: Tensor, values: Tensor, temperature: float, hard_weight: float
) -> Tensor:
    """As `distillation_loss`, with randomly drawn states: their values (frames, k) from `prune` instead of p_T.

    The soft part is -Σ v log q_T, q_T normalised over all states; as the values' expectation is p_T, loss and gradient
    have the expectations of the dense ones.
    """
    soft = _drawn(states, values, temperature)
    return _ClosedForm.apply(logits, labels, soft, (1 - hard_weight) * temperature**2, hard_weight)


def logit_loss(logits: Tensor, labels: Tensor, states: Tensor | None, target: Tensor, hard_weight: float) -> Tensor:
    """(1 - w) · (half the mean squared error between student's and teacher's logits) + w · CE(labels, q_1).

    target: the teacher's logits, (frames, num_pdfs), or with states (frames, k) those of the k states and of the bin of
    all others, (frames, k + 1); the student's bin is the log-sum-exp of its states. Stored posteriors tell logits up to
    a constant a frame, so each side's mean over the entries is taken off. Ba and Caruana 2014, eq. 1, but mean over the
    entries: the limit of T²·CE(p_T, q_T) for high T (Hinton et al. 2015, section 2.1), so that w weighs alike.
    """
    if states is None:
        error = (_centred(logits) - _centred(target)).square().mean() / 2
        return _mixed(error, logits, labels, hard_weight)
    soft = _binned(states, target, 1.0, _half_squared_error)
    return _ClosedForm.apply(logits, labels, soft, 1 - hard_weight, hard_weight)
