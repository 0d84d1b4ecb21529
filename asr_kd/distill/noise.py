"""Multiplicative noise on the teacher's logits (Sau and Balasubramanian 2016, section 3)."""

import hashlib

import numpy as np
import torch
from torch import Tensor

from asr_kd.recipe import Noise

STEP = np.uint64(0x9E3779B97F4A7C15)
SCRAMBLE = ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB))
FRAME_DRAW = np.zeros(1, np.uint64)


def scrambled(numbers: np.ndarray) -> np.ndarray:
    """uint64 to uint64, a bijection that leaves no trace of order (SplitMix64, Steele et al. 2014)."""
    for shift, factor in SCRAMBLE:
        numbers = (numbers ^ (numbers >> np.uint64(shift))) * np.uint64(factor)
    return numbers ^ (numbers >> np.uint64(31))


def uniform(key: np.uint64, rows: np.ndarray, counters: np.ndarray) -> np.ndarray:
    """Uniform numbers in (0, 1), float64, that depend on (key, row, counter) alone; rows and counters broadcast.

    Counters instead of a generator's stream: a frame's noise is then the same in any batch and store.
    """
    with np.errstate(over="ignore"):
        stream = scrambled(scrambled(rows.astype(np.uint64) * STEP + key))
        mixed = scrambled(stream + (counters.astype(np.uint64) + np.uint64(1)) * STEP)
    return ((mixed >> np.uint64(11)).astype(np.float64) + 0.5) * 2.0**-53


def normal(key: np.uint64, rows: np.ndarray, classes: np.ndarray) -> np.ndarray:
    """Standard normal numbers, float64, that depend on (key, row, class) alone (Box and Muller 1958)."""
    first, second = (uniform(key, rows, 2 * classes + place) for place in (1, 2))
    return np.sqrt(-2 * np.log(first)) * np.cos(2 * np.pi * second)


class LogitNoise:
    """z' = (1 + ξ) ∘ z for a share `alpha` of the frames, ξ ~ N(0, sigma²), one value for each class.

    Such noise depends on the constant that logits are known up to: here a frame's stored logits have mean 0. With
    `redraw: step` a frame's noise depends on the batch that it is met in, hence is another in every epoch and the
    same when an interrupted run is resumed; with `never` it depends on the frame alone.
    """

    def __init__(self, noise: Noise, num_pdfs: int, seed: int) -> None:
        self.noise, self.num_pdfs, self.seed = noise, num_pdfs, seed

    def __call__(self, logits: Tensor, states: Tensor | None, rows: np.ndarray) -> Tensor:
        """The logits with noise; those of the frames that get none are returned as they are.

        logits: (frames, num_pdfs), or (frames, k + 1) for `states` (frames, k) and the bin of all others, which
        counts as class num_pdfs. rows: (frames,) the store's rows of the frames.
        """
        key = self._key(rows)
        hit = np.flatnonzero(uniform(key, rows, FRAME_DRAW) < self.noise.alpha)
        if states is None:
            classes = np.arange(logits.shape[1])[None]
        else:
            classes = np.pad(states[hit].cpu().numpy(), ((0, 0), (0, 1)), constant_values=self.num_pdfs)
        factors = 1 + self.noise.sigma * normal(key, rows[hit, None], classes)
        chosen = logits[hit]
        centred = chosen - chosen.mean(1, keepdim=True)
        noisy = logits.clone()
        noisy[hit] = centred * torch.from_numpy(factors).to(centred)
        return noisy

    def _key(self, rows: np.ndarray) -> np.uint64:
        batch = rows.astype(np.int64).tobytes() if self.noise.redraw == "step" else b""
        digest = hashlib.blake2b(b"noise %d " % self.seed + batch, digest_size=8).digest()
        return np.uint64(int.from_bytes(digest, "little"))
