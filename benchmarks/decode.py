"""Speed of recognition on one core, network and search apart, and word error rate by the width of the beam.

    python benchmarks/decode.py EXP [--systems baseline ensemble student] [--bundle DIR] [--beams 7 9 11 13 15]
                                [--seconds 600] [--split test]

EXP is a finished experiment; its systems are searched with the scales tuned on dev, an exported bundle with float32
and with 8-bit weights. Everything hears the same utterances, drawn as for tuning. Network time is what makes scores of
stored features, search time what makes words of scores; CPU seconds a second of audio. `gmm-sat` first adapts itself to
all of dev and test, and its share of that counts. Utterances of which no path survives the beam have no words and
count as failed. In the end: the student's real-time factor at the narrowest beam whose word error rate is at most 0.2 %
absolute above its best, and the ensemble's network time over that of the student with 8-bit weights.
"""

import argparse
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch

from asr_kd.decode.search import KaldiSearcher, Searcher, load_graph
from asr_kd.decode.systems import Decoding
from asr_kd.decode.tuning import word_error_rate
from asr_kd.deploy.bundle import load_bundle
from asr_kd.deploy.recogniser import Recogniser
from asr_kd.errors import UserError
from asr_kd.features.store import FrameStore
from asr_kd.files import read_json
from asr_kd.pipeline import Job, fingerprint
from asr_kd.recipe_file import load_recipe
from asr_kd.workspace import Workspace

HEADER = "| system | beam | network | search | together | WER | failed |\n" + "|---" * 7 + "|"
BAR = 0.15  # real-time factor that the student has to keep within
TOLERANCE = 0.002  # of the word error rate, absolute
STUDENT, INT8 = "student", "student, exported, int8"


@dataclass
class Searched:
    """At one beam: CPU seconds, the words of each utterance, and how many utterances had no path."""

    seconds: float = 0.0
    words: dict[str, list[int]] = field(default_factory=dict)
    failed: int = 0


@dataclass(frozen=True)
class Row:
    """A system at a beam: CPU seconds a second of audio, word error rate as a fraction, utterances without a path."""

    system: str
    beam: float
    network: float
    search: float
    wer: float
    failed: int = 0

    @property
    def together(self) -> float:
        return self.network + self.search

    def __str__(self) -> str:
        figures = f"{self.network:.4f} | {self.search:.4f} | {self.together:.4f} | {self.wer:.2%} | {self.failed}"
        return f"| {self.system} | {self.beam:g} | {figures} |"


def summary(rows: Sequence[Row]) -> Iterator[str]:
    """Lines on what was measured: the student's speed where its words are as good as they get, and that of its network
    beside the ensemble's.
    """
    systems: dict[str, list[Row]] = {}
    for row in rows:
        systems.setdefault(row.system, []).append(row)
    for name, measured in systems.items():
        if name.split(",")[0] == STUDENT:
            bound = min(row.wer for row in measured) + TOLERANCE + 1e-9  # a difference of exactly 0.2 is within
            chosen = min((row for row in measured if row.wer <= bound), key=lambda row: row.beam)
            yield (
                f"{name}: real-time factor {chosen.together:.3f} at beam {chosen.beam:g} "
                f"(WER {chosen.wer:.2%}), the bar is {BAR:g}"
            )
    if "ensemble" in systems and INT8 in systems:
        ratio = systems["ensemble"][0].network / systems[INT8][0].network
        yield f"network time of the ensemble: {ratio:.1f} times that of the student with 8-bit weights"


def measure(
    scores: Callable[[str], np.ndarray], searchers: Mapping[float, Searcher], utterances: Sequence[str]
) -> tuple[float, dict[float, Searched]]:
    """CPU seconds of scoring, and of searching at each beam; every utterance is scored once."""
    scores(utterances[0])  # what is slow once only
    network, searched = 0.0, {beam: Searched() for beam in searchers}
    for utterance in utterances:
        start = time.process_time()
        ready = scores(utterance)
        network += time.process_time() - start
        for beam, searcher in searchers.items():
            searched[beam].words[utterance] = []
            start = time.process_time()
            try:
                searched[beam].words[utterance] = searcher.search(ready).words
            except ValueError:  # no path survived the beam
                searched[beam].failed += 1
            searched[beam].seconds += time.process_time() - start
    return network, searched


class Benchmark:
    """What all systems share: the experiment, the utterances and their words."""

    def __init__(self, exp: Path, split: str, seconds: float, beams: Sequence[float]) -> None:
        recipe = load_recipe(exp / "recipe.yaml")
        self.work, self.split, self.beams = Workspace(exp), split, beams
        self.rows: list[Row] = []
        # As stage 7 has it, or adapting gmm-sat would make the graph again in the experiment.
        inputs = [fingerprint(recipe, stage) for stage in ("lang", "align")]
        self.decoding = Decoding(Job(recipe, self.work), inputs)
        speech = self.decoding.speech[split]
        self.utterances = speech.sample(seconds, recipe.seed)
        self.audio, self.all_audio = sum(self.utterances.values()), sum(speech.seconds.values())
        self.references = {utterance: speech.words[utterance] for utterance in self.utterances}

    def system(self, name: str) -> None:
        scales = read_json(self.work.decode(name) / "summary.json")["scales"]
        system = self.decoding.system(name)
        path = self.work.graph(system.tree) / "HCLG.fst"
        graph, recipe = load_graph(path, scales["word_penalty"], self.decoding.beginnings), self.decoding.recipe
        searchers = {b: KaldiSearcher(graph, 1 / scales["lm_scale"], b, recipe.max_active) for b in self.beams}
        network, searched = measure(system.acoustics[self.split].scores, searchers, list(self.utterances))
        self.report(name, network, searched, system.adapting)

    def bundle(self, root: Path, int8: bool) -> None:
        recogniser = Recogniser.load(load_bundle(root), int8)
        graph, store = recogniser.graph, FrameStore(self.work.features("fbank", self.split))
        searchers = {b: KaldiSearcher(graph.fst, graph.acoustic_scale, b, graph.max_active) for b in self.beams}

        def scores(utterance: str) -> np.ndarray:
            return recogniser.scores(recogniser.network.log_posteriors(store[utterance]))

        network, searched = measure(scores, searchers, list(self.utterances))
        name = recogniser.bundle.about["system"]
        self.report(f"{name}, exported, {'int8' if int8 else 'float32'}", network, searched)

    def report(
        self, name: str, network: float, searched: dict[float, Searched], adapting: tuple[float, float] = (0.0, 0.0)
    ) -> None:
        """A row for each beam; adapting: seconds of scoring and searching that the whole split's adaptation took."""
        scoring = network / self.audio + adapting[0] / self.all_audio
        for beam, found in searched.items():
            searching = found.seconds / self.audio + adapting[1] / self.all_audio
            rate = word_error_rate(self.references, {u: self._words(words) for u, words in found.words.items()})
            self.rows.append(Row(name, beam, scoring, searching, rate, found.failed))
            print(self.rows[-1], flush=True)

    def _words(self, labels: Sequence[int]) -> list[str]:
        symbols = [self.decoding.symbols[label] for label in labels]
        return self.decoding.pieces.join(symbols) if self.decoding.pieces else symbols


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("exp", type=Path)
    parser.add_argument("--systems", nargs="*", default=["baseline", "ensemble", "student"])
    parser.add_argument("--bundle", type=Path)
    parser.add_argument("--beams", nargs="+", type=float, default=[7.0, 9.0, 11.0, 13.0, 15.0])
    parser.add_argument("--seconds", type=float, default=600.0)
    parser.add_argument("--split", choices=["dev", "test"], default="test")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    try:
        benchmark = Benchmark(arguments.exp, arguments.split, arguments.seconds, arguments.beams)
        print(f"{len(benchmark.utterances)} utterances, {benchmark.audio:.0f} s of {arguments.split}\n\n{HEADER}")
        for name in arguments.systems:
            benchmark.system(name)
        for int8 in (False, True) if arguments.bundle else ():
            benchmark.bundle(arguments.bundle, int8)
        print("", *summary(benchmark.rows), sep="\n")
    except UserError as error:
        print(f"benchmarks/decode.py: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
