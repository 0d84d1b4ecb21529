"""Stage 1: log-mel filterbanks for the networks and MFCC for the GMM, normalised, as frame stores."""

import shutil
from itertools import count, repeat
from typing import TYPE_CHECKING, Any

from lhotse import MonoCut

from asr_kd.checksums import checksum
from asr_kd.corpora.manifest import load_cuts, sped_up
from asr_kd.errors import UserError
from asr_kd.features.extract import KINDS, Group, Mapping, group_speakers, make_group, workers
from asr_kd.features.filterbank import FRAME_LENGTH_MS, FRAME_SHIFT_MS, check_bands
from asr_kd.features.store import clear_store, write_index
from asr_kd.files import require_space, write_json
from asr_kd.workspace import SPLITS

PARTS = "parts"  # below features/, while the stage is at work: which shards are finished

if TYPE_CHECKING:
    from asr_kd.pipeline import Job


def run(job: "Job") -> None:
    check_bands(job.recipe.features, job.recipe.corpus.sample_rate)
    cuts = {split: cuts_of(job, split) for split in SPLITS}
    require_space(job.work.root / "features", estimate_bytes(job, cuts), "features")
    made_from = origin(job)
    excluded: list[dict[str, str]] = []
    with workers(job.jobs) as mapping:
        for split in SPLITS:
            groups = _extract(job, split, cuts[split], mapping, made_from)
            left_out = [pair for group in groups for pair in group.excluded]
            for utterance, reason in left_out:
                job.log.warning("%s: %s left out: %s", split, utterance, reason)
                excluded.append({"id": utterance, "split": split, "reason": reason})
    write_json(job.work.root / "features" / "excluded.json", excluded)
    shutil.rmtree(job.work.root / "features" / PARTS)
    job.log.info("features: %d utterances left out", len(excluded))


def _extract(job: "Job", split: str, cuts: list[MonoCut], mapping: Mapping, made_from: str) -> list[Group]:
    paths = {kind: job.work.features(kind, split) for kind in KINDS}
    parts = job.work.root / "features" / PARTS / split
    for path in paths.values():
        if parts.exists():
            (path / "index.json").unlink(missing_ok=True)
        else:
            clear_store(path)
    grouped = group_speakers(cuts)
    common = (paths, job.recipe.features, job.recipe.corpus.sample_rate, parts, made_from)
    results = mapping(make_group, count(), grouped, *map(repeat, common))
    groups = list(job.progress(results, f"features of {split}", len(grouped)))
    for kind, path in paths.items():
        shards = [group.shards[kind] for group in groups if kind in group.shards]
        if not shards:
            raise UserError(
                f"{job.work.manifest(split)}: no utterance has usable audio, first: {groups[0].excluded[0]}; "
                "repair the corpus and run --stage 0 (prepare)"
            )
        for stale in {file.name for file in path.glob("shard-*.npy")} - {name for name, _ in shards}:
            (path / stale).unlink()
        moments = {key: value for group in groups for key, value in group.moments[kind].items()}
        write_json(path / "stats.json", moments)
        write_index(path, shards, _meta(job, kind))
    return groups


def origin(job: "Job") -> str:
    """What the frames are made from: a run that resumes takes over the shards of the same."""
    from asr_kd.pipeline import digest, fingerprint

    files = [path for path in (*map(job.work.manifest, SPLITS), job.work.audio) if path.exists()]
    return digest([fingerprint(job.recipe, "features"), *map(checksum, files)])


def estimate_bytes(job: "Job", cuts: dict[str, list[MonoCut]]) -> int:
    """Of all frames in float16."""
    seconds = sum(cut.duration for members in cuts.values() for cut in members)
    columns = job.recipe.features.fbank.num_bins + job.recipe.features.mfcc.num_ceps
    return round(seconds * 1000 / FRAME_SHIFT_MS * columns * 2)


def cuts_of(job: "Job", split: str) -> list[MonoCut]:
    """The split's cuts, and for train their sped-up copies."""
    cuts = list(load_cuts(job.work.manifest(split)))
    return cuts + sped_up(cuts, job.recipe.features.speed if split == "train" else None)


def _meta(job: "Job", kind: str) -> dict[str, Any]:
    recipe = getattr(job.recipe.features, kind)
    return {
        "kind": kind,
        "dim": recipe.num_bins if kind == "fbank" else recipe.num_ceps,
        "frame_length_ms": FRAME_LENGTH_MS,
        "frame_shift_ms": FRAME_SHIFT_MS,
        "sample_rate": job.recipe.corpus.sample_rate,
        "recipe": recipe.model_dump(mode="json"),
    }
