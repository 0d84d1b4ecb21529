"""Baseline, teachers and student before the same frames of the test set: what every posterior figure is made of."""

import torch
from torch import Tensor

from asr_kd import scratch
from asr_kd.distill.inference import SpecialistEnsemble, load_specialists
from asr_kd.errors import UserError
from asr_kd.hmm.show import pdf_names
from asr_kd.hmm.tree import Tree
from asr_kd.nn.inputs import load_frames
from asr_kd.nn.posteriors import load_ensemble, mean_log_posteriors
from asr_kd.recipe import Recipe
from asr_kd.workspace import LAST_TREE, Workspace

# Multiply-adds of one page's statistics, a minute or two of two cores in float32; a GPU does more in less.
PRODUCTS, PRODUCTS_ON_GPU = 1.5e12, 5e14


class Panel:
    """names: baseline, ensemble (or specialists) and student; states: each tied state's name, as `IY.1`, or class.

    labels (N,), utterances and starts are those of the test frames (`Frames`). UserError where a network, its
    features or the alignment is missing, or student and teachers have features of different utterances.
    """

    def __init__(self, recipe: Recipe, work: Workspace, device: str) -> None:
        members = [work.member(index).name for index in range(recipe.teachers.members)]
        self.teachers = (
            load_specialists(work, recipe.specialists, device)
            if recipe.specialists
            else load_ensemble(work, members, recipe.targets.mean, device)
        )
        self.student = load_ensemble(work, [work.model("student").name], device=device)
        self.teacher = "specialists" if recipe.specialists else "ensemble"
        self.names = ("baseline", self.teacher, "student")
        frames, seen = (load_frames(work, s.network, "test", device) for s in (self.teachers, self.student))
        if seen.utterances != frames.utterances or not torch.equal(seen.starts, frames.starts):
            raise UserError(f"{work.root}: student and teachers have test features of other utterances; run --stage 4")
        self.labels, self.utterances, self.starts = frames.labels, frames.utterances, frames.starts
        self._teachers_see = frames.standardised(self.teachers.models[0])
        self._student_sees = seen.standardised(self.student.models[0])
        self.states = state_names(recipe, work, self.teachers.num_pdfs)

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def parameters(self) -> int:
        """Of all networks: the multiply-adds of a frame, near enough."""
        return self.teachers.parameters + self.student.parameters

    def sample(self, most: int | None) -> Tensor:
        """Numbers of evenly spread frames: at most `most`, or as many as PRODUCTS are enough for; all if that is so."""
        bound = PRODUCTS if self.labels.device.type == "cpu" else PRODUCTS_ON_GPU
        count = min(len(self), int(bound / self.parameters) if most is None else most)
        numbers = torch.arange(count, out=scratch.numbers(count)).mul_(len(self))
        return numbers.div_(count, rounding_mode="floor").to(self.labels.device)

    @torch.inference_mode()
    def log_posteriors(self, numbers: Tensor) -> dict[str, Tensor]:
        """Of the frames numbered (batch,), by system: (batch, num_pdfs) float32 natural logs. Baseline is member 0."""
        windows = self.teachers.windows(self._teachers_see, numbers)
        if isinstance(self.teachers, SpecialistEnsemble):
            baseline, together = self.teachers.generalist(windows), self.teachers.log_posteriors(windows)
        else:
            logits = self.teachers.logits(windows)
            baseline, together = logits[0].log_softmax(1), mean_log_posteriors(logits, self.teachers.mean)
        student = self.student.log_posteriors(self.student.windows(self._student_sees, numbers))
        return dict(zip(self.names, (baseline, together, student), strict=True))


def state_names(recipe: Recipe, work: Workspace, num_pdfs: int) -> list[str]:
    """Phone and HMM state of each tied state; of images, the classes. UserError where the tree is of other states."""
    if recipe.corpus.of_images:
        return [str(label) for label in range(num_pdfs)]
    path = work.gmm(LAST_TREE) / "tree.json"
    names = pdf_names(Tree.load(path))
    if len(names) != num_pdfs:
        raise UserError(f"{path}: {len(names)} tied states, the networks have {num_pdfs}; run --stage 3 (align) again")
    return names
