"""Stage 6: one network trained towards the ensemble's posteriors and the alignment."""

from typing import TYPE_CHECKING

from asr_kd.distill.store import TargetStore
from asr_kd.distill.targets import SoftTargets, origin
from asr_kd.nn.inputs import load_inputs
from asr_kd.nn.products import threads
from asr_kd.nn.training import Run, train
from asr_kd.stages.teachers import member_names, prepare_input

if TYPE_CHECKING:
    from asr_kd.pipeline import Job


def run(job: "Job") -> None:
    recipe, student, network = job.recipe, job.recipe.student, job.recipe.student_network
    store = TargetStore(job.work.targets)
    store.check(origin(job.work, member_names(job), recipe.targets.mean, recipe.teachers.network))
    prepare_input(job, network)
    inputs = load_inputs(job.work, network, job.device)
    targets = SoftTargets(store, inputs.train, student.temperature, student.hard_weight)
    plan = Run(network, student.train, (recipe.seed, "student"), inputs.num_pdfs, inputs.data)
    path = job.work.model("student")
    with threads(job.jobs):
        history = train(path, plan, inputs.train, inputs.dev, targets, job.progress, job.device)
    job.log.info("student: dev frame accuracy %.4f", max(row["dev_frame_accuracy"] for row in history))
