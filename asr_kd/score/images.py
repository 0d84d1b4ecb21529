"""Test errors of an image recipe's networks, counted by class: results.json and report.md."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from rich.table import Table
from rich.text import Text

from asr_kd.files import read_json, write_text
from asr_kd.images.offset import best_offset, with_offset
from asr_kd.images.readers import NUM_CLASSES
from asr_kd.nn.frames import Frames
from asr_kd.nn.inputs import load_frames
from asr_kd.nn.posteriors import Ensemble, load_ensemble
from asr_kd.recipe import Recipe
from asr_kd.score.plots import plot_training
from asr_kd.score.report import escape_markdown, read_histories
from asr_kd.score.results import Results
from asr_kd.score.table import markdown_table
from asr_kd.workspace import SPLITS, Workspace

SCORING_BATCH = 2048


def collect_image_results(
    recipe: Recipe, work: Workspace, stages: dict[str, dict[str, float]], device: str = "cpu"
) -> Results:
    """Errors of the teachers together and of the student; docs/formats.md says what each figure is.

    A student that saw some classes only is scored again with an offset to the others, chosen on the training images.
    """
    members = [work.member(index).name for index in range(recipe.teachers.members)]
    teacher = load_ensemble(work, members, recipe.targets.mean, device)
    student = load_ensemble(work, [work.model("student").name], device=device)
    images = {split: load_frames(work, recipe.teachers.network, split, device) for split in SPLITS}
    seen = recipe.student.transfer_classes
    left_out = [label for label in range(NUM_CLASSES) if label not in seen] if seen else []
    return {
        "recipe": recipe.name,
        "seed": recipe.seed,
        "images": {split: len(frames) for split, frames in images.items()},
        "dev_held_out": recipe.corpus.held_out is not None,
        "test_images_by_class": np.bincount(images["test"].labels.cpu().numpy(), minlength=NUM_CLASSES).tolist(),
        "systems": {
            "teacher": {"members": len(members)} | system_errors(teacher, images, ()),
            "student": system_errors(student, images, left_out),
        },
        "targets": read_json(work.targets / "summary.json"),
        "stages": stages,
    }


def system_errors(ensemble: Ensemble, images: dict[str, Frames], left_out: Sequence[int]) -> dict[str, Any]:
    """Parameters, errors by split, test errors by class; the same under `offset` where classes were left out."""
    scores = {split: log_posteriors(ensemble, frames) for split, frames in images.items()}
    labels = {split: frames.labels.cpu().numpy() for split, frames in images.items()}
    system: dict[str, Any] = {"parameters": ensemble.parameters} | _errors(scores, labels)
    if left_out:
        value, _ = best_offset(scores["train"], labels["train"], left_out)
        moved = {split: with_offset(rows, left_out, value) for split, rows in scores.items()}
        system["offset"] = {"classes": list(left_out), "value": value} | _errors(moved, labels)
    return system


def log_posteriors(ensemble: Ensemble, images: Frames) -> np.ndarray:
    """(images, classes) float32 natural logs."""
    standardised = images.standardised(ensemble.models[0])
    with torch.inference_mode():
        batches = [
            ensemble.log_posteriors(ensemble.windows(standardised, numbers)).cpu()
            for numbers in images.ordered_batches(SCORING_BATCH)
        ]
    return torch.cat(batches).numpy()


def write_image_report(recipe: Recipe, work: Workspace, results: Results) -> None:
    """Write plots/training.png and report.md."""
    plot_training(work.plots / "training.png", read_histories(work, recipe.teachers.members))
    images = results["images"]
    kept = "held out of training" if results["dev_held_out"] else "some of those trained on"
    description = f"{escape_markdown(recipe.description)}\n\n" if recipe.description else ""
    sections = [
        f"# {escape_markdown(recipe.name)}\n\n{description}"
        f"{images['train']:,} images to train on, {images['test']:,} to test on; dev: {images['dev']:,}, {kept}. "
        f"Seed {recipe.seed}. Recipe as run: `recipe.yaml`; machine and packages: `environment.json`.\n",
        markdown_table(IMAGE_HEADER, image_rows(results)),
        _classes(results),
        "![training](plots/training.png)\n",
    ]
    write_text(work.report, "\n".join(sections))


IMAGE_HEADER = ("system", "params", "dev errors", "test errors", "test errors, %")


def image_table(results: Results) -> Table:
    """The systems for the terminal."""
    table = Table(title=results["recipe"], box=None, padding=(0, 1), pad_edge=False)
    for number, name in enumerate(IMAGE_HEADER):
        table.add_column(name, justify="right" if number else "left")
    for row in image_rows(results):
        table.add_row(*map(Text, row))
    return table


def image_rows(results: Results) -> list[tuple[str, ...]]:
    """One row of IMAGE_HEADER's columns for each system, and for each that has an offset."""
    rows = []
    for name, system in results["systems"].items():
        size = f"{system['parameters'] / 1e6:.3f} M"
        title = f"{name} × {system['members']}" if system.get("members", 1) > 1 else name
        rows.append((title, size, *_counts(system, results)))
        if offset := system.get("offset"):
            rows.append((f"{title}, {_offset_title(offset)}", size, *_counts(offset, results)))
    return rows


def _errors(scores: dict[str, np.ndarray], labels: dict[str, np.ndarray]) -> dict[str, Any]:
    wrong = {split: scores[split].argmax(1) != labels[split] for split in scores}
    return {
        "errors": {split: int(errors.sum()) for split, errors in wrong.items()},
        "frame_accuracy": {split: 1 - float(errors.mean()) for split, errors in wrong.items() if split != "train"},
        "test_errors_by_class": np.bincount(labels["test"][wrong["test"]], minlength=NUM_CLASSES).tolist(),
    }


def _counts(system: dict[str, Any], results: Results) -> tuple[str, ...]:
    errors = system["errors"]
    return str(errors["dev"]), str(errors["test"]), f"{100 * errors['test'] / results['images']['test']:.2f}"


def _offset_title(offset: dict[str, Any]) -> str:
    return f"bias of {', '.join(map(str, offset['classes']))} by {offset['value']:+.2f}"


def _classes(results: Results) -> str:
    header = ("test", *(str(label) for label in range(NUM_CLASSES)))
    rows = [("images", *map(str, results["test_images_by_class"]))]
    for name, system in results["systems"].items():
        rows.append((f"errors of the {name}", *map(str, system["test_errors_by_class"])))
        if offset := system.get("offset"):
            rows.append((_offset_title(offset), *map(str, offset["test_errors_by_class"])))
    return "## By class\n\n" + markdown_table(header, rows)
