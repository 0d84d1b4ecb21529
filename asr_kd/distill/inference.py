"""What a generalist and the specialists it calls think together (Hinton et al. 2015, §5.3, eq. 5)."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from asr_kd.distill.specialists import load_specialist
from asr_kd.nn.hashes import file_hash
from asr_kd.nn.model import WEIGHTS, AcousticModel, load_model
from asr_kd.nn.posteriors import Ensemble
from asr_kd.recipe import Specialists
from asr_kd.workspace import Workspace

TOLERANCE, MOST_STEPS = 1e-9, 10000


class Opinions(NamedTuple):
    """What the networks say of a batch: evidence (batch, num_pdfs), the generalist's posteriors plus those of the
    active specialists for their own states; dustbin (batch, specialists), theirs for all other states, 0 where
    inactive; active (batch, specialists) bool.
    """

    evidence: Tensor
    dustbin: Tensor
    active: Tensor


class Cells:
    """States grouped by which specialists cover them: among the states of a cell, q is in proportion to the evidence.

    member: (specialists, num_pdfs) bool. of: (num_pdfs,) int64, each state's cell; outside: (specialists, cells)
    float64, 1 for the cells that a specialist's dustbin holds.
    """

    def __init__(self, member: Tensor) -> None:
        patterns, self.of = torch.unique(member, dim=1, return_inverse=True)
        self.outside = (~patterns).double()

    def masses(self, evidence: Tensor) -> Tensor:
        """(batch, num_pdfs) to sums over each cell, (batch, cells) float64."""
        sums = torch.zeros(len(evidence), self.outside.shape[1], dtype=torch.float64, device=evidence.device)
        return sums.index_add_(1, self.of, evidence.double())


def improve(q: Tensor, masses: Tensor, dustbin: Tensor, outside: Tensor, sources: Tensor) -> Tensor:
    """One step of the fixed-point iteration for q (batch, cells), which never increases the divergence.

    masses: (batch, cells) evidence; dustbin: (batch, specialists); outside: (specialists, cells); sources: (batch, 1)
    distributions that were added up, 1 + active specialists. A dustbin's probability is shared out over its states as
    q is now, and the result is the mean of all distributions. This is an EM step for the sum of
    KL(p, q) over the sources: sharing out bounds each log of a sum from below (Jensen), tightly at the present q, and
    the mean maximises the bound. The sum is convex in q, so the only fixed points inside are minima.
    """
    shared = (dustbin / (q @ outside.T).clamp_min(torch.finfo(q.dtype).tiny)) @ outside
    return (masses + q * shared) / sources


def combine(opinions: Opinions, cells: Cells) -> Tensor:
    """Log of the q that minimises KL(p_g, q) + Σ_m KL(p_m, q) over the active specialists: (batch, num_pdfs) float32.

    With one active specialist the first step is exact; with more, a frame is improved until no cell's probability
    changes by more than 1e-9 (a few frames, where sure networks disagree, take hundreds of steps).
    """
    evidence, dustbin, active = opinions
    masses, dustbin = cells.masses(evidence), dustbin.double()
    sources = 1 + active.sum(1, keepdim=True)
    q = masses / masses.sum(1, keepdim=True)
    rows = torch.arange(len(q), device=q.device)
    for _ in range(MOST_STEPS):
        better = improve(q[rows], masses[rows], dustbin[rows], cells.outside, sources[rows])
        moving = (better - q[rows]).abs().amax(1) > TOLERANCE
        q[rows] = better
        rows = rows[moving]
        if not len(rows):
            break
    tiny = torch.finfo(torch.float32).tiny
    rise = (q.clamp_min(tiny).log() - masses.clamp_min(tiny).log()).float()
    return evidence.clamp_min(tiny).log() + rise[:, cells.of]


class SpecialistEnsemble(Ensemble):
    """The generalist and its specialists, asked like any other ensemble.

    specialists: a network and its states (classes,) each, the last output the dustbin; member: (specialists,
    num_pdfs) bool. A specialist is active where one of the generalist's `active_classes` most probable states is its.
    """

    def __init__(
        self, generalist: AcousticModel, specialists: Sequence[tuple[AcousticModel, Tensor]], active_classes: int
    ) -> None:
        super().__init__([generalist, *(model for model, _ in specialists)])
        self.subsets = [subset for _, subset in specialists]
        self.active_classes = min(active_classes, self.num_pdfs)
        self.member = torch.zeros(len(specialists), self.num_pdfs, dtype=torch.bool, device=generalist.log_prior.device)
        for row, subset in zip(self.member, self.subsets, strict=True):
            row[subset] = True
        self.cells = Cells(self.member)

    def generalist(self, windows: Tensor) -> Tensor:
        """The generalist's log posteriors, (batch, num_pdfs) float32."""
        return self.models[0](windows).float().log_softmax(1)

    def active(self, log_post: Tensor) -> Tensor:
        """Which specialists the generalist's log posteriors (batch, num_pdfs) call: (batch, specialists) bool."""
        best = log_post.topk(self.active_classes, 1).indices
        return self.member.T[best].any(1)

    def opinions(self, windows: Tensor, log_post: Tensor, active: Tensor) -> Opinions:
        """Ask the active specialists; all arguments (batch, …)."""
        evidence, dustbin = log_post.exp(), torch.zeros(active.shape, device=log_post.device)
        for number, (model, subset) in enumerate(zip(self.models[1:], self.subsets, strict=True)):
            rows = active[:, number].nonzero()[:, 0]
            if len(rows):
                posteriors = model(windows[rows]).float().softmax(1)
                evidence.index_put_((rows[:, None], subset), posteriors[:, :-1], accumulate=True)
                dustbin[rows, number] = posteriors[:, -1]
        return Opinions(evidence, dustbin, active)

    def log_posteriors(self, windows: Tensor) -> Tensor:
        """Log of the combined posteriors, (batch, num_pdfs) float32: the generalist's own where it calls nobody."""
        log_post = self.generalist(windows)
        active = self.active(log_post)
        rows = active.any(1).nonzero()[:, 0]
        if len(rows):
            log_post[rows] = combine(self.opinions(windows[rows], log_post[rows], active[rows]), self.cells)
        return log_post


def load_specialists(work: Workspace, specialists: Specialists, device: str = "cpu") -> SpecialistEnsemble:
    """Member 0 and the networks `models/specialist-NN`; UserError when one is missing or of another generalist."""
    generalist_hash = file_hash(work.member(0) / WEIGHTS)
    paths = [work.specialist(index) for index in range(specialists.count)]
    loaded = [load_specialist(path, generalist_hash, device) for path in paths]
    return SpecialistEnsemble(load_model(work.member(0), device), loaded, specialists.active_classes)
