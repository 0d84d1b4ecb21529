"""Stage 5: the ensemble's posteriors for every training frame."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from asr_kd.distill.asking import Asking, Shard, estimate_bytes
from asr_kd.distill.targets import dump_targets, tail_mass
from asr_kd.executors.contract import Work
from asr_kd.files import require_space
from asr_kd.nn.inputs import load_frames
from asr_kd.nn.products import threads
from asr_kd.nn.training import Progress
from asr_kd.pipeline import Job
from asr_kd.stages.teachers import load_teachers, teachers_origin


def run(job: Job) -> None:
    def spread(asking: Asking, numbers: range) -> Iterator[Shard]:
        return job.spread(TargetShards(job.as_task(), asking.batch, asking.batches_of_shard), numbers)

    targets, ensemble = job.recipe.targets, load_teachers(job)
    frames = load_frames(job.work, job.recipe.teachers.network, "train", job.device)
    made_from, elsewhere = teachers_origin(job), spread if job.tasks.remote else None
    require_space(job.work.targets, estimate_bytes(targets, ensemble.num_pdfs, len(frames)), "soft targets")
    with threads(job.jobs):
        summary = dump_targets(
            job.work.targets, ensemble, frames, targets, made_from, job.progress, seed=job.recipe.seed, spread=elsewhere
        )
    job.log.info(
        "%d frames, top %s, %.1f bytes a frame, tail mass %s, agreement with the alignment %.4f, entropy %.3f nats",
        *{**summary, "mean_tail_mass": tail_mass(summary)}.values(),
    )


@dataclass(frozen=True)
class TargetShards(Work):
    """Shards of the store by number, of `count` batches each."""

    job: Job
    batch: int
    count: int
    title = "shards of soft targets"

    @property
    def here(self) -> Literal["turns"]:
        return "turns"

    def name(self, item: int) -> str:
        return f"shard-{item:03d}"

    def load(self) -> Asking:
        job = self.job
        frames = load_frames(job.work, job.recipe.teachers.network, "train", job.device)
        return Asking(job.work.targets, load_teachers(job), frames, job.recipe.targets, self.batch, job.recipe.seed)

    def do(self, loaded: Asking, item: int, progress: Progress) -> Shard:
        return loaded.write_shard(item, self.count, progress)
