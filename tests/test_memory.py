"""The peak is of what was allocated since it was last forgotten."""

import numpy as np
import pytest

from asr_kd.memory import PROCESS, forget_peak, peak_bytes

SIZE = 200 << 20


@pytest.mark.skipif(not (PROCESS / "clear_refs").exists(), reason="this kernel does not say what a process peaked at")
def test_peak_is_forgotten() -> None:
    forget_peak()
    before = peak_bytes()
    block = np.ones(SIZE, dtype=np.uint8)
    with_block = peak_bytes()
    del block
    forget_peak()
    after = peak_bytes()
    assert before is not None and with_block is not None and after is not None
    assert with_block - before > 0.9 * SIZE
    assert after - before < 0.5 * SIZE
