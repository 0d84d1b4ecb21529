"""Boundary errors against times set by hand."""

from types import SimpleNamespace

import numpy as np
import pytest

from asr_kd.features.store import FrameStore, write_store
from asr_kd.hmm.boundaries import boundary_errors, summarise


def cut(name: str, words: list[tuple[float, float]]) -> SimpleNamespace:
    items = [SimpleNamespace(start=start, end=end) for start, end in words]
    return SimpleNamespace(id=name, supervisions=[SimpleNamespace(alignment={"word": items} if items else None)])


def test_errors_are_distances_between_frame_edges_and_true_times(tmp_path) -> None:
    words = np.full((50, 6), -1, dtype=np.int16)
    words[10:20, 5], words[25:40, 5] = 0, 1
    write_store(tmp_path, {"u": words, "without": words}, {})
    cuts = [cut("u", [(0.1075, 0.2275), (0.2275, 0.4075)]), cut("without", []), cut("absent", [(0.0, 1.0)])]
    errors = boundary_errors(cuts, FrameStore(tmp_path))
    assert errors.tolist() == pytest.approx([0.0, 0.02, 0.03, 0.0])
    summary = summarise(errors)
    assert summary["boundaries"] == 4
    assert summary["median_seconds"] == pytest.approx(0.01)
    assert summary["within_20_ms"] in (0.5, 0.75) and summary["within_60_ms"] == 1.0
