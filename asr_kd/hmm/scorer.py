"""Acoustic scores of a trained GMM for the search."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import groupby

import numpy as np
import torch
from torch import Tensor

from asr_kd import scratch
from asr_kd.features.deltas import add_deltas
from asr_kd.features.splice import splice
from asr_kd.features.store import FrameStore
from asr_kd.hmm.adaptation import estimate_fmllr
from asr_kd.hmm.gmm import Gmm
from asr_kd.hmm.speech import Speech
from asr_kd.hmm.steps import Step
from asr_kd.hmm.transforms import apply_affine
from asr_kd.workspace import Workspace

_open = lru_cache(maxsize=8)(FrameStore)


@dataclass(frozen=True)
class Scorer:
    """Log-likelihoods of one GMM; `transforms` (utterance → (dim, dim + 1)) adapt the features to their speakers."""

    work: Workspace
    step: Step
    gmm: Gmm
    context: int
    min_frames: int
    transforms: dict[str, Tensor] | None = None

    @property
    def parameters(self) -> int:
        return self.gmm.parameters

    def features(self, split: str, utterance: str) -> Tensor:
        """(frames, dim) features of the step, before any speaker's transform."""
        mfcc = torch.from_numpy(np.asarray(_open(self.work.features("mfcc", split))[utterance], dtype=np.float32))
        if self.step.projection is None:
            return add_deltas(mfcc)
        return splice(mfcc, self.context, self.context) @ self.step.projection.T

    def adapted_features(self, split: str, utterance: str) -> Tensor:
        """(frames, dim) features after the speaker's transform, if there is one."""
        features = self.features(split, utterance)
        return features if self.transforms is None else apply_affine(features, self.transforms[utterance])

    def scores(self, split: str, utterance: str) -> np.ndarray:
        """(frames, num_pdfs) float32 log p(x | pdf)."""
        return self.gmm.log_likelihoods(self.adapted_features(split, utterance)).numpy()

    def adapt(self, split: str, pdf_paths: Mapping[str, np.ndarray], speakers: dict[str, str]) -> "Scorer":
        """The adapted model with fMLLR from a first pass (Kaldi's decode_fmllr.sh).

        pdf_paths: utterance → (frames,) pdfs of its best path; speakers: utterance → speaker. An utterance without a
        path is scored with its speaker's transform all the same.
        """
        store = _open(self.work.features("mfcc", split))
        ordered = sorted((u for u in speakers if u in store), key=lambda u: (speakers[u], u))
        names = [name for name, _ in groupby(ordered, key=speakers.__getitem__)]
        number = {name: i for i, name in enumerate(names)}
        starts = np.concatenate([[0], np.cumsum([store.frames(u) for u in ordered])])
        features = scratch.stacked((self.features(split, u) for u in ordered), int(starts[-1]))
        speech = Speech(
            ordered,
            names,
            np.array([number[speakers[u]] for u in ordered]),
            starts,
            [],
            features,
        )
        observed = features
        if self.transforms is not None:
            observed = scratch.stacked((self.adapted_features(split, u) for u in ordered), len(features))
        pdfs = scratch.array((len(features),), np.int64)
        for u, start, end in zip(ordered, starts, starts[1:], strict=False):
            pdfs[start:end] = pdf_paths.get(u, -1)
        found = estimate_fmllr(self.step.gmm, speech, pdfs, self.min_frames, observer=self.gmm, observed=observed)
        transforms = {u: found[number[speakers[u]]] for u in ordered}
        return replace(self, gmm=self.step.gmm, transforms=transforms)


def load_scorer(work: Workspace, step: str, context: int = 3, min_frames: int = 500) -> Scorer:
    """The scorer of a finished step; for `sat` the speaker-independent first pass, to be followed by `adapt`.

    context: frames spliced to each side for LDA; min_frames: fewer speech frames of a speaker leave him unadapted.
    """
    loaded = Step.load(work.gmm(step))
    return Scorer(work, loaded, loaded.independent or loaded.gmm, context, min_frames)
