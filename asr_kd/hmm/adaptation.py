"""fMLLR: one affine transform of the features per speaker, from an alignment (Kaldi's gmm-est-fmllr-gpost)."""

import numpy as np
import torch
from torch import Tensor

from asr_kd import scratch
from asr_kd.hmm.frames import segments_by_pdf
from asr_kd.hmm.gmm import Gmm, augment
from asr_kd.hmm.speech import Speech
from asr_kd.hmm.training import speech_pdfs
from asr_kd.hmm.transforms import FmllrStats

BLOCK_FRAMES = 25_000


def estimate_fmllr(
    gmm: Gmm,
    speech: Speech,
    pdfs: np.ndarray,
    min_frames: int,
    observer: Gmm | None = None,
    observed: Tensor | None = None,
) -> Tensor:
    """Transforms (speakers, dim, dim + 1) that fit `speech` to `gmm`; silence and noise are left out.

    pdfs (N,): aligned pdf of each frame, −1 for none. Gaussian posteriors come from `observer` (default `gmm`; the
    speaker-independent twin has the same Gaussians) on `observed` (N, dim) features (default the speech's own).
    """
    observer = gmm if observer is None else observer
    observed = speech.features if observed is None else observed
    counted = np.append(speech_pdfs(gmm.tree), False)  # the last is asked for by −1
    stats = FmllrStats(len(speech.speakers), speech.features.shape[1], speech.features.device)
    blocks = [(some, int(speech.starts[some.start]), int(speech.starts[some.stop])) for some in _blocks(speech)]
    room = scratch.tensor((2, max(end - first for _, first, end in blocks), speech.features.shape[1]), speech.features)
    for utterances, first, end in blocks:
        precisions, targets = room[:, : end - first].zero_()
        occupancies = torch.zeros_like(precisions[:, 0])
        for pdf, rows in segments_by_pdf(np.where(counted[pdfs[first:end]], pdfs[first:end], -1)):
            index = torch.from_numpy(rows).to(precisions.device)
            posteriors, _ = observer.posteriors(augment(observed[first:end][index]), pdf)
            own = gmm.gaussians(pdf)
            precision = 1.0 / gmm.variances[own]
            precisions[index] = posteriors @ precision
            targets[index] = posteriors @ (gmm.means[own] * precision)
            occupancies[index] = 1.0
        here = np.repeat(speech.speaker_of[utterances], speech.frames[utterances])
        for speaker in np.unique(here):
            a, b = np.searchsorted(here, (speaker, speaker + 1))
            frames = speech.features[first:end][a:b]
            stats.add(int(speaker), precisions[a:b], targets[a:b], frames, occupancies[a:b])
    return stats.estimate(min_frames)


def _blocks(speech: Speech) -> list[slice]:
    """Utterances of about BLOCK_FRAMES frames together (a speaker may continue in the next block)."""
    blocks, first = [], 0
    for utterance, end in enumerate(speech.starts[1:].tolist()):
        if end - speech.starts[first] > BLOCK_FRAMES and utterance > first:
            blocks.append(slice(first, utterance))
            first = utterance
    return [*blocks, slice(first, len(speech))]
