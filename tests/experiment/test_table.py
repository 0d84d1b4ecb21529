"""Statistics against hand computation, and the figures of cells whose files are written by hand."""

from pathlib import Path
from typing import Any

import pytest
from lhotse import CutSet, MonoCut, SupervisionSegment

from asr_kd.experiment.definition import load_experiment
from asr_kd.experiment.figures import compare_words, read_figures, read_intervals, summarise
from asr_kd.experiment.plot import write_plot
from asr_kd.experiment.run import make_cells
from asr_kd.experiment.sharing import CellRun
from asr_kd.experiment.table import Table, make_table, table_markdown
from asr_kd.files import write_json, write_text
from asr_kd.score.wer import p_better

# Dev frame accuracy by (targets, temperature) and seed; and errors of the student in 8 test words.
ACCURACY = {
    ("hard", "1"): (0.40, 0.42),
    ("hard", "2"): (0.41, 0.41),
    ("soft", "1"): (0.45, 0.46),
    ("soft", "2"): (0.47, 0.50),
}
WORDS = {"a": "one two three four", "b": "five six seven eight"}
DEFINITION = """
description: Soft against hard * two temperatures.
grid:
  targets: {hard: {student.hard_weight: 1}, soft: {}}
  student.temperature: [1, 2]
seeds: [0, 1]
last_stage: score
baseline: {targets: hard}
published: {targets-soft_temperature-2: 60.8}
plot: {x: student.temperature, log: true}
"""


@pytest.fixture
def experiment_path(tmp_path: Path, base_recipe: Path) -> Path:
    path = tmp_path / "soft.yaml"
    path.write_text(DEFINITION)
    return path


@pytest.fixture
def runs(tmp_path: Path, base_recipe: Path, experiment_path: Path) -> dict[str, dict[int, CellRun]]:
    """Four cells at two seeds with the files of finished stages, but the second seed of one not scored."""
    cells = make_cells(load_experiment(experiment_path), base_recipe, tmp_path / "exp", (), [])
    for (targets, temperature), accuracies in ACCURACY.items():
        for seed, accuracy in enumerate(accuracies):
            leave_cell(cells[f"targets-{targets}_temperature-{temperature}"][seed], accuracy, targets == "hard")
    cells["targets-hard_temperature-2"][1].work.record("score").unlink()
    return cells


def leave_cell(run: CellRun, accuracy: float, hard: bool) -> None:
    work, path = run.work, run.work.model("student")
    write_json(path / "model.json", {"parameters": 1000, "epoch": 2, "dev_frame_accuracy": 0.1})
    shares = {"dev": accuracy, "test": accuracy + 0.01, "train": accuracy + 0.02}
    splits = {split: {"frame_accuracy": share, "cross_entropy": 2.0} for split, share in shares.items()}
    write_json(path / "accuracy.json", splits)
    history = [
        {"dev_frame_accuracy": accuracy - 0.02 * e, "train_frame_accuracy": 0.3 + 0.1 * e, "dev_cross_entropy": 2.0}
        for e in (1, 2)
    ]
    write_json(path / "history.json", history)
    ensemble = {"members_mean": {"dev": 0.4, "test": 0.4}, "ensemble": {"dev": 0.5, "test": 0.5}, "members": []}
    write_json(work.root / "models" / "ensemble.json", ensemble)
    write_json(work.targets / "summary.json", {"frames": 10, "top_k": None, "bytes_per_frame": 88.0})
    wer = {"wer": 0.25 if hard else 0.125, "ci95": [0.0, 0.5]}
    decoded = {"dev": accuracy, "test": accuracy + 0.01}
    student = {"parameters": 1000, "rtf": 0.5, "wer": {"dev": wer, "test": wer}, "frame_accuracy": decoded}
    known, unknown = {"words": 6, "error_rate": 0.5}, {"words": 4, "recalled": 1}
    student["by_vocabulary"] = {"test": {"in": known, "out": unknown}, "dev": {"in": known, "out": {"words": 0}}}
    baseline = {**student, "wer": {"dev": wer, "test": {"wer": 0.375, "ci95": [0.0, 1.0]}}}
    significance = {"student_vs_baseline": {"p_better": 0.9}}
    write_json(work.results, {"systems": {"baseline": baseline, "student": student}, "significance": significance})
    for stage, fingerprint in run.fingerprints.items():
        write_json(work.record(stage), {"fingerprint": fingerprint, "cpu_seconds": 2.0, "from": "elsewhere"})
    write_json(work.record("student"), {"fingerprint": run.fingerprints["student"], "cpu_seconds": 5.0})
    for split in ("dev", "test"):
        cuts = [
            MonoCut(u, 0, 1.0, 0, supervisions=[SupervisionSegment(u, u, 0, 1.0, text=text, speaker=u)])
            for u, text in WORDS.items()
        ]
        work.manifest(split).parent.mkdir(parents=True, exist_ok=True)
        CutSet.from_cuts(cuts).to_file(work.manifest(split))
        said = {"a": "one two three four", "b": "six six seven eight" if not hard else "six six"}
        write_text(work.decode("student") / f"{split}.txt", "".join(f"{u} {text}\n" for u, text in said.items()))


def test_mean_deviation_and_interval_by_hand() -> None:
    summary = summarise([1.0, 2.0, 3.0])
    assert (summary["mean"], summary["sd"], summary["seeds"]) == (2.0, 1.0, 3)
    # t(0.975, 2 degrees of freedom) = 4.302653; standard error 1 / √3
    assert summary["ci95"] == pytest.approx([2 - 2.484138, 2 + 2.484138], abs=1e-5)
    assert summarise([0.4]) == {"mean": 0.4, "sd": None, "ci95": None, "seeds": 1}


def test_figures_of_a_cell(runs: dict[str, dict[int, CellRun]]) -> None:
    run = runs["targets-soft_temperature-1"][0]
    figures = read_figures(run)
    assert figures["frame_accuracy.dev"] == 0.45, "accuracy.json is more exact than training's figure"
    assert figures["last.frame_accuracy.dev"] == pytest.approx(0.41)
    assert figures["gain_retained.dev"] == pytest.approx(0.5)
    assert figures["targets.bytes_per_frame"] == 88.0 and "targets.top_k" not in figures
    assert (figures["wer.test"], figures["rtf"], figures["p_better_than_baseline"]) == (0.125, 0.5, 0.9)
    assert (figures["in_vocabulary_error_rate.test"], figures["out_of_vocabulary_recall.test"]) == (0.5, 0.25)
    assert "out_of_vocabulary_recall.dev" not in figures, "no such words"
    assert figures["cpu_seconds"] == 5.0, "linked stages cost this cell nothing"
    assert read_intervals(run) == {"wer.dev": [0.0, 0.5], "wer.test": [0.0, 0.5]}


def test_files_of_an_earlier_recipe_do_not_count(runs: dict[str, dict[int, CellRun]]) -> None:
    run = runs["targets-soft_temperature-1"][0]
    write_json(run.work.record("student"), {"fingerprint": "another", "cpu_seconds": 1.0})
    run.work.record("score").unlink()
    assert not {"frame_accuracy.dev", "parameters", "wer.test"} & read_figures(run).keys()


def test_words_are_compared_pairwise(runs: dict[str, dict[int, CellRun]]) -> None:
    soft, hard = (runs[f"targets-{targets}_temperature-1"][0] for targets in ("soft", "hard"))
    references = {u: text.split() for u, text in WORDS.items()}
    said = [{"a": WORDS["a"].split(), "b": text.split()} for text in ("six six", "six six seven eight")]
    expected = p_better(references, *said, soft.recipe.score.bootstrap_samples, soft.recipe.seed)
    assert compare_words(soft, hard) == {"p_better": expected}
    assert expected > 0.5
    hard.work.record("decode").unlink()
    assert compare_words(soft, hard) == {}


@pytest.fixture
def table(experiment_path: Path, base_recipe: Path, runs: dict[str, dict[int, CellRun]]) -> Table:
    return make_table(load_experiment(experiment_path), runs, base_recipe)


def cell_of(table: Table, name: str) -> dict[str, Any]:
    return next(cell for cell in table["cells"] if cell["name"] == name)


def test_differences_are_taken_seed_by_seed(table: Table) -> None:
    soft = cell_of(table, "targets-soft_temperature-1")
    assert soft["compared_with"] == "targets-hard_temperature-1"
    difference = soft["figures"]["difference.frame_accuracy.dev"]
    # 0.05 and 0.04: mean 0.045, deviation 0.01 / √2; t(0.975, 1) = 12.7062
    assert difference["mean"] == pytest.approx(0.045)
    assert difference["sd"] == pytest.approx(0.0070711, abs=1e-6)
    assert difference["ci95"] == pytest.approx([0.045 - 12.7062 * 0.005, 0.045 + 12.7062 * 0.005], abs=1e-5)
    assert "difference.frame_accuracy.dev" not in cell_of(table, "targets-hard_temperature-1")["figures"]
    # The second seed of hard at 2 was not scored, so its error rate is that of one seed.
    other = cell_of(table, "targets-soft_temperature-2")["figures"]["difference.wer.test"]
    assert (other["seeds"], other["mean"]) == (1, -0.125)


def test_a_single_seed_has_the_interval_over_utterances(table: Table) -> None:
    wer = cell_of(table, "targets-hard_temperature-2")["figures"]["wer.test"]
    assert (wer["seeds"], wer["mean"], wer["ci95"]) == (1, 0.25, [0.0, 0.5])


def test_the_markdown_says_what_varies_and_what_does_not(experiment_path: Path, table: Table) -> None:
    table["cells"][1]["failures"] = {"1": "stage decode failed (status 2); see output.log"}
    text = table_markdown(load_experiment(experiment_path), table)
    assert r"hard \* two" in text
    lines = text.splitlines()
    header = next(line for line in lines if line.startswith("| targets |"))
    row = next(line for line in lines if line.startswith("| soft | 2 |"))
    cells = dict(zip(header.split(" | "), row.split(" | "), strict=True))
    assert cells["frame acc. dev"].startswith("48.50 ± 2.12 [")
    assert row.endswith("| 60.8 |")
    assert cells["WER test"] == "12.50", "no spread over seeds, no interval"
    same = next(line for line in lines if line.startswith("The same in every row: "))
    assert {"parameters, M 0.001", "teachers dev 50.00", "OOV recall test 25.00"} <= set(
        same.removeprefix("The same in every row: ").split("; ")
    )
    assert "p better than baseline 0.900" in same and "WER" not in same
    assert "| baseline | all | 0.001 |" not in text, "the baselines differ in frame accuracy"
    assert "- targets-hard\\_temperature-2 seed 1: stage decode failed" in text
    assert "![plot](plot.png)" in text


@pytest.mark.parametrize(
    "plot",
    [
        "{x: student.temperature}",
        "{kind: heatmap, x: student.temperature, y: targets}",
        "{kind: curves, x: student.temperature}",
    ],
)
def test_plots_are_drawn(
    tmp_path: Path, base_recipe: Path, runs: dict[str, dict[int, CellRun]], experiment_path: Path, plot: str
) -> None:
    experiment_path.write_text(DEFINITION.replace("plot: {x: student.temperature, log: true}", f"plot: {plot}"))
    experiment = load_experiment(experiment_path)
    write_plot(tmp_path / "plot.png", experiment, make_table(experiment, runs, base_recipe), runs)
    assert (tmp_path / "plot.png").read_bytes().startswith(b"\x89PNG")
