"""An experiment file: what varies over a base recipe, over which seeds, and what is drawn. docs/experiments.md.

An axis of `grid` is a recipe key with a list of values, or any name with a mapping of names: a name stands for a value
of the key, or for settings of several keys. The axes are crossed; `cells` are further rows, each with settings of its
own.
"""

import itertools
import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import Field, ValidationError

from asr_kd.errors import UserError
from asr_kd.pipeline import STAGE_NAMES
from asr_kd.recipe import Recipe, Section
from asr_kd.recipe_file import explain, load_recipe, read_layers

Settings = dict[str, Any]


class Plot(Section):
    """`line`: figures over axis `x`; `heatmap`: over `x` and `y`; `curves`: accuracy by epoch, a panel for each `x`.

    Axes that are neither `x` nor `y` become lines, or panels of a heat map. `figures` are names of table.json.
    """

    kind: Literal["line", "heatmap", "curves"] = "line"
    x: str
    y: str | None = None
    figures: Annotated[tuple[str, ...], Field(min_length=1)] = ("frame_accuracy.dev", "wer.dev")
    log: bool = False


class Definition(Section):
    """`base`: recipe that everything starts from, relative to the experiment file. `set`: settings of every cell.

    `seed_keys`: recipe keys that take the seed. `last_stage`: where each cell ends; `score` for error rates.
    `baseline`: the cell that others are compared with, by name, or as values of axes: then each cell is compared with
    the one that has these values and is like it in the other axes. `published`: what a paper has in a cell's place.
    `published_systems`: by cell, what it has for other systems of the cell, such as `teacher` of an image recipe.
    """

    description: str = ""
    base: str | None = None
    set: Settings = Field(default_factory=dict)
    grid: dict[str, list[Any] | dict[Any, Any]] = Field(default_factory=dict)
    exclude: tuple[Settings, ...] = ()
    cells: dict[str, Settings] = Field(default_factory=dict)
    seeds: Annotated[tuple[Annotated[int, Field(ge=0)], ...], Field(min_length=1)] = (0,)
    seed_keys: tuple[str, ...] = ("student.seed",)
    last_stage: str = "student"
    baseline: str | Settings | None = None
    published: dict[str, str | float] = Field(default_factory=dict)
    published_systems: dict[str, dict[str, str | float]] = Field(default_factory=dict)
    plot: Plot | None = None


@dataclass(frozen=True)
class Cell:
    """One row of the table: its label on every axis (none for a row of `cells`) and its settings by key path."""

    name: str
    labels: dict[str, str]
    settings: Settings


@dataclass(frozen=True)
class Experiment:
    """A definition read from `path`, with its cells in order."""

    path: Path
    definition: Definition
    cells: tuple[Cell, ...]

    @property
    def name(self) -> str:
        return self.path.stem

    def base(self, given: Path | None) -> Path:
        """The base recipe: the one given on the command line, or the file's own."""
        if given is None and self.definition.base is None:
            raise UserError(f"{self.path}: base: no base recipe; name one here or with --base")
        return given or self.path.parent / str(self.definition.base)

    def recipe(self, base: Path, cell: Cell, seed: int, overrides: list[str]) -> Recipe:
        """The recipe of a cell at a seed: the base under `set`, then `overrides` (KEY=VALUE), then the cell's settings.

        A seed that is the recipe's own anyway is left out, so that the base's networks serve the cell too.
        """
        common = [_override(key, value) for key, value in flatten(self.definition.set).items()]
        own = [_override(key, value) for key, value in cell.settings.items()]
        own.append(_override("name", f"{self.name}_{cell.name}_{seed}"))
        try:
            recipe = load_recipe(base, [*common, *overrides, *own])
            seeds = {key: seed for key in self.definition.seed_keys if key == "seed" or seed != recipe.seed}
            seeded = [_override(key, value) for key, value in seeds.items()]
            return load_recipe(base, [*common, *overrides, *own, *seeded]) if seeded else recipe
        except UserError as error:
            raise UserError(f"{self.path}: cell {cell.name}: {error}") from None

    def counterpart(self, cell: Cell) -> Cell | None:
        """The cell that `cell` is compared with; None where there is none or it is `cell` itself."""
        baseline = self.definition.baseline
        if baseline is None:
            return None
        if isinstance(baseline, str):
            found = next(other for other in self.cells if other.name == baseline)
        else:
            labels = {**cell.labels, **{axis: label_of(value) for axis, value in baseline.items()}}
            found = next((other for other in self.cells if other.labels == labels), cell)
        return None if found is cell else found

    def axes(self) -> dict[str, list[str]]:
        """The labels of each axis of the grid, in order."""
        return {axis: [label for label, _ in _values(self.path, axis, v)] for axis, v in self.definition.grid.items()}

    def titles(self) -> dict[str, str]:
        """Axes by what a table's head says: the last part of the key, where that tells them apart."""
        return _titles(list(self.definition.grid))


def load_experiment(path: Path) -> Experiment:
    """Read and check an experiment file. Raises UserError that names the file and the key."""
    try:
        definition = Definition.model_validate(read_layers(path))
    except ValidationError as error:
        raise UserError(f"{path}: {explain(error, Definition)}") from None
    cells = _expand(path, definition)
    experiment = Experiment(path, definition, cells)
    _check(experiment)
    return experiment


def flatten(settings: Settings, above: str = "") -> Settings:
    """{"a": {"b": 1}, "a.c": 2} to {"a.b": 1, "a.c": 2}; an empty mapping is a value."""
    flat: Settings = {}
    for key, value in settings.items():
        flat |= flatten(value, f"{above}{key}.") if isinstance(value, dict) and value else {f"{above}{key}": value}
    return flat


def label_of(value: Any) -> str:
    return "null" if value is None else f"{value:g}" if isinstance(value, float) else str(value)


def number_of(label: str) -> float | None:
    """The label as a number, `1/4` being one too; None for other text."""
    above, _, below = label.partition("/")
    try:
        value = float(above) / float(below or 1)
    except (ValueError, ZeroDivisionError):
        return None
    return value if math.isfinite(value) else None


def _values(path: Path, axis: str, values: list[Any] | dict[Any, Any]) -> list[tuple[str, Settings]]:
    """Label and settings of each value of an axis."""
    if isinstance(values, dict):
        named = {label_of(name): value if isinstance(value, dict) else {axis: value} for name, value in values.items()}
        return [(label, flatten(settings)) for label, settings in named.items()]
    for value in values:
        if isinstance(value, list | dict):
            raise UserError(f"{path}: grid.{axis}: a value that is no single word needs a name; write NAME: {value}")
    return [(label_of(value), {axis: value}) for value in values]


def _titles(axes: list[str]) -> dict[str, str]:
    last = [axis.rsplit(".", 1)[-1] for axis in axes]
    return {axis: short if last.count(short) == 1 else axis for axis, short in zip(axes, last, strict=True)}


def _expand(path: Path, definition: Definition) -> tuple[Cell, ...]:
    axes = {axis: _values(path, axis, values) for axis, values in definition.grid.items()}
    titles = _titles(list(axes))
    excluded = [{axis: label_of(value) for axis, value in labels.items()} for labels in definition.exclude]
    cells = []
    for combination in itertools.product(*axes.values()) if axes else ():
        labels = {axis: label for axis, (label, _) in zip(axes, combination, strict=True)}
        if any(e.items() <= labels.items() for e in excluded):
            continue
        name = "_".join(f"{titles[axis]}-{_safe(label)}" for axis, label in labels.items())
        settings = {key: value for _, some in combination for key, value in some.items()}
        cells.append(Cell(_safe(name), labels, settings))
    cells += [Cell(_safe(name), {}, flatten(settings)) for name, settings in definition.cells.items()]
    return tuple(cells)


def _safe(name: str) -> str:
    """A name that a folder and a recipe may have."""
    return re.sub(r"[^A-Za-z0-9_.-]+", "-", name).strip("-")


def _check(experiment: Experiment) -> None:
    path, definition, cells = experiment.path, experiment.definition, experiment.cells
    names, axes = [cell.name for cell in cells], list(definition.grid)
    if not cells:
        raise UserError(f"{path}: grid: no cells; give grid an axis with values, or name cells")
    if twice := [name for name in names if names.count(name) > 1]:
        raise UserError(f"{path}: two cells are called {twice[0]}; give them other names")
    if definition.last_stage not in STAGE_NAMES:
        raise UserError(f"{path}: last_stage: {definition.last_stage} is no stage; one of {', '.join(STAGE_NAMES)}")
    if isinstance(definition.baseline, str) and definition.baseline not in names:
        raise UserError(f"{path}: baseline: no cell is called {definition.baseline}; one of {', '.join(names)}")
    published = {"published": list(definition.published), "published_systems": list(definition.published_systems)}
    for key, mentioned in published.items():
        if stranger := next((name for name in mentioned if name not in names), None):
            raise UserError(f"{path}: {key}: no cell is called {stranger}; one of {', '.join(names)}")
    used = {"exclude": [axis for labels in definition.exclude for axis in labels]}
    used["baseline"] = list(definition.baseline) if isinstance(definition.baseline, dict) else []
    used["plot"] = [axis for axis in (definition.plot.x, definition.plot.y) if axis] if definition.plot else []
    for key, mentioned in used.items():
        if stranger := next((axis for axis in mentioned if axis not in axes), None):
            raise UserError(f"{path}: {key}: {stranger} is no axis of grid; one of {', '.join(axes) or 'none'}")
    if definition.plot and definition.plot.kind == "heatmap" and not definition.plot.y:
        raise UserError(f"{path}: plot.y: a heat map needs a second axis")
    if isinstance(definition.baseline, dict) and not any(experiment.counterpart(cell) for cell in cells):
        raise UserError(f"{path}: baseline: no cell has these values of the axes")


def _override(key: str, value: Any) -> str:
    return f"{key}={yaml.safe_dump(value, default_flow_style=True)}"
