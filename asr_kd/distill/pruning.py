"""Unbiased random pruning of posteriors: few states a frame, and the right expectation for every state."""

import torch
from torch import Tensor


def prune(probabilities: Tensor, count: int, uniform: Tensor) -> tuple[Tensor, Tensor]:
    """Keep `count` states a frame so that each state's expected value is its probability.

    probabilities: (frames, num_pdfs), rows summing to 1, num_pdfs > count; uniform: (frames,) float64 in [0, 1), the
    only randomness. Returns states (frames, count) int64 and their values (frames, count).

    As Kaldi's prob-to-post: a state is kept with probability π = min(1, p / τ) and then has the value p / π, so the
    states of at least τ keep theirs and any other that is kept has τ. Here each frame has the τ of Σ π = count, and
    one uniform number draws all its states (systematic sampling), so that there are exactly `count`; the values then
    sum to 1. States kept whole come first, the most probable first.
    """
    positive = probabilities.clamp_min(torch.finfo(probabilities.dtype).tiny)
    best, best_states = positive.topk(count, 1)
    places = torch.arange(count, device=best.device)
    others = positive.scatter(1, best_states, 0.0)
    # Column m: the sum over all but the m most probable states, from the small end: 1 − Σ would cancel.
    remainder = best.flip(1).cumsum(1).flip(1) + others.sum(1, keepdim=True)
    # With m states kept whole, τ is remainder / (count − m); it rises with m, until the next state is not above it.
    whole = (best * (count - places) > remainder).long().cumprod(1).sum(1, keepdim=True)
    slots = count - whole
    threshold = remainder.gather(1, whole) / slots
    others.scatter_(1, best_states, torch.where(places < whole, 0.0, best))
    edges = others.double().cumsum(1)
    positions = (uniform[:, None] + places - whole) / slots * edges[:, -1:]
    drawn = torch.searchsorted(edges, positions, right=True).clamp_max(others.shape[1] - 1)
    kept = places < whole
    return torch.where(kept, best_states, drawn), torch.where(kept, best, threshold)
