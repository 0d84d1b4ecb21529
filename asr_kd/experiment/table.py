"""The experiment's table: table.json with every figure, table.md for reading."""

import os
import platform
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from asr_kd.experiment.definition import Cell, Experiment, label_of
from asr_kd.experiment.figures import (
    Figures,
    Summary,
    compare_frames,
    compare_words,
    has_stage,
    kl_to_dense,
    read_figures,
    read_intervals,
    read_specialists,
    read_systems,
    summarise,
    with_vocabulary_of,
)
from asr_kd.experiment.sharing import CellRun
from asr_kd.files import write_json, write_text
from asr_kd.recipe_file import load_recipe
from asr_kd.score.report import escape_markdown, specialists_markdown
from asr_kd.score.results import gain_retained
from asr_kd.score.table import markdown_table
from asr_kd.score.wer import SCORED

Table = dict[str, Any]
Format = Callable[[float], str]
STUDENT = "student"
# Figures whose difference from the cell compared with is of interest.
COMPARED = ("frame_accuracy", "cross_entropy", "last", "wer", "errors")
# Figures of which only the mean over seeds says something.
PROBABILITIES = ("p_better_than_baseline", "p_better", "p_more_correct")


def per_cent(value: float) -> str:
    return f"{100 * value:.2f}"


def number(value: float) -> str:
    return f"{value:.4g}"


COLUMNS: dict[str, tuple[str, Format]] = {
    "parameters": ("parameters, M", lambda value: f"{value / 1e6:.3f}"),
    "frame_accuracy.train": ("frame acc. train", per_cent),
    "frame_accuracy.dev": ("frame acc. dev", per_cent),
    "last.frame_accuracy.dev": ("dev, last epoch", per_cent),
    "frame_accuracy.test": ("frame acc. test", per_cent),
    "difference.frame_accuracy.dev": ("Δ dev", per_cent),
    "teachers.frame_accuracy.dev": ("teachers dev", per_cent),
    "gain_retained.dev": ("gain kept dev", per_cent),
    "gain_retained.test": ("gain kept test", per_cent),
    "targets.bytes_per_frame": ("bytes a frame", number),
    "targets.mean_tail_mass": ("tail mass", number),
    "kl_to_dense": ("KL to dense", number),
    "errors.test": ("errors test", number),
    "difference.errors.test": ("Δ errors", number),
    "gap_closed.test": ("gap closed test", per_cent),
    "errors_with_offset.test": ("errors with offset", number),
    "wer.dev": ("WER dev", per_cent),
    "wer.test": ("WER test", per_cent),
    "difference.wer.test": ("Δ WER test", per_cent),
    "out_of_vocabulary_recall.test": ("OOV recall test", per_cent),
    "p_better_than_baseline": ("p better than baseline", lambda value: f"{value:.3f}"),
    "p_better": ("p better than the other", lambda value: f"{value:.3f}"),
    "p_more_correct.dev": ("p frame acc. dev", lambda value: f"{value:.3f}"),
    "p_more_correct.test": ("p frame acc. test", lambda value: f"{value:.3f}"),
    "rtf": ("RTF", lambda value: f"{value:.3f}"),
}
COMPARISON = "Δ, p better than the other and p frame acc."
LEGEND = """\
Per cent where a share. Over several seeds: mean ± standard deviation [95 % interval of the mean, t distribution]; of
one seed, the interval of an error rate, a frame accuracy or the gain kept is over utterances, or images (bootstrap).
Gain kept: (student − members' mean) / (ensemble − members' mean), frame accuracy. p: share of paired bootstrap samples
with fewer errors than the cell's own baseline system, or than the cell compared with; p frame acc.: with more frames
correct than the cell compared with; means over seeds. Δ: mean difference, seed by seed. OOV: words that the cell
compared with does not know, or without one the cell itself. Gap closed, of images: (plain − student) / (plain −
teacher), test errors; plain is the same network trained alike on the labels alone.
"""


def make_table(experiment: Experiment, runs: dict[str, dict[int, CellRun]], base: Path) -> Table:
    """All figures of the cells' finished stages; `runs`: by cell name and seed."""
    figures = {name: {seed: read_figures(run) for seed, run in seeds.items()} for name, seeds in runs.items()}
    _add_kl(runs, figures)
    cells = [_row(experiment, cell, runs, figures) for cell in experiment.cells]
    return {
        "experiment": experiment.name,
        "description": experiment.definition.description,
        "base": str(base),
        "base_name": load_recipe(base).name,
        "command": " ".join(sys.argv),
        "date": time.strftime("%Y-%m-%d"),
        "machine": {"cpus": os.cpu_count(), "platform": platform.platform()},
        "axes": experiment.axes(),
        "cells": cells,
    }


def write_table(folder: Path, experiment: Experiment, table: Table) -> None:
    """Write table.json and table.md."""
    write_json(folder / "table.json", table)
    write_text(folder / "table.md", table_markdown(experiment, table))


def table_markdown(experiment: Experiment, table: Table) -> str:
    cells = table["cells"]
    seeds = sorted({int(seed) for cell in cells for seed in cell["seeds"]})
    sections = [f"# {table['experiment']}\n"]
    if table["description"]:
        sections.append(escape_markdown(table["description"].strip()) + "\n")
    cores = f"{table['machine']['cpus']} cores"
    sections.append(f"Base {table['base']}; seeds {', '.join(map(str, seeds))}; {table['date']}; {cores}.\n")
    shown = {key: column for key, column in COLUMNS.items() if any(_summary(cell, key) for cell in cells)}
    texts = {key: [_text(_summary(cell, key), form) for cell in cells] for key, (_, form) in shown.items()}
    same = {key for key, column in texts.items() if len(cells) > 1 and len(set(column)) == 1}
    if _without_intervals(cells, "last.frame_accuracy.dev") == _without_intervals(cells, "frame_accuracy.dev"):
        shown.pop("last.frame_accuracy.dev", None)
    varying = [key for key in shown if key not in same]
    head = [*_head(experiment), *(shown[key][0] for key in varying)]
    body = [[*_labels(experiment, cell), *(texts[key][i] for key in varying)] for i, cell in enumerate(cells)]
    if experiment.definition.published:
        head.append("published")
        body = [[*row, str(cell["published"] or "")] for row, cell in zip(body, cells, strict=True)]
    sections.append(markdown_table(tuple(head), [tuple(row) for row in body]))
    if same:
        common = [f"{shown[key][0]} {texts[key][0]}" for key in shown if key in same]
        sections.append(f"The same in every row: {'; '.join(common)}.\n")
    baseline, titles = experiment.definition.baseline, experiment.titles()
    if isinstance(baseline, dict):
        values = ", ".join(f"{titles[axis]} {label_of(value)}" for axis, value in baseline.items())
        sections.append(f"{COMPARISON}: against the cell that has {escape_markdown(values)} and is alike else.\n")
    elif baseline:
        sections.append(f"{COMPARISON}: against {escape_markdown(baseline)}.\n")
    sections += [LEGEND, _systems(table), _specialists(table), _failures(table)]
    if experiment.definition.plot:
        sections.append("![plot](plot.png)\n")
    return "\n".join(section for section in sections if section)


def _row(
    experiment: Experiment,
    cell: Cell,
    runs: dict[str, dict[int, CellRun]],
    figures: dict[str, dict[int, Figures]],
) -> dict[str, Any]:
    other, own, seeds = experiment.counterpart(cell), figures[cell.name], runs[cell.name]
    systems = {seed: read_systems(run) for seed, run in seeds.items()}
    for seed, run in seeds.items():
        if other is not None:
            theirs = figures[other.name][seed]
            shared = [name for name in own[seed] if name in theirs and name.split(".")[0] in COMPARED]
            own[seed] |= {f"difference.{name}": own[seed][name] - theirs[name] for name in shared}
            own[seed] |= compare_words(run, runs[other.name][seed]) | compare_frames(run, runs[other.name][seed])
            counted = with_vocabulary_of(runs[other.name][seed], run, {STUDENT: own[seed], **systems[seed]})
            own[seed], systems[seed] = counted.pop(STUDENT), counted
        own[seed] |= _gap_closed(run, runs, figures)
    names = dict.fromkeys(name for one in own.values() for name in one)
    intervals = {seed: read_intervals(run) for seed, run in seeds.items()}
    summaries = {name: _summarise(name, [one[name] for one in own.values() if name in one]) for name in names}
    for name, summary in summaries.items():
        known = [interval[name] for interval in intervals.values() if name in interval]
        if summary["seeds"] == 1 and known:
            summary["ci95"] = known[0]
    return {
        "name": cell.name,
        "labels": cell.labels,
        "settings": cell.settings,
        "compared_with": other.name if other else None,
        "published": experiment.definition.published.get(cell.name),
        "published_systems": experiment.definition.published_systems.get(cell.name, {}),
        "figures": summaries,
        "seeds": {str(seed): {"figures": own[seed], "ci95": intervals[seed]} for seed in own},
        "systems": _summaries_of_systems(list(systems.values())),
        "specialists": {str(seed): about for seed, run in seeds.items() if (about := read_specialists(run))},
        "failures": {str(seed): run.failure for seed, run in seeds.items() if run.failure},
    }


def _summaries_of_systems(by_seed: list[dict[str, Figures]]) -> dict[str, dict[str, Summary]]:
    found: dict[str, dict[str, list[float]]] = {}
    for systems in by_seed:
        for system, figures in systems.items():
            for name, value in figures.items():
                found.setdefault(system, {}).setdefault(name, []).append(value)
    return {
        system: {name: _summarise(name, values) for name, values in figures.items()}
        for system, figures in found.items()
    }


def _summarise(name: str, values: list[float]) -> Summary:
    return summarise(values, spread=name.split(".")[0] not in PROBABILITIES)


def _gap_closed(run: CellRun, runs: dict[str, dict[int, CellRun]], figures: dict[str, dict[int, Figures]]) -> Figures:
    """Of an image recipe: how much of the gap in test errors between plain student and teacher the student closes.

    The plain student is that of the cell, at the same seed, that differs in its targets alone, which are hard. Nothing
    for the plain student itself, or where there is none or the teacher is no better.
    """
    teacher = read_systems(run).get("teacher", {}).get("errors.test")
    if teacher is None or run.recipe.student.hard_weight == 1:
        return {}
    at_seed = [seeds[run.seed] for seeds in runs.values() if run.seed in seeds]
    plain = next((o for o in at_seed if o.recipe.student.hard_weight == 1 and _trained(o) == _trained(run)), None)
    if plain is None:
        return {}
    ours, theirs = (figures[each.name][run.seed].get("errors.test") for each in (run, plain))
    share = gain_retained(theirs, teacher, ours, sign=-1)
    return {} if share is None else {"gap_closed.test": share}


def _trained(run: CellRun) -> tuple[Any, ...]:
    """What the student is and how it is trained, its targets aside."""
    student = run.recipe.student
    return run.fingerprints["features"], run.recipe.student_network, student.train, student.transfer_classes


def _add_kl(runs: dict[str, dict[int, CellRun]], figures: dict[str, dict[int, Figures]]) -> None:
    """KL to dense of every store whose teachers have a dense store in some cell."""
    all_runs = [run for seeds in runs.values() for run in seeds.values()]
    dense = {run.fingerprints["teachers"]: run for run in all_runs if run.is_dense and has_stage(run, "targets")}
    known: dict[tuple[str, str, float], dict[str, float]] = {}
    for name, seeds in runs.items():
        for seed, run in seeds.items():
            reference = dense.get(run.fingerprints["teachers"])
            if reference is None or not has_stage(run, "targets"):
                continue
            key = (run.fingerprints["targets"], reference.fingerprints["targets"], run.recipe.student.temperature)
            if key not in known:
                known[key] = kl_to_dense(run, reference)
            figures[name][seed] |= known[key]


def _summary(cell: dict[str, Any], key: str) -> Summary | None:
    return cell["figures"].get(key)


def _without_intervals(cells: list[dict[str, Any]], key: str) -> list[str]:
    """A share in every row; of the last epoch there are no intervals over utterances."""
    summaries = [_summary(cell, key) for cell in cells]
    return [_text(summary and {**summary, "ci95": None}, per_cent) for summary in summaries]


def _text(summary: Summary | None, form: Format) -> str:
    if summary is None:
        return "–"
    text = form(summary["mean"])
    if summary["sd"]:
        text += f" ± {form(summary['sd'])}"
    if summary["ci95"] and (summary["seeds"] == 1 or summary["sd"]):
        text += f" [{form(summary['ci95'][0])}, {form(summary['ci95'][1])}]"
    return text


def _head(experiment: Experiment) -> list[str]:
    return [escape_markdown(title) for title in experiment.titles().values()] or ["cell"]


def _labels(experiment: Experiment, cell: dict[str, Any]) -> list[str]:
    """The cell's place on the axes; a row of `cells` has its name in the first column."""
    labels = [escape_markdown(cell["labels"].get(axis, "")) for axis in experiment.definition.grid]
    return labels if cell["labels"] else [escape_markdown(cell["name"]), *labels[1:]]


def _systems(table: Table) -> str:
    """What else was decoded, each distinct set of figures once."""
    rows: dict[tuple[str, ...], list[dict[str, Any]]] = {}
    titles = {key: COLUMNS[key] for key in ("parameters", "frame_accuracy.dev", "frame_accuracy.test")}
    rates = ("errors.test", "wer.dev", "wer.test", "p_better_than_baseline", "out_of_vocabulary_recall.test", "rtf")
    titles |= {key: COLUMNS[key] for key in rates}
    known = {key for cell in table["cells"] for figures in cell["systems"].values() for key in figures}
    shown = [key for key in titles if key in known]
    for cell in table["cells"]:
        for name, figures in cell["systems"].items():
            values = [_text(figures.get(key), titles[key][1]) for key in shown]
            rows.setdefault((name, *values), []).append(cell)
    if not rows:
        return ""
    head: tuple[str, ...] = ("system", "cells", *(titles[key][0] for key in shown))
    body: list[tuple[str, ...]] = [(row[0], _names(cells, table), *row[1:]) for row, cells in rows.items()]
    if any(cell["published_systems"] for cell in table["cells"]):
        head = (*head, "published")
        body = [(*row, _published(row[0], cells)) for row, cells in zip(body, rows.values(), strict=True)]
    return "## Other systems\n\n" + markdown_table(head, body)


def _names(cells: list[dict[str, Any]], table: Table) -> str:
    return "all" if len(cells) == len(table["cells"]) else escape_markdown(", ".join(cell["name"] for cell in cells))


def _published(system: str, cells: list[dict[str, Any]]) -> str:
    """What the paper has for the system in any of the cells."""
    found = [cell["published_systems"][system] for cell in cells if system in cell["published_systems"]]
    return ", ".join(dict.fromkeys(escape_markdown(str(figure)) for figure in found))


def _specialists(table: Table) -> str:
    """What the specialists of each cell bring, at its first seed."""
    sections = []
    for cell in table["cells"]:
        for seed, about in [*cell["specialists"].items()][:1]:
            figures = cell["seeds"][seed]["figures"]
            student = {split: figures.get(f"frame_accuracy.{split}") for split in SCORED}
            text = specialists_markdown(about, student if any(student.values()) else None)
            sections.append(f"### {escape_markdown(cell['name'])}, seed {seed}\n\n{text}")
    return "## Specialists\n\n" + "\n".join(sections) if sections else ""


def _failures(table: Table) -> str:
    lines = [
        f"- {escape_markdown(cell['name'])} seed {seed}: {escape_markdown(failure)}\n"
        for cell in table["cells"]
        for seed, failure in cell["failures"].items()
    ]
    return "## Not finished\n\n" + "".join(lines) if lines else ""
