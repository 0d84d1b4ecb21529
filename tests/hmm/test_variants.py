"""Counts of pronunciations against an alignment written by hand."""

from pathlib import Path

import numpy as np
from toy import PHONES

from asr_kd.features.store import FrameStore, write_store
from asr_kd.hmm.variants import count_variants


def rows_of(parts: list[tuple[str, int]], repeats: int = 2) -> np.ndarray:
    """(phone with position, number of the word) in turn, each state held for `repeats` frames."""
    rows = []
    for phone, word in parts:
        for state in range(5 if phone == "SIL" else 3):
            rows += [(0, 0, PHONES.ids[phone], 0, state, word)] * repeats
    return np.array(rows, np.int16)


def test_pronunciations_are_counted_as_they_were_said(tmp_path: Path) -> None:
    bat = [("B_B", 1), ("AA_I", 1), ("T_E", 1)]
    first = rows_of([("SIL", -1), ("AA_S", 0), *bat, ("B_B", 2), ("T_E", 2), ("SIL", -1)])
    doubled = rows_of([("B_B", 0), ("AA_I", 0), ("AA_I", 0), ("T_E", 0), ("AA_S", 1), ("AA_S", 2)], repeats=1)
    tables = {"u": first, "v": doubled, "v_sp0.9": doubled, "silent": rows_of([("SIL", -1)])}
    write_store(tmp_path, tables, {})
    said = {"u": ["a", "bat", "bat"], "v": ["bat", "a", "a"], "silent": []}
    counts = count_variants(FrameStore(tmp_path), said, PHONES)
    assert counts == {
        ("a", ("AA",)): 3,
        ("bat", ("B", "AA", "T")): 1,
        ("bat", ("B", "T")): 1,
        ("bat", ("B", "AA", "AA", "T")): 1,
    }
