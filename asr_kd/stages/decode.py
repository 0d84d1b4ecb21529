"""Stage 7: a graph for each tree in use, then every system of the recipe: scales tuned on dev, frozen for test."""

from asr_kd.decode.systems import Decoding
from asr_kd.pipeline import Job, digest, fingerprint


def run(job: Job) -> None:
    decoding = Decoding(job, [fingerprint(job.recipe, stage) for stage in ("lang", "align")])
    for name in job.recipe.decode.systems:
        decoding.decode(name, made_from(job, name))


def made_from(job: Job, system: str) -> str:
    """Fingerprint of what one system's results depend on: a new student leaves the GMMs and teachers decoded."""
    networks = dict.fromkeys(("baseline", "ensemble", "specialists"), ("teachers",)) | {"student": ("student",)}
    stages = ("lang", "align", *networks.get(system, ()))
    keys = job.recipe.decode.model_dump(mode="json", exclude={"systems"})
    return digest({"keys": keys, "needs": {stage: fingerprint(job.recipe, stage) for stage in stages}})
