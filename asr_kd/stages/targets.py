"""Stage 5: the ensemble's posteriors for every training frame."""

from typing import TYPE_CHECKING

from asr_kd.distill.targets import dump_targets, origin
from asr_kd.nn.inputs import load_frames
from asr_kd.nn.posteriors import load_ensemble
from asr_kd.nn.products import threads
from asr_kd.stages.teachers import member_names

if TYPE_CHECKING:
    from asr_kd.pipeline import Job


def run(job: "Job") -> None:
    targets, network, names = job.recipe.targets, job.recipe.teachers.network, member_names(job)
    ensemble = load_ensemble(job.work, names, targets.mean, job.device)
    frames = load_frames(job.work, network, "train", job.device)
    made_from = origin(job.work, names, targets.mean, network)
    with threads(job.jobs):
        summary = dump_targets(job.work.targets, ensemble, frames, targets, made_from, job.progress)
    job.log.info(
        "%d frames, top %s, %.1f bytes a frame, tail mass %.4f, agreement with the alignment %.4f, entropy %.3f nats",
        *summary.values(),
    )
