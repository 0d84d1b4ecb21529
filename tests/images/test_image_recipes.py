"""The tables' recipes: every cell is a valid recipe of images, and teachers are shared by all that can share them."""

from pathlib import Path

import pytest

from asr_kd.experiment.definition import load_experiment
from asr_kd.experiment.run import make_cells
from asr_kd.recipe_file import load_recipe


@pytest.mark.parametrize(("kind", "cells", "teachers"), [("mnist", 22, 4), ("svhn", 7, 1), ("cifar10", 7, 1)])
def test_teachers_are_trained_once(
    kind: str, cells: int, teachers: int, repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ASR_KD_CORPORA", "/nowhere")
    experiment = load_experiment(repository / "recipes" / f"{kind}.yaml")
    base = experiment.base(None)
    runs = make_cells(experiment, base, Path("exp"), (0, 1), [])
    made = [run for seeds in runs.values() for run in seeds.values()]
    assert len(runs) == cells
    assert {run.recipe.corpus.kind for run in made} == {kind}
    assert len({run.fingerprints["teachers"] for run in made}) == teachers
    assert len({run.fingerprints["student"] for run in made}) == 2 * cells
    assert {run.fingerprints["features"] for run in made} == {made[0].fingerprints["features"]}
    assert load_recipe(base).name != experiment.name, "the table would lie in its base's directory"


def test_cells_of_images_wait_for_no_graphs(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ASR_KD_CORPORA", "/nowhere")
    experiment = load_experiment(repository / "recipes" / "mnist.yaml")
    runs = make_cells(experiment, experiment.base(None), Path("exp"), (0,), [])
    for stage, pieces in runs["plain"][0].pieces.items():
        assert set(pieces) == ({"models/member-00"} if stage == "teachers" else set())
