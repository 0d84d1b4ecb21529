"""Mean and variance normalisation without a transcript or a second speaker: of whole recordings, and on-line."""

from dataclasses import dataclass, field

import numpy as np

# As in asr_kd.features.normalise: a filter that never hears anything must not be amplified.
MIN_STD = 1e-3
START_FRAMES = 200  # what the training speakers' mean counts for at the start of a stream (Kaldi's global_frames)
MEMORY_FRAMES = 6000  # frames that a stream remembers: a minute


@dataclass(frozen=True)
class Statistics:
    """Sums over frames: their number, of values (dim,), of squares (dim,), float64."""

    count: float
    sums: np.ndarray
    squares: np.ndarray

    @staticmethod
    def of(frames: np.ndarray) -> "Statistics":
        rows = frames.astype(np.float64)
        return Statistics(len(rows), rows.sum(axis=0), (rows**2).sum(axis=0))

    def __add__(self, other: "Statistics") -> "Statistics":
        return Statistics(self.count + other.count, self.sums + other.sums, self.squares + other.squares)

    def shrunk(self, count: float) -> "Statistics":
        """The same moments, counting for at most `count` frames."""
        share = min(1.0, count / max(self.count, 1))
        return Statistics(self.count * share, self.sums * share, self.squares * share)


@dataclass(frozen=True)
class Normalisation:
    """What training did to each speaker's frames: subtract the `mean`, divide by the standard deviation (`variance`).

    by: `speaker` or `utterance`. global_mean, global_std: (dim,) of the average training speaker.
    """

    by: str
    mean: bool
    variance: bool
    global_mean: np.ndarray
    global_std: np.ndarray

    def apply(self, frames: np.ndarray, statistics: Statistics, global_frames: float = 0.0) -> np.ndarray:
        """(T, dim) frames to float16, as the frame stores hold them.

        Mean and variance are those of `statistics`, with the average training speaker's weighing `global_frames`.
        """
        own = statistics.count / max(statistics.count + global_frames, 1)
        mean = statistics.sums / max(statistics.count, 1)
        variance = np.maximum(statistics.squares / max(statistics.count, 1) - mean**2, 0)
        shift = own * mean + (1 - own) * self.global_mean
        std = np.sqrt(own * variance + (1 - own) * self.global_std**2)
        shifted = frames - shift if self.mean else frames
        return (shifted / np.maximum(std, MIN_STD) if self.variance else shifted).astype(np.float16)


@dataclass
class RunningNormalisation:
    """Normalisation of a stream by what was heard so far, the last minute of it, beginning with training's mean."""

    normalisation: Normalisation
    heard: Statistics = field(init=False)

    def __post_init__(self) -> None:
        nothing = np.zeros(len(self.normalisation.global_mean))
        self.heard = Statistics(0, nothing, nothing)

    def apply(self, frames: np.ndarray) -> np.ndarray:
        """The stream's next (T, dim) frames to float16; they count themselves."""
        self.heard = self.heard.shrunk(MEMORY_FRAMES) + Statistics.of(frames)
        return self.normalisation.apply(frames, self.heard, START_FRAMES)
