"""The systems of an experiment, ready for the search: graphs by tree, acoustics, speaker adaptation, tuned scales."""

from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from asr_kd.checksums import checksum, seal, unseal
from asr_kd.corpora.manifest import read_cuts, words_of
from asr_kd.decode import loading
from asr_kd.decode.acoustics import Acoustics, alignment_log_prior, gmm_acoustics, kept, network_acoustics
from asr_kd.decode.batches import BatchSearcher, in_batches
from asr_kd.decode.journal import Journal
from asr_kd.decode.k2_search import K2Graph, K2LatticeSearcher, K2Searcher, import_k2
from asr_kd.decode.lattice_search import KaldiLatticeSearcher, LatticeSearcher
from asr_kd.decode.recognition import Recognition, Task, in_processes
from asr_kd.decode.search import KaldiSearcher, Searcher, read_graph, read_word_symbols
from asr_kd.decode.tuning import Point, tune, word_error_rate
from asr_kd.errors import UserError
from asr_kd.features.store import FrameStore
from asr_kd.files import read_json, write_json, write_text
from asr_kd.hmm.gmm import Gmm
from asr_kd.hmm.scorer import Scorer
from asr_kd.hmm.scorer import load_scorer as load_gmm
from asr_kd.hmm.variants import variant_probabilities
from asr_kd.lang.pieces import MARK, Pieces
from asr_kd.nn.products import threads
from asr_kd.recipe import Width
from asr_kd.wfst.build import WordGraph, build_graph, build_word_graph
from asr_kd.wfst.epsilon_free import without_epsilons
from asr_kd.workspace import LAST_TREE, Workspace

if TYPE_CHECKING:
    from asr_kd.pipeline import Job

SPLITS = ("dev", "test")
SUMMARY = "summary.json"
ADAPTATIONS = 2  # Kaldi's decode_fmllr.sh estimates transforms twice


@dataclass(frozen=True)
class Speech:
    """What is known of a split, by utterance: seconds, reference words, speaker."""

    seconds: dict[str, float]
    words: dict[str, list[str]]
    speakers: dict[str, str]

    @staticmethod
    def load(work: Workspace, split: str) -> "Speech":
        speech = Speech({}, {}, {})
        for cut in read_cuts(work.manifest(split)):
            speech.seconds[cut.id], speech.words[cut.id] = cut.duration, words_of(cut)
            speech.speakers[cut.id] = cut.supervisions[0].speaker
        return speech

    def sample(self, seconds: float, seed: int) -> dict[str, float]:
        """At least `seconds` of utterances, drawn without regard to speaker; all of them where there are no more."""
        names = np.random.default_rng([seed, 7]).permutation(sorted(self.seconds))
        before = np.cumsum([0.0, *(self.seconds[name] for name in names[:-1])])
        return {name: self.seconds[name] for name in names[before < seconds].tolist()}


@dataclass(frozen=True)
class System:
    """A system ready for the search: acoustics by split, its tree, and CPU seconds of adapting to the test speakers."""

    name: str
    tree: str
    num_pdfs: int
    parameters: int
    acoustics: dict[str, Acoustics]
    adapting: tuple[float, float] = (0.0, 0.0)


class Decoding:
    """What the systems share: the recipe, the speech, the symbols and L ∘ G.

    graph_inputs: fingerprints of what graphs are made from (language and alignment).
    """

    def __init__(self, job: "Job", graph_inputs: list[str]) -> None:
        self.job, self.work, self.recipe, self.graph_inputs = job, job.work, job.recipe.decode, graph_inputs
        self.speech = {split: Speech.load(job.work, split) for split in SPLITS}
        self.symbols = read_word_symbols(job.work.lang / "words.txt")
        self.pieces = Pieces.of(job.work.lang, self.symbols)
        marked = [label for label, symbol in enumerate(self.symbols) if symbol.startswith(MARK)]
        self.beginnings = marked if self.pieces else None
        self._loaded: System | None = None
        self._k2: tuple[tuple[Path, float], K2Graph] | None = None

    def decode(self, name: str, made_from: str) -> None:
        """Write decode/NAME/dev.txt, test.txt and, last, summary.json; a system of the same `made_from` stays."""
        folder = self.work.decode(name)
        if is_decoded(folder, made_from):
            self.job.log.info("%s: decoded already", name)
            return
        if folder.is_symlink():  # to what another experiment made, and has to mend
            folder.unlink()
        system = self.system(name)
        grid = self.tune(system)
        best = next(iter(grid))
        results = {split: self.search(f"{name} {split}", system, split, best) for split in SPLITS}
        for split, result in results.items():
            lines = [" ".join([utterance, *words]) + "\n" for utterance, words in self.words(result).items()]
            write_text(folder / f"{split}.txt", "".join(lines))
        recorded = {"made_from": made_from, "checksums": _checksums(folder)}
        write_json(folder / SUMMARY, {**recorded, **self.summary(system, grid, results)})

    def words(self, result: Recognition) -> dict[str, list[str]]:
        """The words of each utterance, put together where the graph's tokens are pieces of words."""
        found = result.words(self.symbols)
        return {utterance: self.pieces.join(tokens) for utterance, tokens in found.items()} if self.pieces else found

    def system(self, name: str) -> System:
        """gmm-STEP, baseline (member 0), ensemble, specialists or student; the last one asked for stays loaded."""
        if self._loaded is None or self._loaded.name != name:
            self._loaded = self._load(name)
        return self._loaded

    def _load(self, name: str) -> System:
        if name.startswith("gmm-"):
            return self._load_gmm(name, name.removeprefix("gmm-"))
        scorer = loading.load_networks(self.work, self.job.recipe, name)
        acoustics = {}
        for split in SPLITS:
            load = partial(loading.load_network_acoustics, self.work, self.job.recipe, name, split)
            acoustics[split] = network_acoustics(scorer, split, self.recipe.prior_scale, load)
        reads_adapted = scorer.ensemble.network.input != "fbank"
        network, search = read_json(self.work.adapting_seconds) if reads_adapted else (0.0, 0.0)
        return System(name, LAST_TREE, len(scorer.log_prior), scorer.parameters, acoustics, (network, search))

    def _load_gmm(self, name: str, step: str) -> System:
        hmm = self.job.recipe.hmm
        scorer = load_gmm(self.work, step, hmm.lda_context, hmm.fmllr_min_frames)
        log_prior = alignment_log_prior(self.work) if step == LAST_TREE else None
        acoustics = {split: self._gmm_acoustics(scorer, step, split, log_prior) for split in SPLITS}
        system = System(name, step, scorer.gmm.tree.num_pdfs, scorer.parameters, acoustics)
        if step != "sat":
            return system
        adapted, seconds = {}, np.zeros(2)
        for split in SPLITS:
            adapting, spent = self.adapted(scorer, split)
            adapted[split] = self._gmm_acoustics(adapting, step, split, log_prior)
            if split == "test":
                seconds += spent
        return replace(system, acoustics=adapted, adapting=(float(seconds[0]), float(seconds[1])))

    def _gmm_acoustics(self, scorer: Scorer, step: str, split: str, log_prior: np.ndarray | None) -> Acoustics:
        """Those of a step's scorer, whose transforms other machines find in a file."""
        path = None
        if self.job.tasks.remote and scorer.transforms is not None:
            path = loading.save_transforms(self.work.partial / "transforms", scorer.transforms)
        described = (self.work, self.job.recipe, step, split, log_prior is not None, path)
        return gmm_acoustics(scorer, split, log_prior, partial(loading.load_gmm_acoustics, *described))

    def adapted(self, scorer: Scorer, split: str) -> tuple[Scorer, np.ndarray]:
        """The speaker-adapted model with transforms from what narrow searches of `split` recognise, and the CPU
        seconds of scoring and searching that they took, (2,).
        """
        speech, seconds = self.speech[split], np.zeros(2)
        whose = {utterance: utterance for utterance in speech.speakers} if self.recipe.adapt else speech.speakers
        for number in range(1, ADAPTATIONS + 1):
            title = f"gmm-sat {split}, adaptation {number}"
            acoustics = self._gmm_acoustics(scorer, LAST_TREE, split, None)
            width = self.recipe.first_pass
            result = self._recognise(title, LAST_TREE, acoustics, speech.seconds, self._start, width, paths=True)
            with threads(1):  # many small products: a second thread costs more than it brings
                scorer = scorer.adapt(split, result.pdf_paths(), whose)
            seconds += result.network_seconds, result.search_seconds
        return scorer, seconds

    def tune(self, system: System) -> dict[Point, float]:
        """Dev word error rates by point, the best first, of narrow searches of `tuning_seconds` of dev."""
        scales = self.recipe.gmm if system.name.startswith("gmm-") else self.recipe.network
        dev, coarse, seed = self.speech["dev"], self.recipe.coarse_seconds, self.job.recipe.seed
        utterances, sampled = dev.sample(self.recipe.tuning_seconds, seed), None
        store = FrameStore(self.work.features("mfcc", "dev"))
        frames = {utterance: store.frames(utterance) for utterance in utterances if utterance in store}
        system = replace(system, acoustics={"dev": kept(system.acoustics["dev"], frames, system.num_pdfs)})
        if coarse and 2 * coarse < sum(utterances.values()):
            sampled = partial(self._error_rate, system, dev.sample(coarse, seed))
        return tune(scales, self._start.lm_scale, partial(self._error_rate, system, utterances), sampled)

    def _error_rate(self, system: System, utterances: dict[str, float], point: Point) -> float:
        """Of the narrow search of some of dev; utterances: seconds of each."""
        title = f"{system.name} dev, lm_scale {point.lm_scale:g}, word_penalty {point.word_penalty:g}"
        acoustics, width = system.acoustics["dev"], self.recipe.first_pass
        result = self._recognise(title, system.tree, acoustics, utterances, point, width)
        references = {utterance: self.speech["dev"].words[utterance] for utterance in utterances}
        rate = word_error_rate(references, self.words(result))
        self.job.log.info("%s: WER %.4f on %d s", title, rate, sum(utterances.values()))
        return rate

    def search(self, title: str, system: System, split: str, point: Point) -> Recognition:
        """A whole split at the full width, with frame accuracy where the system's states are the alignment's."""
        width = Width(beam=self.recipe.beam, max_active=self.recipe.max_active)
        acoustics, utterances = system.acoustics[split], self.speech[split].seconds
        return self._recognise(title, system.tree, acoustics, utterances, point, width, self.work.alignment(split))

    def summary(self, system: System, grid: dict[Point, float], results: dict[str, Recognition]) -> dict[str, Any]:
        """What docs/architecture.md lists; the real-time factors are CPU seconds a second of test audio."""
        audio = max(1e-9, sum(self.speech["test"].seconds.values()))
        network = (results["test"].network_seconds + system.adapting[0]) / audio
        search = (results["test"].search_seconds + system.adapting[1]) / audio
        rows = [{"lm_scale": p.lm_scale, "word_penalty": p.word_penalty, "dev_wer": rate} for p, rate in grid.items()]
        return {
            "parameters": system.parameters,
            "frame_accuracy": {split: result.frame_accuracy for split, result in results.items()},
            "scales": {key: rows[0][key] for key in ("lm_scale", "word_penalty")},
            "rtf": network + search,
            "network_rtf": network,
            "search_rtf": search,
            "grid": sorted(rows, key=lambda row: (row["lm_scale"], row["word_penalty"])),
        }

    def _recognise(
        self,
        title: str,
        tree: str,
        acoustics: Acoustics,
        utterances: dict[str, float],
        point: Point,
        width: Width,
        alignment: Path | None = None,
        paths: bool = False,
    ) -> Recognition:
        scales = [point.lm_scale, point.word_penalty, width.model_dump()]
        journal = Journal(self.work.partial, [title, tree, *scales, self._origin, sorted(utterances)])
        found: dict[str, Any] = dict(journal.read())
        left = {name: seconds for name, seconds in utterances.items() if name not in found}
        if left and self.job.tasks.remote and self.recipe.backend is None and acoustics.load:
            searched = (self.graph(tree), self.beginnings, point, width, alignment, paths)
            load = partial(loading.load_search, acoustics.load, *searched)
            progress = journal.recorded(self.job.progress)
            found |= in_processes(load, left, self.job, progress, title, travels=True)
        elif left:
            searcher = self._searcher(tree, point, width)
            task = Task(acoustics, searcher, FrameStore(alignment) if alignment else None, paths)
            found |= self.spread(task, left, title, journal)
        return Recognition({name: found[name] for name in utterances})

    def spread(
        self, task: Any, utterances: dict[str, float], title: str, journal: Journal | None = None
    ) -> dict[str, Any]:
        """What task.recognise returns for each utterance, in batches where its searcher takes them, or in processes."""
        progress = journal.recorded(self.job.progress) if journal else self.job.progress
        if isinstance(task.searcher, BatchSearcher):
            return in_batches(task, task.searcher, utterances, progress, title)
        return in_processes(lambda: task.recognise, utterances, self.job, progress, title)

    def _searcher(self, tree: str, point: Point, width: Width) -> Searcher:
        scale, penalty = 1 / point.lm_scale, point.word_penalty
        if self.recipe.backend == "k2":
            return K2Searcher(self._k2_graph(tree, penalty), scale, width.beam, width.max_active)
        return loading.load_searcher(self.graph(tree), self.beginnings, point, width)

    def lattice_searcher(self, system: System, point: Point) -> LatticeSearcher:
        """At the full width beside the lattice's own; see asr_kd.decode.lattices."""
        assert self.recipe.lattice is not None
        width, lattice = Width(beam=self.recipe.beam, max_active=self.recipe.max_active), self.recipe.lattice
        one_best = self._searcher(system.tree, point, width)
        if isinstance(one_best, KaldiSearcher):
            return KaldiLatticeSearcher(one_best, lattice.beams, lattice.keep, lattice.max_states)
        assert isinstance(one_best, K2Searcher)
        return K2LatticeSearcher(one_best, lattice.keep)

    def _k2_graph(self, tree: str, word_penalty: float) -> K2Graph:
        """Made anew only for another graph or penalty, for that takes longer than a search."""
        import_k2()  # before minutes go into a graph for it
        path = self.graph(tree)
        if self._k2 is None or self._k2[0] != (path, word_penalty):
            graph = without_epsilons(read_graph(path, word_penalty, self.beginnings))
            self._k2 = (path, word_penalty), K2Graph(graph, self.job.device)
        return self._k2[1]

    def graph(self, tree: str) -> Path:
        """graph/TREE/HCLG.fst, built unless it is there for the same lexicon, LM, tree and graph scales."""
        path, stats = self.work.graph(tree) / "HCLG.fst", self.work.graph(tree) / "stats.json"
        recipe = self.recipe
        scales = (recipe.transition_scale, recipe.self_loop_scale)
        made_from = [*self.graph_inputs, *scales, recipe.silence_probability]
        if recipe.pronunciation_probabilities:
            made_from.append("pronunciation_probabilities")
        if not (path.exists() and stats.exists() and read_json(stats)["made_from"] == made_from):
            unseal(path.parent)
            gmm = Gmm.load(self.work.gmm(tree))
            graph, figures = build_graph(self._word_graph, gmm.tree.pdfs, gmm.log_transitions, *scales)
            graph.write(path)
            write_json(stats, {**figures, "bytes": path.stat().st_size, "made_from": made_from})
            seal(path.parent)
        return path

    @cached_property
    def _word_graph(self) -> WordGraph:
        probabilities = variant_probabilities(self.work) if self.recipe.pronunciation_probabilities else None
        return build_word_graph(self.work.lang, self.recipe.silence_probability, probabilities)

    @cached_property
    def _origin(self) -> str:
        """Of all that any system's results depend on."""
        from asr_kd.pipeline import fingerprint

        return fingerprint(self.job.recipe, "decode")

    @property
    def _start(self) -> Point:
        return Point(1 / self.recipe.acoustic_scale, 0.0)


def is_decoded(folder: Path, made_from: str) -> bool:
    """Whether a system of the same `made_from` is there with the hypotheses that its summary.json was written for.

    Releases that recorded no checksums are taken at their word where the files are there.
    """
    try:
        summary = read_json(folder / SUMMARY)
        found = _checksums(folder)
    except (UserError, OSError):  # missing or damaged
        return False
    if not isinstance(summary, dict) or summary.get("made_from") != made_from:
        return False
    return bool(summary.get("checksums", found) == found)


def _checksums(folder: Path) -> dict[str, str]:
    """Of a system's hypotheses, by file."""
    return {f"{split}.txt": checksum(folder / f"{split}.txt") for split in SPLITS}
