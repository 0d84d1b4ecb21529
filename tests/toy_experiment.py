"""A workspace with features and alignments whose tied state depends on a frame and its two neighbours."""

from pathlib import Path

import numpy as np

from asr_kd.features.store import write_store
from asr_kd.pipeline import Job
from asr_kd.recipe import Network, Recipe, Training
from asr_kd.stages import student, targets, teachers
from asr_kd.workspace import Workspace

DIM, NUM_PDFS = 6, 12
NETWORK = Network(left=1, right=1, layers=2, width=48, dropout=0.1)
TRAINING = Training(epochs=3, batch_frames=64, learning_rate=5e-3, precision="float32")
UTTERANCES = {"train": 24, "dev": 6, "test": 6}


def toy_workspace(root: Path) -> Workspace:
    """Utterances of 40 to 80 frames; the rule that labels them is the same in every split."""
    rule = np.random.default_rng(0).normal(size=(3 * DIM, NUM_PDFS))
    work = Workspace(root)
    for number, (split, count) in enumerate(UTTERANCES.items()):
        draws = np.random.default_rng([1, number])
        features, alignment = {}, {}
        for index in range(count):
            frames = draws.normal(size=(draws.integers(40, 80), DIM))
            padded = np.pad(frames, ((1, 1), (0, 0)), mode="edge")
            pdf = (np.hstack([padded[:-2], padded[1:-1], padded[2:]]) @ rule).argmax(1)
            features[f"{split}-{index:02d}"] = frames.astype(np.float16)
            alignment[f"{split}-{index:02d}"] = np.stack([pdf, pdf], 1).astype(np.int16)
        write_store(work.features("fbank", split), features, {"kind": "fbank"})
        write_store(work.alignment(split), alignment, {"num_pdfs": NUM_PDFS, "tree_hash": "toy"})
    return work


def distilled(root: Path, recipe: Recipe) -> Workspace:
    """The toy workspace after stages 4, 5 and 6."""
    work = toy_workspace(root)
    for stage in (teachers, targets, student):
        stage.run(Job(recipe, work, jobs=2))
    return work
