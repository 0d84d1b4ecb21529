"""Stage 7: a graph for each tree in use, then every system of the recipe: scales tuned on dev, frozen for test."""

from asr_kd.decode.systems import Decoding
from asr_kd.pipeline import Job, fingerprint


def run(job: Job) -> None:
    decoding = Decoding(job, [fingerprint(job.recipe, stage) for stage in ("lang", "align")])
    for name in job.recipe.decode.systems:
        decoding.decode(name, system_fingerprint(job, name))


def system_fingerprint(job: Job, name: str) -> str:
    """The stage's fingerprint as if the recipe named this system only."""
    alone = job.recipe.decode.model_copy(update={"systems": (name,)})
    return fingerprint(job.recipe.model_copy(update={"decode": alone}), "decode")
