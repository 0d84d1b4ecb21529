"""Stage 4: the ensemble's networks, alike but for initialisation and data order; member 0 is the baseline.

Where the recipe has specialists, member 0 is their generalist, and they are trained after the members.
"""

from dataclasses import dataclass
from typing import Any, Literal

import torch

from asr_kd.decode.adapted import write_adapted_features
from asr_kd.decode.systems import Decoding
from asr_kd.distill.clusters import find_clusters
from asr_kd.distill.coverage import describe_specialists
from asr_kd.distill.inference import load_specialists
from asr_kd.distill.specialists import train_specialist
from asr_kd.distill.targets import origin
from asr_kd.errors import UserError
from asr_kd.executors.contract import Work
from asr_kd.files import write_json
from asr_kd.hmm.show import pdf_names
from asr_kd.hmm.tree import Tree
from asr_kd.nn.accuracy import CORRECT, by_utterance, ensemble_accuracy
from asr_kd.nn.frames import Frames
from asr_kd.nn.hashes import file_hash
from asr_kd.nn.inputs import Inputs, load_frames, load_inputs
from asr_kd.nn.model import WEIGHTS
from asr_kd.nn.parallel import processes
from asr_kd.nn.posteriors import Ensemble, load_ensemble
from asr_kd.nn.products import threads
from asr_kd.nn.stack import train_together
from asr_kd.nn.training import HardTargets, Progress, Run, train
from asr_kd.pipeline import Job, fingerprint
from asr_kd.recipe import Network, Specialists, Teachers
from asr_kd.workspace import LAST_TREE


def run(job: Job) -> None:
    teachers = job.recipe.teachers
    check_windows(teachers)
    prepare_input(job, teachers.network)
    inputs = load_inputs(job.work, teachers.network, job.device, teachers.train.fraction, job.recipe.seed)
    job.log.info("%d training frames, %d tied states", len(inputs.train), inputs.num_pdfs)
    train_members(job, inputs)
    ensemble = load_ensemble(job.work, member_names(job), job.recipe.targets.mean, job.device)
    splits = {"dev": inputs.dev, "test": load_frames(job.work, teachers.network, "test", job.device)}
    with threads(job.jobs):
        accuracy, correct = ensemble_accuracy(ensemble, splits, job.progress)
    write_json(job.work.root / "models" / "ensemble.json", accuracy)
    systems = [*member_names(job), "ensemble"]
    counts = {split: dict(zip(systems, correct[split], strict=True)) for split in splits}
    by_split = {split: by_utterance(frames, counts[split]) for split, frames in splits.items()}
    write_json(job.work.root / "models" / CORRECT, by_split)
    job.log.info(
        "dev frame accuracy: members %s, mean %.4f, ensemble %.4f",
        " ".join(f"{member['dev']:.4f}" for member in accuracy["members"]),
        accuracy["members_mean"]["dev"], accuracy["ensemble"]["dev"],
    )  # fmt: skip
    if job.recipe.specialists:
        train_specialists(job, inputs, splits, job.recipe.specialists)


def check_windows(teachers: Teachers) -> None:
    """Members may differ in their layers, not in what they see."""
    for number, network in enumerate(teachers.networks or ()):
        for key in ("input", "left", "right"):
            ours, common = getattr(network, key), getattr(teachers.network, key)
            if ours != common:
                raise UserError(
                    f"teachers.networks.{number}.{key}: {ours}, teachers.network has {common}; "
                    "members of one ensemble see the same windows"
                )


def prepare_input(job: Job, network: Network) -> None:
    """Make the speaker-adapted features if the network reads them and they are not there."""
    if network.input not in ("fbank", "pixels"):
        decoding = Decoding(job, [fingerprint(job.recipe, stage) for stage in ("lang", "align")])
        write_adapted_features(decoding, with_fbank=network.input == "fmllr+fbank")


def member_names(job: Job) -> list[str]:
    return [job.work.member(index).name for index in range(job.recipe.teachers.members)]


def load_teachers(job: Job) -> Ensemble:
    """Whose posteriors are the soft targets: the members, or member 0 and its specialists."""
    if job.recipe.specialists:
        return load_specialists(job.work, job.recipe.specialists, job.device)
    return load_ensemble(job.work, member_names(job), job.recipe.targets.mean, job.device)


def teachers_origin(job: Job) -> dict[str, Any]:
    """What the soft targets of `load_teachers` are made from."""
    targets, network, specialists = job.recipe.targets, job.recipe.teachers.network, job.recipe.specialists
    if specialists is None:
        return origin(job.work, member_names(job), targets.mean, network)
    paths = [job.work.member(0), *(job.work.specialist(index) for index in range(specialists.count))]
    made_from = origin(job.work, [path.name for path in paths], targets.mean, network)
    return made_from | {"mean": "specialists", "active_classes": specialists.active_classes}


def teachers_seed(job: Job) -> int:
    return job.recipe.seed if job.recipe.teachers.seed is None else job.recipe.teachers.seed


@dataclass(frozen=True)
class Networks(Work):
    """Networks to train, a task each, side by side where there is no accelerator, and no torchrun whose processes share
    every network; job: as a task is given it.
    """

    job: Job

    @property
    def here(self) -> Literal["threads", "turns"]:
        return "threads" if self.job.device == "cpu" and processes() == 1 else "turns"


class Members(Networks):
    """The ensemble's members by number."""

    title = "members"

    @property
    def epochs(self) -> int:
        return self.job.recipe.teachers.train.epochs

    def name(self, item: int) -> str:
        return self.job.work.member(item).name

    def load(self) -> Inputs:
        teachers, recipe = self.job.recipe.teachers, self.job.recipe
        return load_inputs(self.job.work, teachers.network, self.job.device, teachers.train.fraction, recipe.seed)

    def run_of(self, item: int, loaded: Inputs) -> Run:
        teachers, seed = self.job.recipe.teachers, (teachers_seed(self.job), "member", item)
        return Run(teachers.network_of(item), teachers.train, seed, loaded.num_pdfs, loaded.data)

    def do(self, loaded: Inputs, item: int, progress: Progress) -> None:
        job, path, member = self.job, self.job.work.member(item), self.run_of(item, loaded)
        labels, tracker = HardTargets(loaded.train.labels), job.tracker(path.name)
        train(path, member, loaded.train, loaded.dev, labels, progress, job.device, tracker=tracker)


class MembersTogether(Members):
    """The members by groups of one architecture, each a stack."""

    title = "groups of members"

    def name(self, item: tuple[int, ...]) -> str:  # type: ignore[override]
        return " ".join(map(super().name, item))

    def do(self, loaded: Inputs, item: tuple[int, ...], progress: Progress) -> None:  # type: ignore[override]
        if len(item) == 1:
            super().do(loaded, item[0], progress)
            return
        paths = [self.job.work.member(index) for index in item]
        runs = [self.run_of(index, loaded) for index in item]
        trackers = [self.job.tracker(path.name) for path in paths]
        train_together(paths, runs, loaded.train, loaded.dev, progress, self.job.device, trackers)


def train_members(job: Job, inputs: Inputs) -> None:
    teachers, task = job.recipe.teachers, job.as_task()
    if teachers.together and task.device != "cpu" and processes() == 1:
        list(job.spread(MembersTogether(task), groups(teachers, teachers.together), inputs))
    else:
        list(job.spread(Members(task), range(teachers.members), inputs))


def groups(teachers: Teachers, most: int) -> list[tuple[int, ...]]:
    """The members by their numbers, at most `most` of one architecture in a group; of convolutions, one."""
    alike: dict[Network, list[int]] = {}
    for index in range(teachers.members):
        alike.setdefault(teachers.network_of(index), []).append(index)
    sizes = {network: 1 if network.kind else most for network in alike}
    return [
        tuple(numbers[first : first + sizes[network]])
        for network, numbers in alike.items()
        for first in range(0, len(numbers), sizes[network])
    ]


@dataclass(frozen=True)
class SpecialistNetworks(Networks):
    """The specialists by number; subsets: the states of each."""

    subsets: tuple[tuple[int, ...], ...]
    title = "specialists"

    @property
    def recipe(self) -> Specialists:
        assert self.job.recipe.specialists is not None
        return self.job.recipe.specialists

    @property
    def epochs(self) -> int:
        return self.recipe.train.epochs

    def name(self, item: int) -> str:
        return self.job.work.specialist(item).name

    def load(self) -> tuple[Inputs, Ensemble]:
        generalist = load_ensemble(self.job.work, [self.job.work.member(0).name], device=self.job.device)
        return Members(self.job).load(), generalist

    def do(self, loaded: tuple[Inputs, Ensemble], item: int, progress: Progress) -> None:
        (inputs, generalist), job, path = loaded, self.job, self.job.work.specialist(item)
        weights, subset = file_hash(job.work.member(0) / WEIGHTS), torch.tensor(self.subsets[item])
        train_specialist(
            path, generalist.models[0], weights, subset, self.recipe.train, inputs,
            (teachers_seed(job), "specialist", item), progress, job.device, job.tracker(path.name),
        )  # fmt: skip


def train_specialists(job: Job, inputs: Inputs, splits: dict[str, Frames], specialists: Specialists) -> None:
    """Cluster the tied states by what the generalist confuses, train a network for each cluster, describe them all."""
    generalist = load_ensemble(job.work, [job.work.member(0).name], device=job.device)
    with threads(job.jobs):
        clusters = find_clusters(generalist, inputs.train, specialists, (teachers_seed(job),), job.progress)
    subsets = tuple(tuple(subset.tolist()) for subset in clusters.subsets)
    work = SpecialistNetworks(job.as_task(), subsets)
    list(job.spread(work, range(specialists.count), (inputs, generalist)))
    ensemble, names = load_specialists(job.work, specialists, job.device), state_names(job, inputs.num_pdfs)
    with threads(job.jobs):
        about = describe_specialists(ensemble, clusters, names, splits, job.progress)
    write_json(job.work.specialists, about)
    for cluster in about["clusters"]:
        job.log.info("a cluster: %s", " ".join(f"{state}×{count}" for state, count in cluster["states"].items()))
    dev = about["accuracy"]["dev"]
    job.log.info("dev frame accuracy: generalist %.4f, with specialists %.4f", dev["without"], dev["with"])


def state_names(job: Job, num_pdfs: int) -> list[str]:
    """Phones and HMM states; numbers where the labels come from no decision tree."""
    path = job.work.gmm(LAST_TREE) / "tree.json"
    return pdf_names(Tree.load(path)) if path.exists() else [str(pdf) for pdf in range(num_pdfs)]
