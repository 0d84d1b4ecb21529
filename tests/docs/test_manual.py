"""The written pages of the manual: every key and option is there, and one without a description is refused."""

import importlib.util
import inspect
import re
from pathlib import Path
from types import ModuleType

import pytest
import yaml
from pydantic import BaseModel, ConfigDict
from typer.models import OptionInfo

from asr_kd import recipe
from asr_kd.cli import app
from asr_kd.recipe import Count, Recipe


@pytest.fixture(scope="module")
def manual(repository: Path) -> ModuleType:
    """docs/manual.py, which is no part of the package."""
    spec = importlib.util.spec_from_file_location("manual", repository / "docs" / "manual.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def rows_of(page: str) -> dict[str, dict[str, list[str]]]:
    """Section → key → cells."""
    sections = {}
    for section in page.split("\n## ")[1:]:
        lines = [line for line in section.splitlines() if line.startswith("| `")]
        cells = [re.split(r"(?<!\\) \| ", line.strip("| ")) for line in lines]
        sections[section.splitlines()[0]] = {row[0].strip("`"): row[1:] for row in cells}
    return sections


def test_every_key_of_every_model_is_on_the_page(manual: ModuleType) -> None:
    sections = rows_of(manual.keys_page())
    models = {name: model for name, model in vars(recipe).items() if isinstance(model, type(Recipe))}
    models = {name: model for name, model in models.items() if issubclass(model, recipe.Section)}
    del models["Section"]
    assert set(sections) == set(models)
    for name, model in models.items():
        assert list(sections[name]) == list(model.model_fields)
        assert all(cells[0] for cells in sections[name].values())


def test_defaults_and_units_are_those_of_the_models(manual: ModuleType) -> None:
    sections = rows_of(manual.keys_page())
    assert sections["Network"]["width"][1:] == ["units", "whole number ≥ 1", "`512`"]
    assert sections["Training"]["keep"][1:] == ["", "`last` or `null`", "`null`"]
    assert sections["Student"]["train"][3] == "`{epochs: 12}`", "what differs from Training's own defaults"
    assert sections["Student"]["hard_weight"][2] == "number ≥ 0 ≤ 1"
    for name in ("Targets", "Scales", "NGram", "Embedded"):
        for key, field in getattr(recipe, name).model_fields.items():
            if key != "rescore" and not isinstance(field.default, BaseModel):
                shown = yaml.safe_load(sections[name][key][3].strip("`"))
                assert shown == (list(field.default) if isinstance(field.default, tuple) else field.default)


class Bare(BaseModel):
    """A recipe whose keys nobody described."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    described: str = ""
    """What it is."""
    silent: str = ""
    unitless: Count = 1
    """How many."""
    measured: Count = 1
    """How long. [s]"""


def test_a_key_without_description_or_unit_is_refused(manual: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recipe, "Recipe", Bare)
    with pytest.raises(ValueError, match=r"Recipe.silent has no description; Recipe.unitless has no \[unit\]") as error:
        manual.keys_page()
    assert "measured" not in str(error.value) and ".described" not in str(error.value)


def test_every_option_that_help_names_is_on_the_page(manual: ModuleType) -> None:
    """The commands' functions say which options there are; help texts may be broken in two by a narrow terminal."""
    sections = {part.splitlines()[0]: part for part in manual.commands_page().split("\n## ")[1:]}
    assert {"asr-kd run", "asr-kd hmm show", "asr-kd transcribe", "asr-kd write-kaldi"} <= set(sections)
    for name in ("run", "report", "compare"):
        command = next(c.callback for c in app.registered_commands if c.callback and c.callback.__name__ == name)
        for parameter in inspect.signature(command).parameters.values():
            (about,) = [item for item in parameter.annotation.__metadata__ if hasattr(item, "help")]
            if isinstance(about, OptionInfo):
                named = [name for name in (about.default, *(about.param_decls or ())) if isinstance(name, str)]
                option = (named or [f"--{parameter.name.replace('_', '-')}"])[0].split("/")[0]
                assert f"{option} " in sections[f"asr-kd {name}"]
            assert about.help.split()[0] in sections[f"asr-kd {name}"]
    assert "[default: exp/RECIPE]" in sections["asr-kd run"]
