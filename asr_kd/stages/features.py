"""Stage 1: log-mel filterbanks for the networks and MFCC for the GMM, normalised, as frame stores."""

from itertools import count, repeat
from typing import TYPE_CHECKING, Any

from lhotse import MonoCut

from asr_kd.corpora.manifest import load_cuts, sped_up
from asr_kd.errors import UserError
from asr_kd.features.extract import KINDS, Group, Mapping, extract_group, group_speakers, workers
from asr_kd.features.filterbank import FRAME_LENGTH_MS, FRAME_SHIFT_MS, check_bands
from asr_kd.features.store import clear_store, write_index
from asr_kd.files import write_json
from asr_kd.workspace import SPLITS

if TYPE_CHECKING:
    from asr_kd.pipeline import Job


def run(job: "Job") -> None:
    check_bands(job.recipe.features, job.recipe.corpus.sample_rate)
    excluded: list[dict[str, str]] = []
    with workers(job.jobs) as mapping:
        for split in SPLITS:
            left_out = [pair for group in _extract(job, split, mapping) for pair in group.excluded]
            for utterance, reason in left_out:
                job.log.warning("%s: %s left out: %s", split, utterance, reason)
                excluded.append({"id": utterance, "split": split, "reason": reason})
    write_json(job.work.root / "features" / "excluded.json", excluded)
    job.log.info("features: %d utterances left out", len(excluded))


def _extract(job: "Job", split: str, mapping: Mapping) -> list[Group]:
    paths = {kind: job.work.features(kind, split) for kind in KINDS}
    for path in paths.values():
        clear_store(path)
    cuts = group_speakers(cuts_of(job, split))
    rate = job.recipe.corpus.sample_rate
    results = mapping(extract_group, count(), cuts, repeat(paths), repeat(job.recipe.features), repeat(rate))
    groups = list(job.progress(results, f"features of {split}", len(cuts)))
    for kind, path in paths.items():
        shards = [group.shards[kind] for group in groups if kind in group.shards]
        if not shards:
            raise UserError(
                f"{job.work.manifest(split)}: no utterance has usable audio, first: {groups[0].excluded[0]}; "
                "repair the corpus and run --stage 0 (prepare)"
            )
        moments = {key: value.as_json() for group in groups for key, value in group.moments[kind].items()}
        write_json(path / "stats.json", moments)
        write_index(path, shards, _meta(job, kind))
    return groups


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
