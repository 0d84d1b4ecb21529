"""Stage 4: the ensemble's networks, alike but for initialisation and data order; member 0 is the baseline.

Where the recipe has specialists, member 0 is their generalist, and they are trained after the members.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_EXCEPTION, CancelledError, Future, ThreadPoolExecutor, wait
from queue import SimpleQueue
from threading import Event
from typing import Any

import torch
from torch import Tensor

from asr_kd.decode.adapted import write_adapted_features
from asr_kd.decode.systems import LAST_TREE, Decoding
from asr_kd.distill.clusters import find_clusters
from asr_kd.distill.coverage import describe_specialists
from asr_kd.distill.inference import load_specialists
from asr_kd.distill.specialists import train_specialist
from asr_kd.distill.targets import origin
from asr_kd.errors import UserError
from asr_kd.files import write_json
from asr_kd.hmm.show import pdf_names
from asr_kd.hmm.tree import Tree
from asr_kd.nn.accuracy import ensemble_accuracy
from asr_kd.nn.checkpoint import History
from asr_kd.nn.frames import Frames
from asr_kd.nn.hashes import file_hash
from asr_kd.nn.inputs import Inputs, load_frames, load_inputs
from asr_kd.nn.model import WEIGHTS
from asr_kd.nn.posteriors import Ensemble, load_ensemble
from asr_kd.nn.products import threads
from asr_kd.nn.training import HardTargets, Progress, Run, train
from asr_kd.pipeline import Job, fingerprint
from asr_kd.recipe import Network, Specialists, Teachers

TrainOne = Callable[[int, Progress], History]


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
        accuracy = ensemble_accuracy(ensemble, splits, job.progress)
    write_json(job.work.root / "models" / "ensemble.json", accuracy)
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


def train_members(job: Job, inputs: Inputs) -> None:
    def train_member(index: int, progress: Progress) -> History:
        network, path = teachers.network_of(index), job.work.member(index)
        member = Run(network, teachers.train, (teachers_seed(job), "member", index), inputs.num_pdfs, inputs.data)
        return train(path, member, inputs.train, inputs.dev, HardTargets(inputs.train.labels), progress, job.device)

    teachers = job.recipe.teachers
    train_all(job, train_member, teachers.members, teachers.train.epochs, "epochs of the members")


def train_specialists(job: Job, inputs: Inputs, splits: dict[str, Frames], specialists: Specialists) -> None:
    """Cluster the tied states by what the generalist confuses, train a network for each cluster, describe them all."""

    def train_one(index: int, progress: Progress) -> History:
        seed, subset = (teachers_seed(job), "specialist", index), clusters.subsets[index]
        path = job.work.specialist(index)
        return train_specialist(
            path, generalist.models[0], weights, subset, specialists.train, inputs, seed, progress, job.device
        )

    generalist = load_ensemble(job.work, [job.work.member(0).name], device=job.device)
    weights = file_hash(job.work.member(0) / WEIGHTS)
    with threads(job.jobs):
        clusters = find_clusters(generalist, inputs.train, specialists, (teachers_seed(job),), job.progress)
    train_all(job, train_one, specialists.count, specialists.train.epochs, "epochs of the specialists")
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


def train_all(job: Job, train_one: TrainOne, count: int, epochs: int, title: str) -> None:
    """Train `count` networks, side by side where there are several cores and no accelerator.

    Those that are left over when the others fill all cores come last and have more cores each.
    """
    workers = min(job.jobs, count) if job.device == "cpu" else 1
    full = count - count % workers
    for numbers in (range(full), range(full, count)):
        if len(numbers) > 1 and workers > 1:
            train_side_by_side(job, train_one, numbers, min(workers, len(numbers)), epochs, title)
        else:
            with threads(job.jobs):
                for index in numbers:
                    train_one(index, job.progress)


def train_side_by_side(job: Job, train_one: TrainOne, numbers: range, workers: int, epochs: int, title: str) -> None:
    """One Python thread a network: products release the interpreter; one core each wastes less than several."""
    stop, ended, cores = Event(), SimpleQueue[str](), max(1, job.jobs // workers)

    def watched(batches: Sequence[Tensor], title: str) -> Iterable[Tensor]:
        for batch in batches:
            if stop.is_set():
                raise CancelledError
            yield batch
        ended.put(title)

    def finished_epochs(futures: list[Future[History]]) -> Iterator[str]:
        """Titles of epochs as they end, until all networks are trained or one of them failed."""
        while True:
            state = wait(futures, timeout=0.5, return_when=FIRST_EXCEPTION)
            while not ended.empty():
                yield ended.get()
            if not state.not_done or any(future.exception() for future in state.done):
                return

    with ThreadPoolExecutor(workers, initializer=torch.set_num_threads, initargs=(cores,)) as pool:
        futures = [pool.submit(train_one, index, watched) for index in numbers]
        try:
            for _ in job.progress(finished_epochs(futures), title, len(numbers) * epochs):
                pass
            for future in futures:
                if future.done():
                    future.result()
        finally:
            stop.set()
            pool.shutdown(cancel_futures=True)
