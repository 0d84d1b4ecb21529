"""Some cells of a grid, and the others later."""

from dataclasses import replace
from pathlib import Path

import pytest
from fake_stages import Factory

from asr_kd.errors import UserError
from asr_kd.experiment.run import Request, run_experiment
from asr_kd.files import read_json
from asr_kd.pipeline import run_stages
from asr_kd.recipe_file import load_recipe


def test_chosen_cells_run_and_the_table_has_all_that_are_there(
    tmp_path: Path, base_recipe: Path, factory: Factory
) -> None:
    run_stages(load_recipe(base_recipe), tmp_path / "base")
    (tmp_path / "sweep.yaml").write_text("grid: {student.temperature: [3, 4, 40]}\nlast_stage: student\n")
    everything = Request(tmp_path / "sweep.yaml", base_recipe, tmp_path / "base", tmp_path / "exp", seeds=(0,))
    for patterns, trained in (
        (("temperature-3", "*0"), ["temperature-3/0", "temperature-40/0"]),
        (("temperature-4",), ["temperature-4/0"]),
        ((), []),
    ):
        factory.ran.clear()
        assert run_experiment(replace(everything, cells=patterns), factory.start) == []
        assert sorted(factory.ran_stage("student")) == trained
        names = [cell["name"] for cell in read_json(tmp_path / "exp" / "table.json")["cells"]]
        assert names == ["temperature-3", "temperature-4", "temperature-40"]
    with pytest.raises(UserError, match=r"--cells 5\*: no cell is called so; one of temperature-3, temperature-4"):
        run_experiment(replace(everything, cells=("temperature-3", "5*")), factory.start)
