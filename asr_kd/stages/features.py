"""Stage 1: log-mel filterbanks for the networks and MFCC for the GMM, normalised, as frame stores."""

import shutil
from typing import TYPE_CHECKING, Any

from asr_kd.checksums import checksum
from asr_kd.errors import UserError
from asr_kd.features.extract import KINDS, PARTS, Extraction, Group, cuts_of, group_speakers
from asr_kd.features.filterbank import FRAME_LENGTH_MS, FRAME_SHIFT_MS, check_bands
from asr_kd.features.store import clear_store, write_index
from asr_kd.files import require_space, write_json
from asr_kd.recipe import Features
from asr_kd.workspace import SPLITS

if TYPE_CHECKING:
    from asr_kd.pipeline import Job


def run(job: "Job") -> None:
    check_bands(job.recipe.features, job.recipe.corpus.sample_rate)
    seconds = sum(cut.duration for split in SPLITS for cut in cuts_of(job.work, split, job.recipe.features.speed))
    require_space(job.work.root / "features", estimate_bytes(job.recipe.features, seconds), "features")
    extraction = Extraction(job.work, job.recipe.features, job.recipe.corpus.sample_rate, origin(job))
    for split in SPLITS:
        _clear(job, split)
    numbered = [
        (split, number, group)
        for split in SPLITS
        for number, group in enumerate(group_speakers(cuts_of(job.work, split, job.recipe.features.speed)))
    ]
    groups: dict[str, list[Group]] = {split: [] for split in SPLITS}
    made = job.progress(job.spread(extraction, numbered), "features", len(numbered))
    for (split, _, _), group in zip(numbered, made, strict=True):
        groups[split].append(group)
    excluded: list[dict[str, str]] = []
    for split in SPLITS:
        _complete(job, split, groups[split])
        for utterance, reason in (pair for group in groups[split] for pair in group.excluded):
            job.log.warning("%s: %s left out: %s", split, utterance, reason)
            excluded.append({"id": utterance, "split": split, "reason": reason})
    write_json(job.work.root / "features" / "excluded.json", excluded)
    job.log.info("features: %d utterances left out", len(excluded))
    _refuse(excluded, sum(len(group) for _, _, group in numbered), job.recipe.corpus.max_bad_fraction)
    shutil.rmtree(job.work.root / "features" / PARTS, ignore_errors=True)


def _refuse(excluded: list[dict[str, str]], total: int, max_bad_fraction: float) -> None:
    """Stage 0 has opened every recording, but read none to its end, and perhaps on another machine."""
    if len(excluded) > max_bad_fraction * total:
        first = excluded[0]
        raise UserError(
            f"corpus.max_bad_fraction: {len(excluded)} of {total} utterances cannot be read, more than "
            f"{max_bad_fraction:.1%}, first {first['id']}: {first['reason']}; repair the corpus, or raise the key"
        )


def _clear(job: "Job", split: str) -> None:
    """Leave a split's stores without an index, and without the shards of whatever a run that resumes did not begin."""
    parts = job.work.root / "features" / PARTS / split
    for kind in KINDS:
        path = job.work.features(kind, split)
        if parts.exists():
            (path / "index.json").unlink(missing_ok=True)
        else:
            clear_store(path)


def _complete(job: "Job", split: str, groups: list[Group]) -> None:
    for kind in KINDS:
        path = job.work.features(kind, split)
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


def origin(job: "Job") -> str:
    """What the frames are made from: a run that resumes takes over the shards of the same."""
    from asr_kd.pipeline import digest, fingerprint

    files = [path for path in (*map(job.work.manifest, SPLITS), job.work.audio) if path.exists()]
    return digest([fingerprint(job.recipe, "features"), *map(checksum, files)])


def estimate_bytes(features: Features, seconds: float) -> int:
    """Of all frames of so much speech, in float16."""
    return round(seconds * 1000 / FRAME_SHIFT_MS * (features.fbank.num_bins + features.mfcc.num_ceps) * 2)


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
