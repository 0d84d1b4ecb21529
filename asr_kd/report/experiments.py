"""Other experiments over the same recipe: their tables (docs/experiments.md), with heat maps and lines."""

import logging
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from asr_kd.errors import UserError
from asr_kd.files import read_json
from asr_kd.report.charts import Line, curves, heat_map, style
from asr_kd.report.document import Chart, Note, Section, Table

TABLE = "table.json"
# What is drawn, and by what its values are multiplied.
DRAWN = {
    "frame_accuracy.dev": ("frame accuracy on dev, %", 100),
    "wer.dev": ("WER on dev, %", 100),
    "wer.test": ("WER on test, %", 100),
    "errors.test": ("errors on test", 1),
}
LISTED = {
    "frame_accuracy.dev": ("frame acc. dev, %", 100),
    "frame_accuracy.test": ("frame acc. test, %", 100),
    "gain_retained.test": ("gain kept test, %", 100),
    "wer.dev": ("WER dev, %", 100),
    "wer.test": ("WER test, %", 100),
    "errors.test": ("errors test", 1),
    "targets.bytes_per_frame": ("bytes a frame", 1),
}


def find_tables(root: Path, recipe: str) -> list[dict[str, Any]]:
    """The tables beside experiment `root` whose base is the recipe of this name, by experiment.

    A table of a release that did not note the name counts by its base's file name. A file that is no such table is
    logged and left out.
    """
    found = []
    for path in sorted(root.resolve().parent.glob(f"*/{TABLE}")):
        try:
            table = read_json(path)
            name = table["base_name"] if "base_name" in table else Path(table["base"]).stem
            if name == recipe and table["cells"]:
                found.append({"experiment": table["experiment"], "axes": table["axes"], **table})
        except (UserError, KeyError, TypeError) as error:
            logging.getLogger("asr_kd").warning("%s: left out of report.html: %s", path, error)
    return found


def experiments_section(tables: list[dict[str, Any]]) -> Section | None:
    if not tables:
        return None
    blocks: list[Note | Table | Chart] = [
        Note("Student's figures. Over several seeds the mean, ± the standard deviation; bars are 95 % intervals.")
    ]
    for table in tables:
        description = str(table.get("description") or "").strip()
        title = f"Experiment {table['experiment']}" + (f": {description}" if description else "")
        blocks += [*_charts(table), _listing(title, table)]
    return Section("experiments", "Other experiments", blocks)


def _listing(title: str, table: dict[str, Any]) -> Table:
    axes, cells = list(table["axes"]), table["cells"]
    columns = {key: column for key, column in LISTED.items() if any(key in cell["figures"] for cell in cells)}
    rows = [
        (
            *([cell["labels"][axis] for axis in axes] if cell["labels"] else [cell["name"], *[""] * (len(axes) - 1)]),
            *(_text(cell["figures"].get(key), scale) for key, (_, scale) in columns.items()),
        )
        for cell in cells
    ]
    header = (*(map(_short, axes) if axes else ("cell",)), *(name for name, _ in columns.values()))
    return Table(title, header, rows, labels=max(1, len(axes)))


def _charts(table: dict[str, Any]) -> Iterator[Chart]:
    """A heat map for two axes, a line for one; none for more, whose table says it better."""
    axes, cells = table["axes"], [cell for cell in table["cells"] if cell["labels"]]
    for key, (name, scale) in DRAWN.items():
        summaries = {tuple(cell["labels"].values()): cell["figures"].get(key) for cell in cells}
        if not any(summaries.values()):
            continue
        title = f"{table['experiment']}: {name}"
        if len(axes) == 2:
            (x, across), (y, up) = axes.items()
            values = [[_mean(summaries.get((right, high)), scale) for right in across] for high in up]
            lower_is_better = not key.startswith("frame_accuracy")
            yield heat_map(title, across, up, values, (_short(x), _short(y)), lower_is_better)
        elif len(axes) == 1:
            ((x, labels),) = axes.items()
            points = [(label, summaries[label,]) for label in labels if summaries.get((label,))]
            means = [scale * summary["mean"] for _, summary in points]
            reach = [[scale * end for end in _reach(summary)] for _, summary in points]
            down, up = zip(*reach, strict=True)
            places = [label for label, _ in points]
            line = Line(name, places, means, style("student")[0], legend=None, reach=(down, up))
            yield curves(title, [line], _short(x), name, type="category")


def _short(axis: str) -> str:
    return axis.rsplit(".", 1)[-1].replace("_", " ")


def _mean(summary: dict[str, Any] | None, scale: float) -> float | None:
    return scale * summary["mean"] if summary and math.isfinite(summary["mean"]) else None


def _reach(summary: dict[str, Any]) -> tuple[float, float]:
    low, high = summary.get("ci95") or (summary["mean"], summary["mean"])
    return max(0.0, summary["mean"] - low), max(0.0, high - summary["mean"])


def _text(summary: dict[str, Any] | None, scale: float) -> str:
    if summary is None:
        return "–"
    mean, deviation = (scale * summary[key] if summary.get(key) is not None else None for key in ("mean", "sd"))
    assert mean is not None
    digits = 2 if scale == 100 else 4 if mean < 10 else 1
    return f"{mean:.{digits}f}" + (f" ± {deviation:.{digits}f}" if deviation is not None else "")
