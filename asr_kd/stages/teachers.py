"""Stage 4: the ensemble's networks, alike but for initialisation and data order; member 0 is the baseline."""

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import torch

from asr_kd.files import write_json
from asr_kd.nn.accuracy import ensemble_accuracy
from asr_kd.nn.checkpoint import History
from asr_kd.nn.inputs import Inputs, load_frames, load_inputs
from asr_kd.nn.posteriors import load_ensemble
from asr_kd.nn.products import threads
from asr_kd.nn.training import HardTargets, Run, train

if TYPE_CHECKING:
    from asr_kd.pipeline import Job


def run(job: "Job") -> None:
    teachers = job.recipe.teachers
    inputs = load_inputs(job.work, teachers.network, job.device)
    job.log.info("%d training frames, %d tied states", len(inputs.train), inputs.num_pdfs)
    train_members(job, inputs)
    ensemble = load_ensemble(job.work, member_names(job), job.recipe.targets.mean, job.device)
    splits = {"dev": inputs.dev, "test": load_frames(job.work, teachers.network, "test", job.device)}
    accuracy = ensemble_accuracy(ensemble, splits, job.progress)
    write_json(job.work.root / "models" / "ensemble.json", accuracy)
    job.log.info(
        "dev frame accuracy: members %s, mean %.4f, ensemble %.4f",
        " ".join(f"{member['dev']:.4f}" for member in accuracy["members"]),
        accuracy["members_mean"]["dev"], accuracy["ensemble"]["dev"],
    )  # fmt: skip


def member_names(job: "Job") -> list[str]:
    return [job.work.member(index).name for index in range(job.recipe.teachers.members)]


def train_members(job: "Job", inputs: Inputs) -> None:
    """Members side by side, each in a thread of its own: one core a network wastes less than several on one."""
    members = job.recipe.teachers.members
    workers = min(job.jobs, members) if job.device == "cpu" else 1
    threads_each = max(1, job.jobs // workers)

    def train_member(index: int) -> History:
        torch.set_num_threads(threads_each)
        teachers = job.recipe.teachers
        plan = Run(teachers.network, teachers.train, (job.recipe.seed, "member", index), inputs.num_pdfs, inputs.data)
        targets = HardTargets(inputs.train.labels)
        # One terminal holds one progress bar: that of the members where several run at once.
        progress = job.progress if workers == 1 else lambda batches, _: batches
        return train(job.work.member(index), plan, inputs.train, inputs.dev, targets, progress, job.device)

    with threads(threads_each), ThreadPoolExecutor(workers) as pool:
        finished: Iterable[History] = pool.map(train_member, range(members))
        for _ in finished if workers == 1 else job.progress(finished, "ensemble members", members):
            pass
