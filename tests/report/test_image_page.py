"""The page of an image recipe: classes in the place of phones, and no words."""

from pathlib import Path

import numpy as np
import pytest
import torch
from parsed_page import ParsedPage

from asr_kd.features.store import write_store
from asr_kd.files import read_json, write_json
from asr_kd.nn.model import AcousticModel
from asr_kd.pipeline import Job
from asr_kd.recipe import Network, Recipe
from asr_kd.stages.images import score
from asr_kd.workspace import SPLITS, Workspace

PIXELS, IMAGES = 9, 40
NETWORK = Network(input="pixels", left=0, right=0, layers=1, width=6)


@pytest.fixture(scope="module")
def job(tmp_path_factory: pytest.TempPathFactory) -> Job:
    work, draws = Workspace(tmp_path_factory.mktemp("images") / "exp"), np.random.default_rng(0)
    for split in SPLITS:
        names = [f"{split}-{number}" for number in range(IMAGES)]
        rows = {name: draws.normal(size=(1, PIXELS)).astype(np.float16) for name in names}
        write_store(work.features("pixels", split), rows, {"kind": "pixels"})
        labels = {name: np.array([[number % 10]], np.int16) for number, name in enumerate(names)}
        write_store(work.alignment(split), labels, {"num_pdfs": 10, "tree_hash": "labels"})
    for seed, folder in enumerate((work.member(0), work.model("student"))):
        model = AcousticModel(NETWORK, PIXELS, 10)
        model.initialise(torch.Generator().manual_seed(seed))
        model.save(folder, {})
    targets = {"frames": IMAGES, "top_k": None, "bytes_per_frame": 20.0, "mean_tail_mass": 0.0}
    write_json(work.targets / "summary.json", targets)
    network = NETWORK.model_dump()
    sections = {"corpus": {"kind": "mnist"}, "teachers": {"members": 1, "network": network}}
    job = Job(Recipe.model_validate({"name": "digits", **sections}), work)
    score(job)
    return job


def test_sections_and_figures_of_images(job: Job) -> None:
    page, results = ParsedPage(job.work.page.read_text()), read_json(job.work.results)
    sections = [attributes["id"] for tag, attributes in page.tags if tag == "section"]
    assert sections == ["systems", "classes", "phones", "inherited", "calibration", "stages"]
    assert not any("Left out" in text for text in page.texts)
    errors = results["systems"]["student"]["errors"]["test"]
    assert page.tables["Systems"][2][3] == str(errors)
    by_class = {row[0]: row[1:] for row in page.tables["Accuracy by class, as a table"][1:]}
    assert set(by_class) == set("0123456789")
    right = sum(int(count) * float(student) / 100 for count, _, _, student in by_class.values())
    assert right == pytest.approx(IMAGES - errors, abs=0.1)


def test_images_cannot_be_compared(job: Job, tmp_path: Path) -> None:
    from asr_kd.errors import UserError
    from asr_kd.report.compare import compare

    with pytest.raises(UserError, match="image recipe"):
        compare([job.work.root, job.work.root])
