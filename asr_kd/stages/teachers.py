"""Stage 4: the ensemble's networks, alike but for initialisation and data order; member 0 is the baseline."""

from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import FIRST_EXCEPTION, CancelledError, Future, ThreadPoolExecutor, wait
from queue import SimpleQueue
from threading import Event

import torch
from torch import Tensor

from asr_kd.decode.adapted import write_adapted_features
from asr_kd.decode.systems import Decoding
from asr_kd.files import write_json
from asr_kd.nn.accuracy import ensemble_accuracy
from asr_kd.nn.checkpoint import History
from asr_kd.nn.inputs import Inputs, load_frames, load_inputs
from asr_kd.nn.posteriors import load_ensemble
from asr_kd.nn.products import threads
from asr_kd.nn.training import HardTargets, Progress, Run, train
from asr_kd.pipeline import Job, fingerprint
from asr_kd.recipe import Network


def run(job: Job) -> None:
    teachers = job.recipe.teachers
    prepare_input(job, teachers.network)
    inputs = load_inputs(job.work, teachers.network, job.device)
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


def prepare_input(job: Job, network: Network) -> None:
    """Make the speaker-adapted features if the network reads them and they are not there."""
    if network.input == "fmllr":
        write_adapted_features(Decoding(job, [fingerprint(job.recipe, stage) for stage in ("lang", "align")]))


def member_names(job: Job) -> list[str]:
    return [job.work.member(index).name for index in range(job.recipe.teachers.members)]


def train_members(job: Job, inputs: Inputs) -> None:
    """Train all members, side by side where there are several cores and no accelerator."""
    members = job.recipe.teachers.members
    workers = min(job.jobs, members) if job.device == "cpu" else 1
    with threads(max(1, job.jobs // workers)):
        if workers > 1:
            train_side_by_side(job, inputs, workers)
        else:
            for index in range(members):
                train_member(job, inputs, index, job.progress)


def train_member(job: Job, inputs: Inputs, index: int, progress: Progress) -> History:
    teachers, path = job.recipe.teachers, job.work.member(index)
    member = Run(teachers.network, teachers.train, (job.recipe.seed, "member", index), inputs.num_pdfs, inputs.data)
    return train(path, member, inputs.train, inputs.dev, HardTargets(inputs.train.labels), progress, job.device)


def train_side_by_side(job: Job, inputs: Inputs, workers: int) -> None:
    """One Python thread a member: products release the interpreter, and one core a network wastes less than several."""
    members, stop, epochs = job.recipe.teachers.members, Event(), SimpleQueue[str]()

    def watched(batches: Sequence[Tensor], title: str) -> Iterable[Tensor]:
        for batch in batches:
            if stop.is_set():
                raise CancelledError
            yield batch
        epochs.put(title)

    def finished_epochs(futures: list[Future[History]]) -> Iterator[str]:
        """Titles of epochs as they end, until all members or one of them failed."""
        while True:
            state = wait(futures, timeout=0.5, return_when=FIRST_EXCEPTION)
            while not epochs.empty():
                yield epochs.get()
            if not state.not_done or any(future.exception() for future in state.done):
                return

    with ThreadPoolExecutor(workers, initializer=torch.set_num_threads, initargs=(torch.get_num_threads(),)) as pool:
        futures = [pool.submit(train_member, job, inputs, index, watched) for index in range(members)]
        total = members * job.recipe.teachers.train.epochs
        try:
            for _ in job.progress(finished_epochs(futures), "epochs of the members", total):
                pass
            for future in futures:
                if future.done():
                    future.result()
        finally:
            stop.set()
            pool.shutdown(cancel_futures=True)
