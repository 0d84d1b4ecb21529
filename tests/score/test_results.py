"""results.json and report.md of a miniature experiment whose figures are known by hand."""

import json
import re
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from asr_kd.errors import UserError
from asr_kd.files import read_json, write_json, write_text
from asr_kd.pipeline import Job
from asr_kd.recipe import Recipe
from asr_kd.report.document import Note
from asr_kd.report.figures import stages_section
from asr_kd.score.report import escape_markdown, write_report
from asr_kd.score.results import gain_retained, implausible
from asr_kd.score.table import terminal_table
from asr_kd.score.wer import read_transcripts
from asr_kd.stages import score

WER_ERRORS = {"gmm-sat": 6, "baseline": 4, "ensemble": 2, "student": 3}


@pytest.fixture
def results(scored_job: Job) -> dict[str, Any]:
    score.run(scored_job)
    return json.loads(scored_job.work.results.read_text())


def test_results_follow_the_contract(results: dict[str, Any]) -> None:
    assert (results["recipe"], results["seed"], results["num_pdfs"]) == ("mini", 0, 40)
    assert results["hours"] == {"train": 0.01, "dev": 0.01, "test": 0.01}
    assert list(results["systems"]) == list(WER_ERRORS)
    for name, system in results["systems"].items():
        assert system["parameters"] == 1_500_000 and system["rtf"] == 0.25
        assert set(system["frame_accuracy"]) == {"dev", "test"}
        for errors in system["wer"].values():
            assert errors["words"] == 14
            assert errors["ins"] + errors["del"] + errors["sub"] == WER_ERRORS[name]
            assert errors["wer"] == pytest.approx(WER_ERRORS[name] / 14)
            assert errors["ci95"][0] <= errors["wer"] <= errors["ci95"][1]
    assert results["systems"]["ensemble"]["members"] == 2
    assert results["systems"]["gmm-sat"]["frame_accuracy"] == {"dev": None, "test": None}
    assert results["targets"]["top_k"] == 20
    assert results["stages"] == {"align": {"seconds": 61.5, "cpu_seconds": 118.0}}
    assert results["warnings"] == []


def test_what_the_stages_left_out_is_counted_by_split(scored_job: Job) -> None:
    work = scored_job.work
    rows = [{"id": str(number), "split": split} for number, split in enumerate(("train", "train", "test"))]
    write_json(work.excluded, rows)
    write_json(work.root / "features" / "excluded.json", rows[2:])
    for split, failed in (("train", ["a", "b", "c"]), ("dev", [])):
        write_json(work.failed_alignments(split), failed)
    score.run(scored_job)
    assert json.loads(work.results.read_text())["left_out"] == {
        "prepare": {"train": 2, "dev": 0, "test": 1},
        "features": {"train": 0, "dev": 0, "test": 1},
        "align": {"train": 3, "dev": 0},
    }


def test_the_graphs_of_the_systems_are_told(scored_job: Job) -> None:
    seconds = {"grammar": 1.25, "HCLG determinise": 10.5}
    stats = {"states": 41234, "arcs": 98765, "seconds": seconds, "peak_rss_mb": 1312, "bytes": 2_345_678}
    for tree in ("sat", "mono"):  # mono is left from another recipe
        write_json(scored_job.work.graph(tree) / "stats.json", {**stats, "made_from": ["toy"]})
    score.run(scored_job)
    results = json.loads(scored_job.work.results.read_text())
    figures = {"states": 41234, "arcs": 98765, "bytes": 2_345_678, "seconds": 11.75, "peak_rss_mb": 1312}
    assert results["graphs"] == {"sat": figures}
    line = "sat 41,234 states, 98,765 arcs, 2.3 MB, made in 11.8 CPU seconds by a process of at most 1,312 MiB"
    assert f"Search graphs: {line}.\n" in scored_job.work.report.read_text()


def test_without_graphs_nothing_is_said_of_them(scored_job: Job, results: dict[str, Any]) -> None:
    assert results["graphs"] == {}
    assert "Search graphs" not in scored_job.work.report.read_text()


def test_words_out_of_the_vocabulary_by_hand(scored_job: Job, results: dict[str, Any]) -> None:
    known = {"gmm-sat": 6, "baseline": 9, "ensemble": 9, "student": 9}
    unknown = {"gmm-sat": 2, "baseline": 2, "ensemble": 3, "student": 2}  # of anna, nine, music
    for name, system in results["systems"].items():
        figures = system["by_vocabulary"]["test"]
        assert (figures["in"]["words"], figures["in"]["recalled"]) == (11, known[name])
        assert (figures["out"]["words"], figures["out"]["recalled"]) == (3, unknown[name])
    report = scored_job.work.report.read_text()
    assert "| ensemble | 18.2 | 3 of 3 | 100.0 | 3 |" in report
    assert "| gmm-sat | 45.5 | 2 of 3 | 66.7 | 3 |" in report  # sum is proposed too


def test_a_list_of_words_takes_the_vocabularys_place(scored_job: Job, tmp_path: Path) -> None:
    """Known are call, at and the; a lexicon's first fields and no marks."""
    write_text(tmp_path / "known.txt", "call K AO L\n\nat\n<eps> 0\nthe\nother\n")
    recipe = {"name": "mini", "teachers": {"members": 2}, "score": {"vocabulary": str(tmp_path / "known.txt")}}
    scored_job.recipe = Recipe.model_validate(recipe)
    score.run(scored_job)
    figures = read_json(scored_job.work.results)["systems"]["baseline"]["by_vocabulary"]["test"]
    assert (figures["in"]["words"], figures["in"]["recalled"]) == (3, 3)
    assert (figures["out"]["words"], figures["out"]["recalled"]) == (11, 8)  # not anna, time and it


@pytest.mark.parametrize(
    ("content", "message"),
    [(None, "No such file"), (b"", "holds no word"), (b"<eps> 0\n\n", "holds no word"), (b"\xff\n", "not UTF-8")],
)
def test_a_list_without_words_is_named(scored_job: Job, tmp_path: Path, content: bytes | None, message: str) -> None:
    path = tmp_path / "known.txt"
    if content is not None:
        path.write_bytes(content)
    scored_job.recipe = Recipe.model_validate({"name": "mini", "score": {"vocabulary": str(path)}})
    with pytest.raises(UserError, match=rf"score\.vocabulary: .*known\.txt: {message}"):
        score.run(scored_job)


def test_gains_retained_by_hand(results: dict[str, Any]) -> None:
    assert results["gain_retained"] == pytest.approx({"frame_accuracy": 0.75, "wer": 0.5})
    assert results["gain_retained_dev"] == pytest.approx({"frame_accuracy": 0.75, "wer": 0.5})
    assert results["gain_retained_vs_members_mean"] == pytest.approx({"dev": 2 / 3, "test": 0.8})


def test_the_gain_retained_has_an_interval_where_frames_are_counted_by_utterance(scored_job: Job) -> None:
    """Forty utterances of ten frames: members have 4 right, the ensemble 8, the student 5 or 7."""
    score.run(scored_job)
    assert read_json(scored_job.work.results)["gain_retained_vs_members_mean_ci95"] == {"dev": None, "test": None}
    counts = {"utterances": [f"u{number}" for number in range(40)], "frames": [10] * 40}
    systems = {"member-00": [4] * 40, "member-01": [4] * 40, "ensemble": [8] * 40}
    for folder, correct in (("", systems), ("student", {"student": [5, 7] * 20})):
        write_json(scored_job.work.root / "models" / folder / "correct.json", {"test": {**counts, "correct": correct}})
    score.run(scored_job)
    intervals = read_json(scored_job.work.results)["gain_retained_vs_members_mean_ci95"]
    assert intervals["dev"] is None
    # The student's accuracy has a standard error of 0.1 / √40 about 0.6, the gain that of 0.4 / 0.4 = 1.
    assert intervals["test"] == pytest.approx([0.5 - 1.96 * 0.0395, 0.5 + 1.96 * 0.0395], abs=0.015)
    low, high = (f"{100 * end:.1f}" for end in intervals["test"])
    line = f"| frame accuracy, baseline = the members' mean | 66.7 % | 80.0 % [{low}, {high}] |"
    assert line in scored_job.work.report.read_text()
    scored_job.recipe = Recipe.model_validate({"name": "mini", "decode": {"systems": ["baseline", "student"]}})
    score.run(scored_job)
    assert read_json(scored_job.work.results)["gain_retained_vs_members_mean_ci95"] == {"dev": None, "test": None}


@pytest.mark.parametrize(("p_better", "doubted"), [(0.7, True), (0.97, False)])
def test_report_doubts_a_wer_gain_that_is_not_significant(
    scored_job: Job, results: dict[str, Any], p_better: float, doubted: bool
) -> None:
    results["significance"]["ensemble_vs_baseline"]["p_better"] = p_better
    transcripts = read_transcripts(scored_job.work, scored_job.recipe.decode.systems)
    write_report(scored_job.recipe, scored_job.work, results, transcripts)
    report = scored_job.work.report.read_text()
    assert (f"not significant on test (p = {p_better:.3f})" in report) == doubted
    assert terminal_table(results).caption == "gain retained: frame accuracy 75.0, WER " + (
        "– (the ensemble's own gain is not significant)" if doubted else "50.0"
    )


def test_gain_is_undefined_where_the_ensemble_gains_nothing() -> None:
    assert gain_retained(0.5, 0.5, 0.6) is None
    assert gain_retained(0.2, 0.3, 0.1, sign=-1) is None
    assert gain_retained(None, 0.6, 0.5) is None
    assert gain_retained(0.3, 0.2, 0.15, sign=-1) == pytest.approx(1.5)


def test_significance_prefers_the_system_with_fewer_errors(results: dict[str, Any]) -> None:
    p = {name: test["p_better"] for name, test in results["significance"].items()}
    assert set(p) == {"ensemble_vs_baseline", "student_vs_baseline"}
    assert all(0.5 < value < 1 for value in p.values())


def test_impossible_figures_are_pointed_out(results: dict[str, Any]) -> None:
    systems = results["systems"]
    systems["student"]["frame_accuracy"]["test"] = 0.6
    systems["baseline"]["frame_accuracy"]["dev"] = 0.02
    systems["ensemble"]["wer"]["test"]["wer"] = 0
    found = implausible(results)
    assert len(found) == 3
    assert any(text.startswith("student: frame accuracy 60.0%") for text in found)
    assert any("baseline: frame accuracy 2.0% on dev, where chance is 2.50%" in text for text in found)
    assert any("ensemble: WER on test is 0" in text for text in found)


def test_report_shows_table_gains_plots_and_worst_utterances(scored_job: Job, results: dict[str, Any]) -> None:
    report = scored_job.work.report.read_text()
    wer = r"28\.6 \[\d+\.\d, \d+\.\d\]"
    assert re.search(rf"\| baseline \| 1\.50 M \| 50\.0 \| 52\.0 \| 28\.6 \| {wer} \| 0\.25 \| – \| 1/1/2 \|", report)
    assert re.search(r"\| gmm-sat \| 1\.50 M \| – \| – \|", report)
    assert "| ensemble × 2 |" in report
    assert "| frame accuracy, baseline = the members' mean | 66.7 % | 80.0 % |" in report
    assert "perplexity 41.5, 3.4 % unknown" in report
    assert "88.0 bytes a frame" in report
    assert "| align | 61.5 | 118.0 |" in report
    assert "**test-spk\\_a-1**, 4 words, errors: 1" in report
    assert "    baseline   call A      HANNAH at nine\n    student    call HANNAH ***    at nine" in report
    assert "play some music" not in report
    for figure in re.findall(r"\]\((plots/\w+\.png)\)", report):
        assert (scored_job.work.root / figure).read_bytes().startswith(b"\x89PNG")


def test_the_terminals_table_fits_80_characters(results: dict[str, Any]) -> None:
    results["systems"]["ensemble"]["members"] = 10
    results["systems"]["baseline"]["parameters"] = 45_000_000
    console = Console(width=80, file=StringIO(), force_terminal=False)
    console.print(terminal_table(results))
    printed = console.file.getvalue()  # type: ignore[attr-defined]
    assert "…" not in printed and "ensemble × 10" in printed
    assert re.search(r"baseline\s+45\.00 M\s+50\.0\s+52\.0\s+28\.6\s+28\.6 \[", printed)
    assert "gain retained: frame accuracy 75.0, WER" in printed


def test_scoring_twice_gives_the_same_bytes(scored_job: Job, results: dict[str, Any]) -> None:
    first = scored_job.work.results.read_bytes(), scored_job.work.report.read_bytes()
    score.run(scored_job)
    assert (scored_job.work.results.read_bytes(), scored_job.work.report.read_bytes()) == first


def test_a_run_without_a_student_is_scored_too(scored_job: Job) -> None:
    scored_job.recipe = Recipe.model_validate({"decode": {"systems": ["gmm-sat"]}})
    score.run(scored_job)
    results = json.loads(scored_job.work.results.read_text())
    assert results["gain_retained"] == {"frame_accuracy": None, "wer": None}
    assert results["significance"] == {}
    assert "not defined" in scored_job.work.report.read_text()


def test_the_report_tells_what_specialists_bring(scored_job: Job) -> None:
    accuracy = {split: {"frames": 1000, "without": 0.4, "with": 0.42} for split in ("dev", "test")}
    table = [
        {"specialists": 0, "frames": 400, "without": 0.5, "with": 0.5, "relative_gain": 0.0},
        {"specialists": 2, "frames": 1600, "without": 0.25, "with": 0.28, "relative_gain": 0.12},
    ]
    states = [{"classes": 5, "nearest": 4, "states": {f"IY.{n}": 3, "IH.0": 2}} for n in range(4)]
    cost = {
        "microseconds_per_frame": {"generalist": 50.0, "inference": 8.25},
        "specialists_per_frame": 0.7,
        "threads": 2,
    }
    about = {"count": 4, "accuracy": accuracy, "by_covering": {"test": table}, "clusters": states, "cost": cost}
    write_json(scored_job.work.specialists, about)
    score.run(
        Job(Recipe.model_validate({"name": "mini", "teachers": {"members": 2}, "specialists": {}}), scored_job.work)
    )
    assert json.loads(scored_job.work.results.read_text())["specialists"] == about
    text = scored_job.work.report.read_text()
    assert "| generalist | 40.0 | 40.0 |" in text
    assert "| generalist + 4 specialists | 42.0 | 42.0 |" in text
    assert "| one network, distilled from them | 53.0 | 55.0 |" in text
    assert "| 2 | 1,600 | 25.0 | 28.0 | 12.0 |" in text
    assert "| 2 | IY.2 × 3, IH.0 × 2 |" in text
    assert "IY.3" not in text
    assert "calls 0.70 specialists and costs generalist 50.0 µs, inference 8.2 µs (2 threads)" in text


def test_states_drawn_at_random_have_no_tail(scored_job: Job) -> None:
    path = scored_job.work.targets / "summary.json"
    write_json(path, {**read_json(path), "mean_tail_mass": None})
    score.run(scored_job)
    assert "mean tail mass –." in scored_job.work.report.read_text()
    section = stages_section(read_json(scored_job.work.results), {})
    assert any("mean tail mass –." in block.text for block in section.blocks if isinstance(block, Note))


def test_a_missing_file_is_named(scored_job: Job) -> None:
    (scored_job.work.decode("student") / "test.txt").unlink()
    with pytest.raises(UserError, match=r"decode/student/test\.txt: missing; run --stage 7"):
        score.run(scored_job)


def test_text_from_the_corpus_cannot_become_markup() -> None:
    assert escape_markdown("<b>_a_|`x`[y](z)") == "\\<b\\>\\_a\\_\\|\\`x\\`\\[y\\](z)"
