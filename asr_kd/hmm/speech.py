"""The frames of one split as one tensor, with their utterances, speakers and transcripts."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from asr_kd import scratch
from asr_kd.features.deltas import add_deltas
from asr_kd.features.splice import splice
from asr_kd.features.store import FrameStore
from asr_kd.hmm.graphs import InOrder
from asr_kd.hmm.transcript import TranscriptGraph
from asr_kd.hmm.transforms import apply_affine


@dataclass(frozen=True)
class Speech:
    """features (N, dim) float32 of all utterances in order; starts (U + 1,) where each begins; speaker_of (U,)
    numbers into `speakers`; graphs (U,) alignment graphs of the transcripts.
    """

    utterances: list[str]
    speakers: list[str]
    speaker_of: np.ndarray
    starts: np.ndarray
    graphs: Sequence[TranscriptGraph]
    features: Tensor

    def __len__(self) -> int:
        return len(self.utterances)

    def rows(self, utterance: int) -> slice:
        return slice(int(self.starts[utterance]), int(self.starts[utterance + 1]))

    @property
    def frames(self) -> np.ndarray:
        """(U,) frames of each utterance."""
        return np.diff(self.starts)

    def subset(self, utterances: np.ndarray) -> "Speech":
        """The given utterances (numbers, in that order), with a copy of their frames."""
        index = np.concatenate([np.arange(self.starts[u], self.starts[u + 1]) for u in utterances])
        return Speech(
            [self.utterances[u] for u in utterances],
            self.speakers,
            self.speaker_of[utterances],
            np.concatenate([[0], np.cumsum(self.frames[utterances])]),
            [self.graphs[u] for u in utterances],
            self.features[torch.from_numpy(index).to(self.features.device)],
        )

    def map_utterances(self, function: Callable[[Tensor], Tensor]) -> "Speech":
        """Each utterance's (frames, dim) features put through `function`."""
        parts = (function(self.features[a:b]) for a, b in pairwise(self.starts.tolist()))
        return replace(self, features=scratch.stacked(parts, len(self.features)))

    def with_deltas(self) -> "Speech":
        return self.map_utterances(add_deltas)

    def projected(self, matrix: Tensor, context: int) -> "Speech":
        """Spliced ±context frames times `matrix` (dim, spliced): the LDA+MLLT features of Kaldi's train_lda_mllt.sh."""
        return self.map_utterances(lambda frames: splice(frames, context, context) @ matrix.T)

    def adapted(self, transforms: Tensor) -> "Speech":
        """Each speaker's affine transform (speakers, dim, dim + 1) applied to its utterances."""
        parts = (
            apply_affine(self.features[self.rows(u)], transforms[speaker]) for u, speaker in enumerate(self.speaker_of)
        )
        return replace(self, features=scratch.stacked(parts, len(self.features)))


def load_speech(
    store: FrameStore, speaker_of: dict[str, str], graphs: Mapping[str, TranscriptGraph], device: str = "cpu"
) -> Speech:
    """MFCC of the utterances that have features and a graph, speakers together. speaker_of: utterance → speaker."""
    utterances = sorted((u for u in store if u in graphs), key=lambda u: (speaker_of[u], u))
    speakers = sorted({speaker_of[u] for u in utterances})
    number = {name: i for i, name in enumerate(speakers)}
    starts = np.concatenate([[0], np.cumsum([store.frames(u) for u in utterances])])
    parts = (torch.from_numpy(np.asarray(store[u], dtype=np.float32)).to(device) for u in utterances)
    return Speech(
        utterances,
        speakers,
        np.array([number[speaker_of[u]] for u in utterances]),
        starts,
        InOrder(graphs, utterances),
        scratch.stacked(parts, int(starts[-1])),
    )
