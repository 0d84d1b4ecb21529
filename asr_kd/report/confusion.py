"""What the test frames tell of each system: accuracy by phone, mean posteriors by state, calibration, likeness."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from asr_kd.nn.order import Batches
from asr_kd.report.panel import Panel

BATCH, BINS = 512, 15
Progress = Callable[[Sequence[Tensor], str], Iterable[Tensor]]


@dataclass(frozen=True)
class Answers:
    """One system's sums over frames, float64 arrays.

    correct (states,): frames of each state whose arg-max tied state is the alignment's. mass (states, states): sum of
    the posterior of the column's state over the row's frames. bins (BINS, 3): frames, their summed confidence (largest
    posterior) and those that are right, by confidence. nats: summed cross-entropy with the alignment. divergence:
    summed KL of the teachers' posteriors from this system's, nats.
    """

    correct: np.ndarray
    mass: np.ndarray
    bins: np.ndarray
    nats: float
    divergence: float


@dataclass(frozen=True)
class Confusion:
    """states: names in alphabetical order, each for all tied states of that name; frames (states,): frames of each."""

    states: tuple[str, ...]
    frames: np.ndarray
    systems: dict[str, Answers]

    @property
    def phones(self) -> tuple[str, ...]:
        """The phones of the states, in order, once each."""
        return tuple(dict.fromkeys(map(phone_of, self.states)))

    def by_phone(self, array: np.ndarray) -> np.ndarray:
        """Sums over the states of each phone along every axis: (states, …) to (phones, …)."""
        index = {phone: number for number, phone in enumerate(self.phones)}
        phones = np.array([index[phone_of(state)] for state in self.states])
        for axis in range(array.ndim):
            moved = np.moveaxis(array, axis, 0)
            sums = np.zeros((len(index), *moved.shape[1:]))
            np.add.at(sums, phones, moved)
            array = np.moveaxis(sums, 0, axis)
        return array

    def accuracy(self, system: str) -> float:
        return float(self.systems[system].correct.sum() / self.frames.sum())

    def calibration_error(self, system: str) -> float:
        """Expected calibration error: mean over frames of |accuracy − confidence| of the bin (Guo et al. 2017)."""
        frames, confidence, right = self.systems[system].bins.T
        return float(np.abs(right - confidence).sum() / frames.sum())


def phone_of(state: str) -> str:
    """`IY` of `IY.1`."""
    return state.partition(".")[0]


def measure(panel: Panel, numbers: Tensor, progress: Progress) -> Confusion:
    """Ask all systems for the frames numbered (N,), in batches; sums stay on the panel's device."""
    states = tuple(sorted(set(panel.states)))
    index = {state: number for number, state in enumerate(states)}
    device = panel.labels.device
    group = torch.tensor([index[state] for state in panel.states], device=device)
    indicator = torch.zeros(len(panel.states), len(states), device=device)
    indicator[torch.arange(len(panel.states), device=device), group] = 1
    sums = {name: _Sums(len(states), device) for name in panel.names}
    frames = torch.zeros(len(states), dtype=torch.float64, device=device)
    for batch in progress(Batches(numbers, BATCH), "posteriors for report.html"):
        labels, log_post = panel.labels[batch], panel.log_posteriors(batch)
        frames += torch.bincount(group[labels], minlength=len(states))
        for name, system in sums.items():
            system.add(log_post[name], log_post[panel.teacher], labels, group, indicator)
    return Confusion(states, frames.cpu().numpy(), {name: system.answers() for name, system in sums.items()})


class _Sums:
    """One system's running sums."""

    def __init__(self, states: int, device: torch.device) -> None:
        self.correct = torch.zeros(states, dtype=torch.float64, device=device)
        self.mass = torch.zeros(states, states, dtype=torch.float64, device=device)
        self.bins = torch.zeros(BINS, 3, dtype=torch.float64, device=device)
        self.nats = torch.zeros(2, dtype=torch.float64, device=device)

    @torch.inference_mode()
    def add(self, log_post: Tensor, teachers: Tensor, labels: Tensor, group: Tensor, indicator: Tensor) -> None:
        """group (num_pdfs,): each tied state's row; indicator (num_pdfs, rows): the same as a matrix of 0 and 1."""
        posteriors, rows = log_post.exp(), group[labels]
        confidence, answers = posteriors.max(1)
        right = (answers == labels).double()
        self.correct.index_add_(0, rows, right)
        self.mass.index_add_(0, rows, (posteriors @ indicator).double())
        bins = (confidence * BINS).long().clamp_(max=BINS - 1)
        self.bins.index_add_(0, bins, torch.stack([torch.ones_like(right), confidence.double(), right], 1))
        nats = -log_post.gather(1, labels[:, None]).sum()
        divergence = (teachers.exp() * (teachers - log_post)).sum()
        self.nats += torch.stack([nats, divergence]).double()

    def answers(self) -> Answers:
        nats, divergence = self.nats.tolist()
        correct, mass, bins = (tensor.cpu().numpy() for tensor in (self.correct, self.mass, self.bins))
        return Answers(correct, mass, bins, nats, divergence)
