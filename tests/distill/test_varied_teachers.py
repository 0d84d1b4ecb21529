"""Members of several architectures, seeds of their own, and shares of the data, in stages 4 to 6."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from toy_experiment import NETWORK, TRAINING, toy_workspace

from asr_kd.errors import UserError
from asr_kd.files import read_json
from asr_kd.pipeline import Job
from asr_kd.recipe import Network, Recipe
from asr_kd.stages import student, targets, teachers
from asr_kd.workspace import Workspace

SHORT = TRAINING.model_copy(update={"epochs": 1})
WIDE = NETWORK.model_copy(update={"width": 64, "layers": 1})


def recipe(**sections: dict[str, object]) -> Recipe:
    common = {"teachers": {"members": 3, "network": NETWORK, "train": SHORT}, "student": {"train": SHORT}}
    return Recipe.model_validate({name: {**common[name], **sections.get(name, {})} for name in common})


def train(work: Workspace, some: Recipe, *stages: object) -> None:
    for stage in stages:
        stage.run(Job(some, work))  # type: ignore[attr-defined]


def weights(work: Workspace, name: str) -> dict[str, torch.Tensor]:
    return load_file(work.model(name) / "model.safetensors")


def test_networks_are_taken_in_turn_and_distilled_together(tmp_path: Path) -> None:
    work = toy_workspace(tmp_path)
    train(work, recipe(teachers={"networks": (NETWORK, WIDE)}), teachers, targets, student)
    shapes = [read_json(work.member(index) / "model.json")["network"]["width"] for index in range(3)]
    assert shapes == [48, 64, 48]
    assert len(read_json(work.root / "models" / "ensemble.json")["members"]) == 3
    assert read_json(work.model("student") / "model.json")["network"]["width"] == 48


def test_a_network_that_sees_another_window_is_refused(tmp_path: Path) -> None:
    narrow = Network(**{**NETWORK.model_dump(), "left": 0})
    with pytest.raises(UserError, match=r"teachers\.networks\.1\.left: 0, teachers\.network has 1"):
        train(toy_workspace(tmp_path), recipe(teachers={"networks": (NETWORK, narrow)}), teachers)


def test_seeds_of_teachers_and_student(tmp_path: Path) -> None:
    """A seed equal to the recipe's changes nothing; another one changes its networks alone."""
    plain, same, other = (toy_workspace(tmp_path / name) for name in ("plain", "same", "other"))
    one = {"members": 1}
    train(plain, recipe(teachers=one), teachers, targets, student)
    train(same, recipe(teachers={**one, "seed": 0}, student={"seed": 0}), teachers, targets, student)
    train(other, recipe(teachers=one, student={"seed": 5}), teachers, targets, student)
    for name in ("member-00", "student"):
        assert all(torch.equal(tensor, weights(same, name)[key]) for key, tensor in weights(plain, name).items())
    assert torch.equal(weights(other, "member-00")["weights.0"], weights(plain, "member-00")["weights.0"])
    assert not torch.equal(weights(other, "student")["weights.0"], weights(plain, "student")["weights.0"])
    assert read_json(other.model("student") / "model.json")["seed"] == [5, "student"]


def test_a_student_on_a_share_has_targets_for_its_frames(tmp_path: Path) -> None:
    work = toy_workspace(tmp_path)
    some = recipe(
        teachers={"members": 1, "train": SHORT.model_copy(update={"fraction": 0.5})},
        student={"train": SHORT.model_copy(update={"fraction": 0.25})},
    )
    train(work, some, teachers, targets, student)
    accuracy = read_json(work.model("student") / "accuracy.json")
    frames = read_json(work.targets / "summary.json")["frames"]
    assert 0.25 * frames <= accuracy["train"]["frames"] < 0.25 * frames + 80
    means = [weights(work, name)["mean"] for name in ("member-00", "student")]
    assert not torch.equal(*means), "each is standardised by what it saw"
