"""Stage 5 goes on after its last finished shard, to the same bits; it says what it needs and what is no number."""

from pathlib import Path

import numpy as np
import pytest
import torch
from toy_experiment import NETWORK, TRAINING, toy_workspace

from asr_kd.distill import store as store_module
from asr_kd.distill import targets as targets_module
from asr_kd.distill.asking import estimate_bytes
from asr_kd.distill.store import PROGRESS, SoftFrames, StoreWriter, condense
from asr_kd.errors import UserError
from asr_kd.nn.posteriors import Ensemble
from asr_kd.pipeline import Job
from asr_kd.recipe import Recipe, Targets, Teachers
from asr_kd.stages import targets, teachers
from asr_kd.workspace import Workspace

RECIPE = Recipe(teachers=Teachers(members=2, network=NETWORK, train=TRAINING.model_copy(update={"epochs": 1})))
OPTIONS = [
    Targets(top_k=4),
    Targets(top_k=None),
    Targets(top_k=4, pruning="random", temperatures=(2.0,)),
    Targets(top_k=4, dropout=0.2),
]


@pytest.fixture(scope="module")
def taught(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    work = toy_workspace(tmp_path_factory.mktemp("toy"))
    teachers.run(Job(RECIPE, work))
    return work


@pytest.fixture(autouse=True)
def many_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    """A batch of 64 frames fills a shard: some twenty shards."""
    monkeypatch.setattr(store_module, "SHARD_BYTES", 1)
    monkeypatch.setattr(targets_module.dump_targets, "__defaults__", (64, 0))


def dump(taught: Workspace, root: Path, options: Targets) -> Workspace:
    work = Workspace(root)
    for folder in ("models", "features", "hmm"):
        if not (work.root / folder).exists():
            work.root.mkdir(parents=True, exist_ok=True)
            (work.root / folder).symlink_to(taught.root / folder)
    targets.run(Job(RECIPE.model_copy(update={"targets": options}), work, jobs=2))
    return work


def contents(work: Workspace) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in work.targets.iterdir()}


@pytest.fixture
def stops(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The calls of StoreWriter.add at which the dump is interrupted; `None` appended marks none."""
    calls, stops, add = list[int](), list[int](), StoreWriter.add

    def interrupted(writer: StoreWriter, soft: SoftFrames, sums: list[float] | None = None) -> None:
        calls.append(0)
        if len(calls) in stops:
            raise KeyboardInterrupt
        add(writer, soft, sums)

    monkeypatch.setattr(StoreWriter, "add", interrupted)
    return stops


@pytest.mark.parametrize("options", OPTIONS, ids=["top-k", "dense", "pruned", "dropout"])
def test_an_interrupted_dump_ends_in_the_same_bits(
    taught: Workspace, tmp_path: Path, options: Targets, stops: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    straight = dump(taught, tmp_path / "straight", options)
    asked, ask = list[int](), Ensemble.log_posteriors

    def counted(ensemble: Ensemble, windows: torch.Tensor) -> torch.Tensor:
        asked.append(len(windows))
        return ask(ensemble, windows)

    monkeypatch.setattr(Ensemble, "log_posteriors", counted)
    batches = len(list(straight.targets.glob("log_post-*.npy")))
    assert batches > 10
    stops += [batches + 6, batches + 12]
    for _ in stops:
        with pytest.raises(KeyboardInterrupt):
            dump(taught, tmp_path / "resumed", options)
        assert not (tmp_path / "resumed" / "targets" / "index.json").exists()
    asked.clear()
    assert contents(dump(taught, tmp_path / "resumed", options)) == contents(straight)
    assert len(asked) == (batches if options.dropout else batches - 10)


def test_other_options_and_a_damaged_shard_begin_anew(taught: Workspace, tmp_path: Path, stops: list[int]) -> None:
    stops += [5, 10]
    with pytest.raises(KeyboardInterrupt):
        dump(taught, tmp_path / "exp", Targets(top_k=4))
    with pytest.raises(KeyboardInterrupt):
        dump(taught, tmp_path / "exp", Targets(top_k=5))
    assert {np.load(path).shape[1] for path in (tmp_path / "exp" / "targets").glob("states-*.npy")} == {5}
    shard = tmp_path / "exp" / "targets" / "states-001.npy"
    shard.write_bytes(shard.read_bytes()[:-1] + b"?")
    assert (tmp_path / "exp" / "targets" / PROGRESS).exists()
    ours, theirs = dump(taught, tmp_path / "exp", Targets(top_k=5)), dump(taught, tmp_path / "fresh", Targets(top_k=5))
    assert contents(ours) == contents(theirs)


@pytest.mark.parametrize(
    ("part", "other"),
    [
        ("2.5", "7.5"),  # a sum
        ('"shards"', '"shardt"'),
        ('"sums"', '"sumt"'),
        ('"files"', '"filet"'),
        ('"identity"', '"identify"'),
        ('"checksum"', '"checksun"'),
        ("{", "["),
        ("}", ""),
    ],
)
def test_a_damaged_note_of_the_shards_begins_anew(tmp_path: Path, part: str, other: str) -> None:
    soft = condense(torch.randn(4, 6, generator=torch.Generator().manual_seed(0)).log_softmax(1), 2, (1.0,))
    StoreWriter(tmp_path, "this one").add(soft, [1.5, 2.5, 3.5])
    resumed = StoreWriter(tmp_path, "this one")
    assert resumed.frames == 4 and resumed.sums == [1.5, 2.5, 3.5]
    note = tmp_path / PROGRESS
    assert part in note.read_text()
    note.write_text(note.read_text().replace(part, other))
    anew = StoreWriter(tmp_path, "this one")
    assert anew.frames == 0 and anew.sums is None and not list(tmp_path.iterdir())


@pytest.mark.parametrize("options", OPTIONS, ids=["top-k", "dense", "pruned", "dropout"])
def test_the_estimate_is_what_the_shards_take(taught: Workspace, tmp_path: Path, options: Targets) -> None:
    work = dump(taught, tmp_path, options)
    frames = sum(len(np.load(path)) for path in work.targets.glob("log_post-*.npy"))
    arrays = sum(np.load(path).nbytes for path in work.targets.glob("*.npy"))
    assert estimate_bytes(options, 12, frames) == arrays


def test_a_disk_without_the_space_is_refused_before_the_work(
    taught: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("asr_kd.files._free_bytes", lambda folder: 1000)
    with pytest.raises(UserError, match=r"targets: soft targets need about \d+\.\d kB, 1\.0 kB are free"):
        dump(taught, tmp_path, Targets(top_k=4))
    assert not (tmp_path / "targets").exists()


def test_posteriors_that_are_no_numbers_name_the_utterance(
    taught: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ask = Ensemble.log_posteriors

    def spoilt(ensemble: Ensemble, windows: torch.Tensor) -> torch.Tensor:
        log_post = ask(ensemble, windows)
        log_post[3, 5] = torch.nan
        return log_post

    monkeypatch.setattr(Ensemble, "log_posteriors", spoilt)
    with pytest.raises(UserError, match=r"posteriors are not finite at utterances train-00;"):
        dump(taught, tmp_path, Targets(top_k=4))


def test_impossible_states_have_a_finite_tail() -> None:
    log_post = torch.full((2, 9), -torch.inf)
    log_post[:, :3] = torch.tensor([0.5, 0.3, 0.2]).log()
    arrays = condense(log_post, 3, (1.0, 2.0, 10.0)).arrays()
    assert all(np.isfinite(array).all() for array in arrays.values())
    assert (np.exp(arrays["log_tail"].astype(np.float64)) == 0).all(), "no mass, and none below 0"
