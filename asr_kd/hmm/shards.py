"""Alignment in shards of consecutive utterances, each a task of its own, for machines that share the experiment.

Features, graphs and model lie in files: the features in one, from which every utterance's rows begin at the same place
within a cache line as in memory, for products with rows that lie otherwise may end in other last bits.
"""

import shutil
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count, pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch

from asr_kd import scratch
from asr_kd.executors.contract import Progress, Work
from asr_kd.files import atomic_path
from asr_kd.hmm.aligner import Alignment, align_speech, aligned_by
from asr_kd.hmm.gmm import Gmm
from asr_kd.hmm.graphs import PackedGraphs
from asr_kd.hmm.speech import Speech

if TYPE_CHECKING:
    from asr_kd.pipeline import Job

SHARD_FRAMES = 60_000  # ten minutes
Span = tuple[int, int, int]  # number of the shard, its first utterance, the one behind its last
Loaded = tuple[Gmm, np.ndarray, np.ndarray, PackedGraphs]


@dataclass(frozen=True)
class AlignmentShards(Work):
    """One pass. model: folder of its GMM, which gets the shards' alignments; speech: of features and graphs."""

    model: Path
    features: Path
    speech: Path
    boost_silence: float
    jobs: int
    title = "shards of the alignment"

    @property
    def here(self) -> Literal["turns"]:
        return "turns"

    def name(self, item: Span) -> str:
        return f"{self.model.name}-{item[0]:04d}"

    def load(self) -> Loaded:
        features = np.load(self.features, mmap_mode="c", allow_pickle=False)
        starts = np.load(self.speech / "starts.npy", allow_pickle=False)
        return Gmm.load(self.model), features, starts, PackedGraphs.load(self.speech / "graphs.npz")

    def do(self, loaded: Loaded, item: Span, progress: Progress) -> list[float]:
        """The utterances' scores; (2, frames) codes and words go to a file."""
        torch.set_num_threads(1)  # batches of utterances run in threads of their own
        (gmm, features, starts, graphs), (number, first, end) = loaded, item
        names = [str(utterance) for utterance in range(first, end)]
        speakers = np.zeros(len(names), np.int64)
        rows = torch.from_numpy(features[starts[first] : starts[end]])
        cut = starts[first : end + 1] - starts[first]
        part = Speech(names, [""], speakers, cut, [graphs[name] for name in names], rows)
        with aligned_by(None):
            found = align_speech(gmm, part, self.boost_silence, self.jobs)
        save_array(shard_path(self.model, number), np.stack([found.codes, found.words]))
        return [float(score) for score in found.scores]


def shard_path(model: Path, number: int) -> Path:
    return model / f"shard-{number:04d}.npy"


def save_array(path: Path, array: np.ndarray) -> None:
    with atomic_path(path, durable=False) as temporary, temporary.open("wb") as file:
        np.save(file, array, allow_pickle=False)


def spans(starts: np.ndarray) -> list[Span]:
    """Consecutive utterances of about SHARD_FRAMES frames; starts (U + 1,)."""
    firsts = np.searchsorted(starts, np.arange(0, max(int(starts[-1]), 1), SHARD_FRAMES))
    bounds = [*np.unique(firsts[firsts < len(starts) - 1]).tolist(), len(starts) - 1]
    return [(number, *pair) for number, pair in enumerate(pairwise(bounds))]


class Elsewhere:
    """Aligns by the tasks of a job; what it writes for them lies in its experiment's `.partial`."""

    def __init__(self, job: "Job") -> None:
        self._job, self._folder, self._numbers = job, job.work.partial / "align", count()
        self._features: Any = lambda: None
        self._graphs: tuple[Any, Any] = None, None
        self._paths = self._folder, self._folder

    def __call__(self, gmm: Gmm, speech: Speech, boost_silence: float) -> Alignment:
        features, described = self._write(speech)
        model = self._folder / f"pass-{next(self._numbers):03d}"
        gmm.save(model)
        work = AlignmentShards(model, features, described, boost_silence, self._job.as_task().jobs)
        codes, words = (scratch.array((int(speech.starts[-1]),), np.int64) for _ in range(2))
        scores, shards = np.full(len(speech), np.nan), spans(speech.starts)
        for (number, first, end), found in zip(shards, self._job.spread(work, shards), strict=True):
            rows = slice(int(speech.starts[first]), int(speech.starts[end]))
            codes[rows], words[rows] = np.load(shard_path(model, number), allow_pickle=False)
            scores[first:end] = found
        shutil.rmtree(model)
        return Alignment(codes, words, scores)

    def _write(self, speech: Speech) -> tuple[Path, Path]:
        """Files of the features and of the graphs; those of the last call serve again where they are the same."""
        features, described = self._paths
        if self._features() is not speech.features:
            if features.is_file():
                features.unlink()
            features = self._folder / f"features-{next(self._numbers):03d}.npy"
            save_array(features, speech.features.numpy())
            self._features = weakref.ref(speech.features)
        graphs, starts = self._graphs
        if graphs is not speech.graphs or starts is not speech.starts:
            described = self._folder / f"graphs-{next(self._numbers):03d}"
            save_array(described / "starts.npy", speech.starts)
            packed = PackedGraphs((str(number), graph) for number, graph in enumerate(speech.graphs))
            packed.save(described / "graphs.npz")
            self._graphs = speech.graphs, speech.starts
        self._paths = features, described
        return self._paths


@contextmanager
def alignment_spread(job: "Job") -> Iterator[None]:
    """Within, GMMs align by tasks, if the job's run in other processes and its frames are not on an accelerator."""
    if not job.tasks.remote or job.device != "cpu":
        yield
        return
    with aligned_by(Elsewhere(job)):
        yield
