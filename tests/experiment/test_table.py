"""Statistics against hand computation, and the figures of cells whose files are written by hand."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from lhotse import CutSet, MonoCut, SupervisionSegment

from asr_kd.distill.store import StoreWriter, condense
from asr_kd.experiment.definition import load_experiment
from asr_kd.experiment.figures import (
    compare_frames,
    compare_words,
    read_figures,
    read_intervals,
    summarise,
    with_vocabulary_of,
)
from asr_kd.experiment.plot import write_plot
from asr_kd.experiment.run import Request, make_cells, run_experiment
from asr_kd.experiment.sharing import CellRun
from asr_kd.experiment.table import Table, make_table, table_markdown, write_table
from asr_kd.files import read_json, write_json, write_text
from asr_kd.lang.vocabulary import write_words
from asr_kd.nn.frames import Frames
from asr_kd.nn.seeds import generator
from asr_kd.report.experiments import find_tables
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
    teachers = {"parameters": 5000, "wer": {split: {"wer": 0.25, "ci95": [0.0, 0.5]} for split in ("dev", "test")}}
    systems = {"baseline": baseline, "ensemble": teachers, "student": student}
    p = {"student_vs_baseline": {"p_better": 0.9}, "ensemble_vs_baseline": {"p_better": (0.90, 0.98)[run.seed]}}
    write_json(work.results, {"systems": systems, "significance": p})
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


def leave_counts(
    run: CellRun, student: list[int], member: list[int] | None = None, both: list[int] | None = None
) -> None:
    """Correct frames of utterances of ten: of the student, of its one teacher (4 each) and of the ensemble (8 each)."""
    size = len(student)
    teachers = {"member-00": member or [4] * size, "ensemble": both or [8] * size}
    for path, correct in ((run.work.model("student"), {"student": student}), (run.root / "models", teachers)):
        counts = {"utterances": [f"u{n}" for n in range(size)], "frames": [10] * size, "correct": correct}
        write_json(path / "correct.json", {"dev": counts, "test": counts})


def test_mean_deviation_and_interval_by_hand() -> None:
    summary = summarise([1.0, 2.0, 3.0])
    assert (summary["mean"], summary["sd"], summary["seeds"]) == (2.0, 1.0, 3)
    # t(0.975, 2 degrees of freedom) = 4.302653; standard error 1 / √3
    assert summary["ci95"] == pytest.approx([2 - 2.484138, 2 + 2.484138], abs=1e-5)
    assert summarise([0.4]) == {"mean": 0.4, "sd": None, "ci95": None, "seeds": 1}
    assert summarise([0.25, 0.75], spread=False) == {"mean": 0.5, "sd": None, "ci95": None, "seeds": 2}


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


def test_words_of_other_vocabularies_are_counted_by_that_of_the_cell_compared_with(
    tmp_path: Path, base_recipe: Path
) -> None:
    """Known to `plain` are one, two and six, to `letters` all words: what its own results.json counts is not used."""
    path = tmp_path / "vocabularies.yaml"
    path.write_text("cells: {plain: {}, letters: {lang: {units: grapheme}}}\nlast_stage: score\nbaseline: plain\n")
    experiment = load_experiment(path)
    cells = make_cells(experiment, base_recipe, tmp_path / "exp", (), [])
    for name, words in {"plain": ["one", "two", "six"], "letters": " ".join(WORDS.values()).split()}.items():
        work = cells[name][0].work
        leave_cell(cells[name][0], 0.4, hard=False)
        write_words(work.lang / "words.txt", words)
        for split in ("dev", "test"):
            write_text(work.decode("baseline") / f"{split}.txt", "a one three\nb five six seven\n")
    plain, letters = make_table(experiment, cells, base_recipe)["cells"]

    def told(figures: dict[str, Any]) -> tuple[float, float]:
        names = ("in_vocabulary_error_rate.test", "out_of_vocabulary_recall.test")
        known, unknown = (figures[name]["mean"] for name in names)
        return known, unknown

    assert told(plain["figures"]) == told(plain["systems"]["baseline"]) == (0.5, 0.25)
    # The student says six for five: known are one, two, six, unknown three, four, five, seven, eight.
    assert told(letters["figures"]) == (0, 0.8)
    assert told(letters["systems"]["baseline"]) == (pytest.approx(1 / 3), 0.6)
    assert letters["figures"]["out_of_vocabulary_recall.dev"]["mean"] == 0.8
    assert letters["figures"]["wer.test"] == plain["figures"]["wer.test"]


def test_without_words_of_both_kinds_no_stale_figure_is_left(
    tmp_path: Path, runs: dict[str, dict[int, CellRun]]
) -> None:
    soft, hard = (runs[f"targets-{targets}_temperature-1"][0] for targets in ("soft", "hard"))
    assert with_vocabulary_of(hard, soft, {"student": read_figures(soft)}) == {"student": read_figures(soft)}
    write_text(tmp_path / "all.txt", "".join(f"{word}\n" for text in WORDS.values() for word in text.split()))
    score = hard.recipe.score.model_copy(update={"vocabulary": str(tmp_path / "all.txt")})
    hard = replace(hard, recipe=hard.recipe.model_copy(update={"score": score}))
    counted = with_vocabulary_of(hard, soft, {"student": read_figures(soft)})["student"]
    assert read_figures(soft).keys() - counted.keys() == {
        "in_vocabulary_error_rate.test",
        "out_of_vocabulary_recall.test",
    }


def test_words_are_compared_pairwise(runs: dict[str, dict[int, CellRun]]) -> None:
    soft, hard = (runs[f"targets-{targets}_temperature-1"][0] for targets in ("soft", "hard"))
    references = {u: text.split() for u, text in WORDS.items()}
    said = [{"a": WORDS["a"].split(), "b": text.split()} for text in ("six six", "six six seven eight")]
    expected = p_better(references, *said, soft.recipe.score.bootstrap_samples, soft.recipe.seed)
    assert compare_words(soft, hard) == {"p_better": expected}
    assert expected > 0.5
    hard.work.record("decode").unlink()
    assert compare_words(soft, hard) == {}


def test_intervals_of_frame_accuracy_and_of_the_gain_retained(runs: dict[str, dict[int, CellRun]]) -> None:
    run = runs["targets-soft_temperature-1"][0]
    leave_counts(run, [5, 7] * 20)
    intervals = read_intervals(run)
    low, high = intervals["frame_accuracy.test"]
    # Standard deviation of the mean of forty: 0.1 / √40 = 0.0158
    assert (low, high) == pytest.approx((0.6 - 1.96 * 0.0158, 0.6 + 1.96 * 0.0158), abs=0.006)
    assert intervals["gain_retained.test"] == pytest.approx([(low - 0.4) / 0.4, (high - 0.4) / 0.4])
    assert intervals["teachers.frame_accuracy.test"] == pytest.approx([0.8, 0.8])
    assert intervals["teachers.members_mean.dev"] == pytest.approx([0.4, 0.4])

    leave_counts(run, [6, 9] * 20, both=[6, 9] * 20)
    assert read_intervals(run)["gain_retained.test"] == pytest.approx([1, 1]), "on the same samples"
    leave_counts(run, [5] * 4, member=[5] * 4, both=[9, 9, 1, 6])
    intervals = read_intervals(run)
    assert "frame_accuracy.test" in intervals
    assert "gain_retained.test" not in intervals, "on some samples the ensemble is worse"
    run.work.record("student").unlink()
    assert read_intervals(run).keys() == {"wer.dev", "wer.test"}


def test_correct_frames_are_compared_pairwise(runs: dict[str, dict[int, CellRun]]) -> None:
    soft, hard = (runs[f"targets-{targets}_temperature-1"][0] for targets in ("soft", "hard"))
    leave_counts(soft, [5, 9] * 20)
    assert compare_frames(soft, hard) == {}, "the other is of an earlier release"
    leave_counts(hard, [4, 8] * 20)
    assert compare_frames(soft, hard) == {"p_more_correct.dev": 1.0, "p_more_correct.test": 1.0}
    assert compare_frames(hard, soft) == {"p_more_correct.dev": 0.0, "p_more_correct.test": 0.0}
    leave_counts(hard, [4, 8] * 19)
    assert compare_frames(soft, hard) == {}, "other utterances"
    leave_counts(hard, [4, 8] * 20)
    hard.fingerprints["align"] = "another"
    assert compare_frames(soft, hard) == {}, "other labels"


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


def test_one_seed_shows_intervals_and_p_of_correct_frames(
    tmp_path: Path, base_recipe: Path, experiment_path: Path
) -> None:
    experiment_path.write_text(DEFINITION.replace("seeds: [0, 1]", "seeds: [0]"))
    experiment = load_experiment(experiment_path)
    runs = make_cells(experiment, base_recipe, tmp_path / "exp", (), [])
    last = {"dev_frame_accuracy": 0.45, "train_frame_accuracy": 0.6, "dev_cross_entropy": 2.0}
    for name, seeds in runs.items():
        run = seeds[0]
        leave_cell(run, 0.45, hard="hard" in name)
        leave_counts(run, [4, 6] * 20 if "hard" in name else [5, 7] * 20)
        write_json(run.work.model("student") / "history.json", [last])
    table = make_table(experiment, runs, base_recipe)
    figures = cell_of(table, "targets-soft_temperature-1")["figures"]
    low, high = figures["frame_accuracy.test"]["ci95"]
    assert 0.55 < low < 0.6 < high < 0.65
    assert figures["gain_retained.test"]["ci95"] == pytest.approx([(low - 0.4) / 0.4, (high - 0.4) / 0.4])
    assert figures["p_more_correct.test"] == {"mean": 1.0, "sd": None, "ci95": None, "seeds": 1}
    lines = table_markdown(experiment, table).splitlines()
    header = next(line for line in lines if line.startswith("| targets |")).split(" | ")
    row = next(line for line in lines if line.startswith("| soft | 1 |")).split(" | ")
    cells = dict(zip(header, row, strict=True))
    assert cells["frame acc. test"] == f"46.00 [{100 * low:.2f}, {100 * high:.2f}]"
    assert cells["p frame acc. test"] == "1.000"
    assert "dev, last epoch" not in header, "it is the best, whose interval over utterances it has not"


def test_p_is_a_mean_over_seeds_for_every_system(experiment_path: Path, table: Table) -> None:
    """The t interval of 0.90 and 0.98 would end at 1.45."""
    soft = cell_of(table, "targets-soft_temperature-1")
    found = [soft["systems"]["ensemble"]["p_better_than_baseline"], soft["figures"]["p_better"]]
    assert [(p["sd"], p["ci95"], p["seeds"]) for p in found] == [(None, None, 2)] * 2
    assert found[0]["mean"] == pytest.approx(0.94)
    text = table_markdown(load_experiment(experiment_path), table)
    rows = [line.split(" | ") for line in text.splitlines() if line.startswith("| ensemble | ")]
    header = next(line for line in text.splitlines() if line.startswith("| system | ")).split(" | ")
    assert [row[header.index("p better than baseline")] for row in rows] == ["0.940", "0.900"]


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


def test_the_table_does_not_wait_for_the_plot(
    tmp_path: Path,
    base_recipe: Path,
    runs: dict[str, dict[int, CellRun]],
    experiment_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(*_: object) -> None:
        raise ValueError("no plot")

    monkeypatch.setattr("asr_kd.experiment.run.write_plot", fail)
    with pytest.raises(ValueError, match="no plot"):
        run_experiment(Request(experiment_path, base_recipe, tmp_path / "base", tmp_path / "exp"), None)
    table = read_json(tmp_path / "exp" / "table.json")
    assert cell_of(table, "targets-soft_temperature-1")["figures"]["frame_accuracy.dev"]["seeds"] == 2
    assert "| soft | 2 |" in (tmp_path / "exp" / "table.md").read_text()


def test_the_page_finds_a_table_by_the_name_of_its_base_recipe(
    tmp_path: Path, base_recipe: Path, experiment_path: Path, runs: dict[str, dict[int, CellRun]]
) -> None:
    """The file's name counts only in a table without the recipe's."""
    base_recipe.write_text("name: digits\n" + base_recipe.read_text())
    experiment = load_experiment(experiment_path)
    table = make_table(experiment, runs, base_recipe)

    def found(recipe: str) -> list[str]:
        return [each["experiment"] for each in find_tables(tmp_path / "base", recipe)]

    write_table(tmp_path / "exp", experiment, table)
    assert (found("digits"), found("base")) == ([experiment.name], [])
    del table["base_name"]
    write_table(tmp_path / "exp", experiment, table)
    assert (found("digits"), found("base")) == ([], [experiment.name])


def leave_store(run: CellRun, top_k: int | None) -> None:
    """Targets of twelve frames, of all of five states or the most probable of them; the same for every cell."""
    log_post = torch.randn(12, 5, generator=generator((0,))).log_softmax(1)
    frames = Frames(torch.zeros(12, 1), torch.zeros(12, dtype=torch.int64), ["a"], torch.tensor([0, 12]))
    writer = StoreWriter(run.work.targets)
    writer.add(condense(log_post, top_k, (1.0, 2.0)))
    writer.finish(frames, {"num_pdfs": 5, "top_k": top_k, "temperatures": [1.0, 2.0], "frames": 12})


@pytest.mark.parametrize("half", ["top_k-2", "top_k-all"])
def test_a_half_written_store_costs_its_own_figures_alone(tmp_path: Path, base_recipe: Path, half: str) -> None:
    path = tmp_path / "stores.yaml"
    path.write_text("grid: {targets.top_k: {2: 2, all: null}}")
    experiment = load_experiment(path)
    runs = make_cells(experiment, base_recipe, tmp_path / "exp", (), [])
    for name, top_k in (("top_k-2", 2), ("top_k-all", None)):
        leave_cell(runs[name][0], 0.4, hard=False)
        leave_store(runs[name][0], top_k)
    whole = make_table(experiment, runs, base_recipe)
    assert cell_of(whole, "top_k-2")["figures"]["kl_to_dense"]["mean"] > 1e-3
    (runs[half][0].work.targets / "index.json").unlink()
    runs[half][0].work.record("targets").unlink()
    table = make_table(experiment, runs, base_recipe)
    with_kl = [cell["name"] for cell in table["cells"] if "kl_to_dense" in cell["figures"]]
    assert with_kl == (["top_k-all"] if half == "top_k-2" else []), "without a whole dense store there is no reference"
    assert [cell["figures"]["frame_accuracy.dev"]["mean"] for cell in table["cells"]] == [0.4, 0.4]


def test_what_specialists_bring_follows_the_table(tmp_path: Path, base_recipe: Path) -> None:
    accuracy = {split: {"frames": 1000, "without": 0.4, "with": 0.42} for split in ("dev", "test")}
    covered = {"specialists": 2, "frames": 1600, "without": 0.25, "with": 0.28, "relative_gain": 0.12}
    cost = {"microseconds_per_frame": {"generalist": 50.0}, "specialists_per_frame": 0.7, "threads": 2}
    clusters = [{"classes": 5, "nearest": 4, "states": {"IY.1": 3, "IH.0": 2}}]
    about = {"count": 4, "accuracy": accuracy, "by_covering": {"test": [covered]}, "clusters": clusters, "cost": cost}
    path = tmp_path / "some.yaml"
    path.write_text("cells: {generalist: {}, four: {specialists.count: 4}}\nseeds: [0, 1]")
    experiment = load_experiment(path)
    runs = make_cells(experiment, base_recipe, tmp_path / "exp", (), [])
    for seeds in runs.values():
        for run in seeds.values():
            leave_cell(run, 0.45, hard=False)
            write_json(run.work.specialists, about)
    runs["four"][1].work.record("teachers").unlink()
    table = make_table(experiment, runs, base_recipe)
    assert cell_of(table, "four")["specialists"] == {"0": about}, "at seed 1 they are not trained"
    assert cell_of(table, "generalist")["specialists"] == {}, "a file of an earlier recipe"
    section = table_markdown(experiment, table).split("## Specialists\n")[1]
    assert "### four, seed 0\n" in section and section.count("###") == 1
    assert "| generalist + 4 specialists | 42.0 | 42.0 |" in section
    assert "| one network, distilled from them | 45.0 | 46.0 |" in section
    assert "| 2 | 1,600 | 25.0 | 28.0 | 12.0 |" in section
    assert "| 0 | IY.1 × 3, IH.0 × 2 |" in section
    assert "calls 0.70 specialists and costs generalist 50.0 µs (2 threads)" in section


IMAGES = """
corpus: {kind: mnist, dir: /nowhere}
teachers: {members: 1, network: {input: pixels, left: 0, right: 0}}
student: {network: {input: pixels, left: 0, right: 0}}
"""
DIGITS = """
grid:
  student.network.width: [800, 30]
  targets: {hard: {student.hard_weight: 1}, soft: {}}
cells: {few: {student.network.width: 800, student.transfer_classes: [7, 8]}}
last_stage: score
published_systems: {width-800_targets-hard: {teacher: "67"}}
"""
TEST_ERRORS = {
    "width-800_targets-hard": 146,
    "width-800_targets-soft": 74,
    "width-30_targets-hard": 200,
    "width-30_targets-soft": 180,
    "few": 1320,
}


def test_the_gap_that_distillation_closes_is_to_the_plain_student_of_the_same_network(tmp_path: Path) -> None:
    base, path = tmp_path / "digits.yaml", tmp_path / "sizes.yaml"
    base.write_text(IMAGES)
    path.write_text(DIGITS)
    experiment = load_experiment(path)
    runs = make_cells(experiment, base, tmp_path / "exp", (), [])
    for name, errors in TEST_ERRORS.items():
        run = runs[name][0]
        counts = {"teacher": (2_395_210, 67), "student": (1000, errors)}
        systems = {system: {"parameters": size, "errors": {"test": wrong}} for system, (size, wrong) in counts.items()}
        write_json(run.work.results, {"systems": systems})
        write_json(run.work.record("score"), {"fingerprint": run.fingerprints["score"], "cpu_seconds": 1.0})
    table = make_table(experiment, runs, base)
    closed = {
        cell["name"]: cell["figures"]["gap_closed.test"]["mean"]
        for cell in table["cells"]
        if "gap_closed.test" in cell["figures"]
    }
    # (146 - 74) / (146 - 67) is published; a student of two classes has no plain one of two classes.
    assert closed == pytest.approx({"width-800_targets-soft": 72 / 79, "width-30_targets-soft": 20 / 133})
    text = table_markdown(experiment, table)
    assert "| 800 | soft | 74 | 91.14 |" in text
    assert "| system | cells | parameters, M | errors test | published |" in text
    assert "| teacher | all | 2.395 | 67 | 67 |" in text
