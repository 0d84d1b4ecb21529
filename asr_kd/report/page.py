"""report.html: what a run found, on one page that opens from disk without a network."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from asr_kd.corpora.manifest import read_cuts
from asr_kd.errors import UserError
from asr_kd.files import read_json, write_text
from asr_kd.integrity import read_record
from asr_kd.nn.products import threads
from asr_kd.report.confusion import measure
from asr_kd.report.document import Note, Section, render
from asr_kd.report.experiments import experiments_section, find_tables
from asr_kd.report.figures import (
    classes_section,
    gains_section,
    specialists_section,
    stages_section,
    systems_section,
    training_section,
    vocabulary_section,
)
from asr_kd.report.panel import Panel
from asr_kd.report.phones import posterior_sections
from asr_kd.report.viewer import Listing, Packer, pack_within
from asr_kd.report.words import compared_systems, pairs_section, speaker_section
from asr_kd.score.report import read_histories
from asr_kd.score.results import Results
from asr_kd.score.wer import Transcripts, read_transcripts
from asr_kd.workspace import Workspace

if TYPE_CHECKING:
    from asr_kd.pipeline import Job

Made = TypeVar("Made")
PAGE_BYTES = 14_800_000


def read_results(work: Workspace) -> Results:
    """results.json; UserError tells how to make it."""
    if not work.results.exists():
        raise UserError(f"{work.results}: missing; run --stage 8 (score) of this experiment first")
    return read_json(work.results)


def write_page(job: "Job", results: Results) -> None:
    """Write report.html from results.json's figures, the hypotheses, the networks and the test speech.

    A part that cannot be made is left out and said so on the page and in the log: the page never costs a figure. The
    forward passes are those of `Panel.sample` and of the utterances that can be listened to.
    """
    page = _Page(job, results)
    with threads(job.jobs):
        sections = page.sections()
    write_text(job.work.page, page.render(sections))


def try_page(job: "Job", results: Results) -> Path | None:
    """The page that `write_page` wrote; None where it failed, which the log says: results.json stays as good as it is.

    No page where an experiment's cell is scored (`job.page`): there are many of them, and a command makes any one.
    """
    job.work.page.unlink(missing_ok=True)  # of figures before these
    if not job.page:
        return None
    try:
        write_page(job, results)
    except Exception:
        job.log.exception("no report.html; asr-kd report %s tries again", job.work.root)
        return None
    return job.work.page


class _Page:
    def __init__(self, job: "Job", results: Results) -> None:
        self.job, self.recipe, self.work, self.results = job, job.recipe, job.work, results
        self.missing: list[str] = []

    def about(self) -> list[str]:
        if "images" in self.results:
            size = ", ".join(f"{split} {count:,} images" for split, count in self.results["images"].items())
        else:
            size = ", ".join(f"{split} {60 * hours:.1f} min" for split, hours in self.results["hours"].items())
            size += f"; {self.results['num_pdfs']} tied states"
        return [
            *([self.recipe.description] if self.recipe.description else []),
            f"{size}; seed {self.recipe.seed}. Recipe as run: recipe.yaml; machine and packages: environment.json.",
        ]

    def sections(self) -> list[Section]:
        of_images, results = self.recipe.corpus.of_images, self.results
        panel = self.attempt("what needs posteriors", lambda: Panel(self.recipe, self.work, self.job.device))
        histories = read_histories(self.work, self.recipe.teachers.members)
        figures = [classes_section(results) if of_images else gains_section(results), training_section(histories)]
        if not of_images:
            transcripts = read_transcripts(self.work, tuple(results["systems"]))
            speakers = {cut.id: cut.supervisions[0].speaker for cut in read_cuts(self.work.manifest("test"))}
            figures += [speaker_section(transcripts, speakers), pairs_section(transcripts), vocabulary_section(results)]
        if panel:
            figures += self.attempt("figures made of posteriors", lambda: self.posteriors(panel)) or []
        rest = [
            specialists_section(results),
            experiments_section(find_tables(self.work.root, self.recipe.name)),
            stages_section(results, self.memory()),
        ]
        utterances = None
        if not of_images and self.recipe.score.page_utterances != 0:
            utterances = self.attempt("utterances", lambda: self.utterances(transcripts, panel, [*figures, *rest]))
        systems = systems_section(results)
        left_out = [Note(text, warning=True) for text in self.missing]
        top = Section(systems.id, systems.title, [*left_out, *systems.blocks])
        return [section for section in (top, *figures, utterances, *rest) if section]

    def render(self, sections: Sequence[Section | None]) -> Iterator[str]:
        return render(self.recipe.name, self.about(), [section for section in sections if section])

    def memory(self) -> dict[str, int]:
        """Peak bytes of the stages, by name, from their completion records; UserError names a damaged one."""
        peaks = {name: (read_record(self.work, name) or {}).get("peak_bytes") for name in self.results["stages"]}
        return {name: peak for name, peak in peaks.items() if peak}

    def posteriors(self, panel: Panel) -> list[Section]:
        numbers = panel.sample(self.recipe.score.page_frames)
        confusion = measure(panel, numbers, self.job.progress)
        return posterior_sections(confusion, len(panel), "class" if self.recipe.corpus.of_images else "phone")

    def utterances(
        self, transcripts: Transcripts, panel: Panel | None, others: Sequence[Section | None]
    ) -> Section | None:
        """The viewer with as many utterances as the recipe says, and as the page has room for beside the others."""
        names, score = compared_systems(transcripts), self.recipe.score
        hypotheses = {name: transcripts.hypotheses[name]["test"] for name in names}
        listing = Listing(transcripts.references["test"], hypotheses, names)
        packer = Packer(self.work, listing, panel)
        ranked = listing.ranked(score.worst_utterances)
        note = Note(
            f"The {score.worst_utterances} test utterances where the {names[1]} errs most, and those whose WER differs "
            f"most between {names[0]} and {names[1]}."
        )
        empty = Section("utterances", "Utterances", [note, packer.viewer([])])
        without = self.render([systems_section(self.results), *others, empty])
        room = PAGE_BYTES - sum(len(part.encode()) for part in without)
        packed = pack_within(packer, ranked, score.page_utterances, room, self.job.progress)
        return replace(empty, blocks=[note, packer.viewer(packed)]) if packed else None

    def attempt(self, what: str, make: Callable[[], Made]) -> Made | None:
        """What `make` makes; None, with a line in the log and on the page, where it fails."""
        try:
            return make()
        except Exception as error:
            self.job.log.warning("report.html: without %s: %s", what, error, exc_info=not isinstance(error, UserError))
            self.missing.append(f"Left out: {what}. {error}")
            return None
