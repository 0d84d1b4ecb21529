"""Experiments side by side, with paired significance: for the terminal and as a page."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.table import Table as TerminalTable
from rich.text import Text

from asr_kd.errors import UserError
from asr_kd.nn.hashes import store_hash
from asr_kd.recipe import Recipe
from asr_kd.recipe_file import load_recipe
from asr_kd.report.charts import dots
from asr_kd.report.document import Note, Row, Section, Table, render
from asr_kd.report.page import read_results
from asr_kd.score.results import Results
from asr_kd.score.table import percent
from asr_kd.score.wer import Transcripts, p_better, read_transcripts
from asr_kd.workspace import Workspace

LEGEND = (
    "Per cent. Δ: WER on test less that of the first experiment. p: share of paired bootstrap samples over utterances "
    "in which the system errs less than the first experiment's (Bisani and Ney 2004): near 1 it is better, near 0 it "
    "is worse."
)
HEADER = ("experiment", "params", "frame acc. dev", "frame acc. test", "WER dev", "WER test", "Δ", "p")


@dataclass(frozen=True)
class Scored:
    """An experiment that stage 8 has scored; `name` is the directory as the user wrote it."""

    name: str
    work: Workspace
    recipe: Recipe
    results: Results
    transcripts: Transcripts

    @staticmethod
    def read(path: Path) -> "Scored":
        """UserError for a directory without results, or with those of images."""
        work = Workspace(path)
        results = read_results(work)
        if "images" in results:
            raise UserError(f"{work.results}: results of an image recipe; compare experiments of speech")
        recipe = load_recipe(path / "recipe.yaml")
        return Scored(str(path), work, recipe, results, read_transcripts(work, tuple(results["systems"])))

    def p_better_than(self, other: "Scored", system: str) -> float:
        """Paired bootstrap over the test utterances; samples and seed are the other's."""
        ours, theirs = (each.transcripts.hypotheses[system]["test"] for each in (self, other))
        score = other.recipe.score
        return p_better(other.transcripts.references["test"], theirs, ours, score.bootstrap_samples, other.recipe.seed)


@dataclass(frozen=True)
class Comparison:
    """What to show of several experiments: a table a system, what their recipes differ in, and remarks."""

    experiments: Sequence[Scored]
    systems: Sequence[Table]
    keys: Table
    notes: Sequence[str]


def compare(paths: Sequence[Path]) -> Comparison:
    """Compare the experiments with the first. UserError when there is one only or they have other test sets."""
    if len(paths) < 2:
        raise UserError("compare: name two or more experiment directories")
    experiments = [Scored.read(path) for path in paths]
    first = experiments[0]
    for other in experiments[1:]:
        _check_same_test_set(first, other)
    names = dict.fromkeys(name for each in experiments for name in each.results["systems"])
    tables = [Table(name, HEADER, [_row(e, first, name) for e in experiments]) for name in names]
    return Comparison(experiments, tables, _differing_keys(experiments), _notes(experiments))


def terminal_tables(comparison: Comparison) -> list[TerminalTable | Text]:
    """The tables of systems and of recipe keys, then the remarks."""
    tables = [*comparison.systems, *([comparison.keys] if comparison.keys.rows else [])]
    return [*map(_for_terminal, tables), Text("\n".join((LEGEND, *comparison.notes)))]


def page(comparison: Comparison) -> Iterator[str]:
    """The comparison as one HTML file, part by part."""
    experiments = comparison.experiments
    sections = []
    for table in comparison.systems:
        those = [e for e in experiments if table.title in e.results["systems"]]
        rates = [e.results["systems"][table.title]["wer"]["test"] for e in those]
        wer = [100 * rate["wer"] for rate in rates]
        reach = (
            [100 * (rate["wer"] - rate["ci95"][0]) for rate in rates],
            [100 * (rate["ci95"][1] - rate["wer"]) for rate in rates],
        )
        title = f"WER of the {table.title} on test with its 95 % interval, %"
        chart = dots(title, [e.name for e in those], {table.title: wer}, "WER, %", {table.title: reach})
        sections.append(Section(f"system-{table.title}", table.title, [table, chart]))
    sections[0] = Section(
        sections[0].id, sections[0].title, [*map(Note, (LEGEND, *comparison.notes)), *sections[0].blocks]
    )
    if comparison.keys.rows:
        sections.append(Section("recipes", "Recipes", [comparison.keys]))
    return render("Experiments compared", [" · ".join(each.name for each in experiments)], sections)


def _check_same_test_set(first: Scored, other: Scored) -> None:
    ours, theirs = (each.transcripts.references["test"] for each in (first, other))
    different = sorted(key for key in ours.keys() | theirs.keys() if ours.get(key) != theirs.get(key))
    if different:
        raise UserError(
            f"{other.name}: its test set is not that of {first.name}: {len(different)} utterances differ, for example "
            f"{different[0]}; compare experiments over the same test set"
        )


def _row(experiment: Scored, first: Scored, name: str) -> Row:
    system = experiment.results["systems"].get(name)
    if system is None:
        return (experiment.name, *["–"] * (len(HEADER) - 1))
    accuracy, dev, test = system["frame_accuracy"], system["wer"]["dev"], system["wer"]["test"]
    low, high = test["ci95"]
    reference = first.results["systems"].get(name)
    against_first = ("–", "–")
    if experiment is not first and reference is not None:
        difference = 100 * (test["wer"] - reference["wer"]["test"]["wer"])
        against_first = (f"{difference:+.1f}".replace("-", "−"), f"{experiment.p_better_than(first, name):.3f}")
    return (
        experiment.name,
        f"{system['parameters'] / 1e6:.2f} M",
        percent(accuracy["dev"]),
        percent(accuracy["test"]),
        percent(dev["wer"]),
        f"{percent(test['wer'])} [{percent(low)}, {percent(high)}]",
        *against_first,
    )


def _differing_keys(experiments: Sequence[Scored]) -> Table:
    """Recipe keys that are not the same everywhere, names and descriptions aside."""
    recipes = [_flat(e.recipe.model_dump(mode="json", exclude={"name", "description"})) for e in experiments]
    keys = dict.fromkeys(key for recipe in recipes for key in recipe)
    rows = [
        (key, *(_text(recipe.get(key)) for recipe in recipes))
        for key in keys
        if any(recipe.get(key) != recipes[0].get(key) for recipe in recipes)
    ]
    return Table("What the recipes differ in", ("key", *(e.name for e in experiments)), rows, labels=1 + len(recipes))


def _notes(experiments: Sequence[Scored]) -> list[str]:
    first, notes = experiments[0], []
    for other in experiments[1:]:
        if other.transcripts.references["dev"] != first.transcripts.references["dev"]:
            notes.append(f"{other.name} has another dev set than {first.name}: do not compare figures on dev.")
        paths = [each.work.alignment("test") for each in (first, other)]
        if not all(path.exists() for path in paths) or store_hash(paths[0]) != store_hash(paths[1]):
            notes.append(f"{other.name} has another alignment than {first.name}: do not compare frame accuracies.")
    return notes


def _flat(value: Any, above: str = "") -> dict[str, Any]:
    if not isinstance(value, dict) or not value:
        return {above: value}
    flat: dict[str, Any] = {}
    for key, below in value.items():
        flat |= _flat(below, f"{above}.{key}" if above else key)
    return flat


def _text(value: Any) -> str:
    return "null" if value is None else str(value)


def _for_terminal(table: Table) -> TerminalTable:
    shown = TerminalTable(title=table.title, box=None, padding=(0, 1), pad_edge=False)
    for number, name in enumerate(table.header):
        shown.add_column(name, justify="left" if number < table.labels else "right", overflow="fold")
    for row in table.rows:
        shown.add_row(*map(Text, row))
    return shown
