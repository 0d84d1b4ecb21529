"""Damaged files are noticed before they are read, named with the stage that makes them, and made again on request."""

import os
import shutil
import sys
from collections.abc import Callable, Iterator
from itertools import cycle
from pathlib import Path
from types import ModuleType

import pytest

from asr_kd.checksums import SEAL, find_damage, record_files, seal
from asr_kd.errors import UserError
from asr_kd.files import read_json, write_json, write_text
from asr_kd.pipeline import STAGE_NAMES, STAGES, Job, run_stages
from asr_kd.recipe import Recipe
from asr_kd.verification import check
from asr_kd.workspace import Workspace

# A file in every folder that a stage leaves.
MADE = {
    "prepare": ("manifests/cuts_train.jsonl.gz", "manifests/excluded.json", "corpus/train/a.flac"),
    "features": ("features/fbank/train/shard-000.npy", "features/fbank/train/index.json", "features/excluded.json"),
    "lang": ("lang/lexicon.txt", "lang/lm.arpa"),
    "align": ("hmm/mono/model.safetensors", "hmm/alignment/train/shard-000.npy", "hmm/boundaries.json"),
    "teachers": ("models/member-00/model.safetensors", "models/member-00/model.json", "models/member-01/model.json"),
    "targets": ("targets/log_post-000.npy", "targets/states-000.npy", "targets/index.json"),
    "student": ("models/student/model.safetensors", "models/student/model.json"),
    "decode": ("decode/student/dev.txt", "decode/student/summary.json"),
    "score": ("results.json", "report.md", "plots/systems.png"),
}
EVERY_FILE = [(name, file) for name, files in MADE.items() for file in files]
GRAPH = "graph/sat/HCLG.fst"


def contents(file: str) -> str:
    return f"{file}: " + "what it holds " * 20


@pytest.fixture(scope="module")
def ran() -> Iterator[list[str]]:
    """Stages that write only what is not there, as those do that resume inside themselves; returns who wrote what."""
    wrote: list[str] = []

    def stage(name: str) -> Callable[[Job], None]:
        def run(job: Job) -> None:
            wrote.append(name)
            for file in (*MADE[name], *([GRAPH] if name == "decode" else [])):
                if not (job.work.root / file).exists():
                    write_text(job.work.root / file, contents(file))
                    wrote.append(file)
                    if file == GRAPH:
                        seal(job.work.graph("sat"))

        return run

    with pytest.MonkeyPatch.context() as patch:
        for name in STAGE_NAMES:
            module = ModuleType(f"asr_kd.stages.{name}")
            module.run = stage(name)  # type: ignore[attr-defined]
            patch.setitem(sys.modules, f"asr_kd.stages.{name}", module)
        patch.setattr("asr_kd.files._synchronise", lambda path: None)  # of hundreds of small files
        yield wrote


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, ran: list[str]) -> Path:
    path = tmp_path_factory.mktemp("finished") / "exp"
    run_stages(Recipe(), path)
    return path


@pytest.fixture
def root(tmp_path: Path, finished: Path, ran: list[str]) -> Path:
    """A finished experiment to be damaged."""
    shutil.copytree(finished, tmp_path / "exp")
    ran.clear()
    return tmp_path / "exp"


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def flip_a_bit(path: Path) -> None:
    """As a dying disk does: neither size nor time of change tells."""
    about, content = path.stat(), bytearray(path.read_bytes())
    content[len(content) // 2] ^= 4
    path.write_bytes(content)
    os.utime(path, ns=(about.st_atime_ns, about.st_mtime_ns))


DAMAGES: dict[str, Callable[[Path], None]] = {"truncated": truncate, "flipped": flip_a_bit, "missing": Path.unlink}


@pytest.mark.parametrize(
    ("stage", "file", "damage"),
    [(*row, damage) for row, damage in zip(EVERY_FILE, cycle(DAMAGES), strict=False)],
)
def test_a_damaged_file_is_noticed_before_use_and_made_again(
    root: Path, ran: list[str], stage: str, file: str, damage: str
) -> None:
    DAMAGES[damage](root / file)
    number = STAGE_NAMES.index(stage)
    named = rf"{file}: .*; stage {number} \({stage}\) makes it.*: run the command with --repair"
    assert [line.split(": ")[0] for line in check(root)] == [str(root / file)]
    for reader in [reader for reader in STAGES if stage in reader.inputs][:1]:
        record = root / ".done" / f"{reader.name}.json"
        done = record.read_bytes()
        record.unlink()
        where = STAGES.index(reader)
        with pytest.raises(UserError, match=named) as error:
            run_stages(Recipe(), root, where, where)
        assert "\n" not in str(error.value) and ran == []
        record.write_bytes(done)
    if damage != "flipped":  # sizes tell even of what is done already
        with pytest.raises(UserError, match=named):
            run_stages(Recipe(), root)
    run_stages(Recipe(), root, repair=True)
    assert ran[0] == stage and file in ran and not set(ran) & (set(STAGE_NAMES) - {stage})
    assert check(root) == [] and (root / file).read_text() == contents(file)


def test_every_stage_is_checked_by_one_that_reads_it() -> None:
    read = {name for stage in STAGES for name in stage.inputs}
    assert read == set(STAGE_NAMES) - {"score"}


def test_the_neighbours_of_a_damaged_file_are_made_again_and_other_folders_stay(root: Path, ran: list[str]) -> None:
    flip_a_bit(root / "models/member-00/model.safetensors")
    run_stages(Recipe(), root, 4, 4, repair=True)
    assert ran == ["teachers", "models/member-00/model.safetensors", "models/member-00/model.json"]


def test_repair_begins_at_the_stage_that_is_damaged(root: Path, ran: list[str]) -> None:
    truncate(root / "lang/lm.arpa")
    run_stages(Recipe(), root, 6, 6, repair=True)
    assert ran == ["lang", "lang/lexicon.txt", "lang/lm.arpa"]


def test_a_shared_folder_is_checked_by_those_who_read_it(root: Path, ran: list[str]) -> None:
    flip_a_bit(root / GRAPH)
    (root / ".done" / "decode.json").unlink()
    with pytest.raises(UserError, match=r"HCLG\.fst: contents have changed; stage 7 \(decode\) makes it"):
        run_stages(Recipe(), root, 7, 7)
    run_stages(Recipe(), root, 7, 7, repair=True)
    assert ran == ["decode", GRAPH]
    assert find_damage(root / "graph/sat", read_json(root / "graph/sat" / SEAL), thorough=True) == []


def test_a_touched_or_copied_file_is_not_damaged(root: Path, ran: list[str], tmp_path: Path) -> None:
    shutil.copytree(root, tmp_path / "copy", copy_function=shutil.copy)
    run_stages(Recipe(), tmp_path / "copy")
    run_stages(Recipe(), tmp_path / "copy", repair=True)
    assert ran == []


def test_an_experiment_finished_without_checksums_stays_finished(root: Path, ran: list[str]) -> None:
    for name in STAGE_NAMES:
        record = read_json(root / ".done" / f"{name}.json")
        del record["files"]
        write_json(root / ".done" / f"{name}.json", record)
    (root / "graph/sat" / SEAL).unlink()
    flip_a_bit(root / GRAPH)
    run_stages(Recipe(), root)
    assert ran == []


def test_repair_leaves_alone_what_is_linked_from_another_experiment(root: Path, ran: list[str], tmp_path: Path) -> None:
    cell = Workspace(tmp_path / "cell")
    for name in STAGE_NAMES:
        write_json(cell.record(name), read_json(root / ".done" / f"{name}.json"))
    for folder in ("manifests", "corpus", "features", "lang", "hmm", "models", "targets", "decode", "plots"):
        (cell.root / folder).symlink_to(root / folder)
    for file in ("results.json", "report.md"):
        shutil.copy2(root / file, cell.root / file)
    record = cell.record("targets")
    write_json(record, {**read_json(record), "from": str(root)})
    truncate(root / "targets/index.json")
    before = sorted(root.rglob("*"))
    with pytest.raises(UserError, match=rf"index\.json: .* of {root}, where it is linked from, with --repair"):
        run_stages(Recipe(), cell.root, repair=True)
    assert sorted(root.rglob("*")) == before


def test_what_killed_writers_left_is_removed(root: Path) -> None:
    half = root / "targets" / ".states-000.npy.123.tmp"
    half.write_text("half")
    run_stages(Recipe(), root)
    assert not half.exists()


def test_checksums_are_blake2b_of_the_contents(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"abc")
    about = (tmp_path / "a").stat()
    # b2sum --length 128 of the three bytes
    assert record_files(tmp_path, [tmp_path / "a"]) == {"a": [3, about.st_mtime_ns, "cf4ab791c62b8d2b2109c90275287816"]}
