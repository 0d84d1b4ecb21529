"""The stages of an image recipe that differ from those of speech: an image is an utterance of one frame.

Stages teachers, targets and student are those of speech.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from asr_kd.errors import UserError
from asr_kd.features.store import write_store
from asr_kd.files import write_json
from asr_kd.images.readers import NUM_CLASSES
from asr_kd.images.splits import image_names, pixel_rows, pixel_scale, read_splits
from asr_kd.nn.hashes import file_hash
from asr_kd.score.images import collect_image_results, image_table, write_image_report

if TYPE_CHECKING:
    from asr_kd.pipeline import Job


def prepare(job: "Job") -> None:
    """Check the recipe's networks and the corpus's files; manifests/images.json says what they are."""
    check_networks(job)
    splits = read_splits(job.recipe.corpus)
    files = {path for images in splits.values() for path in images.files}
    counts = {split: len(images) for split, images in splits.items()}
    about = {
        "kind": job.recipe.corpus.kind,
        "shape": splits["train"].pixels.shape[1:],
        "images": counts,
        "by_class": {
            split: np.bincount(images.labels, minlength=NUM_CLASSES).tolist() for split, images in splits.items()
        },
        "files": {str(path): file_hash(path) for path in sorted(files)},
    }
    write_json(job.work.images, about)
    job.log.info("images: %s", ", ".join(f"{split} {count}" for split, count in counts.items()))


def check_networks(job: "Job") -> None:
    """Raises UserError for a network that sees other things than one image."""
    recipe = job.recipe
    networks = {"teachers.network": recipe.teachers.network, "student.network": recipe.student_network}
    networks |= {f"teachers.networks.{n}": network for n, network in enumerate(recipe.teachers.networks or ())}
    for key, network in networks.items():
        if (network.input, network.left, network.right) != ("pixels", 0, 0):
            raise UserError(f"{key}: of images, a network sees one; set input: pixels, left: 0, right: 0")


def features(job: "Job") -> None:
    splits = read_splits(job.recipe.corpus)
    scale = pixel_scale(splits["train"])
    meta = {"kind": "pixels", "shape": splits["train"].pixels.shape[1:], "scale": [part.tolist() for part in scale]}
    for split, images in splits.items():
        rows = pixel_rows(images, scale)
        by_name = dict(zip(image_names(split, images), rows[:, None], strict=True))
        write_store(job.work.features("pixels", split), by_name, meta)


def align(job: "Job") -> None:
    """Labels in the place of tied states."""
    for split, images in read_splits(job.recipe.corpus).items():
        rows = images.labels.astype(np.int16)[:, None, None]
        meta = {"num_pdfs": NUM_CLASSES, "tree_hash": "labels"}
        write_store(job.work.alignment(split), dict(zip(image_names(split, images), rows, strict=True)), meta)


def nothing(job: "Job") -> None:
    job.log.info("images have neither words nor graphs")


def score(job: "Job") -> None:
    from asr_kd.pipeline import console, stage_seconds
    from asr_kd.report.page import try_page

    recipe, work = job.recipe, job.work
    earlier = {name: seconds for name, seconds in stage_seconds(work).items() if name != "score"}
    results = collect_image_results(recipe, work, earlier, job.device)
    write_json(work.results, results)
    write_image_report(recipe, work, results)
    console.print(image_table(results))
    page = try_page(job, results)
    console.print(f"report: {page or work.report}", soft_wrap=True)


# What stands in a stage's place, by its name: its title and its function.
STAGES: dict[str, tuple[str, Callable[["Job"], None]]] = {
    "prepare": ("image files, checked", prepare),
    "features": ("pixels", features),
    "lang": ("nothing for images", nothing),
    "align": ("labels", align),
    "decode": ("nothing for images", nothing),
    "score": ("error counts, report", score),
}
