"""What cells of an experiment need not make again: finished stages are linked, parts of stages linked or copied.

A cell is an ordinary experiment directory. A stage that another directory finished under the same fingerprint is
linked, file by file, with a copy of its record. Graphs, adapted features and decoded systems are shared one by one, by
what they say they were made from. Networks of an ensemble are copied: training finds them finished, and never writes
into another directory.
"""

import json
import os
import shutil
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from asr_kd import integrity
from asr_kd.files import read_json, write_json
from asr_kd.pipeline import STAGES, Job, Stage, digest, fingerprint
from asr_kd.recipe import Recipe, Teachers
from asr_kd.stages.decode import made_from
from asr_kd.workspace import Workspace

CELLS = "cells"
FROM = "from"  # a linked stage's record names the directory that made it
# What several stages share: the pattern of its folder, the files that show it is whole, and where the first of them has
# what it was made from.
PIECES = (
    ("graph/*", ("stats.json", "HCLG.fst"), ("made_from",)),
    ("hmm/fmllr", ("test/index.json", "seconds.json"), ("meta", "made_from")),
    ("hmm/fmllr+fbank", ("test/index.json",), ("meta", "made_from")),
    ("decode/*", ("summary.json",), ("made_from",)),
)
# Recipe keys of specialists that do not change their networks.
INFERENCE_KEYS = {"active_classes"}


@dataclass
class CellRun:
    """A cell at a seed: its directory, its recipe and how far it came (`position`: number of the next stage)."""

    name: str
    seed: int
    root: Path
    recipe: Recipe
    position: int = 0
    failure: str = ""

    @property
    def work(self) -> Workspace:
        return Workspace(self.root)

    @cached_property
    def fingerprints(self) -> dict[str, str]:
        return {stage.name: fingerprint(self.recipe, stage.name) for stage in STAGES}

    @property
    def is_dense(self) -> bool:
        """Whether its targets are all that its teachers think."""
        targets = self.recipe.targets
        return targets.top_k is None and targets.pruning is None and targets.dropout is None

    @cached_property
    def pieces(self) -> dict[str, dict[str, str]]:
        """The pieces of each stage, see `piece_keys`."""
        return {stage.name: piece_keys(self.recipe, stage.name) for stage in STAGES}


@dataclass
class Shelf:
    """Finished stages by (name, fingerprint) and pieces by key, with the directories that made them."""

    stages: dict[tuple[str, str], Path] = field(default_factory=dict)
    pieces: dict[str, Path] = field(default_factory=dict)

    @staticmethod
    def of(providers: Iterable[Path], runs: list[CellRun]) -> "Shelf":
        """All that `providers` and the cells have made."""
        shelf, own = Shelf(), {run.root.resolve() for run in runs}
        for root in providers:
            if root.resolve() not in own:
                shelf.add(root)
        for run in runs:
            shelf.add(run.root, run)
        return shelf

    def add(self, root: Path, run: CellRun | None = None) -> None:
        """Put on what directory `root` made itself; of a cell what it wants, for it makes the rest anew."""
        wanted = {key for keys in run.pieces.values() for key in keys.values()} if run else None
        for stage in STAGES:
            record = read_record(root, stage.name)
            if record is None or FROM in record or (run and run.fingerprints[stage.name] != record["fingerprint"]):
                continue
            self.stages.setdefault((stage.name, record["fingerprint"]), root)
            if stage.name == "teachers":
                for name, key in network_keys(record).items():
                    self.pieces.setdefault(key, root / name)
        for pattern, files, location in PIECES:
            for path in root.glob(pattern):
                if not path.is_symlink() and all((path / name).exists() for name in files):
                    origin: Any = read_json(path / files[0])
                    for part in location:
                        origin = origin.get(part, {})
                    key = _piece_key(path.relative_to(root).as_posix(), origin)
                    if wanted is None or key in wanted:
                        self.pieces.setdefault(key, path)

    def is_done(self, run: CellRun, stage: str) -> bool:
        """Whether the cell has the stage; a linked one counts as long as its maker still has it."""
        record, provider = read_record(run.root, stage), self.provider(run, stage)
        if record is None or record["fingerprint"] != run.fingerprints[stage]:
            return False
        return FROM not in record or (provider is not None and record[FROM] == str(provider.resolve()))

    def provider(self, run: CellRun, stage: str) -> Path | None:
        """The directory that made the stage that the cell needs."""
        return self.stages.get((stage, run.fingerprints[stage]))

    def missing(self, run: CellRun, stage: Stage) -> set[str]:
        """Keys of the pieces that the stage will have to make: no other cell should make them meanwhile."""
        return {key for key in run.pieces[stage.name].values() if key not in self.pieces}

    def link(self, run: CellRun, stage: Stage) -> None:
        """Link the stage's files from their maker, with its record; what the cell had of that stage goes."""
        provider = self.stages[stage.name, run.fingerprints[stage.name]]
        record = run.work.record(stage.name)
        record.unlink(missing_ok=True)
        for path in _files(run.root, stage):
            _remove(path)
        for path in _files(provider, stage):
            _link(run.root / path.relative_to(provider), path)
        write_json(record, {**(read_record(provider, stage.name) or {}), FROM: str(provider.resolve())})

    def prepare(self, run: CellRun, stage: Stage) -> None:
        """Make the cell's directory ready to run the stage itself: no link of it is left to write through."""
        run.work.record(stage.name).unlink(missing_ok=True)
        for path in _files(run.root, stage):
            if path.is_symlink():
                path.unlink()
        for name, key in run.pieces[stage.name].items():
            source, target = self.pieces.get(key), run.root / name
            if target.is_symlink():
                target.unlink()
            if source is None or source.resolve() == target.resolve():
                continue
            if name.startswith("models/"):
                _copy(target, source)
            else:
                _remove(target)
                _link(target, source)


def cell_root(folder: Path, name: str, seed: int) -> Path:
    """The directory of a cell of the experiment in `folder`."""
    return folder / CELLS / name / f"seed-{seed}"


def piece_keys(recipe: Recipe, stage: str) -> dict[str, str]:
    """Path below the experiment directory, and key, of each piece that the stage reads or makes for itself."""
    decode, inputs = recipe.decode, [fingerprint(recipe, name) for name in ("lang", "align")]
    graph = [*inputs, decode.transition_scale, decode.self_loop_scale, decode.silence_probability]
    origins: dict[str, Any] = {}
    networks = {"teachers": recipe.teachers.network, "student": recipe.student_network}
    if recipe.hmm.realignment:
        networks["align"] = recipe.hmm.realignment.network
    if stage in networks and networks[stage].input.startswith("fmllr"):
        adapted = [*inputs, decode.first_pass.model_dump(), decode.acoustic_scale]
        origins = {"graph/sat": graph, "hmm/fmllr": adapted, f"hmm/{networks[stage].input}": adapted}
    if stage == "decode":
        for system in decode.systems:
            step = system.removeprefix("gmm-") if system.startswith("gmm-") else "sat"
            origins |= {f"graph/{step}": graph, f"decode/{system}": made_from(Job(recipe, Workspace(Path())), system)}
    if recipe.corpus.of_images:
        origins = {}  # no graphs, no adapted features, nothing decoded
    keys = {path: _piece_key(path, origin) for path, origin in origins.items()}
    return keys | (network_keys(_record_to_be(recipe)) if stage == "teachers" else {})


def network_keys(record: dict[str, Any]) -> dict[str, str]:
    """Path and key of each network that a run of stage teachers with this record trains."""
    keys, teachers = record["keys"], Teachers.model_validate(record["keys"]["teachers"])
    seed = keys["seed"] if teachers.seed is None else teachers.seed
    train = teachers.train.model_dump(mode="json")
    common = [train, seed, keys["seed"] if teachers.train.fraction else None, record["needs"]]
    networks = {
        f"models/member-{index:02d}": digest([index, teachers.network_of(index).model_dump(mode="json"), *common])
        for index in range(teachers.members)
    }
    if specialists := keys.get("specialists"):
        training = {key: value for key, value in specialists.items() if key not in INFERENCE_KEYS}
        origin = [training, networks["models/member-00"]]
        count = specialists["count"]
        networks |= {f"models/specialist-{index:02d}": digest([index, *origin]) for index in range(count)}
    return networks


def read_record(root: Path, stage: str) -> dict[str, Any] | None:
    return integrity.read_record(Workspace(root), stage)


def _record_to_be(recipe: Recipe) -> dict[str, Any]:
    dumped = recipe.model_dump(mode="json")
    keys = {key: dumped[key] for key in ("teachers", "specialists", "seed")}
    return {"keys": keys, "needs": {name: fingerprint(recipe, name) for name in ("features", "align")}}


def _piece_key(path: str, origin: Any) -> str:
    return digest([path, json.loads(json.dumps(origin))])


def _files(root: Path, stage: Stage) -> list[Path]:
    return sorted({path for pattern in stage.files for path in root.glob(pattern)})


def _remove(path: Path) -> None:
    if path.is_symlink() or path.is_file():
        path.unlink()
    elif path.is_dir():
        shutil.rmtree(path)


def _link(link: Path, target: Path) -> None:
    """A relative link to what `target` is in the end: experiments move together, and links never chain."""
    link.parent.mkdir(parents=True, exist_ok=True)
    link.symlink_to(os.path.relpath(target.resolve(), link.parent.resolve()))


def _copy(target: Path, source: Path) -> None:
    """Copy a folder; its name appears when it is whole."""
    temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    _remove(temporary)
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copytree(source, temporary)
    _remove(target)
    temporary.rename(target)
