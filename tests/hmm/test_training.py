"""Training and adaptation on speech drawn from a known model."""

import numpy as np
import torch
from rich.console import Console
from toy import compiler, mono_tree, random_gmm

from asr_kd.hmm.adaptation import estimate_fmllr
from asr_kd.hmm.aligner import Alignment, align_speech
from asr_kd.hmm.gmm import Gmm
from asr_kd.hmm.show import describe
from asr_kd.hmm.speech import Speech
from asr_kd.hmm.steps import Step, flat_start
from asr_kd.hmm.training import Trainer, frame_pdfs, initial_gmm
from asr_kd.hmm.transcript import flat_path
from asr_kd.recipe import GmmStep

SENTENCES = [["bat"], ["a", "tab"], ["tab", "bat"], ["bat", "a", "tab"]]


def drawn_speech(gmm: Gmm, copies: int = 10) -> tuple[Speech, np.ndarray]:
    """Utterances whose frames are drawn from `gmm` along a random path; the speech and each frame's true pdf."""
    rng = np.random.default_rng(0)
    graphs = [compiler().compile(words) for words in SENTENCES * copies]
    paths = [rng.integers(2, 6) * len(graph) // 4 + 40 for graph in graphs]
    states = [flat_path(graph, int(frames), rng) for graph, frames in zip(graphs, paths, strict=True)]
    kept = [(graph, path) for graph, path in zip(graphs, states, strict=True) if path is not None]
    pdfs = np.concatenate([gmm.tree.pdfs_of_codes(graph.codes[path]) for graph, path in kept])
    noise = torch.from_numpy(rng.normal(size=(len(pdfs), gmm.means.shape[1]))).float()
    features = gmm.means[pdfs] + noise * gmm.variances[pdfs].sqrt()
    starts = np.concatenate([[0], np.cumsum([len(path) for _, path in kept])])
    names = [f"u{number:03d}" for number in range(len(kept))]
    half = len(kept) // 2
    speaker_of = np.repeat([0, 1], [half, len(kept) - half])
    return Speech(names, ["s0", "s1"], speaker_of, starts, [graph for graph, _ in kept], features), pdfs


def spread(seed: int) -> Gmm:
    """A model whose states lie far apart, so that the right alignment is not in doubt."""
    gmm = random_gmm(mono_tree(), 6, 1, seed)
    return Gmm(gmm.tree, gmm.pdf_of, gmm.weights, 4 * gmm.means, gmm.variances, gmm.log_transitions)


def test_alignment_recovers_the_states_that_made_the_frames() -> None:
    gmm = spread(0)
    speech, true = drawn_speech(gmm)
    alignment = align_speech(gmm, speech, jobs=2)
    assert len(alignment.failed) == 0
    assert (frame_pdfs(gmm.tree, alignment) == true).mean() > 0.97
    again = align_speech(gmm, speech, jobs=1)
    np.testing.assert_array_equal(alignment.codes, again.codes)


def test_training_from_a_flat_start_finds_the_states() -> None:
    """EM from equal shares must end near the states that made the frames, its likelihood rising all the way."""
    truth = spread(1)
    speech, true = drawn_speech(truth, copies=30)
    alignment = flat_start(speech, np.random.default_rng(0))
    before = (frame_pdfs(truth.tree, alignment) == true).mean()
    step = GmmStep(iterations=12, realign=tuple(range(1, 13)), gaussians=truth.num_pdfs)
    gmm = initial_gmm(truth.tree, speech.features, alignment)
    trainer = Trainer(speech, gmm, alignment, step, 1.0, np.random.default_rng(1))
    trainer.run()
    likelihoods = [row["log_likelihood_per_frame"] for row in trainer.history]
    assert min(np.diff(likelihoods)) > -0.05  # transitions are re-estimated too, hence not exactly monotone
    assert likelihoods[-1] > likelihoods[0] + 1
    assert (trainer.pdfs == true).mean() > max(0.7, before + 0.2)


def test_fmllr_brings_a_shifted_speaker_back() -> None:
    gmm = spread(2)
    speech, true = drawn_speech(gmm, copies=40)
    shift = torch.tensor([3.0, -2.0, 0.0, 1.0, 0.0, 2.0])
    second = torch.from_numpy(np.repeat(speech.speaker_of, speech.frames) == 1)
    moved = Speech(**{**speech.__dict__, "features": speech.features + second[:, None] * shift})
    transforms = estimate_fmllr(gmm, moved, true, min_frames=100)
    restored = moved.adapted(transforms)
    error = (restored.features - speech.features).abs().mean()
    assert error < 0.15 < (moved.features - speech.features).abs().mean()


def test_a_frame_without_alignment_does_not_count() -> None:
    gmm = spread(3)
    speech, _ = drawn_speech(gmm)
    alignment = align_speech(gmm, speech)
    codes = alignment.codes.copy()
    codes[speech.rows(0)] = -1
    poisoned = speech.features.clone()
    poisoned[speech.rows(0)] = 1e6
    fitted = initial_gmm(gmm.tree, poisoned, Alignment(codes, alignment.words, alignment.scores))
    assert fitted.means.abs().max() < 100


def test_show_names_phones_and_history(tmp_path) -> None:
    row = {"iteration": 1, "log_likelihood_per_frame": -7.25, "gaussians": 19, "silence_share": 0.25, "failed": 0}
    Step(spread(4), [row]).save(tmp_path)
    console = Console(record=True, width=100)
    console.print(describe(tmp_path))
    text = console.export_text()
    assert all(piece in text for piece in ("19 leaves", "AA", "state 2", "SIL 5", "-7.250", "25.0%"))
