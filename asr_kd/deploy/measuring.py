"""What ships, measured: the test split recognised by a bundle itself, with float32 and with 8-bit weights."""

import time
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from asr_kd.decode.recognition import FAULTS, in_processes
from asr_kd.decode.systems import Speech
from asr_kd.deploy.bundle import load_bundle
from asr_kd.deploy.export import write_about
from asr_kd.deploy.network import Network
from asr_kd.deploy.recogniser import Recogniser
from asr_kd.features.store import FrameStore
from asr_kd.pipeline import Job
from asr_kd.recipe_file import load_recipe
from asr_kd.score.wer import word_errors
from asr_kd.workspace import Workspace

SPLIT = "test"


@dataclass(frozen=True)
class Heard:
    """One utterance: its words, none when it failed, and CPU seconds."""

    utterance: str
    words: tuple[str, ...] = ()
    complete: bool = True
    network_seconds: float = 0.0
    search_seconds: float = 0.0
    error: str = ""


@dataclass(frozen=True)
class HearTask:
    """What a worker needs in memory. store: the split's normalised filterbanks, which the experiment's search reads."""

    recogniser: Recogniser
    store: FrameStore

    def recognise(self, utterance: str) -> Heard:
        """Score and search; an error is part of the result."""
        recogniser, network = self.recogniser, self._network
        try:
            start = time.process_time()
            scores = recogniser.scores(network.log_posteriors(self.store[utterance]))
            scored = time.process_time()
            search = recogniser.graph.start()
            search.advance(scores)
            path = search.best_path()
            words = recogniser.text(path).split()
            searched = time.process_time()
            if not len(path.pdfs):
                raise ValueError("no path survived the beam")
        except FAULTS as error:
            return Heard(utterance, error=f"{type(error).__name__}: {error}")
        return Heard(utterance, tuple(words), path.complete, scored - start, searched - scored)

    @cached_property
    def _network(self) -> Network:
        """The network after its first frame: making its session is no part of its speed."""
        network = self.recogniser.network
        network.log_posteriors(np.zeros((1, self.recogniser.bundle.filterbank.num_bins), np.float32))
        return network


def measure(work: Workspace, root: Path, jobs: int = 1) -> dict[str, dict[str, Any]]:
    """Recognise test with the bundle at `root`, which was exported from `work`, at the bundle's own beam.

    Writes what docs/formats.md has as `measured.bundle` into its bundle.json and model card, and returns it: `float32`
    and `int8`. Utterances that fail count as empty. UserError where the manifest or the features of test are missing,
    or the bundle is damaged.
    """
    bundle, job = load_bundle(root), Job(load_recipe(work.root / "recipe.yaml"), work, jobs=jobs)
    speech, store, loaded = Speech.load(work, SPLIT), FrameStore(work.features("fbank", SPLIT)), Recogniser.load(bundle)
    networks = {"float32": loaded.network, "int8": bundle.network(int8=True)}
    figures = {
        weights: _figures(HearTask(replace(loaded, network=network), store), speech, job, f"{SPLIT}, {weights}")
        for weights, network in networks.items()
    }
    write_about(root, {**bundle.about, "measured": {**bundle.about["measured"], "bundle": figures}})
    return figures


def _figures(task: HearTask, speech: Speech, job: Job, title: str) -> dict[str, Any]:
    """Word errors, failed utterances, and CPU seconds a second of speech."""
    heard = in_processes(lambda: task.recognise, speech.seconds, job, job.progress, title)
    words = {utterance: list(result.words) for utterance, result in heard.items()}
    audio = max(1e-9, sum(speech.seconds.values()))
    return {
        **word_errors(speech.words, words, job.recipe.score.bootstrap_samples, job.recipe.seed),
        "failed": sum(bool(result.error) for result in heard.values()),
        "network_rtf": sum(result.network_seconds for result in heard.values()) / audio,
        "search_rtf": sum(result.search_seconds for result in heard.values()) / audio,
    }
