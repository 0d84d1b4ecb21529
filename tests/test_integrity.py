"""Damaged files are noticed before they are read, named with the stage that makes them, and made again on request."""

import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from itertools import cycle
from pathlib import Path
from types import ModuleType

import pytest

from asr_kd.checksums import SEAL, find_damage, record_files, seal
from asr_kd.errors import UserError
from asr_kd.files import atomic_path, read_json, remove_temporaries, write_json, write_text
from asr_kd.integrity import forget
from asr_kd.pipeline import STAGE_NAMES, STAGES, Job, run_stages, stage_seconds
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


@pytest.mark.parametrize("content", [b"", b"[]", b"7", b"\xff", b'{"files": {"a": 1}}', b'{"from": 1}', b'{"files"'])
def test_a_damaged_record_is_refused_and_mended(root: Path, ran: list[str], content: bytes) -> None:
    record = root / ".done" / "teachers.json"
    record.write_bytes(content)
    assert check(root) == [f"{record}: not a completion record; stage 4 (teachers) makes it"]
    remedy = r"teachers\.json: not a completion record; stage 4 \(teachers\) makes it.*: run the command with --repair"
    for first in (0, 4, 5):
        with pytest.raises(UserError, match=remedy) as error:
            run_stages(Recipe(), root, first)
        assert "\n" not in str(error.value) and ran == []
    with pytest.raises(UserError, match=remedy):
        stage_seconds(Workspace(root))
    run_stages(Recipe(), root, repair=True)
    assert ran == ["teachers"], "its files are whole"
    assert check(root) == [] and set(stage_seconds(Workspace(root))) == set(STAGE_NAMES)


def test_all_that_a_stage_with_a_damaged_record_leaves_can_be_forgotten(root: Path) -> None:
    work = Workspace(root)
    work.record("align").write_text("[]")
    work.record("decode").unlink()
    forget(work, ["align", "decode"])
    assert not work.record("align").exists()
    assert not [path for path in (root / "decode").rglob("*") if path.is_file()]
    assert not [path for path in work.hmm.rglob("*") if path.is_file()]
    assert all((root / file).exists() for file in MADE["lang"])


@pytest.fixture
def cell(root: Path, tmp_path: Path) -> Workspace:
    """An experiment whose stages are linked from `root`."""
    cell = Workspace(tmp_path / "cell")
    for name in STAGE_NAMES:
        write_json(cell.record(name), read_json(root / ".done" / f"{name}.json"))
    for folder in ("manifests", "corpus", "features", "lang", "hmm", "models", "targets", "decode", "plots"):
        (cell.root / folder).symlink_to(root / folder)
    for file in ("results.json", "report.md"):
        shutil.copy2(root / file, cell.root / file)
    return cell


def test_a_damaged_record_of_a_linked_stage_leaves_its_maker_alone(root: Path, ran: list[str], cell: Workspace) -> None:
    cell.record("targets").write_text("[]")
    before = {path: path.read_bytes() for path in root.rglob("*") if path.is_file()}
    run_stages(Recipe(), cell.root, repair=True)
    assert ran == ["targets", *MADE["targets"]] and not cell.targets.is_symlink()
    assert {path: path.read_bytes() for path in root.rglob("*") if path.is_file()} == before


def test_repair_leaves_alone_what_is_linked_from_another_experiment(root: Path, cell: Workspace) -> None:
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


def test_only_what_writers_name_so_is_removed(tmp_path: Path) -> None:
    foreign = [".mine.tmp.txt", ".tmp", ".notes.tmp", ".scratch.mine.tmp", "states.1.tmp"]
    for name in foreign:
        (tmp_path / name).write_text("mine")
    descriptor, _ = tempfile.mkstemp(prefix=".scratch.", suffix=".tmp", dir=tmp_path)  # as in asr_kd.scratch
    os.close(descriptor)
    (tmp_path / f".probe-{os.urandom(8).hex()}.tmp").mkdir()  # as in asr_kd.executors.ray
    with atomic_path(tmp_path / "whole") as half:
        half.write_text("half")
        remove_temporaries(tmp_path)
        assert not half.exists()
        half.write_text("whole")
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([*foreign, "whole"])


def test_checksums_are_blake2b_of_the_contents(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"abc")
    about = (tmp_path / "a").stat()
    # b2sum --length 128 of the three bytes
    assert record_files(tmp_path, [tmp_path / "a"]) == {"a": [3, about.st_mtime_ns, "cf4ab791c62b8d2b2109c90275287816"]}
