"""The four training steps: monophone, triphone with deltas, LDA+MLLT, speaker-adaptive.

Each follows the Kaldi script it names, with the recipe's leaves, Gaussians and iterations.
"""

import logging
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from asr_kd import scratch
from asr_kd.errors import UserError
from asr_kd.features.splice import splice
from asr_kd.files import atomic_path, write_json
from asr_kd.hmm.adaptation import estimate_fmllr
from asr_kd.hmm.aligner import Alignment, align_speech
from asr_kd.hmm.checkpoint import Checkpoint, Saved
from asr_kd.hmm.gmm import Gmm, GmmStats, augment, maximise
from asr_kd.hmm.speech import Speech
from asr_kd.hmm.training import (
    Trainer,
    frame_pdfs,
    initial_gmm,
    tree_statistics,
)
from asr_kd.hmm.transcript import TranscriptCompiler, flat_path
from asr_kd.hmm.transforms import MlltStats, lda
from asr_kd.hmm.tree import Tree, build_tree, phonetic_questions
from asr_kd.lang.phones import PhoneSet
from asr_kd.recipe import GmmStep, Hmm

FLAT_START_TRIES = 20
log = logging.getLogger("asr_kd")


@dataclass(frozen=True)
class Step:
    """A finished step: its model, its history by iteration, and what makes its features from MFCC.

    projection (dim, spliced): LDA+MLLT, None for deltas. independent: the speaker-independent twin of an adapted
    model, with the same Gaussians (Kaldi's final.alimdl).
    """

    gmm: Gmm
    history: list[dict[str, float]]
    projection: Tensor | None = None
    independent: Gmm | None = None

    def save(self, path: Path) -> None:
        """Write model, history and transform below `path`, the twin to `path`/independent."""
        self.gmm.save(path)
        if self.projection is not None:
            with atomic_path(path / "projection.safetensors") as temporary:
                save_file({"projection": self.projection.cpu().contiguous()}, temporary)
        if self.independent is not None:
            self.independent.save(path / "independent")
        write_json(path / "log.json", self.history)

    @staticmethod
    def load(path: Path, device: str = "cpu") -> "Step":
        """Read what `save` wrote, without the history."""
        projection, twin = path / "projection.safetensors", path / "independent"
        gmm = Gmm.load(path).to(device)
        independent = Gmm.load(twin).to(device) if twin.exists() else None
        if independent and independent.means.shape != gmm.means.shape:
            raise UserError(f"{twin}: not the Gaussians of {path}; run --stage 3 (align) again")
        matrix = _load_projection(projection, gmm.means.shape[1]).to(device) if projection.exists() else None
        return Step(gmm, [], matrix, independent)

    def copied(self) -> "Step":
        """With the projection in memory of its own: a product with one that lies in a mapped file, which is not
        aligned, may end in other last bits.
        """
        return self if self.projection is None else replace(self, projection=self.projection.clone())


def _load_projection(path: Path, dim: int) -> Tensor:
    """(dim, spliced) float32; UserError when it is not."""
    try:
        matrix = load_file(path)["projection"]
        if matrix.ndim != 2 or len(matrix) != dim or matrix.dtype != torch.float32 or not matrix.isfinite().all():
            raise ValueError(f"{matrix.dtype}, shape {tuple(matrix.shape)}, the model has {dim} dimensions")
    except (OSError, SafetensorError, KeyError, ValueError) as error:
        raise UserError(f"{path}: damaged ({error}); run --stage 3 (align) again") from None
    return matrix


def features_for(step: Step, mfcc: Speech, context: int) -> Speech:
    """The step's features before any speaker's transform."""
    return mfcc.with_deltas() if step.projection is None else mfcc.projected(step.projection, context)


def train_mono(
    mfcc: Speech,
    compiler: TranscriptCompiler,
    phone_set: PhoneSet,
    hmm: Hmm,
    seed: int,
    jobs: int,
    checkpoint: Checkpoint | None = None,
) -> Step:
    """Monophone from a flat start on the shortest utterances (train_mono.sh). checkpoint: to resume from, as in all."""
    shortest = np.sort(np.argsort(mfcc.frames, kind="stable")[: hmm.mono_utterances])
    speech = mfcc.subset(shortest).with_deltas()
    speech = replace(speech, graphs=[compiler.compile(graph.transcript, context=False) for graph in speech.graphs])
    trainer = _resumed(_load(checkpoint, mfcc), speech, hmm.mono, hmm, jobs, checkpoint)
    if trainer is None:
        rng = np.random.default_rng([seed, 1])
        alignment = flat_start(speech, rng)
        stats = tree_statistics(speech.features, alignment)
        tree = build_tree(stats, phone_set, np.zeros((1, len(phone_set)), dtype=bool), 0, 1.0, merge=False)
        gmm = initial_gmm(tree, speech.features, alignment)
        trainer = Trainer(speech, gmm, alignment, hmm.mono, hmm.boost_silence, rng, jobs, checkpoint=checkpoint)
    trainer.run()
    return Step(trainer.gmm, trainer.history)


def flat_start(speech: Speech, rng: np.random.Generator) -> Alignment:
    """Frames shared out equally along a random path of each transcript (align-equal-compiled)."""
    codes = np.full(int(speech.starts[-1]), -1, dtype=np.int64)
    words, scores = np.full_like(codes, -1), np.full(len(speech), np.nan)
    for u, graph in enumerate(speech.graphs):
        for _ in range(FLAT_START_TRIES):
            path = flat_path(graph, int(speech.frames[u]), rng)
            if path is not None:
                codes[speech.rows(u)], words[speech.rows(u)], scores[u] = (
                    graph.codes[path],
                    graph.words[path],
                    0.0,
                )
                break
    return Alignment(codes, words, scores)


def train_tri(
    mfcc: Speech, mono: Step, phone_set: PhoneSet, hmm: Hmm, seed: int, jobs: int, checkpoint: Checkpoint | None = None
) -> Step:
    """Tied triphones on deltas (train_deltas.sh)."""
    speech = mfcc.with_deltas()
    trainer = _resumed(_load(checkpoint, mfcc), speech, hmm.tri, hmm, jobs, checkpoint)
    if trainer is None:
        alignment = align_speech(mono.gmm, speech, hmm.boost_silence, jobs)
        rng = np.random.default_rng([seed, 2])
        trainer = _triphone_trainer(speech, alignment, phone_set, hmm.tri, hmm, rng, jobs, checkpoint)
    trainer.run()
    return Step(trainer.gmm, trainer.history)


def train_lda(
    mfcc: Speech, tri: Step, phone_set: PhoneSet, hmm: Hmm, seed: int, jobs: int, checkpoint: Checkpoint | None = None
) -> Step:
    """Tied triphones on LDA of spliced MFCC, decorrelated by MLLT (train_lda_mllt.sh)."""
    projection: Tensor

    def rotated(trainer: Trainer, rotation: Tensor) -> Speech:
        nonlocal projection
        projection = rotation @ projection
        before = trainer.speech.features
        after = torch.matmul(before, rotation.T, out=scratch.tensor(tuple(before.shape), before))
        return replace(trainer.speech, features=after)

    def rotate(trainer: Trainer, iteration: int) -> None:
        if iteration in hmm.mllt_iterations:
            rotation = estimate_mllt(trainer).float()
            trainer.speech = rotated(trainer, rotation)
            trainer.gmm = replace(trainer.gmm, means=trainer.gmm.means @ rotation.T)
            trainer.features_from[f"rotation {iteration:06d}"] = rotation

    if saved := _load(checkpoint, mfcc):
        projection = saved.tensors["lda"]
    else:
        alignment = align_speech(tri.gmm, mfcc.with_deltas(), hmm.boost_silence, jobs)
        projection = estimate_lda(mfcc, frame_pdfs(tri.gmm.tree, alignment), hmm.lda_context, hmm.lda_dim)
    first, speech = projection, mfcc.projected(projection, hmm.lda_context)
    trainer = _resumed(saved, speech, hmm.lda, hmm, jobs, checkpoint)
    if trainer is None:
        rng = np.random.default_rng([seed, 3])
        trainer = _triphone_trainer(speech, alignment, phone_set, hmm.lda, hmm, rng, jobs, checkpoint)
    for name in sorted(trainer.features_from):
        if name.startswith("rotation"):
            trainer.speech = rotated(trainer, trainer.features_from[name])
    trainer.features_from["lda"] = first
    trainer.run(rotate)
    return Step(trainer.gmm, trainer.history, projection)


def train_sat(
    mfcc: Speech,
    lda_step: Step,
    phone_set: PhoneSet,
    hmm: Hmm,
    seed: int,
    jobs: int,
    checkpoint: Checkpoint | None = None,
) -> Step:
    """Tied triphones on speaker-adapted features (train_sat.sh), and their speaker-independent twin."""
    plain = features_for(lda_step, mfcc, hmm.lda_context)

    def adapt(trainer: Trainer, iteration: int) -> None:
        if iteration in hmm.fmllr_iterations:
            adapted = trainer.speech.features
            transforms = estimate_fmllr(trainer.gmm, plain, trainer.pdfs, hmm.fmllr_min_frames, observed=adapted)
            trainer.speech = plain.adapted(transforms)
            trainer.features_from["transforms"] = transforms

    if saved := _load(checkpoint, mfcc):
        transforms = saved.tensors["transforms"]
    else:
        alignment = align_speech(lda_step.gmm, plain, hmm.boost_silence, jobs)
        pdfs = frame_pdfs(lda_step.gmm.tree, alignment)
        transforms = estimate_fmllr(lda_step.gmm, plain, pdfs, hmm.fmllr_min_frames)
    speech = plain.adapted(transforms)
    trainer = _resumed(saved, speech, hmm.sat, hmm, jobs, checkpoint)
    if trainer is None:
        rng = np.random.default_rng([seed, 4])
        trainer = _triphone_trainer(speech, alignment, phone_set, hmm.sat, hmm, rng, jobs, checkpoint)
    trainer.features_from["transforms"] = transforms

    trainer.run(adapt)
    independent = speaker_independent_twin(trainer, plain.features)
    return Step(trainer.gmm, trainer.history, lda_step.projection, independent)


def align_adapted(sat: Step, mfcc: Speech, hmm: Hmm, jobs: int) -> tuple[Alignment, Speech]:
    """Alignment with speaker transforms from these very utterances, and the adapted features (align_fmllr.sh)."""
    assert sat.independent is not None
    plain = features_for(sat, mfcc, hmm.lda_context)
    first = align_speech(sat.independent, plain, hmm.boost_silence, jobs)
    pdfs = frame_pdfs(sat.gmm.tree, first)
    adapted = plain.adapted(estimate_fmllr(sat.gmm, plain, pdfs, hmm.fmllr_min_frames, observer=sat.independent))
    return align_speech(sat.gmm, adapted, hmm.boost_silence, jobs), adapted


def _triphone_trainer(
    speech: Speech,
    alignment: Alignment,
    phone_set: PhoneSet,
    step: GmmStep,
    hmm: Hmm,
    rng: np.random.Generator,
    jobs: int,
    checkpoint: Checkpoint | None,
) -> Trainer:
    """A tree from this alignment and one Gaussian for each of its leaves."""
    stats = tree_statistics(speech.features, alignment)
    tree: Tree = build_tree(stats, phone_set, phonetic_questions(stats, phone_set), step.leaves, hmm.min_occupancy)
    log.info("  %d triphone states, %d leaves (asked %d)", len(stats.codes), tree.num_pdfs, step.leaves)
    gmm = initial_gmm(tree, speech.features, alignment)
    return Trainer(speech, gmm, alignment, step, hmm.boost_silence, rng, jobs, checkpoint=checkpoint)


def _load(checkpoint: Checkpoint | None, mfcc: Speech) -> Saved | None:
    return checkpoint.load(mfcc.features.device) if checkpoint else None


def _resumed(
    saved: Saved | None, speech: Speech, step: GmmStep, hmm: Hmm, jobs: int, checkpoint: Checkpoint | None
) -> Trainer | None:
    """The trainer that goes on after the iterations of `saved`; None where nothing was."""
    if saved is None:
        return None
    log.info("  continues after iteration %d", len(saved.history))
    trainer = Trainer(
        speech, saved.gmm, saved.alignment, step, hmm.boost_silence, saved.rng, jobs, history=saved.history
    )
    trainer.checkpoint, trainer.features_from = checkpoint, saved.tensors
    return trainer


def estimate_lda(mfcc: Speech, pdfs: np.ndarray, context: int, dim: int) -> Tensor:
    """LDA of spliced frames with the pdfs as classes: (dim, spliced) float32."""
    num_pdfs, spliced = int(pdfs.max()) + 1, mfcc.features.shape[1] * (2 * context + 1)
    counts = torch.zeros(num_pdfs, dtype=torch.float64, device=mfcc.features.device)
    sums, second = counts.new_zeros((num_pdfs, spliced)), counts.new_zeros((spliced, spliced))
    for u in range(len(mfcc)):
        labels = torch.from_numpy(pdfs[mfcc.rows(u)]).to(counts.device)
        if bool((labels < 0).any()):
            continue
        frames = splice(mfcc.features[mfcc.rows(u)], context, context)
        counts += torch.bincount(labels, minlength=num_pdfs)
        sums.index_add_(0, labels, frames.double())
        second += frames.T @ frames
    return lda(counts, sums, second, dim).float()


def estimate_mllt(trainer: Trainer) -> Tensor:
    """The rotation (dim, dim) that makes the present Gaussians' diagonal covariances fit best."""
    gmm, features = trainer.gmm, trainer.speech.features
    stats = MlltStats(features.shape[1], features.device)
    for pdf, rows in trainer.segments:
        frames = features[torch.from_numpy(rows).to(features.device)]
        stats.add(gmm, pdf, gmm.posteriors(augment(frames), pdf)[0], frames)
    return stats.estimate()


def speaker_independent_twin(trainer: Trainer, plain: Tensor) -> Gmm:
    """The same Gaussians on unadapted features, by the adapted model's posteriors (gmm-acc-stats-twofeats)."""
    gmm, adapted = trainer.gmm, trainer.speech.features
    stats = GmmStats(torch.zeros((gmm.num_gaussians, 2 * plain.shape[1] + 1), dtype=torch.float64, device=plain.device))
    for pdf, rows in trainer.segments:
        index = torch.from_numpy(rows).to(plain.device)
        posteriors, _ = gmm.posteriors(augment(adapted[index]), pdf)
        stats.moments[gmm.gaussians(pdf)] += posteriors.T @ augment(plain[index])
    return maximise(gmm, stats, remove=False)
