"""report.html of a miniature experiment: its structure, its figures, and text that stays text."""

import logging
import shutil
from pathlib import Path
from typing import Any

import plotly.graph_objects as go
import pytest
from parsed_page import ParsedPage
from spoken_experiment import EVIL, HYPOTHESES, spoken_experiment
from typer.testing import CliRunner

from asr_kd.cli import app
from asr_kd.files import read_json
from asr_kd.pipeline import Job
from asr_kd.recipe import Recipe
from asr_kd.report import page as page_module
from asr_kd.report.page import try_page, write_page
from asr_kd.report.panel import Panel
from asr_kd.stages import score
from asr_kd.workspace import Workspace

SECTIONS = [
    "systems", "gain", "training", "speakers", "pairs", "vocabulary", "phones", "inherited", "calibration",
    "utterances", "experiments", "stages",
]  # fmt: skip


@pytest.fixture(scope="module")
def html(scored: Job) -> str:
    return scored.work.page.read_text()


@pytest.fixture(scope="module")
def page(html: str) -> ParsedPage:
    return ParsedPage(html)


def test_every_section_is_there_and_linked(page: ParsedPage) -> None:
    sections = [attributes["id"] for tag, attributes in page.tags if tag == "section"]
    assert sections == SECTIONS
    assert [link for link in page.values("href") if link.startswith("#")] == ["#content", *(f"#{s}" for s in SECTIONS)]
    ids = page.values("id")
    assert len(ids) == len(set(ids))
    labelled = {name for names in page.values("aria-labelledby") for name in names.split()}
    assert labelled | set(page.charts) <= set(ids)


def test_the_page_needs_no_network_and_runs_nothing_of_the_corpus(page: ParsedPage, html: str) -> None:
    assert page.values("src") == []
    assert all(link.startswith(("#", "data:")) for link in page.values("href"))
    policy = next(a["content"] for tag, a in page.tags if tag == "meta" and "http-equiv" in a)
    assert "default-src 'none'" in str(policy) and "http" not in str(policy)
    assert len(page.scripts) == 3  # plotly once, charts, viewer
    assert sum("plotly.js v" in script for script in page.scripts) == 1
    assert EVIL not in html
    assert f"a recipe {EVIL}" in page.texts


def test_text_of_the_corpus_stays_text(page: ParsedPage) -> None:
    assert [f"<b>{EVIL}</b>", "2", "50.0", "50.0", "50.0"] in page.tables["WER by speaker, as a table"]
    substitutions = next(rows for title, rows in page.tables.items() if title.startswith("Substitutions"))
    assert ["play", EVIL, "0", "1", "+1"] in substitutions
    rows = page.charts["speakers-2"]["data"][0]["y"]
    assert any("&lt;script&gt;" in label for label in rows) and not any("<" in label for label in rows)
    listed = {entry["id"]: entry for entry in page.viewer["utterances"]}
    assert listed["utt-2"]["columns"] == [["play", "play", EVIL], [EVIL, EVIL, EVIL]]


def test_the_table_of_systems_has_the_figures_of_results_json(page: ParsedPage, results: dict[str, Any]) -> None:
    header, *rows = page.tables["Systems, per cent"]
    systems = {row[0].split(" ×")[0]: dict(zip(header, row, strict=True)) for row in rows}
    assert set(systems) == set(HYPOTHESES) == set(results["systems"])
    for name, row in systems.items():
        system = results["systems"][name]
        for split in ("dev", "test"):
            assert row[f"frame acc. {split}"] == f"{100 * system['frame_accuracy'][split]:.1f}"
        test = system["wer"]["test"]
        low, high = (100 * end for end in test["ci95"])
        assert row["WER dev"] == f"{100 * system['wer']['dev']['wer']:.1f}"
        assert row["WER test"] == f"{100 * test['wer']:.1f} [{low:.1f}, {high:.1f}]"
        assert row["ins/del/sub"] == f"{test['ins']}/{test['del']}/{test['sub']}"
        p = results["significance"].get(f"{name}_vs_baseline")
        assert row["p"] == (f"{p['p_better']:.3f}" if p else "–")


def test_the_charts_have_the_figures_of_results_json(page: ParsedPage, results: dict[str, Any]) -> None:
    (trace,) = page.charts["systems-3"]["data"]
    tests = [results["systems"][name]["wer"]["test"] for name in trace["y"]]
    assert trace["x"] == pytest.approx([100 * test["wer"] for test in tests])
    low = [x - reach for x, reach in zip(trace["x"], trace["error_x"]["arrayminus"], strict=True)]
    high = [x + reach for x, reach in zip(trace["x"], trace["error_x"]["array"], strict=True)]
    assert low == pytest.approx([100 * test["ci95"][0] for test in tests])
    assert high == pytest.approx([100 * test["ci95"][1] for test in tests])
    stages = {row[0]: row[1:] for row in page.tables["Stages before this one"]}
    assert stages["align"] == ["61.5", "118.0", "3,072"]
    assert ["frame accuracy, baseline = member 0", "66.7 %", "66.7 %"] in page.tables["Gain retained"]


def test_kinds_of_errors_sum_to_those_of_results_json(page: ParsedPage, results: dict[str, Any]) -> None:
    counts = {name: results["systems"][name]["wer"]["test"] for name in ("baseline", "student")}
    for kind, key in (("Substitutions", "sub"), ("Deletions", "del"), ("Insertions", "ins")):
        title = f"{kind}: {counts['baseline'][key]} of the baseline, {counts['student'][key]} of the student"
        assert title in page.tables


def test_training_curves_are_those_of_the_histories(page: ParsedPage, scored: Job) -> None:
    curves = {trace["name"]: trace for trace in page.charts["training-3"]["data"] if trace["showlegend"]}
    history = read_json(scored.work.model("student") / "history.json")
    assert curves["student"]["x"] == [row["epoch"] for row in history]
    assert curves["student"]["y"] == [row["dev_cross_entropy"] for row in history]
    assert len(page.charts["training-3"]["data"]) == 3


def test_plotly_accepts_every_chart(page: ParsedPage) -> None:
    assert len(page.charts) >= 8
    for chart in page.charts.values():
        go.Figure(chart)  # raises on a property that plotly does not know


def test_every_chart_has_its_figures_in_a_table_of_its_section(html: str) -> None:
    for part in html.split("<section ")[1:]:
        if "data-chart" in part:
            assert "<table>" in part


def test_a_sweep_beside_the_experiment_is_a_heat_map(page: ParsedPage) -> None:
    (trace,) = page.charts["experiments-2"]["data"]
    assert (trace["x"], trace["y"]) == (["1", "2"], ["0", "0.5"])
    assert trace["z"] == [[None, pytest.approx(42)], [pytest.approx(41), pytest.approx(43)]]
    rows = page.tables["Experiment temperature: T and w"]
    assert rows[0] == ["temperature", "hard weight", "frame acc. dev, %"]
    assert rows[1:3] == [["1", "0", "–"], ["1", "0.5", "41.00"]]


def test_accuracy_by_phone_sums_to_the_accuracy_of_the_networks(page: ParsedPage, scored: Job) -> None:
    panel = Panel(scored.recipe, scored.work, "cpu")
    log_post = panel.log_posteriors(panel.sample(None))
    header, *rows = page.tables["Accuracy by phone, as a table"]
    frames = [int(row[1]) for row in rows]
    assert {row[0] for row in rows} == {"SIL", "AA", "S"} and sum(frames) == len(panel)
    for name, scores in log_post.items():
        shares = [float(row[header.index(name)]) for row in rows]
        expected = 100 * (scores.argmax(1) == panel.labels).double().mean().item()
        assert sum(f * s for f, s in zip(frames, shares, strict=True)) / len(panel) == pytest.approx(expected, abs=0.06)


def test_a_page_without_networks_says_what_it_lacks(tmp_path: Path) -> None:
    job = spoken_experiment(tmp_path / "spoken")
    shutil.rmtree(job.work.model("student"))
    score.run(job)
    page = ParsedPage(job.work.page.read_text())
    assert any("Left out: what needs posteriors." in text and "student" in text for text in page.texts)
    sections = [attributes["id"] for tag, attributes in page.tags if tag == "section"]
    assert sections == [s for s in SECTIONS if s not in ("phones", "inherited", "calibration", "experiments")]
    assert page.viewer["posteriors"] == [] and len(page.viewer["utterances"]) == 3


def test_a_page_that_fails_costs_no_figure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    job = spoken_experiment(tmp_path / "spoken")
    job.work.page.write_text("of an earlier run")

    def fail(*_: object) -> None:
        raise RuntimeError("no page today")

    monkeypatch.setattr(page_module, "write_page", fail)
    with caplog.at_level(logging.ERROR):
        score.run(job)
    assert read_json(job.work.results)["recipe"] == "spoken"
    assert job.work.report.exists() and not job.work.page.exists()
    assert "no page today" in caplog.text


def test_cells_have_no_page(scored: Job, tmp_path: Path) -> None:
    job = spoken_experiment(tmp_path / "spoken")
    job.page = False
    assert try_page(job, read_json(scored.work.results)) is None
    assert not job.work.page.exists()


def test_the_page_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, results: dict[str, Any]) -> None:
    job = spoken_experiment(tmp_path / "spoken")
    write_page(job, results)
    whole = job.work.page.stat().st_size
    names = [entry["id"] for entry in ParsedPage(job.work.page.read_text()).viewer["utterances"]]
    assert len(names) == 3
    for spare, count in ((0, 3), (-1, 2)):
        monkeypatch.setattr(page_module, "PAGE_BYTES", whole + spare)
        write_page(job, results)
        assert job.work.page.stat().st_size <= whole + spare
        shown = ParsedPage(job.work.page.read_text()).viewer["utterances"]
        assert [entry["id"] for entry in shown] == names[:count]
    none = Recipe.model_validate({**job.recipe.model_dump(), "score": {"page_utterances": 0}})
    write_page(Job(none, job.work), results)
    assert ParsedPage(job.work.page.read_text()).viewer == {}


def test_the_command_makes_the_page_anew(tmp_path: Path, scored: Job) -> None:
    shutil.copytree(scored.work.root, tmp_path / "spoken")
    page = tmp_path / "spoken" / "report.html"
    page.unlink()
    result = CliRunner().invoke(app, ["report", str(tmp_path / "spoken"), "--set", "score.page_utterances=1"])
    assert result.exit_code == 0, result.output
    assert len(ParsedPage(page.read_text()).viewer["utterances"]) == 1
    Workspace(tmp_path / "spoken").record("align").write_text("[]")
    result = CliRunner().invoke(app, ["report", str(tmp_path / "spoken"), "--set", "score.page_utterances=1"])
    assert result.exit_code == 2 and "align.json: not a completion record" in result.output


def test_a_directory_without_results_is_one_line(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["report", str(tmp_path)])
    assert result.exit_code == 2
    assert [line for line in result.output.splitlines() if line] == [
        f"asr-kd: {tmp_path / 'results.json'}: missing; run --stage 8 (score) of this experiment first"
    ]
