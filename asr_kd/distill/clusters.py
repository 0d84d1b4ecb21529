"""Which tied states a network confuses: clusters of the covariance of its posteriors; no labels are used."""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import normalize

from asr_kd.errors import UserError
from asr_kd.nn.frames import Frames
from asr_kd.nn.posteriors import Ensemble
from asr_kd.nn.seeds import Seed, generator
from asr_kd.nn.training import Progress
from asr_kd.recipe import Specialists

PASSES = 10


@dataclass(frozen=True)
class Clusters:
    """subsets: (count, classes) int64, the tied states of each specialist in rising order; sizes: (count,) int64,
    states nearer to that cluster's centre than to any other.
    """

    subsets: Tensor
    sizes: Tensor


def find_clusters(
    generalist: Ensemble, frames: Frames, specialists: Specialists, seed: Seed, progress: Progress
) -> Clusters:
    """Subsets of states that are predicted together: Hinton et al. 2015, §5.1.

    A subset is the `classes` states nearest to a cluster's centre, so subsets overlap and some states are in none:
    the paper's 61 × 300 classes out of 15,000 can be had in no other way. Raises UserError for more clusters than
    states, or subsets that leave no state out.
    """
    num_pdfs = generalist.num_pdfs
    for key, value in (("count", specialists.count), ("classes", specialists.classes)):
        if value >= num_pdfs:
            raise UserError(f"specialists.{key}: {value} with {num_pdfs} tied states; choose fewer")
    draws = generator((*seed, "clusters"))
    numbers = torch.randperm(len(frames), generator=draws)[: specialists.clusters_from].to(frames.rows.device)
    standardised = frames.standardised(generalist.models[0])
    columns = confusion_columns(posterior_covariance(generalist, standardised, numbers, progress)).cpu()
    centres = online_kmeans(columns, specialists.count, draws)
    sizes = torch.cdist(columns, centres).argmin(1).bincount(minlength=specialists.count)
    return Clusters(nearest_points(columns, centres, specialists.classes), sizes)


def posterior_covariance(
    generalist: Ensemble, frames: Frames, numbers: Tensor, progress: Progress, batch: int = 1024
) -> Tensor:
    """Covariance of the posteriors at the frames numbered (n,): (num_pdfs, num_pdfs) float64.

    frames: standardised as the generalist expects.
    """
    size, device = generalist.num_pdfs, frames.rows.device
    total = torch.zeros(size, dtype=torch.float64, device=device)
    products = torch.zeros(size, size, dtype=torch.float64, device=device)
    with torch.inference_mode():
        for some in progress(numbers.split(batch), "covariance of the posteriors"):
            posteriors = generalist.log_posteriors(generalist.windows(frames, some)).exp()
            total += posteriors.sum(0, dtype=torch.float64)
            products += posteriors.T @ posteriors
    mean = total / len(numbers)
    return products / len(numbers) - torch.outer(mean, mean)


def confusion_columns(covariance: Tensor) -> Tensor:
    """What K-means sees: the covariance's columns as rows (num_pdfs, num_pdfs), each of length 1.

    Every state is scaled to unit variance first and its covariance with itself left out. Otherwise a column is little
    but its own variance and the few most frequent states. A state that is never predicted has a column of zeros.
    """
    deviation = covariance.diagonal().clamp_min(1e-30).sqrt()
    correlation = covariance / torch.outer(deviation, deviation)
    return normalize(correlation.fill_diagonal_(0).T, dim=1, eps=1e-30)


def online_kmeans(points: Tensor, count: int, draws: torch.Generator) -> Tensor:
    """Centres (count, dim) of points (n, dim), n >= count: one point at a time moves the centre nearest to it.

    MacQueen 1967: a centre is the running mean of the points it attracted, over several passes in random order.
    The first centres are drawn among the points far from one another (Arthur and Vassilvitskii 2007).
    """
    centres = _distant_points(points, count, draws)
    attracted = torch.ones(count, dtype=points.dtype)
    for _ in range(PASSES):
        for number in torch.randperm(len(points), generator=draws).tolist():
            offsets = points[number] - centres
            nearest = int(offsets.square().sum(1).argmin())
            attracted[nearest] += 1
            centres[nearest] += offsets[nearest] / attracted[nearest]
    return centres


def _distant_points(points: Tensor, count: int, draws: torch.Generator) -> Tensor:
    """The first drawn evenly, each further one in proportion to its squared distance to the nearest so far."""
    chosen = torch.randint(len(points), (1,), generator=draws)
    distance = (points - points[chosen]).square().sum(1)
    while len(chosen) < count:
        # A little for every point: points that coincide have no distance left to draw by.
        another = torch.multinomial(distance + 1e-12, 1, generator=draws)
        chosen = torch.cat([chosen, another])
        distance = torch.minimum(distance, (points - points[another]).square().sum(1))
    return points[chosen].clone()


def nearest_points(points: Tensor, centres: Tensor, size: int) -> Tensor:
    """For each centre the numbers of the `size` points nearest to it, (count, size) int64 in rising order.

    A point may be near to several centres, or to none.
    """
    return torch.cdist(centres, points).topk(size, 1, largest=False).indices.sort(1).values
