"""Stage 5: the ensemble's posteriors for every training frame."""

from typing import TYPE_CHECKING

from asr_kd.distill.targets import dump_targets, estimate_bytes
from asr_kd.files import require_space
from asr_kd.nn.inputs import load_frames
from asr_kd.nn.products import threads
from asr_kd.stages.teachers import load_teachers, teachers_origin

if TYPE_CHECKING:
    from asr_kd.pipeline import Job


def run(job: "Job") -> None:
    targets, ensemble = job.recipe.targets, load_teachers(job)
    frames = load_frames(job.work, job.recipe.teachers.network, "train", job.device)
    made_from = teachers_origin(job)
    require_space(job.work.targets, estimate_bytes(targets, ensemble.num_pdfs, len(frames)), "soft targets")
    with threads(job.jobs):
        summary = dump_targets(
            job.work.targets, ensemble, frames, targets, made_from, job.progress, seed=job.recipe.seed
        )
    job.log.info(
        "%d frames, top %s, %.1f bytes a frame, tail mass %.4f, agreement with the alignment %.4f, entropy %.3f nats",
        *summary.values(),
    )
