from collections.abc import Iterable, Sequence

import pytest
import torch
from torch import Tensor

from asr_kd.distill.clusters import (
    confusion_columns,
    find_clusters,
    nearest_points,
    online_kmeans,
    posterior_covariance,
)
from asr_kd.errors import UserError
from asr_kd.nn.frames import Frames
from asr_kd.nn.model import AcousticModel
from asr_kd.nn.posteriors import Ensemble
from asr_kd.nn.seeds import generator
from asr_kd.recipe import Network, Specialists

GROUPS, STATES = 4, 8
NUM_PDFS = GROUPS * STATES


def silent(batches: Sequence[Tensor], title: str) -> Iterable[Tensor]:
    return batches


def frames_of(rows: Tensor) -> Frames:
    labels = torch.zeros(len(rows), dtype=torch.int64)
    return Frames(rows.half(), labels, ["u"], torch.tensor([0, len(rows)]))


def confused() -> tuple[Ensemble, Frames]:
    """A network whose logits are its input, and frames on which it wavers between the states of one group: states
    g, g + 4, g + 8, …, some groups thirty times as frequent as others.
    """
    model = AcousticModel(Network(left=0, right=0, layers=0, dropout=0), NUM_PDFS, NUM_PDFS)
    with torch.no_grad():
        model.weights[0].copy_(torch.eye(NUM_PDFS))
    draws = generator((3,))
    group = torch.multinomial(torch.tensor([30.0, 10.0, 3.0, 1.0]), 6000, replacement=True, generator=draws)
    logits = 1.5 * torch.randn(6000, NUM_PDFS, generator=draws)
    logits[torch.arange(NUM_PDFS) % GROUPS == group[:, None]] += 6
    return Ensemble([model]), frames_of(logits)


def test_the_covariance_is_that_of_the_posteriors() -> None:
    ensemble, frames = confused()
    numbers = torch.arange(0, 6000, 7)
    expected = frames.rows[numbers].float().softmax(1).double().T.cov(correction=0)
    found = posterior_covariance(ensemble, frames, numbers, silent, batch=100)
    assert torch.allclose(found, expected, atol=1e-8, rtol=1e-4)


def test_planted_confusions_are_found_without_labels() -> None:
    ensemble, frames = confused()
    plan = Specialists(count=GROUPS, classes=STATES, clusters_from=5000)
    clusters = find_clusters(ensemble, frames, plan, (0,), silent)
    found = {tuple(subset.tolist()) for subset in clusters.subsets}
    assert found == {tuple(range(group, NUM_PDFS, GROUPS)) for group in range(GROUPS)}
    assert clusters.sizes.tolist() == [STATES] * GROUPS


def test_clusters_depend_on_the_seed_alone() -> None:
    ensemble, frames = confused()
    plan = Specialists(count=7, classes=5, clusters_from=500)
    before = torch.get_rng_state()
    first, again, other = (find_clusters(ensemble, frames, plan, (seed,), silent).subsets for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert torch.equal(torch.get_rng_state(), before)


def test_columns_tell_with_what_not_how_often() -> None:
    ensemble, frames = confused()
    covariance = posterior_covariance(ensemble, frames, torch.arange(6000), silent)
    columns = confusion_columns(covariance)
    assert torch.allclose(columns.norm(dim=1), torch.ones(NUM_PDFS, dtype=torch.float64))
    assert columns.diagonal().abs().max() == 0
    scales = torch.logspace(-2, 2, NUM_PDFS, dtype=torch.float64)
    assert torch.allclose(confusion_columns(covariance * torch.outer(scales, scales)), columns)
    never = covariance.clone()
    never[5] = never[:, 5] = 0
    assert confusion_columns(never)[5].abs().max() == 0
    assert confusion_columns(never).isfinite().all()


def test_centres_come_to_the_means_of_separate_clouds() -> None:
    draws = generator((1,))
    means = 20 * torch.eye(5, dtype=torch.float64)
    cloud = torch.arange(500) % 5
    points = means[cloud] + torch.randn(500, 5, generator=draws, dtype=torch.float64)
    centres = online_kmeans(points, 5, draws)
    order = torch.cdist(means, centres).argmin(1)
    assert sorted(order.tolist()) == [0, 1, 2, 3, 4]
    exact = torch.stack([points[cloud == number].mean(0) for number in range(5)])
    # Each centre's running mean holds its first point once more than the others: within 1 / (100 × passes) of it.
    assert torch.allclose(centres[order], exact, atol=0.02)


def test_one_point_moves_the_nearest_centre_only() -> None:
    points = torch.tensor([[0.0, 0.0], [1.0, 0.0], [10.0, 0.0]], dtype=torch.float64)
    centres = online_kmeans(points, 2, generator((0,)))
    far = centres[centres[:, 0].argmax()]
    assert torch.equal(far, points[2])
    assert 0 <= float(centres[:, 0].min()) <= 1


def test_points_that_coincide_can_be_clustered() -> None:
    centres = online_kmeans(torch.ones(6, 3), 4, generator((0,)))
    assert torch.equal(centres, torch.ones(4, 3))


def test_subsets_are_the_nearest_points_and_may_overlap() -> None:
    draws = generator((5,))
    points, centres = torch.randn(40, 3, generator=draws), torch.randn(6, 3, generator=draws)
    subsets = nearest_points(points, centres, 15)
    for centre, subset in zip(centres, subsets, strict=True):
        by_distance = sorted(range(40), key=lambda number: float((points[number] - centre).square().sum()))
        assert subset.tolist() == sorted(by_distance[:15])
    assert subsets.flatten().bincount(minlength=40).max() > 1


@pytest.mark.parametrize(("key", "value"), [("count", NUM_PDFS), ("classes", NUM_PDFS + 3)])
def test_as_many_clusters_or_classes_as_states_are_refused(key: str, value: int) -> None:
    ensemble, frames = confused()
    plan = Specialists(**{"count": 2, "classes": 3, key: value})
    with pytest.raises(UserError, match=rf"specialists\.{key}: {value} with 32 tied states"):
        find_clusters(ensemble, frames, plan, (0,), silent)
