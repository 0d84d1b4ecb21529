"""Stage 8: figures into results.json, the table to the terminal, the report as text and as a page."""

from asr_kd.files import write_json
from asr_kd.pipeline import Job, console, stage_seconds
from asr_kd.report.page import try_page
from asr_kd.score.report import write_report
from asr_kd.score.results import Results, collect_results
from asr_kd.score.table import terminal_table
from asr_kd.score.wer import read_transcripts


def run(job: Job) -> None:
    """Write results.json, plots/, report.md and report.html, and print the table."""
    results = write_results(job)
    console.print(terminal_table(results))
    for warning in results["warnings"]:
        job.log.warning("%s", warning)
        console.print(f"implausible: {warning}", style="yellow", markup=False, soft_wrap=True)
    page = try_page(job, results)
    console.print(f"report: {page or job.work.report}", soft_wrap=True)


def write_results(job: Job) -> Results:
    """All but the page, which reads the hypotheses again: they need not be in memory twice."""
    recipe, work = job.recipe, job.work
    earlier = {name: seconds for name, seconds in stage_seconds(work).items() if name != "score"}
    transcripts = read_transcripts(work, recipe.decode.systems)
    results = collect_results(recipe, work, transcripts, earlier)
    write_json(work.results, results)
    write_report(recipe, work, results, transcripts)
    return results
