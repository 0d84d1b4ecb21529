"""Speed of recognition on one core, network and search apart, and word error rate by the width of the beam.

    python benchmarks/decode.py EXP [--systems baseline ensemble student] [--bundle DIR] [--beams 7 9 11 13 15]
                                [--seconds 600] [--split test]

EXP is a finished experiment; its systems are searched with the scales tuned on dev, an exported bundle with float32
and with 8-bit weights. Everything hears the same utterances, drawn as for tuning. Network time is what makes scores of
stored features, search time what makes words of scores; CPU seconds a second of audio. `gmm-sat` first adapts itself to
all of dev and test, and its share of that counts.
"""

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch

from asr_kd.decode.search import KaldiSearcher, load_graph
from asr_kd.decode.systems import Decoding
from asr_kd.decode.tuning import word_error_rate
from asr_kd.deploy.bundle import load_bundle
from asr_kd.deploy.recogniser import Recogniser
from asr_kd.errors import UserError
from asr_kd.features.store import FrameStore
from asr_kd.files import read_json
from asr_kd.pipeline import Job
from asr_kd.recipe_file import load_recipe
from asr_kd.workspace import Workspace

HEADER = "| system | beam | network | search | together | WER |\n|---|---|---|---|---|---|"


@dataclass
class Searched:
    """At one beam: CPU seconds, and the words of each utterance."""

    seconds: float = 0.0
    words: dict[str, list[int]] = field(default_factory=dict)


def measure(
    scores: Callable[[str], np.ndarray], searchers: dict[float, KaldiSearcher], utterances: Sequence[str]
) -> tuple[float, dict[float, Searched]]:
    """CPU seconds of scoring, and of searching at each beam; every utterance is scored once."""
    scores(utterances[0])  # what is slow once only
    network, searched = 0.0, {beam: Searched() for beam in searchers}
    for utterance in utterances:
        start = time.process_time()
        ready = scores(utterance)
        network += time.process_time() - start
        for beam, searcher in searchers.items():
            start = time.process_time()
            searched[beam].words[utterance] = searcher.search(ready).words
            searched[beam].seconds += time.process_time() - start
    return network, searched


class Benchmark:
    """What all systems share: the experiment, the utterances and their words."""

    def __init__(self, exp: Path, split: str, seconds: float, beams: Sequence[float]) -> None:
        recipe = load_recipe(exp / "recipe.yaml")
        self.work, self.split, self.beams = Workspace(exp), split, beams
        self.decoding = Decoding(Job(recipe, self.work), [])
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
            figures = f"{scoring:.4f} | {searching:.4f} | {scoring + searching:.4f} | {rate:.2%}"
            print(f"| {name} | {beam:g} | {figures} |", flush=True)

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
    except UserError as error:
        print(f"benchmarks/decode.py: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
