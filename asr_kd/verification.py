"""Before files are read: are they as they were finished, and if not, which stages have to run again?"""

from dataclasses import dataclass
from pathlib import Path

from asr_kd.errors import UserError
from asr_kd.integrity import Audio, Finding, examine, examine_audio, examine_pieces, forget, refuse, remove_damaged
from asr_kd.plan import STAGE_NAMES, Stage
from asr_kd.sources import changed_sources, describe
from asr_kd.workspace import Workspace


def check(root: Path, jobs: int = 1) -> list[str]:
    """Read every file that the finished stages of an experiment recorded; one line for each that is not as it was."""
    work = Workspace(root)
    if not any(work.record(name).exists() for name in STAGE_NAMES):
        raise UserError(f"{root}: no stage is finished here; name an experiment directory")
    findings = examine(work, STAGE_NAMES, True, jobs) + examine_pieces(work, None, True, jobs)
    changed = _audio(work, findings, jobs).changed
    audio = [f"{damage.path}: {damage.what}; stage 0 (prepare) read it" for damage in changed]
    texts = [describe(name, damage) for name in STAGE_NAMES for damage in changed_sources(work, name, True, jobs)]
    return [finding.describe(STAGE_NAMES) for finding in findings] + audio + texts


def _audio(work: Workspace, findings: list[Finding], jobs: int) -> Audio:
    """Nothing is known of the recordings where the list of them is itself damaged."""
    if any(finding.damage.path == work.audio for finding in findings):
        return Audio([], [])
    return examine_audio(work, jobs)


def check_inputs(stage: Stage, work: Workspace, jobs: int) -> list[str]:
    """Read everything that the stage is going to read; warnings. UserError names a file that is not as it was."""
    findings = examine(work, stage.inputs, True, jobs) + examine_pieces(work, stage.name, True, jobs)
    refuse(work, findings, STAGE_NAMES)
    return check_audio(work, jobs, is_read=True) if stage.name == "features" else []


def check_done(stage: Stage, work: Workspace, jobs: int, features_are_done: bool) -> list[str]:
    """Compare sizes and times of a finished stage's files; warnings. UserError names one that is not as it was."""
    refuse(work, examine(work, [stage.name], False, jobs), STAGE_NAMES)
    changed = changed_sources(work, stage.name, False, jobs)
    texts = [f"{describe(stage.name, damage)}; --repair begins anew there" for damage in changed]
    return texts + (check_audio(work, jobs, is_read=not features_are_done) if stage.name == "prepare" else [])


def check_audio(work: Workspace, jobs: int, is_read: bool) -> list[str]:
    """Recordings that have changed since stage 0 are an error while stage 1 has to read them, later a warning."""
    audio, warnings = examine_audio(work, jobs), []
    if audio.changed:
        first, more = audio.changed[0], f" (and {len(audio.changed) - 1} more)" if len(audio.changed) > 1 else ""
        what = f"{first.path}: {first.what}, not as stage 0 (prepare) read it{more}"
        if is_read:
            raise UserError(f"{what}; put it back, or run with --repair to begin anew with what is there")
        warnings.append(f"{what}; the features are those of before")
    if audio.mended:
        more = f" (and {len(audio.mended) - 1} more)" if len(audio.mended) > 1 else ""
        warnings.append(f"{audio.mended[0]}{more}: left out by stage 0 and changed since; --repair begins anew with it")
    return warnings


@dataclass(frozen=True)
class Repair:
    """What was found, a line each, and the numbers of the stages to run again."""

    lines: list[str]
    stages: list[int]


def mend(work: Workspace, jobs: int) -> Repair:
    """Read everything and remove what is damaged; all there is, where recordings have changed since stage 0, and what
    was made since by the first stage whose text files have.
    """
    findings = examine(work, STAGE_NAMES, True, jobs) + examine_pieces(work, None, True, jobs)
    refuse(work, [finding for finding in findings if finding.root != work.root], STAGE_NAMES)
    audio = _audio(work, findings, jobs)
    sources = [f"{damage.path}: {damage.what}" for damage in audio.changed if not damage.missing]
    sources += [f"{path}: left out at first, and now another" for path in audio.mended]
    lines = [finding.describe(STAGE_NAMES) for finding in findings] + sources
    if sources:
        forget(work, STAGE_NAMES)
        return Repair(lines, [0])
    texts = {name: changed_sources(work, name, True, jobs) for name in STAGE_NAMES}
    lines += [describe(name, damage) for name, damages in texts.items() for damage in damages]
    remove_damaged(work, findings)
    stages = [STAGE_NAMES.index(finding.stage) for finding in findings]
    if first := [number for number, damages in enumerate(texts.values()) if damages][:1]:
        forget(work, STAGE_NAMES[first[0] :])
    return Repair(lines, stages + first)
