"""Recognition of a split: order, failures, accuracy, and independence of the number of workers."""

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from asr_kd.decode.acoustics import Acoustics
from asr_kd.decode.batches import in_batches
from asr_kd.decode.journal import Journal
from asr_kd.decode.recognition import Outcome, Progress, Recognition, Task, in_processes
from asr_kd.decode.search import Hypothesis
from asr_kd.errors import UserError
from asr_kd.features.store import FrameStore, write_store
from asr_kd.pipeline import Job
from asr_kd.recipe import Recipe
from asr_kd.workspace import Workspace

PDFS = 5
LENGTHS = {"c": 4, "a": 9, "bad": 3, "b": 6}
LOG_PRIOR = np.log(np.array([0.6, 0.1, 0.1, 0.1, 0.1], np.float32))


def posteriors(utterance: str) -> np.ndarray:
    draws = np.random.default_rng(list(utterance.encode()))
    return np.log(draws.dirichlet(np.ones(PDFS), LENGTHS[utterance])).astype(np.float32)


class ArgMax:
    """A searcher that says the most probable state of each frame."""

    def search(self, scores: np.ndarray) -> Hypothesis:
        if len(scores) == LENGTHS["bad"]:
            raise ValueError("no path survived")
        best = scores.argmax(1)
        return Hypothesis(best.tolist(), best.astype(np.int32), 0.0, 0.0, complete=len(scores) != 4)


@dataclass
class InBatches(ArgMax):
    """ArgMax on many utterances at once, with a note of which came together."""

    batch_seconds: float
    seen: list[list[int]] = field(default_factory=list)

    def search_batch(self, batch: Sequence[np.ndarray]) -> list[Hypothesis | ValueError]:
        self.seen.append([len(scores) for scores in batch])
        found: list[Hypothesis | ValueError] = []
        for scores in batch:
            try:
                found.append(self.search(scores))
            except ValueError as error:
                found.append(error)
        return found


class Dying(ArgMax):
    def search(self, scores: np.ndarray) -> Hypothesis:
        os._exit(1)


def through(items: Iterable[Any], title: str, total: int | None = None) -> Iterable[Any]:
    return items


def job(jobs: int) -> Job:
    return Job(Recipe(), Workspace(Path()), jobs=jobs)


def run(jobs: int, alignment: FrameStore | None = None) -> Recognition:
    acoustics = Acoustics(lambda utterance: posteriors(utterance) - LOG_PRIOR, LOG_PRIOR)
    seconds = {utterance: float(frames) for utterance, frames in LENGTHS.items()}
    task = Task(acoustics, ArgMax(), alignment)
    return Recognition(in_processes(lambda: task.recognise, seconds, job(jobs), through, "toy"))


def test_results_do_not_depend_on_the_number_of_workers() -> None:
    symbols = list("vwxyz")
    one, three = run(1).words(symbols), run(3).words(symbols)
    assert one == three
    assert list(one) == list(LENGTHS)
    assert one["a"] == [symbols[i] for i in (posteriors("a") - LOG_PRIOR).argmax(1)]


def test_a_failing_utterance_is_listed_and_has_no_words(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("WARNING", "asr_kd")
    result = run(2)
    assert result.words(list("vwxyz"))["bad"] == []
    assert set(result.pdf_paths()) == {"a", "b", "c"}
    assert "1 utterances failed: bad (ValueError: no path survived)" in caplog.text
    assert "did not reach the end of a sentence: c" in caplog.text


def test_frame_accuracy_is_that_of_the_posteriors_on_aligned_utterances(tmp_path: Path) -> None:
    draws = np.random.default_rng(5)
    rows = {u: draws.integers(0, PDFS, (LENGTHS[u], 2)).astype(np.int16) for u in ("a", "b")}
    write_store(tmp_path, rows, {})
    correct = sum(int((posteriors(u).argmax(1) == rows[u][:, 0]).sum()) for u in rows)
    assert run(2, FrameStore(tmp_path)).frame_accuracy == pytest.approx(correct / 15)
    assert run(2).frame_accuracy is None


def test_a_dying_worker_ends_the_run_with_a_remedy() -> None:
    task = Task(Acoustics(posteriors, None), Dying())
    with pytest.raises(UserError, match="--jobs"):
        in_processes(lambda: task.recognise, {"a": 1.0}, job(1), through, "toy")


def test_batches_give_what_single_searches_give(tmp_path: Path) -> None:
    rows = {u: np.zeros((LENGTHS[u], 2), np.int16) for u in ("a", "b")}
    write_store(tmp_path, rows, {})
    searcher = InBatches(batch_seconds=13.0)
    acoustics = Acoustics(lambda utterance: posteriors(utterance) - LOG_PRIOR, LOG_PRIOR)
    seconds = {utterance: float(frames) for utterance, frames in LENGTHS.items()}
    found = Recognition(in_batches(Task(acoustics, searcher, FrameStore(tmp_path)), searcher, seconds, through, "toy"))
    single = run(2, FrameStore(tmp_path))
    assert searcher.seen == [[9], [6, 4], [3]]
    strip = {"network_seconds": 0.0, "search_seconds": 0.0, "pdfs": None}
    assert list(found.outcomes) == list(LENGTHS)
    for utterance, outcome in found.outcomes.items():
        assert replace(outcome, **strip) == replace(single.outcomes[utterance], **strip)
    assert found.frame_accuracy == single.frame_accuracy


def test_an_utterance_without_scores_fails_alone_in_its_batch() -> None:
    def scores(utterance: str) -> np.ndarray:
        return posteriors({"lost": "no such utterance"}.get(utterance, utterance))

    searcher = InBatches(batch_seconds=100.0)
    outcomes = in_batches(Task(Acoustics(scores, None), searcher), searcher, {"a": 9.0, "lost": 5.0}, through, "toy")
    assert outcomes["lost"].error.startswith("KeyError") and outcomes["lost"].words == ()
    assert outcomes["a"].error == "" and len(outcomes["a"].words) == LENGTHS["a"]


@dataclass
class Crashing(InBatches):
    """Raises `fault` over a batch that has an utterance of so many frames, or more than `most` utterances."""

    fault: BaseException = field(default_factory=lambda: RuntimeError("out of memory"))
    frames: int = 0
    most: int = 9

    def search_batch(self, batch: Sequence[np.ndarray]) -> list[Hypothesis | ValueError]:
        if len(batch) > self.most or self.frames in map(len, batch):
            self.seen.append([len(scores) for scores in batch])
            raise self.fault
        return super().search_batch(batch)


def batches_of(searcher: InBatches, utterances: Iterable[str], progress: Progress = through) -> dict[str, Outcome]:
    seconds = {utterance: float(LENGTHS[utterance]) for utterance in utterances}
    return in_batches(Task(Acoustics(posteriors, None), searcher), searcher, seconds, progress, "toy")


def test_a_batch_that_fails_is_searched_one_by_one(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("WARNING", "asr_kd")
    searcher = Crashing(batch_seconds=100.0, frames=LENGTHS["b"])
    outcomes = batches_of(searcher, "abc")
    assert searcher.seen == [[9, 6, 4], [9], [6], [4]]
    assert outcomes["b"].error == "RuntimeError: out of memory" and outcomes["b"].words == ()
    sound = batches_of(InBatches(100.0), "abc")
    assert all(outcomes[name].words == sound[name].words and outcomes[name].error == "" for name in "ac")
    assert "3 utterances are searched one by one" in caplog.text
    assert "toy: 1 utterances failed: b (RuntimeError: out of memory)" in caplog.text


def test_a_batch_too_large_for_the_memory_loses_nothing() -> None:
    outcomes, sound = batches_of(Crashing(100.0, most=1), "abc"), batches_of(InBatches(100.0), "abc")
    assert {name: found.words for name, found in outcomes.items()} == {name: sound[name].words for name in "abc"}
    assert not any(found.error for found in outcomes.values())


def test_a_search_in_batches_that_is_interrupted_keeps_the_batches_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ASR_KD_CHECKPOINT_SECONDS", "0")
    interrupted = Crashing(batch_seconds=13.0, fault=KeyboardInterrupt(), frames=LENGTHS["b"])
    with pytest.raises(KeyboardInterrupt):
        batches_of(interrupted, "abc", Journal(tmp_path, "toy").recorded(through))
    found = Journal(tmp_path, "toy").read()
    assert list(found) == ["a"] and found["a"].words == batches_of(InBatches(100.0), "a")["a"].words
