"""Experiment files: what cells they mean, and one line for every mistake."""

from pathlib import Path

import pytest

from asr_kd.errors import UserError
from asr_kd.experiment.definition import Cell, Experiment, flatten, load_experiment, number_of
from asr_kd.pipeline import fingerprint


def experiment(tmp_path: Path, text: str) -> Experiment:
    (tmp_path / "base.yaml").write_text("student: {train: {epochs: 18}}\nseed: 1\n")
    path = tmp_path / "sweep.yaml"
    path.write_text(f"base: base.yaml\n{text}")
    return load_experiment(path)


def names(found: Experiment) -> list[str]:
    return [cell.name for cell in found.cells]


def test_axes_are_crossed(tmp_path: Path) -> None:
    found = experiment(tmp_path, "grid: {student.temperature: [1, 2.5], student.hard_weight: [0, 0.1]}")
    assert names(found) == [f"temperature-{t}_hard_weight-{w}" for t in ("1", "2.5") for w in ("0", "0.1")]
    last = found.cells[-1]
    assert last.labels == {"student.temperature": "2.5", "student.hard_weight": "0.1"}
    assert last.settings == {"student.temperature": 2.5, "student.hard_weight": 0.1}


def test_named_values_stand_for_a_value_or_for_settings(tmp_path: Path) -> None:
    text = """
grid:
  targets.top_k: {20: 20, all: null}
  targets: {soft: {}, hard: {student: {hard_weight: 1, train.epochs: 3}}}
exclude: [{targets: hard, targets.top_k: all}]
cells: {a third: {student.noise.alpha: 0.2}}
"""
    found = experiment(tmp_path, text)
    assert names(found) == ["top_k-20_targets-soft", "top_k-20_targets-hard", "top_k-all_targets-soft", "a-third"]
    hard = found.cells[1]
    assert hard.settings == {"targets.top_k": 20, "student.hard_weight": 1, "student.train.epochs": 3}
    assert found.cells[2].settings == {"targets.top_k": None}
    assert found.cells[3] == Cell("a-third", {}, {"student.noise.alpha": 0.2})
    assert found.axes() == {"targets.top_k": ["20", "all"], "targets": ["soft", "hard"]}


def test_settings_come_in_layers(tmp_path: Path) -> None:
    text = "set: {student: {train: {epochs: 5}}, teachers.members: 2}\ngrid: {student.train.learning_rate: [1.0e-7]}"
    found = experiment(tmp_path, text)
    base, overrides = tmp_path / "base.yaml", ["teachers.members=3", "student.train.learning_rate=1"]
    recipe = found.recipe(base, found.cells[0], 2, overrides)
    assert recipe.student.train.epochs == 5 and recipe.teachers.members == 3
    assert recipe.student.train.learning_rate == 1e-7, "a cell is what its name says"
    assert recipe.name == "sweep_learning_rate-1e-07_2"


def test_a_seed_that_is_the_recipes_is_left_out(tmp_path: Path) -> None:
    found = experiment(tmp_path, "grid: {student.temperature: [2]}\nseed_keys: [student.seed, teachers.seed]")
    recipes = [found.recipe(tmp_path / "base.yaml", found.cells[0], seed, []) for seed in (1, 2)]
    assert [recipe.student.seed for recipe in recipes] == [None, 2]
    assert [recipe.teachers.seed for recipe in recipes] == [None, 2]
    assert [recipe.seed for recipe in recipes] == [1, 1]


def test_baselines(tmp_path: Path) -> None:
    grid = "grid: {targets: {hard: {student.hard_weight: 1}, soft: {}}, student.train.fraction: [0.5, null]}\n"
    found = experiment(tmp_path, grid + "cells: {other: {}}\nbaseline: {targets: hard}")
    pairs = {cell.name: other.name for cell in found.cells if (other := found.counterpart(cell))}
    assert pairs == {f"targets-soft_fraction-{f}": f"targets-hard_fraction-{f}" for f in ("0.5", "null")}
    found = experiment(tmp_path, grid + "baseline: targets-soft_fraction-null")
    assert [found.counterpart(cell) is found.cells[3] for cell in found.cells] == [True, True, True, False]
    everywhere = {"targets": "hard", "student.train.fraction": "null"}
    found = experiment(tmp_path, grid + f"cells: {{other: {{}}}}\nbaseline: {everywhere}")
    assert found.counterpart(found.cells[-1]) is found.cells[1], "a row without axes has one where all axes are named"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("grid: {}", "grid: no cells"),
        ("gird: {a: [1]}", "gird: unknown key; did you mean grid?"),
        ("grid: {student.temperature: 3}", r"grid\.student\.temperature"),
        ("grid: {targets.temperatures: [[1, 2]]}", "a value that is no single word needs a name"),
        ("grid: {student.temperature: [1, 1]}", "two cells are called temperature-1"),
        ("grid: {student.temperature: [1]}\nlast_stage: students", "last_stage: students is no stage"),
        ("grid: {student.temperature: [1]}\nbaseline: none", "baseline: no cell is called none"),
        ("grid: {student.temperature: [1]}\nbaseline: {student.temperature: 4}", "baseline: no cell has these values"),
        ("grid: {student.temperature: [1]}\nplot: {x: temperature}", "plot: temperature is no axis of grid"),
        ("grid: {student.temperature: [1]}\nplot: {kind: heatmap, x: student.temperature}", "needs a second axis"),
        ("grid: {student.temperature: [1]}\npublished: {x: 3}", "published: no cell is called x"),
        ("grid: {student.temperature: [1]}\npublished_systems: {x: {}}", "published_systems: no cell is called x"),
        ("grid: {student.temperature: [1]}\nseeds: []", "seeds"),
    ],
)
def test_a_mistake_is_one_line_that_names_file_and_key(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(UserError, match=message) as error:
        experiment(tmp_path, text)
    assert str(error.value).startswith(str(tmp_path / "sweep.yaml"))
    assert "\n" not in str(error.value)


def test_a_wrong_key_names_the_cell(tmp_path: Path) -> None:
    found = experiment(tmp_path, "grid: {student.temprature: [1]}")
    with pytest.raises(UserError, match=r"cell temprature-1: .* did you mean temperature\?"):
        found.recipe(tmp_path / "base.yaml", found.cells[0], 0, [])


def test_flat_settings_and_numbers() -> None:
    assert flatten({"a": {"b": {"c": 1}, "d": {}}, "e.f": [1]}) == {"a.b.c": 1, "a.d": {}, "e.f": [1]}
    labels = ("2", "1/4", "1e-3", "all", "1/0", "inf")
    assert [number_of(label) for label in labels] == [2, 0.25, 1e-3, None, None, None]


def test_noise_is_compared_under_its_own_loss(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ASR_KD_CORPORA", "/corpora")
    found = load_experiment(repository / "recipes" / "experiments" / "noisy_teacher.yaml")
    students = set()
    for cell in found.cells:
        recipe, other = found.recipe(found.base(None), cell, 0, []), found.counterpart(cell)
        students.add(fingerprint(recipe, "student"))
        sigma = cell.labels["student.noise.sigma"]
        assert (recipe.student.noise is None) == (sigma in ("0", "dropout"))
        assert (other is None) == (sigma == "0")
        if other is not None:
            assert other.labels == {**cell.labels, "student.noise.sigma": "0"}
            assert found.recipe(found.base(None), other, 0, []).student.loss == recipe.student.loss
    # 3 sizes × 2 shares × 2 ways to draw, no noise, and dropout; under two losses.
    assert len(students) == 2 * (3 * 2 * 2 + 1 + 1)


def test_the_projects_experiments_are_sound(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ASR_KD_CORPORA", "/corpora")
    files = sorted((repository / "recipes" / "experiments").glob("*.yaml"))
    assert files
    for path in files:
        found = load_experiment(path)
        for cell in found.cells:
            recipe = found.recipe(found.base(None), cell, 1, [])
            assert recipe.name.startswith(path.stem)
