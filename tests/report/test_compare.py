"""Experiments side by side: figures, significance, and what cannot be compared."""

import shutil
from pathlib import Path

import pytest
from parsed_page import ParsedPage
from typer.testing import CliRunner

from asr_kd.cli import app
from asr_kd.corpora.manifest import read_cuts
from asr_kd.corpora.splits import write_cuts
from asr_kd.files import read_json, write_json, write_text
from asr_kd.pipeline import Job
from asr_kd.report.compare import compare
from asr_kd.score.wer import p_better, read_transcripts
from asr_kd.stages import score


@pytest.fixture(scope="module")
def better(scored: Job, tmp_path_factory: pytest.TempPathFactory) -> Job:
    """Another experiment over the same test set, whose student makes no error in one utterance more."""
    root = tmp_path_factory.mktemp("better") / "better"
    shutil.copytree(scored.work.root, root)
    path = root / "decode" / "student" / "test.txt"
    path.write_text(path.read_text().replace("call hannah", "call anna"))
    recipe = read_json(root / "recipe.yaml")
    recipe["student"]["temperature"] = 5.0
    write_json(root / "recipe.yaml", recipe)
    job = Job(scored.recipe, type(scored.work)(root), page=False)
    score.run(job)
    return job


def test_figures_and_significance(scored: Job, better: Job, tmp_path: Path) -> None:
    first, second = (str(job.work.root) for job in (scored, better))
    comparison = compare([scored.work.root, better.work.root])
    tables = {
        table.title: [dict(zip(table.header, row, strict=True)) for row in table.rows] for table in comparison.systems
    }
    one, two = tables["student"]
    assert (one["experiment"], two["experiment"]) == (first, second)
    words = [read_json(job.work.results)["systems"]["student"]["wer"]["test"] for job in (scored, better)]
    assert two["Δ"] == f"{100 * (words[1]['wer'] - words[0]['wer']):+.1f}".replace("-", "−") == "−16.7"
    theirs, ours = (read_transcripts(job.work, ("student",)) for job in (scored, better))
    hypotheses = [transcripts.hypotheses["student"]["test"] for transcripts in (theirs, ours)]
    p = p_better(ours.references["test"], *hypotheses, 1000, 0)
    assert 0.5 < p < 1 and two["p"] == f"{p:.3f}" and one["p"] == "–"
    assert tables["baseline"][1]["Δ"] == "+0.0"
    assert list(comparison.keys.rows) == [("student.temperature", "2.0", "5.0")]
    assert comparison.notes == []

    html = tmp_path / "compare.html"
    result = CliRunner().invoke(app, ["compare", first, second, "--html", str(html)])
    assert result.exit_code == 0, result.output
    assert "−16.7" in result.output and "student.temperature" in result.output
    page = ParsedPage(html.read_text())
    assert page.tables["student"][2] == list(two.values())


def test_another_alignment_or_dev_set_is_remarked(scored: Job, better: Job, tmp_path: Path) -> None:
    other = tmp_path / "other"
    shutil.copytree(better.work.root, other)
    index = read_json(other / "hmm" / "alignment" / "test" / "index.json")
    write_json(other / "hmm" / "alignment" / "test" / "index.json", {**index, "meta": {"num_pdfs": 12}})
    notes = compare([scored.work.root, other]).notes
    assert len(notes) == 1 and "another alignment" in notes[0]


def refusal(*arguments: str) -> str:
    result = CliRunner().invoke(app, ["compare", *arguments])
    assert result.exit_code == 2
    (line,) = [line for line in result.output.splitlines() if line]
    return line


def test_other_test_sets_are_refused(scored: Job, better: Job, tmp_path: Path) -> None:
    other = tmp_path / "other"
    shutil.copytree(better.work.root, other)
    (other / "manifests" / "cuts_test.jsonl.gz").unlink()
    kept = [cut for cut in read_cuts(scored.work.manifest("test")) if cut.id != "utt-3"]
    write_cuts(other / "manifests" / "cuts_test.jsonl.gz", kept)
    for system in scored.recipe.decode.systems:
        path = other / "decode" / system / "test.txt"
        write_text(path, "".join(line + "\n" for line in path.read_text().splitlines() if "utt-3" not in line))
    line = refusal(str(scored.work.root), str(other))
    assert line == (
        f"asr-kd: {other}: its test set is not that of {scored.work.root}: 1 utterances differ, for example utt-3; "
        "compare experiments over the same test set"
    )


def test_mistakes_are_one_line(scored: Job, tmp_path: Path) -> None:
    root = str(scored.work.root)
    assert refusal(root) == "asr-kd: compare: name two or more experiment directories"
    assert refusal(root, str(tmp_path)).startswith(f"asr-kd: {tmp_path}/results.json: missing; run --stage 8")
    write_json(tmp_path / "results.json", {"images": {}})
    assert "results of an image recipe" in refusal(root, str(tmp_path))
