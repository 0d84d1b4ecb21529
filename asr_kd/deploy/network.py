"""The exported network, run by onnxruntime on one core."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import onnxruntime

from asr_kd.errors import UserError


@dataclass(frozen=True)
class Network:
    """The ONNX file at `path`, whose output for a frame depends on `left` frames before it and `right` behind it."""

    path: Path
    left: int
    right: int

    @cached_property
    def _session(self) -> onnxruntime.InferenceSession:
        # Made on first use, hence after a fork: threads do not survive one.
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = 3
        try:
            return onnxruntime.InferenceSession(str(self.path), options, providers=["CPUExecutionProvider"])
        except Exception as error:  # onnxruntime's own errors have no common class
            raise UserError(f"{self.path}: onnxruntime cannot run it ({str(error).splitlines()[0]})") from None

    def log_posteriors(self, frames: np.ndarray) -> np.ndarray:
        """An utterance's normalised (T, dim) frames to (T, num_pdfs) float32, the edge frames repeated."""
        return self.inside(np.pad(frames, ((self.left, self.right), (0, 0)), mode="edge"))

    def inside(self, frames: np.ndarray) -> np.ndarray:
        """(left + T + right, dim) normalised frames to the (T, num_pdfs) float32 natural logs of the T inside."""
        return self._session.run(None, {"frames": frames.astype(np.float32)})[0]
