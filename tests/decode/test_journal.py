"""A search that is interrupted finds what it had recognised, and nothing of another search."""

from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import pytest

from asr_kd.decode.journal import Journal
from asr_kd.decode.recognition import Outcome

OUTCOMES = [
    Outcome("a", (3, 4), np.array([1, 1, 2], dtype=np.int32), True, 2, 3, 0.1, 1 / 3),
    Outcome("b", (), np.array([], dtype=np.int32), False, 0, 0, 0.25, 0.5),
    Outcome("c", error="ValueError: no path survived the beam"),
    Outcome("d", (7,), np.array([5], dtype=np.int32)),
]
KEY = ["student test", "sat", 12.0, 0.5, {"beam": 13.0}, "fingerprint", ["a", "b", "c", "d"]]


def plain(outcomes: Iterable[Outcome], title: str, total: int | None) -> Iterator[Outcome]:
    yield from outcomes


def same(ours: Outcome, theirs: Outcome) -> bool:
    fields = ("utterance", "words", "complete", "correct", "frames", "network_seconds", "search_seconds", "error")
    if (ours.pdfs is None) != (theirs.pdfs is None):
        return False
    equal = ours.pdfs is None or theirs.pdfs is None or (
        ours.pdfs.dtype == theirs.pdfs.dtype and np.array_equal(ours.pdfs, theirs.pdfs)
    )  # fmt: skip
    return equal and all(getattr(ours, field) == getattr(theirs, field) for field in fields)


def test_what_was_recognised_comes_back_as_it_was(tmp_path: Path) -> None:
    assert list(Journal(tmp_path, KEY).recorded(plain)(OUTCOMES, "title", 4)) == OUTCOMES
    found = Journal(tmp_path, KEY).read()
    assert list(found) == ["a", "b", "c", "d"]
    assert all(same(outcome, found[outcome.utterance]) for outcome in OUTCOMES)
    assert Journal(tmp_path, [*KEY[:-1], ["a", "b"]]).read() == {}


def test_an_interrupted_search_keeps_what_it_had_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def two_then_killed() -> Iterator[Outcome]:
        yield from OUTCOMES[:2]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        list(Journal(tmp_path, KEY).recorded(plain)(two_then_killed(), "title", 4))
    assert Journal(tmp_path, KEY).read() == {}, "the ten minutes were not over"
    monkeypatch.setenv("ASR_KD_CHECKPOINT_SECONDS", "0")
    with pytest.raises(KeyboardInterrupt):
        list(Journal(tmp_path, KEY).recorded(plain)(two_then_killed(), "title", 4))
    assert set(Journal(tmp_path, KEY).read()) == {"a", "b"}
    list(Journal(tmp_path, KEY).recorded(plain)(OUTCOMES[2:], "title", 2))
    assert set(Journal(tmp_path, KEY).read()) == {"a", "b", "c", "d"}


def test_a_damaged_shard_is_as_good_as_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ASR_KD_CHECKPOINT_SECONDS", "0")
    list(Journal(tmp_path, KEY).recorded(plain)(OUTCOMES, "title", 4))
    first, second, *_ = sorted(tmp_path.rglob("shard-*.json"))
    first.write_text(first.read_text().replace('"correct": 2', '"correct": 3'))
    second.write_text(second.read_text()[:-5])
    assert set(Journal(tmp_path, KEY).read()) == {"c", "d"}
    for other in ('{"outcomes": []}', "[]", "7", "[" * 100_000, '{"outcomes": 7, "checksum": 7}'):
        first.write_text(other)
        assert set(Journal(tmp_path, KEY).read()) == {"c", "d"}
    third = sorted(tmp_path.rglob("shard-*.json"))[2]
    third.write_text(third.read_text().replace('"checksum"', '"checksun"'))
    assert set(Journal(tmp_path, KEY).read()) == {"d"}
