"""Mean and variance normalisation over the frames of one speaker or one utterance."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from asr_kd.recipe import Normalisation

# A filter that never hears anything has no variance; dividing by its rounding noise would amplify that to full scale.
MIN_STD = 1e-3


@dataclass(frozen=True)
class Moments:
    """Per-dimension mean and standard deviation, (dim,) float64, of `frames` frames."""

    frames: int
    mean: np.ndarray
    std: np.ndarray

    @staticmethod
    def of(arrays: Sequence[np.ndarray]) -> "Moments":
        """Moments of all rows of `arrays`, each (frames, dim)."""
        rows = np.concatenate(arrays).astype(np.float64)
        return Moments(len(rows), rows.mean(axis=0), rows.std(axis=0))

    def normalise(self, array: np.ndarray, recipe: Normalisation) -> np.ndarray:
        """Shift (frames, dim) by the mean and divide by the deviation, where the recipe asks for each."""
        shift = self.mean if recipe.mean else np.zeros_like(self.mean)
        scale = np.maximum(self.std, MIN_STD) if recipe.variance else np.ones_like(self.std)
        return (array - shift) / scale

    def as_json(self) -> dict[str, Any]:
        return {"frames": self.frames, "mean": self.mean.round(6).tolist(), "std": self.std.round(6).tolist()}
