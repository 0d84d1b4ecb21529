"""From audio to normalised frame stores: every utterance read once, a task for each group of whole speakers."""

import logging
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
from lhotse import MonoCut

from asr_kd.checksums import find_damage, read_checked, record_files, write_checked
from asr_kd.corpora.manifest import read_cuts, samples_of, sped_up
from asr_kd.executors.contract import Progress, Work
from asr_kd.features.filterbank import fbank, mfcc, num_frames
from asr_kd.features.normalise import Moments
from asr_kd.features.store import Shard, write_shard
from asr_kd.memory import give_back
from asr_kd.recipe import Features, Normalisation
from asr_kd.workspace import Workspace

log = logging.getLogger("asr_kd")

KINDS = ("fbank", "mfcc")
BATCH_SECONDS = 10.0  # of 30 s the filterbanks are 2 to 3 % faster, and take 20 MB more
SHARD_SECONDS = 600.0
MAX_SHARDS = 200  # each open shard is a file descriptor

PARTS = "parts"  # below features/, while the stage is at work: which shards are finished
Numbered = tuple[str, int, list[str]]  # split, number of the group, its utterances


@dataclass
class Group:
    """What one worker made of some speakers: a shard and moments (as JSON) per kind, and the utterances left out with
    reasons.
    """

    shards: dict[str, Shard] = field(default_factory=dict)
    moments: dict[str, dict[str, Any]] = field(default_factory=lambda: {kind: {} for kind in KINDS})
    excluded: list[tuple[str, str]] = field(default_factory=list)

    def save(self, path: Path, paths: dict[str, Path], made_from: str) -> None:
        """Write down that the shards in the stores `paths` are finished, for a run that has to resume."""
        files = [paths[kind].absolute() / name for kind, (name, _) in self.shards.items()]
        write_checked(path, {"made_from": made_from, "files": record_files(path.parent, files), **asdict(self)})

    @staticmethod
    def load(path: Path, made_from: str) -> "Group | None":
        """What `save` wrote, if it is of the same origin and, as the shards, still as it was."""
        saved = read_checked(path)
        if saved is None or saved.pop("made_from") != made_from:
            return None
        if find_damage(path.parent, saved.pop("files"), thorough=True):
            return None
        return Group(**saved)


def cuts_of(
    work: Workspace, split: str, speed: Sequence[float] | None, only: Collection[str] | None = None
) -> Iterator[MonoCut]:
    """The split's cuts, and for train their copies at each factor of `speed`; only: the ids of those to yield."""
    yield from read_cuts(work.manifest(split), only=only)
    if split == "train" and speed:
        originals = None if only is None else {copy.removesuffix(f"_sp{factor}") for copy in only for factor in speed}
        copies = sped_up(read_cuts(work.manifest(split), only=originals), speed)
        yield from (copy for copy in copies if only is None or copy.id in only)


def group_speakers(cuts: Iterable[MonoCut]) -> list[list[str]]:
    """Utterances in groups of whole speakers, by speaker and id; a group ends at ten minutes, later in big corpora.

    The grouping depends on the cuts alone, so that the stores' bytes do not depend on the number of processes.
    """
    ordered = sorted((_speaker(cut), cut.id, cut.duration) for cut in cuts)
    bound = max(SHARD_SECONDS, sum(seconds for _, _, seconds in ordered) / MAX_SHARDS)
    groups: list[list[str]] = []
    seconds = bound
    for _, of_speaker in groupby(ordered, key=lambda listed: listed[0]):
        speaker = list(of_speaker)
        length = sum(duration for _, _, duration in speaker)
        if not groups or seconds + length > bound:
            groups.append([])
            seconds = 0.0
        groups[-1] += [utterance for _, utterance, _ in speaker]
        seconds += length
    return groups


def extract_group(
    number: int, cuts: Sequence[MonoCut], paths: dict[str, Path], features: Features, sample_rate: int
) -> Group:
    """Write shard `number` of each kind's store (paths: kind → store) with the normalised frames of `cuts`."""
    group = Group()
    rows: dict[str, dict[str, np.ndarray]] = {kind: {} for kind in KINDS}
    moments: dict[str, dict[str, Moments]] = {kind: {} for kind in KINDS}
    for speaker, of_speaker in groupby(cuts, key=_speaker):
        raw: dict[str, dict[str, np.ndarray]] = {kind: {} for kind in KINDS}
        for batch in _batches(of_speaker, sample_rate, group.excluded):
            waveforms = list(batch.values())
            raw["fbank"].update(zip(batch, fbank(waveforms, sample_rate, features.fbank), strict=True))
            raw["mfcc"].update(zip(batch, mfcc(waveforms, sample_rate, features.mfcc), strict=True))
        for kind, recipe in (("fbank", features.fbank.normalise), ("mfcc", features.mfcc.normalise)):
            rows[kind].update(_normalised(speaker, raw[kind], recipe, moments[kind]))
    group.moments = {
        kind: {key: value.as_json() for key, value in of_kind.items()} for kind, of_kind in moments.items()
    }
    group.shards = {kind: write_shard(paths[kind], number, rows[kind]) for kind in KINDS if rows[kind]}
    return group


def make_group(
    number: int,
    cuts: Sequence[MonoCut],
    paths: dict[str, Path],
    features: Features,
    sample_rate: int,
    parts: Path,
    made_from: str,
) -> Group:
    """`extract_group`, or what a run that was interrupted finished of it (in `parts`, of the same origin)."""
    path = parts / f"group-{number:03d}.json"
    found = Group.load(path, made_from)
    if found is None:
        found = extract_group(number, cuts, paths, features, sample_rate)
        give_back()  # the frames of a shard leave gaps that the next one's do not fit into
        if not found.excluded:  # what could not be read is tried again
            found.save(path, paths, made_from)
    return found


@dataclass(frozen=True)
class Extraction(Work):
    """Shards of both kinds' stores, a task each. made_from: what they are, for a run that has to resume."""

    title = "features"

    work: Workspace
    features: Features
    sample_rate: int
    made_from: str

    def name(self, item: Numbered) -> str:
        return f"{item[0]}-{item[1]:03d}"

    def do(self, loaded: None, item: Numbered, progress: Progress) -> Group:
        split, number, utterances = item
        paths = {kind: self.work.features(kind, split) for kind in KINDS}
        parts = self.work.root / "features" / PARTS / split
        # Read here, for the cuts of all groups would take much more memory than their ids.
        cuts = {cut.id: cut for cut in cuts_of(self.work, split, self.features.speed, set(utterances))}
        ordered = [cuts[utterance] for utterance in utterances]
        return make_group(number, ordered, paths, self.features, self.sample_rate, parts, self.made_from)


def _speaker(cut: MonoCut) -> str:
    return cut.supervisions[0].speaker


def _batches(
    cuts: Iterable[MonoCut], sample_rate: int, excluded: list[tuple[str, str]]
) -> Iterator[dict[str, np.ndarray]]:
    """Utterance → samples, about BATCH_SECONDS at a time; those that cannot be used go to `excluded`."""
    batch: dict[str, np.ndarray] = {}
    samples = 0
    for cut in cuts:
        waveform = _read(cut, sample_rate)
        if isinstance(waveform, str):
            excluded.append((cut.id, waveform))
            continue
        batch[cut.id] = waveform
        samples += len(waveform)
        if samples >= BATCH_SECONDS * sample_rate:
            yield batch
            batch, samples = {}, 0
    if batch:
        yield batch


def _read(cut: MonoCut, sample_rate: int) -> np.ndarray | str:
    """The cut's samples, or the reason why they cannot be used."""
    try:
        waveform = samples_of(cut)
    except Exception as error:  # lhotse's readers raise errors of many libraries; none may stop the other utterances
        return f"audio unreadable ({(str(error) or type(error).__name__).splitlines()[0]})"
    if not num_frames(len(waveform), sample_rate):
        return f"{len(waveform)} samples: shorter than one window"
    if not np.isfinite(waveform).all():
        return "samples are not finite numbers"
    return waveform


def _normalised(
    speaker: str, raw: dict[str, np.ndarray], recipe: Normalisation, moments: dict[str, Moments]
) -> dict[str, np.ndarray]:
    """One speaker's frames as float16; adds to `moments`, by speaker or utterance, what they were normalised with."""
    if not raw:
        return {}
    if recipe.by == "speaker":
        moments[speaker] = Moments.of(list(raw.values()))
        used = dict.fromkeys(raw, moments[speaker])
    else:
        used = {utterance: Moments.of([array]) for utterance, array in raw.items()}
        moments.update(used)
    return {utterance: used[utterance].normalise(array, recipe).astype(np.float16) for utterance, array in raw.items()}
