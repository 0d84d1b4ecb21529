"""A decoded system's second pass: N-best lists from lattices, another n-gram's opinion of them, word times."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np

from asr_kd.decode.acoustics import Acoustics, Load
from asr_kd.decode.confidence import confidences, information, tune_confidence
from asr_kd.decode.lattice_search import KaldiLatticeSearcher, LatticeSearcher
from asr_kd.decode.loading import load_searcher
from asr_kd.decode.nbest import NBest, edits, merge
from asr_kd.decode.recognition import FAULTS, in_processes
from asr_kd.decode.rescoring import GrammarCosts, tune_rescoring
from asr_kd.decode.search import KaldiSearcher
from asr_kd.decode.systems import SPLITS, Decoding, System
from asr_kd.decode.times import WordAligner, ctm_lines, spoken_words
from asr_kd.decode.tuning import Point
from asr_kd.errors import UserError
from asr_kd.files import read_json, write_json, write_text
from asr_kd.hmm.gmm import Gmm
from asr_kd.hmm.transcript import TranscriptCompiler
from asr_kd.lang.arpa import Arpa
from asr_kd.lang.lexicon import Lexicon, is_word
from asr_kd.lang.ngram import train_ngram
from asr_kd.lang.phones import PhoneSet
from asr_kd.recipe import Lattice, NGram, Width

Lists = dict[str, NBest]


@dataclass(frozen=True)
class Listed:
    """One utterance: its sentences, None when the search failed; errors: the fewest of any sentence in the lattice."""

    utterance: str
    nbest: NBest | None = None
    errors: int = 0
    density: float = 0.0
    complete: bool = True
    network_seconds: float = 0.0
    search_seconds: float = 0.0
    error: str = ""


@dataclass(frozen=True)
class ListTask:
    """What a worker needs in memory. references: word ids, 0 for words that the decoder does not know.

    of_words: the graph's symbols are words, not pieces of them, whose errors the lattice cannot tell.
    """

    acoustics: Acoustics
    searcher: LatticeSearcher
    count: int
    models: tuple[GrammarCosts, ...]
    references: dict[str, list[int]]
    of_words: bool = True

    def recognise(self, utterance: str) -> Listed:
        """Score, search, list; an error is part of the result."""
        reference = self.references[utterance]
        try:
            start = time.process_time()
            scores = self.acoustics.scores(utterance)
            scored = time.process_time()
            found = self.searcher.search(scores)
            sentences = merge(found.lattice, found.best, self.count)
            spent = time.process_time() - scored
        except FAULTS as error:
            return Listed(utterance, errors=len(reference), error=f"{type(error).__name__}: {error}")
        words = tuple(words for words, _ in sentences)
        lm_costs = np.array([[model.cost(sentence) for model in self.models] for sentence in words])
        nbest = NBest(words, np.array([cost for _, cost in sentences]), lm_costs)
        errors = edits(reference, found.best.words) if self.of_words else len(reference)
        if found.lattice and self.of_words:
            errors = min(errors, found.lattice.oracle(reference))
        return Listed(utterance, nbest, errors, found.density, found.best.complete, scored - start, spent)


@dataclass(frozen=True)
class Timed:
    """One utterance: first frame of each word and the frame behind its last."""

    utterance: str
    spans: Sequence[tuple[int, int]] = ()
    complete: bool = True
    error: str = ""


@dataclass(frozen=True)
class TimeTask:
    """What a worker needs in memory. sentences: the words of each utterance."""

    acoustics: Acoustics
    aligner: WordAligner
    sentences: dict[str, list[str]]

    def align(self, utterance: str) -> Timed:
        try:
            return Timed(utterance, self.aligner.spans(self.acoustics.scores(utterance), self.sentences[utterance]))
        except FAULTS as error:
            return Timed(utterance, error=f"{type(error).__name__}: {error}")


class SecondPass:
    """What the systems share: the word table and the n-grams.

    Lists over pieces of words are put together to lists over words, which are numbered as they come.
    """

    def __init__(self, decoding: Decoding, recipe: Lattice) -> None:
        self.decoding, self.recipe, self.job, self.work = decoding, recipe, decoding.job, decoding.work
        if decoding.pieces and recipe.rescore:
            raise UserError("decode.lattice.rescore: not over pieces of words; set it, or lang.tokens, to null")
        self.symbols = decoding.symbols[:1] if decoding.pieces else decoding.symbols
        self.ids = {symbol: number for number, symbol in enumerate(self.symbols)}

    def run(self, name: str, made_from: str) -> None:
        """Write decode/NAME/SPLIT.nbest, SPLIT.ctm, with another n-gram SPLIT.rescored.txt, and, last, lattice.json;
        a system of the same `made_from` stays.
        """
        folder = self.work.decode(name)
        path = folder / "lattice.json"
        if path.exists() and read_json(path).get("made_from") == made_from:
            self.job.log.info("%s: lattices made already", name)
            return
        system = self.decoding.system(name)
        scales = read_json(folder / "summary.json")["scales"]
        searched = Point(scales["lm_scale"], scales["word_penalty"])
        listed = {split: self._list(system, split, searched) for split in SPLITS}
        summary: dict[str, Any] = {"made_from": made_from, **self._figures(listed)}
        lists = {split: {u: r.nbest for u, r in found.items() if r.nbest} for split, found in listed.items()}
        if self.recipe.rescore:
            lists, summary["rescored"] = self._rescore(system, lists, searched)
        scale = tune_confidence(lists["dev"], self._references("dev"))
        told = {split: information(lists[split], self._references(split), scale) for split in SPLITS}
        summary["confidence"] = {"scale": scale, "normalised_cross_entropy": told}
        for split in SPLITS:
            write_text(folder / f"{split}.nbest", self._nbest_lines(lists[split]))
            sure = {utterance: confidences(nbest, scale) for utterance, nbest in lists[split].items()}
            write_text(folder / f"{split}.ctm", self._ctm(system, split, lists[split], sure, searched))
            if self.recipe.rescore:
                write_text(folder / f"{split}.rescored.txt", self._text(split, lists[split]))
        write_json(path, summary)

    def _list(self, system: System, split: str, searched: Point) -> dict[str, Listed]:
        acoustics, title = system.acoustics[split], f"{system.name} {split}, lattices"
        seconds, references = self.decoding.speech[split].seconds, self._references(split)
        of_words = self.decoding.pieces is None
        if self.job.tasks.remote and self.decoding.recipe.backend is None and acoustics.load:
            decoding, recipe = self.decoding, self.decoding.recipe
            width = Width(beam=recipe.beam, max_active=recipe.max_active)
            search = partial(load_searcher, decoding.graph(system.tree), decoding.beginnings, searched, width)
            load = partial(load_list_task, acoustics.load, search, self.recipe, self._grammars, references, of_words)
            listed = in_processes(load, seconds, self.job, self.job.progress, title, travels=True)
        else:
            searcher = self.decoding.lattice_searcher(system, searched)
            task = ListTask(acoustics, searcher, self.recipe.nbest, self._models, references, of_words)
            listed = self.decoding.spread(task, seconds, title)
        return {utterance: self._of_words(result, references[utterance]) for utterance, result in listed.items()}

    def _of_words(self, listed: Listed, reference: list[int]) -> Listed:
        """The list over words. Of pieces, `errors` are the fewest of any sentence listed, as far as they are known."""
        pieces, nbest, symbols = self.decoding.pieces, listed.nbest, self.decoding.symbols
        if pieces is None or nbest is None:
            return listed
        joined = [pieces.join([symbols[label] for label in sentence]) for sentence in nbest.words]
        spelled = nbest.spelled([tuple(map(self._number, words)) for words in joined])
        return replace(listed, nbest=spelled, errors=min(edits(reference, words) for words in spelled.words))

    def _number(self, word: str) -> int:
        """A word's id. One that is new gets the next where pieces spell it, 0 where the graph's words are all."""
        if self.decoding.pieces and word not in self.ids:
            self.ids[word] = len(self.symbols)
            self.symbols.append(word)
        return self.ids.get(word, 0)

    def _references(self, split: str) -> dict[str, list[int]]:
        return {u: [self._number(word) for word in words] for u, words in self.decoding.speech[split].words.items()}

    @cached_property
    def _grammars(self) -> tuple[Path, ...]:
        """The files of the graph's n-gram and, if any, of the one to take its place."""
        if not self.recipe.rescore:
            return (self.work.lang / "lm.arpa",)
        path = self.work.partial / "rescore.arpa"
        path.parent.mkdir(parents=True, exist_ok=True)
        vocabulary = frozenset(filter(is_word, self.decoding.symbols))
        rescoring_ngram(vocabulary, self.work.lm_text, self.recipe.rescore).write(path)
        return self.work.lang / "lm.arpa", path

    @cached_property
    def _models(self) -> tuple[GrammarCosts, ...]:
        return tuple(GrammarCosts(path, self.work.lang / "words.txt") for path in self._grammars)

    def _figures(self, listed: dict[str, dict[str, Listed]]) -> dict[str, Any]:
        """Oracle word error rates, and what the lists of test cost."""
        audio = max(1e-9, sum(self.decoding.speech["test"].seconds.values()))
        words = {split: sum(map(len, self.decoding.speech[split].words.values())) for split in SPLITS}
        rates = {s: sum(result.errors for result in found.values()) / max(1, words[s]) for s, found in listed.items()}
        test = listed["test"].values()
        return {
            "oracle_wer": rates,
            "sentences": float(np.mean([len(result.nbest.words) if result.nbest else 0 for result in test])),
            "states_per_frame": float(np.mean([result.density for result in test])),
            "network_rtf": sum(result.network_seconds for result in test) / audio,
            "search_rtf": sum(result.search_seconds for result in test) / audio,
        }

    def _rescore(
        self, system: System, lists: dict[str, Lists], searched: Point
    ) -> tuple[dict[str, Lists], dict[str, Any]]:
        """The lists in the order of the other n-gram, and the scales that suit it on dev."""
        recipe = self.decoding.recipe
        grid = recipe.gmm if system.name.startswith("gmm-") else recipe.network
        rates = tune_rescoring(lists["dev"], self._references("dev"), grid, searched)
        point, rate = next(iter(rates.items()))
        self.job.log.info("%s dev, rescored: WER %.4f at %s", system.name, rate, point)
        new = {s: {u: n.with_costs(n.rescored_costs(searched, point)) for u, n in lists[s].items()} for s in SPLITS}
        scales = {"lm_scale": point.lm_scale, "word_penalty": point.word_penalty}
        return new, {"scales": scales, "dev_wer": rate}

    def _words(self, sentence: Sequence[int]) -> list[str]:
        return [self.symbols[word] for word in sentence]

    def _text(self, split: str, lists: Lists) -> str:
        best = {u: self._words(lists[u].words[0]) if u in lists else [] for u in self.decoding.speech[split].words}
        return "".join(" ".join([utterance, *words]) + "\n" for utterance, words in best.items())

    def _nbest_lines(self, lists: Lists) -> str:
        """`utterance rank posterior cost lm-cost… words`, tabs between the fields, blanks between costs and words."""
        lines = []
        for utterance, nbest in lists.items():
            rows = zip(nbest.words, nbest.posteriors, nbest.costs, nbest.lm_costs, strict=True)
            for rank, (sentence, posterior, cost, lm_costs) in enumerate(rows, start=1):
                figures = " ".join(f"{value:.3f}" for value in lm_costs)
                fields = (utterance, str(rank), f"{posterior:.5f}", f"{cost:.3f}", figures)
                lines.append("\t".join([*fields, " ".join(self._words(sentence))]) + "\n")
        return "".join(lines)

    def _ctm(self, system: System, split: str, lists: Lists, sure: dict[str, list[float]], searched: Point) -> str:
        """sure: confidences of the words of each list's first sentence."""
        recipe, acoustics = self.decoding.recipe, system.acoustics[split]
        scales = (1 / searched.lm_scale, recipe.transition_scale, recipe.self_loop_scale)
        sentences = {utterance: self._words(nbest.words[0]) for utterance, nbest in lists.items()}
        described = (self.work.gmm(system.tree), self.work.lang, scales, sentences, self.decoding.pieces is not None)
        away = acoustics.load if self.job.tasks.remote else None
        load = partial(load_time_task, away or (lambda: acoustics), *described)
        seconds = {utterance: self.decoding.speech[split].seconds[utterance] for utterance in lists}
        title = f"{system.name} {split}, word times"
        timed = in_processes(load, seconds, self.job, self.job.progress, title, travels=away is not None)
        return "".join(
            ctm_lines(u, spoken_words(sentences[u], timed[u].spans, sure[u]))
            for u in sorted(lists)
            if not timed[u].error
        )


def rescoring_ngram(vocabulary: frozenset[str], lm_text: Path, recipe: NGram) -> Arpa:
    """The recipe's n-gram over `vocabulary`: trained on the LM text, or the user's ARPA file.

    UserError for an ARPA file that lacks some of the vocabulary.
    """
    if recipe.arpa is None:
        sentences = (line.split() for line in lm_text.read_text(encoding="utf-8").splitlines())
        return train_ngram(sentences, vocabulary, recipe).restrict(vocabulary.__contains__)
    arpa = Arpa.read(Path(recipe.arpa))
    if missing := sorted(vocabulary - set(arpa.words)):
        raise UserError(
            f"decode.lattice.rescore.arpa: {recipe.arpa}: {len(missing)} words of the graph are not in it "
            f"({' '.join(missing[:5])} …); name a model of the same vocabulary"
        )
    return arpa.restrict(vocabulary.__contains__)


def load_list_task(
    acoustics: Load,
    search: Callable[[], KaldiSearcher],
    recipe: Lattice,
    grammars: Sequence[Path],
    references: dict[str, list[int]],
    of_words: bool = True,
) -> Callable[[str], Listed]:
    """What makes an utterance's list, all of it from files. grammars: ARPA files, the first in the words' folder."""
    searcher = KaldiLatticeSearcher(search(), recipe.beams, recipe.keep, recipe.max_states)
    models = tuple(GrammarCosts(path, grammars[0].with_name("words.txt")) for path in grammars)
    return ListTask(acoustics(), searcher, recipe.nbest, models, references, of_words).recognise


def load_time_task(
    acoustics: Load,
    gmm: Path,
    lang: Path,
    scales: tuple[float, float, float],
    sentences: dict[str, list[str]],
    of_pieces: bool = False,
) -> Callable[[str], Timed]:
    """What finds the times of an utterance's words. scales: see WordAligner; of_pieces: the words are put together from
    pieces, so that they are pronounced by their letters and a lexicon need not have them.
    """
    if of_pieces:
        lexicon = Lexicon({word: (tuple(word),) for said in sentences.values() for word in said})
    else:
        lexicon = Lexicon.read(lang / "lexicon.txt")
    compiler = TranscriptCompiler(PhoneSet.read(lang / "phones.txt"), lexicon.entries)
    return TimeTask(acoustics(), WordAligner(Gmm.load(gmm), compiler, *scales), sentences).align
