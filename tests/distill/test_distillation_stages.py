"""Stages 4 to 6 on the toy experiment, and what the targets they leave are."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from toy_experiment import NETWORK, TRAINING, UTTERANCES, distilled, toy_workspace

from asr_kd.distill.store import TargetStore
from asr_kd.distill.targets import SoftTargets
from asr_kd.errors import UserError
from asr_kd.features.store import FrameStore, write_store
from asr_kd.files import read_json
from asr_kd.nn.inputs import load_frames
from asr_kd.nn.metrics import read_history
from asr_kd.nn.posteriors import load_scorer
from asr_kd.pipeline import Job
from asr_kd.recipe import Recipe, Student, Targets, Teachers
from asr_kd.stages import student, targets, teachers
from asr_kd.workspace import Workspace

RECIPE = Recipe(
    teachers=Teachers(members=2, network=NETWORK, train=TRAINING),
    targets=Targets(top_k=4),
    student=Student(train=TRAINING, temperature=2.0, hard_weight=0.3),
)
NAMES = ["member-00", "member-01"]


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """The toy experiment after stages 4, 5 and 6."""
    return distilled(tmp_path_factory.mktemp("toy"), RECIPE)


def test_no_target_is_written_where_the_disk_has_no_room(
    work: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(work.root, tmp_path / "exp", ignore=shutil.ignore_patterns("targets"))
    monkeypatch.setattr("asr_kd.files._free_bytes", lambda folder: 1000)
    with pytest.raises(UserError, match=r"exp/targets: soft targets need about .*, 1\.0 kB are free; free some space"):
        targets.run(Job(RECIPE, Workspace(tmp_path / "exp")))
    assert not (tmp_path / "exp" / "targets").exists()


def test_the_ensemble_is_described(work: Workspace) -> None:
    accuracy = read_json(work.root / "models" / "ensemble.json")
    assert len(accuracy["members"]) == 2
    for split in ("dev", "test"):
        members = [member[split] for member in accuracy["members"]]
        assert accuracy["members_mean"][split] == pytest.approx(sum(members) / 2)
        assert 0.3 < accuracy["ensemble"][split] < 1


def test_correct_frames_of_all_systems_are_counted_by_utterance(work: Workspace) -> None:
    shares = read_json(work.root / "models" / "ensemble.json")
    student = read_json(work.model("student") / "accuracy.json")
    teachers_counts, student_counts = (
        read_json(path / "correct.json") for path in (work.root / "models", work.model("student"))
    )
    for split in ("dev", "test"):
        frames, counts, own = load_frames(work, NETWORK, split), teachers_counts[split], student_counts[split]
        assert counts["utterances"] == own["utterances"] == frames.utterances
        assert counts["frames"] == own["frames"] and sum(own["frames"]) == len(frames)
        found = {name: sum(correct) / len(frames) for name, correct in (counts["correct"] | own["correct"]).items()}
        expected = {name: member[split] for name, member in zip(NAMES, shares["members"], strict=True)}
        expected |= {"ensemble": shares["ensemble"][split], "student": student[split]["frame_accuracy"]}
        assert found == pytest.approx(expected)
        systems = [*counts["correct"].values(), *own["correct"].values()]
        assert all(0 <= hit <= all_ for hits in systems for hit, all_ in zip(hits, own["frames"], strict=True))


def test_members_do_not_depend_on_the_number_of_workers(work: Workspace, tmp_path: Path) -> None:
    alone = toy_workspace(tmp_path)
    teachers.run(Job(RECIPE, alone, jobs=1))
    for name in NAMES:
        ours, theirs = (load_file(root.model(name) / "model.safetensors") for root in (work, alone))
        assert all(torch.equal(tensor, theirs[key]) for key, tensor in ours.items())


def test_the_targets_are_the_ensembles_posteriors(work: Workspace) -> None:
    store, scorer, frames = TargetStore(work.targets), load_scorer(work, NAMES), load_frames(work, NETWORK, "train")
    rows = store.rows_of(frames)
    soft = store.gather(rows.numpy())
    expected = torch.from_numpy(np.concatenate([scorer.log_posteriors("train", name) for name in frames.utterances]))
    best = expected.topk(4, 1)
    assert (soft.states == best.indices).all(1).double().mean() > 0.99
    assert torch.allclose(soft.log_post, best.values, atol=5e-3)
    left_out = 1 - best.values.exp().sum(1)
    assert torch.allclose(soft.log_tail[:, 0].exp(), left_out, atol=2e-3)

    summary = read_json(work.targets / "summary.json")
    posteriors = expected.double().exp()
    assert summary["frames"] == len(frames)
    assert summary["bytes_per_frame"] == 4 * 2 + 4 * 2 + 4 * 2
    assert summary["mean_tail_mass"] == pytest.approx(float(left_out.mean()), abs=1e-4)
    assert summary["mean_entropy"] == pytest.approx(float(-(posteriors * expected).sum(1).mean()), abs=1e-3)
    assert summary["agreement"] == pytest.approx(float((best.indices[:, 0] == frames.labels).double().mean()))


def test_the_student_starts_anew_and_learns(work: Workspace) -> None:
    description, history = read_json(work.model("student") / "model.json"), read_history(work.model("student"))
    assert description["seed"] == [0, "student"]
    assert history[-1]["dev_frame_accuracy"] > 0.35
    assert history[-1]["train_loss"] < history[0]["train_loss"]


def test_targets_of_other_teachers_are_refused(work: Workspace) -> None:
    other = RECIPE.model_copy(update={"targets": Targets(top_k=4, mean="geometric")})
    with pytest.raises(UserError, match="mean of the soft targets is arithmetic"):
        student.run(Job(other, work))


def test_a_temperature_below_the_stored_ones_is_refused(work: Workspace) -> None:
    with pytest.raises(UserError, match=r"student\.temperature: 0\.5 is below"):
        SoftTargets(TargetStore(work.targets), load_frames(work, NETWORK, "train"), 0.5, 0.0)


def test_the_identity_of_targets_covers_temperature_and_weight(work: Workspace) -> None:
    store, frames = TargetStore(work.targets), load_frames(work, NETWORK, "train")
    identities = {SoftTargets(store, frames, t, w).identity for t in (1.0, 2.0) for w in (0.0, 0.5)}
    assert len(identities) == 4


def test_truncated_targets_give_nearly_the_dense_loss(work: Workspace, tmp_path: Path) -> None:
    dense = toy_workspace(tmp_path)
    (dense.root / "models").symlink_to(work.root / "models")
    targets.run(Job(RECIPE.model_copy(update={"targets": Targets(top_k=None)}), dense))
    frames = load_frames(work, NETWORK, "train")
    numbers, logits = torch.arange(len(frames)), torch.randn(len(frames), 12)
    for temperature in (1.0, 2.0, 5.0):
        losses = [
            SoftTargets(TargetStore(root.targets), frames, temperature, 0.0).loss(logits, numbers)
            for root in (work, dense)
        ]
        # One bin instead of eight states: the truncated loss lacks the entropy inside the bin, nothing else.
        assert losses[0] < losses[1]
        assert losses[0] > 0.4 * losses[1]


def test_an_unaligned_utterance_is_left_out(tmp_path: Path) -> None:
    work = toy_workspace(tmp_path)
    alignment = FrameStore(work.alignment("train"))
    some = {name: np.array(alignment[name]) for name in list(alignment)[1:]}
    write_store(work.alignment("train"), some, alignment.meta)
    one = RECIPE.model_copy(update={"teachers": Teachers(members=1, network=NETWORK, train=TRAINING)})
    for stage in (teachers, targets, student):
        stage.run(Job(one, work))
    frames = load_frames(work, NETWORK, "train")
    assert len(frames.utterances) == UTTERANCES["train"] - 1
    assert read_json(work.targets / "summary.json")["frames"] == len(frames)


@pytest.mark.parametrize("jobs", [1, 2])
def test_a_member_that_fails_ends_the_stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, jobs: int) -> None:
    work, original = toy_workspace(tmp_path), teachers.train

    def failing(path: Path, *arguments: object, **named: object) -> object:
        if path.name == "member-01":
            raise UserError("member-01 fails")
        return original(path, *arguments, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(teachers, "train", failing)
    with pytest.raises(UserError, match="member-01 fails"):
        teachers.run(Job(RECIPE, work, jobs=jobs))
    assert not (work.root / "models" / "ensemble.json").exists()
