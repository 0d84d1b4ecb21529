"""Whether the files of an experiment are as the stages left them.

A stage's completion record lists its files with sizes and checksums; folders that several stages share (graphs, adapted
features) have a checksums.json of their own; manifests/audio.json lists the recordings that stage 0 read.
"""

import json
import shutil
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from asr_kd.checksums import Damage, Recorded, find_damage, is_recorded, sealed
from asr_kd.errors import UserError
from asr_kd.files import read_json
from asr_kd.plan import STAGE_NAMES, STAGES
from asr_kd.workspace import Workspace

FILES, FROM = "files", "from"  # entries of a completion record; FROM: the directory that made a linked stage
NO_RECORD = "not a completion record"
# Patterns of what several stages share, with the stage that usually makes it and those that may read it.
PIECES = (
    ("graph/*", "decode", ("align", "teachers", "student", "decode")),
    ("hmm/fmllr*", "teachers", ("align", "teachers", "targets", "student", "decode")),
)


@dataclass(frozen=True)
class Finding:
    """A damaged file, the stage that makes it, and the experiment directory where that has to be done.

    piece: the shared folder that it is in.
    """

    damage: Damage
    stage: str
    root: Path
    piece: Path | None = None

    def describe(self, stage_names: Sequence[str]) -> str:
        number = stage_names.index(self.stage)
        return f"{self.damage.path}: {self.damage.what}; stage {number} ({self.stage}) makes it"


def examine(work: Workspace, names: Iterable[str], thorough: bool | None, jobs: int = 1) -> list[Finding]:
    """Damaged files of the finished stages `names`, or their damaged records; thorough: see find_damage.

    A stage finished by a release without checksums has none.
    """
    findings = []
    for name in names:
        try:
            recorded, root = files_of(work, name)
        except UserError:
            findings.append(Finding(Damage(work.record(name), NO_RECORD), name, work.root))
            continue
        damages = find_damage(work.root, recorded, thorough, jobs)
        findings += [Finding(damage, name, root) for damage in damages]
    return findings


def examine_pieces(work: Workspace, reader: str | None, thorough: bool | None, jobs: int = 1) -> list[Finding]:
    """Damaged files of the shared folders that stage `reader` may read, None for all of them."""
    findings = []
    for pattern, maker, readers in PIECES:
        if reader is not None and reader not in readers:
            continue
        for folder in sorted(work.root.glob(pattern)):
            origin = folder.resolve() if folder.is_symlink() else folder
            root = work.root if origin == folder else origin.parents[len(Path(pattern).parts) - 1]
            damages = find_damage(folder, sealed(folder), thorough, jobs)
            findings += [Finding(damage, maker, root, folder) for damage in damages]
    return findings


def read_record(work: Workspace, name: str) -> dict[str, Any] | None:
    """The completion record of stage `name`, if there is one; UserError when it is damaged."""
    path = work.record(name)
    try:
        record: Any = json.loads(path.read_bytes())
    except FileNotFoundError:
        return None
    except OSError as error:  # which the command line tells in its own words
        raise OSError(error.errno, error.strerror, str(path)) from None
    except (ValueError, RecursionError):
        record = None
    if isinstance(record, dict) and is_recorded(record.get(FILES, {})) and isinstance(record.get(FROM, ""), str):
        return record
    finding = Finding(Damage(path, NO_RECORD), name, work.root)
    raise UserError(f"{finding.describe(STAGE_NAMES)}: run the command with --repair to make it again")


def files_of(work: Workspace, name: str) -> tuple[Recorded, Path]:
    """What stage `name` recorded of its files, and the experiment directory that it ran in; errors as above."""
    record = read_record(work, name) or {}
    return record.get(FILES, {}), Path(record[FROM]) if FROM in record else work.root


def refuse(work: Workspace, findings: Sequence[Finding], stage_names: Sequence[str]) -> None:
    """Raise UserError naming the first finding, the stage that makes the file, and the remedy."""
    if not findings:
        return
    first = findings[0]
    more = f" (and {len(findings) - 1} more)" if len(findings) > 1 else ""
    elsewhere = "" if first.root == work.root else f" of {first.root}, where it is linked from,"
    raise UserError(f"{first.describe(stage_names)}{more}: run the command{elsewhere} with --repair to make it again")


def remove_damaged(work: Workspace, findings: Sequence[Finding]) -> None:
    """Remove the records of the stages whose files are damaged, with all recorded files beside a damaged one.

    Its neighbours go too, because a stage takes a folder whose description is whole for finished. What else the stage
    made stays, and is used again by stages that resume inside themselves. So does all of a stage whose record is
    damaged, which is then where it would be if it had been stopped just before its end; but not links, through which
    it would write into another experiment.
    """
    for finding in findings:
        if finding.piece:
            _empty(finding.piece)
            continue
        if finding.damage.path == work.record(finding.stage):
            for path in filter(Path.is_symlink, _left_by(work, finding.stage)):
                path.unlink()
            continue
        recorded, _ = files_of(work, finding.stage)
        for path in map(work.root.joinpath, recorded):
            if path.parent == finding.damage.path.parent:
                _remove(work.root, path)
    for name in {finding.stage for finding in findings}:
        work.record(name).unlink(missing_ok=True)


def forget(work: Workspace, names: Iterable[str]) -> None:
    """Remove all that the stages `names` and the shared folders hold: what they were made from has changed.

    Of a stage without a record too, for one that resumes would take over what it left: a system decoded, for example.
    """
    for name in names:
        work.record(name).unlink(missing_ok=True)
        for path in [file for left in _left_by(work, name) for file in _files_at(left)]:
            _remove(work.root, path)
    for pattern, _, _ in PIECES:
        for folder in work.root.glob(pattern):
            _empty(folder)
    _empty(work.partial)


def _left_by(work: Workspace, name: str) -> list[Path]:
    """The files and folders that a run of stage `name` leaves, and links in their places."""
    stage = STAGES[STAGE_NAMES.index(name)]
    return sorted({path for pattern in stage.files for path in work.root.glob(pattern)})


def _files_at(path: Path) -> list[Path]:
    """The files below a folder, hidden ones too; a link or a file itself."""
    if path.is_symlink() or not path.is_dir():
        return [path]
    return sorted(file for file in path.rglob("*") if file.is_symlink() or file.is_file())


def _remove(root: Path, path: Path) -> None:
    """Remove a file; of one that is linked into the experiment, or is in a folder that is, the link."""
    inside = [path, *path.parents][: len(path.relative_to(root).parts)]
    link = next((part for part in reversed(inside) if part.is_symlink()), path)
    link.unlink(missing_ok=True)


def _empty(folder: Path) -> None:
    """Remove a folder; of one that is linked the link."""
    if folder.is_symlink():
        folder.unlink()
    else:
        shutil.rmtree(folder, ignore_errors=True)


@dataclass(frozen=True)
class Audio:
    """changed: recordings in use that are not as stage 0 read them; mended: changed ones that it left out."""

    changed: list[Damage]
    mended: list[Path]


def examine_audio(work: Workspace, jobs: int = 1, thorough: bool | None = False) -> Audio:
    """Compare the recordings with manifests/audio.json; thorough: see find_damage."""
    if not work.audio.exists():
        return Audio([], [])
    listed = read_json(work.audio)
    if not (isinstance(listed, dict) and is_recorded(listed.get("used")) and is_recorded(listed.get("left_out"))):
        raise UserError(f"{work.audio}: does not list recordings; run with --repair")
    absent = {name for name, row in listed["left_out"].items() if not row[2]}
    left_out = {name: row for name, row in listed["left_out"].items() if name not in absent}
    mended = [damage.path for damage in find_damage(work.root, left_out, thorough, jobs) if not damage.missing]
    mended += [Path(name) for name in sorted(absent) if Path(name).exists()]
    return Audio(find_damage(work.root, listed["used"], thorough, jobs), mended)
