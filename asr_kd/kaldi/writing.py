"""An experiment's alignments and posteriors in the forms that Kaldi, NIST's tools and Praat read."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from asr_kd.corpora.manifest import read_cuts, words_of
from asr_kd.decode.times import ctm_lines, spoken_words
from asr_kd.errors import UserError
from asr_kd.features.store import FrameStore
from asr_kd.files import write_text
from asr_kd.hmm.tree import Tree
from asr_kd.kaldi.archive import write_archive
from asr_kd.kaldi.segments import PHONE, Segment, phone_segments, word_segments
from asr_kd.kaldi.textgrid import textgrid
from asr_kd.kaldi.tree import write_tree
from asr_kd.lang.phones import PhoneSet
from asr_kd.nn.inputs import input_path
from asr_kd.nn.posteriors import Scorer, load_scorer
from asr_kd.workspace import LAST_TREE, SPLITS

if TYPE_CHECKING:
    from asr_kd.pipeline import Job

PDF = 0


@dataclass(frozen=True)
class Writer:
    """What is written below `to` for each split; every method returns a line that says what it wrote."""

    job: "Job"
    to: Path
    system: str = "student"
    compress: bool = False

    @property
    def kinds(self) -> dict[str, Callable[[str], list[str]]]:
        return {name: getattr(self, name) for name in ("alignment", "posteriors", "ctm", "textgrid")}

    @cached_property
    def phone_set(self) -> PhoneSet:
        return PhoneSet.read(self.job.work.lang / "phones.txt")

    @cached_property
    def scorer(self) -> Scorer:
        """Of `student`, `baseline` (the first member), `ensemble`, or the name of a network in models/."""
        recipe, work = self.job.recipe, self.job.work
        members = [work.member(index).name for index in range(recipe.teachers.members)]
        names = {"baseline": members[:1], "ensemble": members}.get(self.system, [self.system])
        return load_scorer(work, names, recipe.targets.mean, self.job.device)

    def shared(self) -> list[str]:
        """What gives the numbers in alignments and posteriors their meaning: phones, tree, counts of the pdfs."""
        work = self.job.work
        self.phone_set.write(self.to / "phones.txt")
        path = work.gmm(LAST_TREE) / "tree.json"
        if path.exists():
            write_tree(self.to / "tree", Tree.load(path))
        store = FrameStore(work.alignment("train"))
        counts = np.zeros(store.meta["num_pdfs"], dtype=np.int64)
        for utterance in store:
            counts += np.bincount(store[utterance][:, PDF], minlength=len(counts))
        write_text(self.to / "ali_train_pdf.counts", f" [ {' '.join(map(str, counts))} ]\n")
        written = ["phones.txt", *["tree"] * path.exists(), "ali_train_pdf.counts"]
        return [f"{self.to}: {', '.join(written)}"]

    def alignment(self, split: str) -> list[str]:
        """pdf.ark: a pdf a frame (ali-to-pdf); phones.ark: a phone a frame (ali-to-phones --per-frame=true)."""
        store, folder = FrameStore(self.job.work.alignment(split)), self.to / split
        names = sorted(store)
        pdfs = write_archive(folder / "pdf", "Int32Vector", self._column(store, names, PDF, f"{split} pdfs"))
        lines = [f"{folder / 'pdf.ark'}: {pdfs} utterances"]
        if known := [name for name in names if has_phones(store[name])]:
            phones = self._column(store, known, PHONE, f"{split} phones")
            lines.append(
                f"{folder / 'phones.ark'}: {write_archive(folder / 'phones', 'Int32Vector', phones)} utterances"
            )
        return lines

    def posteriors(self, split: str) -> list[str]:
        """logpost_SYSTEM.ark: a matrix (frames, pdfs) of natural logarithms an utterance, as nnet3-compute's."""
        store = FrameStore(input_path(self.job.work, self.scorer.ensemble.network, split))
        names = self.job.progress(sorted(store), f"{split} posteriors")
        path = self.to / split / f"logpost_{self.system}"
        kind = "CompressedMatrix" if self.compress else "FloatMatrix"
        count = write_archive(path, kind, ((name, self.scorer.log_posteriors(split, name)) for name in names))
        return [f"{path}.ark: {count} utterances, {self.scorer.ensemble.num_pdfs} pdfs"]

    def ctm(self, split: str) -> list[str]:
        """words.ctm and phones.ctm: `utterance 1 start duration symbol 1.0000`, times from the utterance's start."""
        folder, words, phones = self.to / split, list[str](), list[str]()
        for name, _, word_tier, phone_tier in self._segmented(split, "ctm"):
            words.append(ctm(name, word_tier))
            phones.append(ctm(name, phone_tier))
        write_text(folder / "words.ctm", "".join(words))
        write_text(folder / "phones.ctm", "".join(phones))
        return [f"{folder}: words.ctm, phones.ctm, {len(words)} utterances"]

    def textgrid(self, split: str) -> list[str]:
        """textgrid/UTTERANCE.TextGrid with tiers of words and phones."""
        folder, count = self.to / split / "textgrid", 0
        for name, duration, words, phones in self._segmented(split, "TextGrids"):
            text = textgrid({"words": words, "phones": phones}, phones[-1].end, duration)
            write_text(folder / f"{name.replace('/', '_')}.TextGrid", text)
            count += 1
        return [f"{folder}: {count} TextGrids"]

    def _column(
        self, store: FrameStore, names: Sequence[str], column: int, title: str
    ) -> Iterator[tuple[str, list[int]]]:
        return ((name, store[name][:, column].tolist()) for name in self.job.progress(names, title))

    def _segmented(self, split: str, title: str) -> Iterator[tuple[str, float, list[Segment], list[Segment]]]:
        """Name, seconds, words and phones of the utterances whose alignment has phones, in the order of their names.

        UserError where none has.
        """
        store = FrameStore(self.job.work.alignment(split))
        cuts = [cut for cut in read_cuts(self.job.work.manifest(split)) if cut.id in store]
        known = sorted((cut for cut in cuts if has_phones(store[cut.id])), key=lambda cut: cut.id)
        if not known:
            raise UserError(f"{store.path}: has pdfs but no phones; write --what alignment, or give hmm.external.tree")
        if len(known) < len(cuts):
            self.job.log.warning("%s: %d utterances without phones left out", split, len(cuts) - len(known))
        for cut in self.job.progress(known, f"{split} {title}"):
            rows = np.asarray(store[cut.id])
            yield cut.id, cut.duration, word_segments(rows, words_of(cut)), phone_segments(rows, self.phone_set)


def write_kaldi(writer: Writer, splits: Sequence[str], kinds: Sequence[str]) -> Iterator[str]:
    """Write `kinds` of `splits`, one line after each; UserError for a name that is none."""
    if writer.job.recipe.corpus.of_images:
        raise UserError(f"{writer.job.work.root}: an experiment with images; Kaldi's forms are of speech")
    for chosen, known, option in ((splits, SPLITS, "--split"), (kinds, writer.kinds, "--what")):
        if wrong := [name for name in chosen if name not in known]:
            raise UserError(f"{option}: {wrong[0]} is none of {', '.join(known)}; name them with commas between")
    yield from writer.shared()
    for split in splits:
        for kind in kinds:
            yield from writer.kinds[kind](split)


def has_phones(rows: np.ndarray) -> bool:
    """False for an external alignment without a tree, or where no pronunciation gives its pdfs."""
    return rows.shape[1] > PHONE and bool(rows[:, PHONE].all())


def ctm(utterance: str, segments: Sequence[Segment]) -> str:
    """The segments' CTM lines, with the confidence of a forced alignment, 1."""
    symbols = [segment.symbol for segment in segments]
    spans = [(segment.start, segment.end) for segment in segments]
    return ctm_lines(utterance, spoken_words(symbols, spans, [1.0] * len(symbols)))
