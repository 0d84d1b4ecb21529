"""Alignment in shards, through files, is alignment."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from test_training import drawn_speech, spread

from asr_kd.executors.local import LocalExecutor
from asr_kd.hmm import shards
from asr_kd.hmm.aligner import Alignment, align_speech
from asr_kd.hmm.shards import alignment_spread, spans
from asr_kd.pipeline import Job
from asr_kd.recipe import Recipe
from asr_kd.workspace import Workspace


def test_a_shard_is_whole_utterances_in_their_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shards, "SHARD_FRAMES", 100)
    draws = np.random.default_rng(0)
    starts = np.concatenate([[0], np.cumsum(draws.integers(1, 260, 50))])
    found = spans(starts)
    assert [number for number, _, _ in found] == list(range(len(found)))
    assert [first for _, first, _ in found] == [0, *(end for _, _, end in found[:-1])] and found[-1][2] == 50
    for _, first, end in found:
        assert end > first and starts[end - 1] - starts[first] <= 100
    assert spans(np.array([0])) == [] and spans(np.array([0, 5])) == [(0, 0, 1)]


def test_shards_give_the_same_alignment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shards, "SHARD_FRAMES", 300)
    gmm, other = spread(0), spread(1)
    speech, _ = drawn_speech(gmm)
    # As many utterances, but one of them cut to a frame: it has no alignment.
    short = replace(speech, starts=np.concatenate([[0, 1], speech.starts[2:] - speech.starts[1] + 1]))
    short = replace(short, features=speech.features[int(speech.starts[1]) - 1 :].clone())
    cases = [(gmm, speech, 1.25), (other, speech, 1.0), (gmm, short, 1.25)]
    expected = [align_speech(*case) for case in cases]
    assert len(expected[2].failed) == 1
    job = Job(Recipe(), Workspace(tmp_path), jobs=2, executor=LocalExecutor(2, remote=True), stage="align")
    written: list[str] = []
    save = shards.save_array
    monkeypatch.setattr(shards, "save_array", lambda path, array: (written.append(path.name), save(path, array)))
    with alignment_spread(job):
        found = [align_speech(*case) for case in cases]
    assert all(map(same, expected, found))
    assert written.count("starts.npy") == 2
    assert sum(name.startswith("features-") for name in written) == 2
    assert sum(name.startswith("shard-") for name in written) > 9
    assert {path.name.split("-")[0] for path in (job.work.partial / "align").iterdir()} == {"features", "graphs"}
    before = len(written)
    assert same(align_speech(*cases[0]), expected[0]) and len(written) == before


def same(ours: Alignment, theirs: Alignment) -> bool:
    pairs = zip(*((alignment.codes, alignment.words, alignment.scores) for alignment in (ours, theirs)), strict=True)
    return all(np.array_equal(a, b, equal_nan=a.dtype.kind == "f") for a, b in pairs)
