"""Stage 7: a graph for each tree in use, then every system of the recipe: scales tuned on dev, frozen for test."""

from asr_kd.decode.lattices import SecondPass
from asr_kd.decode.systems import Decoding
from asr_kd.errors import UserError
from asr_kd.pipeline import Job, digest, fingerprint


def run(job: Job) -> None:
    external = job.recipe.hmm.external
    if external and not external.tree:
        raise UserError(
            "hmm.external.tree: null, so there is no graph to search; give Kaldi's tree (copy-tree --binary=false), or "
            "end with --stop-stage 6"
        )
    recipe = job.recipe.decode
    decoding = Decoding(job, [fingerprint(job.recipe, stage) for stage in ("lang", "align")])
    second = SecondPass(decoding, recipe.lattice) if recipe.lattice else None
    for name in recipe.systems:
        decoding.decode(name, made_from(job, name))
        if second:
            keys = second.recipe.model_dump(mode="json")
            second.run(name, digest({"lattice": keys, "system": made_from(job, name)}))


def made_from(job: Job, system: str) -> str:
    """Fingerprint of what one system's results depend on: a new student leaves the GMMs and teachers decoded."""
    networks = dict.fromkeys(("baseline", "ensemble", "specialists"), ("teachers",)) | {"student": ("student",)}
    stages = ("lang", "align", *networks.get(system, ()))
    others = {"systems", "lattice"} if system == "ensemble" else {"systems", "lattice", "mean"}
    keys = job.recipe.decode.model_dump(mode="json", exclude=others)
    return digest({"keys": keys, "needs": {stage: fingerprint(job.recipe, stage) for stage in stages}})
