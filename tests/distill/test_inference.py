"""The combined posteriors against a general-purpose minimiser of the sum of divergences."""

import numpy as np
import pytest
import torch
from scipy.optimize import minimize
from torch import Tensor

from asr_kd.distill.inference import Cells, Opinions, SpecialistEnsemble, combine, improve
from asr_kd.nn.model import AcousticModel
from asr_kd.nn.seeds import generator
from asr_kd.recipe import Network

NUM_PDFS, SPECIALISTS, FRAMES, DIM = 14, 5, 24, 6
SUBSETS = [[0, 1, 2, 3], [2, 3, 4, 5, 6], [6, 7, 8], [0, 3, 6, 9, 11], [1, 2, 3, 4]]  # 10, 12 and 13 in none


def network(outputs: int, number: int) -> AcousticModel:
    model = AcousticModel(Network(left=0, right=0, layers=1, width=8, dropout=0), DIM, outputs)
    model.initialise(generator(("inference", number)))
    with torch.no_grad():
        model.weights[-1].mul_(3)
    return model.eval()


def ensemble(active_classes: int) -> SpecialistEnsemble:
    specialists = [(network(len(subset) + 1, 1 + m), torch.tensor(subset)) for m, subset in enumerate(SUBSETS)]
    return SpecialistEnsemble(network(NUM_PDFS, 0), specialists, active_classes)


def windows() -> Tensor:
    return torch.randn(FRAMES, 1, DIM, generator=generator((4,)))


def members() -> np.ndarray:
    member = np.zeros((SPECIALISTS, NUM_PDFS), bool)
    for row, subset in zip(member, SUBSETS, strict=True):
        row[subset] = True
    return member


def divergence(q: np.ndarray, sources: list[tuple[np.ndarray, np.ndarray]]) -> float:
    """Σ KL(p, q) by definition; sources: (p over the bins, (bins, num_pdfs) 0/1 of the states in each bin)."""
    return sum(float(np.sum(p * np.log(p / (bins @ q)))) for p, bins in sources)


def sources_of(system: SpecialistEnsemble, frame: int, calls: list[int]) -> list[tuple[np.ndarray, np.ndarray]]:
    window = windows()[frame : frame + 1]
    with torch.no_grad():
        outputs = [model(window).double().softmax(1)[0].numpy() for model in system.models]
    sources = [(outputs[0], np.eye(NUM_PDFS))]
    for m in calls:
        bins = np.stack([*np.eye(NUM_PDFS)[SUBSETS[m]], (~members()[m]).astype(float)])
        sources.append((outputs[1 + m], bins))
    return sources


def brute_force(sources: list[tuple[np.ndarray, np.ndarray]]) -> np.ndarray:
    """q = softmax(z), z by L-BFGS on the divergence and its gradient, started at z = 0."""

    def loss(z: np.ndarray) -> tuple[float, np.ndarray]:
        q = np.exp(z - z.max())
        q /= q.sum()
        slope = -sum(bins.T @ (p / (bins @ q)) for p, bins in sources)
        return divergence(q, sources), q * (slope - q @ slope)

    options = {"maxiter": 20000, "maxfun": 40000, "ftol": 1e-16, "gtol": 1e-10}
    z = minimize(loss, np.zeros(NUM_PDFS), jac=True, method="L-BFGS-B", options=options).x
    return np.exp(z - z.max()) / np.exp(z - z.max()).sum()


def called(system: SpecialistEnsemble, frame: int, n: int) -> list[int]:
    with torch.no_grad():
        logits = system.models[0](windows()[frame : frame + 1])[0]
    best = sorted(range(NUM_PDFS), key=lambda pdf: -float(logits[pdf]))[:n]
    return [m for m, subset in enumerate(SUBSETS) if set(subset) & set(best)]


@pytest.mark.parametrize("n", [1, 3, NUM_PDFS])
def test_the_posteriors_minimise_the_sum_of_divergences(n: int) -> None:
    system = ensemble(n)
    with torch.no_grad():
        log_post = system.log_posteriors(windows())
    calls = [called(system, frame, n) for frame in range(FRAMES)]
    assert n == 1 or any(len(call) > 1 for call in calls)
    for frame, call in enumerate(calls):
        expected = brute_force(sources_of(system, frame, call))
        assert np.abs(log_post[frame].double().exp().numpy() - expected).max() < 1e-5
    assert torch.allclose(log_post.exp().sum(1), torch.ones(FRAMES), atol=1e-6)


def test_an_uncalled_frame_keeps_the_generalists_posteriors_exactly() -> None:
    system = ensemble(1)
    with torch.no_grad():
        alone, together = system.models[0](windows()).log_softmax(1), system.log_posteriors(windows())
    uncalled = [frame for frame in range(FRAMES) if not called(system, frame, 1)]
    assert 0 < len(uncalled) < FRAMES
    assert torch.equal(together[uncalled], alone[uncalled])


def random_opinions(draws: torch.Generator) -> tuple[Opinions, Cells]:
    """Opinions of a batch where the calls are drawn by lot; sharp ones, dustbins near 0 and near 1 among them."""
    member = torch.from_numpy(members())
    active = torch.rand(64, SPECIALISTS, generator=draws) < 0.6
    active[:, 0] = True
    generalist = (4 * torch.randn(64, NUM_PDFS, generator=draws, dtype=torch.float64)).softmax(1)
    evidence, dustbin = generalist.clone(), torch.zeros(64, SPECIALISTS, dtype=torch.float64)
    for m, subset in enumerate(SUBSETS):
        p = (4 * torch.randn(64, len(subset) + 1, generator=draws, dtype=torch.float64)).softmax(1) * active[:, m, None]
        evidence[:, subset] += p[:, :-1]
        dustbin[:, m] = p[:, -1]
    return Opinions(evidence, dustbin, active), Cells(member)


def test_no_step_increases_the_divergence() -> None:
    (evidence, dustbin, active), _ = random_opinions(generator((4,)))
    outside = torch.from_numpy(~members()).double()  # every state a cell of its own: the general iteration
    sources = 1 + active.sum(1, keepdim=True)
    q = torch.rand(64, NUM_PDFS, generator=generator((5,)), dtype=torch.float64)
    q /= q.sum(1, keepdim=True)

    def cross_entropy(q: Tensor) -> Tensor:
        return -(evidence * q.log()).sum(1) - (dustbin * (q @ outside.T).log()).sum(1)

    start = before = cross_entropy(q)
    for _ in range(200):
        q = improve(q, evidence, dustbin, outside, sources)
        after = cross_entropy(q)
        assert (after <= before + 1e-12).all()
        assert torch.allclose(q.sum(1), torch.ones(64, dtype=torch.float64))
        before = after
    assert (before < start - 0.01).all()


def test_cells_of_states_lose_nothing() -> None:
    opinions, cells = random_opinions(generator((6,)))
    assert cells.outside.shape[1] < NUM_PDFS
    evidence, dustbin, active = opinions
    outside, sources = torch.from_numpy(~members()).double(), 1 + active.sum(1, keepdim=True)
    q = evidence / evidence.sum(1, keepdim=True)
    for _ in range(3000):
        q = improve(q, evidence, dustbin, outside, sources)
    assert torch.allclose(combine(opinions, cells).double().exp(), q, atol=1e-6)


def test_one_specialist_has_a_closed_form() -> None:
    """Half of each inside; outside, the generalist's proportions with half of what both leave there."""
    draws, subset = generator((7,)), SUBSETS[1]
    generalist, own = (torch.randn(20, size, generator=draws).softmax(1) for size in (NUM_PDFS, len(subset) + 1))
    member = torch.zeros(1, NUM_PDFS, dtype=torch.bool)
    member[0, subset] = True
    evidence = generalist.clone()
    evidence[:, subset] += own[:, :-1]
    opinions = Opinions(evidence, own[:, -1:], torch.ones(20, 1, dtype=torch.bool))
    left = generalist[:, ~member[0]].sum(1, keepdim=True)
    expected = generalist * (left + own[:, -1:]) / (2 * left)
    expected[:, subset] = (generalist[:, subset] + own[:, :-1]) / 2
    assert torch.allclose(combine(opinions, Cells(member)).exp(), expected, atol=1e-6)


def test_certain_networks_that_disagree_give_finite_logs() -> None:
    """All float32 posteriors 0 or 1: the generalist sees only state 0, the specialist only what is not its own."""
    member = torch.zeros(2, 4, dtype=torch.bool)
    member[0, :2] = member[1, 0] = True
    evidence = torch.tensor([[1.0, 0, 0, 0]])
    opinions = Opinions(evidence, torch.ones(1, 2), torch.ones(1, 2, dtype=torch.bool))
    assert combine(opinions, Cells(member)).isfinite().all()
