"""Scores that many searches ask for."""

import multiprocessing
from pathlib import Path

import numpy as np
import pytest

from asr_kd.decode.acoustics import Acoustics, kept
from asr_kd.scratch import scratch_in

PDFS = 700
FRAMES = {"a": 200, "b": 300}  # together more than what stays in memory


@pytest.mark.parametrize("forked", [False, True])
def test_kept_scores_are_computed_once_in_whatever_process(tmp_path: Path, forked: bool) -> None:
    counts = multiprocessing.get_context("fork").Array("i", 3)
    draws = np.random.default_rng(0)
    true = {name: draws.normal(size=(count, PDFS)).astype(np.float32) for name, count in [*FRAMES.items(), ("c", 9)]}

    def scores(utterance: str) -> np.ndarray:
        counts["abc".index(utterance)] += 1
        return true[utterance]

    def ask() -> None:
        for name, expected in true.items():
            assert np.array_equal(found.scores(name), expected), name

    with scratch_in(tmp_path):
        found = kept(Acoustics(scores, None), FRAMES, PDFS)
        for _ in range(3):
            if forked:
                process = multiprocessing.get_context("fork").Process(target=ask)
                process.start()
                process.join()
                assert process.exitcode == 0
            else:
                ask()
    assert list(counts) == [1, 1, 3], "c is not one of those to keep"


def test_a_failure_is_not_kept(tmp_path: Path) -> None:
    answers = iter([ValueError("no features"), np.ones((FRAMES["a"], PDFS), np.float32)])

    def scores(utterance: str) -> np.ndarray:
        if isinstance(answer := next(answers), Exception):
            raise answer
        return answer

    with scratch_in(tmp_path):
        found = kept(Acoustics(scores, None), FRAMES, PDFS)
        with pytest.raises(ValueError, match="no features"):
            found.scores("a")
        assert found.scores("a").all()
