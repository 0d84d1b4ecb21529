"""Lattices in results.json: figures handed on, rescored hypotheses scored."""

import json

import pytest

from asr_kd.errors import UserError
from asr_kd.files import write_json, write_text
from asr_kd.pipeline import Job
from asr_kd.recipe import Lattice, NGram, Recipe
from asr_kd.stages import score

CONFIDENCE = {"scale": 0.25, "normalised_cross_entropy": {"dev": 0.3, "test": 0.2}}
FIGURES = {"sentences": 12.5, "states_per_frame": 40.0, "network_rtf": 0.1, "search_rtf": 0.5, "confidence": CONFIDENCE}


def with_lattices(job: Job, rescore: NGram | None) -> Job:
    decode = job.recipe.decode.model_copy(update={"lattice": Lattice(rescore=rescore)})
    for system in decode.systems:
        folder = job.work.decode(system)
        figures = {**FIGURES, "oracle_wer": {"dev": 0.1, "test": 0.2}}
        write_json(folder / "lattice.json", {**figures, "rescored": {"scales": {"lm_scale": 9, "word_penalty": 0.5}}})
        for split in ("dev", "test"):
            lines = (folder / f"{split}.txt").read_text().splitlines()
            # The first utterance's hypothesis: one wrong word more.
            first = lines[0].replace(" ", " uh ", 1)
            write_text(folder / f"{split}.rescored.txt", "\n".join([first, *lines[1:]]) + "\n")
    recipe: Recipe = job.recipe.model_copy(update={"decode": decode})
    return Job(recipe, job.work)


def test_figures_and_the_rescored_error_rate(scored_job: Job) -> None:
    score.run(with_lattices(scored_job, NGram()))
    systems = json.loads(scored_job.work.results.read_text())["systems"]
    for system in systems.values():
        lattice = system["lattice"]
        assert {key: lattice[key] for key in FIGURES} == FIGURES
        assert lattice["oracle_wer"] == {"dev": 0.1, "test": 0.2}
        assert lattice["rescored"]["scales"] == {"lm_scale": 9, "word_penalty": 0.5}
        for split in ("dev", "test"):
            assert lattice["rescored"]["wer"][split]["wer"] == pytest.approx(system["wer"][split]["wer"] + 1 / 14)


def test_without_another_model_nothing_is_rescored(scored_job: Job) -> None:
    score.run(with_lattices(scored_job, None))
    systems = json.loads(scored_job.work.results.read_text())["systems"]
    assert all("rescored" not in system["lattice"] for system in systems.values())


def test_without_lattices_there_are_no_keys(scored_job: Job) -> None:
    score.run(scored_job)
    systems = json.loads(scored_job.work.results.read_text())["systems"]
    assert all("lattice" not in system for system in systems.values())


def test_a_missing_file_is_named(scored_job: Job) -> None:
    job = with_lattices(scored_job, NGram())
    (job.work.decode("baseline") / "test.rescored.txt").unlink()
    with pytest.raises(UserError, match=r"test\.rescored\.txt: missing; run --stage 7"):
        score.run(job)


def test_the_report_has_a_row_a_system(scored_job: Job) -> None:
    score.run(with_lattices(scored_job, NGram()))
    report = scored_job.work.report.read_text()
    assert "## Lattices" in report
    assert "| student | 21.4 | 28.6 | 20.0 | 12 | 0.50 |" in report
