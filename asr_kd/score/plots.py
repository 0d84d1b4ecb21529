"""The report's two figures: training curves, and the systems' accuracy and error rate."""

from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from asr_kd.files import atomic_path
from asr_kd.score.results import Results

History = list[dict[str, float]]
MEMBER, STUDENT = "0.6", "tab:red"


def plot_training(path: Path, histories: dict[str, History]) -> None:
    """Frame accuracy (dev; train dotted) and dev cross-entropy by epoch, for each network of `histories`."""
    figure = Figure(figsize=(9, 3.6), layout="constrained")
    accuracy, loss = figure.subplots(1, 2)
    for number, (name, history) in enumerate(histories.items()):
        colour, width = (STUDENT, 2.0) if name == "student" else (MEMBER, 1.0)
        label = {"student": "student"}.get(name, "members" if number == 0 else None)
        _curve(accuracy, history, "dev_frame_accuracy", 100, color=colour, linewidth=width, label=label)
        _curve(accuracy, history, "train_frame_accuracy", 100, color=colour, linewidth=width, linestyle=":")
        _curve(loss, history, "dev_cross_entropy", 1, color=colour, linewidth=width, label=label)
    for axes in (accuracy, loss):
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    accuracy.set(xlabel="epoch", ylabel="frame accuracy, % (dotted: train)")
    loss.set(xlabel="epoch", ylabel="cross-entropy on dev, nats")
    if histories:
        accuracy.legend(frameon=False)
    _save(figure, path)


def plot_systems(path: Path, results: Results) -> None:
    """Frame accuracy and WER on test by system, the WER with its 95 % interval."""
    systems = results["systems"]
    figure = Figure(figsize=(9, 1.2 + 0.4 * len(systems)), layout="constrained")
    accuracy, wer = figure.subplots(1, 2, sharey=True)
    for row, system in enumerate(systems.values()):
        test = system["wer"]["test"]
        low, high = test["ci95"]
        wer.hlines(row, 100 * low, 100 * high, color=MEMBER)
        wer.plot(100 * test["wer"], row, "o", color=STUDENT)
        if system["frame_accuracy"]["test"] is not None:
            accuracy.plot(100 * system["frame_accuracy"]["test"], row, "o", color=STUDENT)
    accuracy.set(xlabel="frame accuracy on test, %", yticks=range(len(systems)), yticklabels=list(systems))
    accuracy.set_ylim(len(systems) - 0.5, -0.5)
    wer.set(xlabel="WER on test, %, with 95 % interval")
    _save(figure, path)


def _curve(axes: Axes, history: History, key: str, scale: float, **style: object) -> None:
    points = [(row["epoch"], scale * row[key]) for row in history if row.get(key) is not None]
    if points:
        axes.plot(*zip(*points, strict=True), **style)  # type: ignore[arg-type]


def _save(figure: Figure, path: Path) -> None:
    for axes in figure.axes:
        axes.grid(color="0.9")
        axes.spines[["top", "right"]].set_visible(False)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format="png", dpi=120)
