"""The experiment's plot.png: lines with error bars, heat maps, or training curves."""

from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from asr_kd.experiment.definition import Experiment, Plot, number_of
from asr_kd.experiment.sharing import CellRun
from asr_kd.experiment.table import COLUMNS, Table, per_cent
from asr_kd.files import atomic_path
from asr_kd.nn.metrics import read_history

Labels = dict[str, str]
PANEL = (4.6, 3.6)  # inches


def write_plot(path: Path, experiment: Experiment, table: Table, runs: dict[str, dict[int, CellRun]]) -> None:
    """Draw what the definition's `plot` asks for; nothing where it asks for nothing or no figure exists yet."""
    plot = experiment.definition.plot
    figures = [f for f in plot.figures if any(f in cell["figures"] for cell in table["cells"])] if plot else []
    if plot is None or not figures:
        return
    draw = {"line": _lines, "heatmap": _heat_maps}.get(plot.kind)
    figure = draw(plot, figures, table) if draw else _curves(plot, table, runs)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format="png", dpi=120)


def _lines(plot: Plot, figures: list[str], table: Table) -> Figure:
    """One panel a figure: means over x with 95 % intervals, a line for each combination of the other axes."""
    figure, panels = _panels(1, len(figures))
    places = _places(table["axes"][plot.x])
    for axes, name in zip(panels[0], figures, strict=True):
        lines: dict[str, list[tuple[float, dict[str, Any]]]] = defaultdict(list)
        for cell in table["cells"]:
            if cell["labels"] and name in cell["figures"]:
                lines[_rest(cell["labels"], plot.x)].append((places[cell["labels"][plot.x]], cell["figures"][name]))
        scale = _scale(name)
        for label, points in lines.items():
            ordered = sorted(points, key=lambda point: point[0])
            x, means = [place for place, _ in ordered], [scale * summary["mean"] for _, summary in ordered]
            reach = [[scale * r for r in _reach(summary)] for _, summary in ordered]
            axes.errorbar(x, means, yerr=np.transpose(reach), marker="o", capsize=3, label=label or None)
        for cell in table["cells"]:
            if not cell["labels"] and name in cell["figures"]:
                axes.axhline(scale * cell["figures"][name]["mean"], color="0.6", linestyle="--", linewidth=1)
                axes.annotate(
                    cell["name"], (0.02, scale * cell["figures"][name]["mean"]), xycoords=("axes fraction", "data"),
                    fontsize="small", color="0.4", verticalalignment="bottom",
                )  # fmt: skip
        _x_axis(axes, plot, table)
        axes.set_ylabel(_title(name))
        axes.grid(color="0.9")
        if any(lines):
            axes.legend(frameon=False, fontsize="small")
    return figure


def _heat_maps(plot: Plot, figures: list[str], table: Table) -> Figure:
    """A row of panels for each combination of the other axes, one panel a figure; x to the right, y upwards."""
    assert plot.y is not None
    x_labels, y_labels = table["axes"][plot.x], table["axes"][plot.y]
    groups: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for cell in table["cells"]:
        if cell["labels"]:
            groups[_rest(cell["labels"], plot.x, plot.y)].append(cell)
    figure, panels = _panels(len(groups), len(figures))
    for row, (group, cells) in zip(panels, groups.items(), strict=True):
        for axes, name in zip(row, figures, strict=True):
            values = np.full((len(y_labels), len(x_labels)), np.nan)
            for cell in cells:
                if name in cell["figures"]:
                    place = y_labels.index(cell["labels"][plot.y]), x_labels.index(cell["labels"][plot.x])
                    values[place] = _scale(name) * cell["figures"][name]["mean"]
            # Dark is good in every panel.
            image = axes.imshow(
                values, origin="lower", aspect="auto", cmap="Blues_r" if _lower_is_better(name) else "Blues"
            )
            middle = np.nanmean(image.get_clim())
            for (i, j), value in np.ndenumerate(values):
                if np.isfinite(value):
                    dark = (value > middle) != _lower_is_better(name)
                    axes.text(j, i, f"{value:.2f}", ha="center", va="center", color="white" if dark else "black")
            axes.set_xticks(range(len(x_labels)), x_labels)
            axes.set_yticks(range(len(y_labels)), y_labels)
            axes.set(xlabel=_short(plot.x), ylabel=_short(plot.y), title=_title(name) + (f"\n{group}" if group else ""))
    return figure


def _curves(plot: Plot, table: Table, runs: dict[str, dict[int, CellRun]]) -> Figure:
    """One panel a value of x: dev frame accuracy by epoch, train dotted, the mean over seeds, a line a cell."""
    labels = table["axes"][plot.x]
    figure, panels = _panels(1, len(labels), sharey=True)
    for axes, value in zip(panels[0], labels, strict=True):
        cells = [cell for cell in table["cells"] if cell["labels"].get(plot.x) == value]
        for number, cell in enumerate(cells):
            for split, style in (("dev", "-"), ("train", ":")):
                curve = 100 * _mean_curve(list(runs[cell["name"]].values()), f"{split}_frame_accuracy")
                label = _rest(cell["labels"], plot.x) if split == "dev" else None
                axes.plot(np.arange(1, len(curve) + 1), curve, style, color=f"C{number}", label=label)
        axes.set(title=f"{_short(plot.x)} {value}", xlabel="epoch")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(color="0.9")
    panels[0][0].set_ylabel("frame accuracy, % (dotted: train, with dropout)")
    panels[0][-1].legend(frameon=False, fontsize="small")
    return figure


def _mean_curve(runs: list[CellRun], key: str) -> np.ndarray:
    """(epochs,) mean over the runs, as far as all of them go."""
    students = [read_history(run.work.model("student")) for run in runs]
    histories = [[row[key] for row in history] for history in students if history]
    epochs = min(map(len, histories), default=0)
    return np.mean([history[:epochs] for history in histories], axis=0) if histories else np.zeros(0)


def _panels(rows: int, columns: int, sharey: bool = False) -> tuple[Figure, Any]:
    figure = Figure(figsize=(PANEL[0] * columns, PANEL[1] * rows), layout="constrained")
    return figure, figure.subplots(rows, columns, squeeze=False, sharey=sharey)


def _places(labels: list[str]) -> dict[str, float]:
    """Where labels stand on the axis: at their numbers, or one behind the other where one is no number."""
    numbers = [number_of(label) for label in labels]
    known = [number for number in numbers if number is not None]
    return dict(zip(labels, known if len(known) == len(labels) else map(float, range(len(labels))), strict=True))


def _x_axis(axes: Axes, plot: Plot, table: Table) -> None:
    places = _places(table["axes"][plot.x])
    if plot.log and all(place > 0 for place in places.values()):
        axes.set_xscale("log")
        axes.minorticks_off()
    axes.set_xticks(list(places.values()), list(places))
    axes.set_xlabel(_short(plot.x))


def _reach(summary: dict[str, Any]) -> tuple[float, float]:
    """Distances from the mean to the ends of its interval; 0 without one."""
    low, high = summary["ci95"] or (summary["mean"], summary["mean"])
    return max(0.0, summary["mean"] - low), max(0.0, high - summary["mean"])


def _rest(labels: Labels, *without: str) -> str:
    return ", ".join(f"{_short(axis)} {label}" for axis, label in labels.items() if axis not in without)


def _short(axis: str) -> str:
    return axis.rsplit(".", 1)[-1].replace("_", " ")


def _scale(name: str) -> float:
    return 100 if name in COLUMNS and COLUMNS[name][1] is per_cent else 1


def _title(name: str) -> str:
    title = COLUMNS[name][0] if name in COLUMNS else name
    return f"{title}, %" if _scale(name) == 100 else title


def _lower_is_better(name: str) -> bool:
    return name.split(".")[0] in ("wer", "errors", "cross_entropy", "kl_to_dense")
