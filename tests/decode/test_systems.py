"""How the recipe's choices reach the search: back end, ensemble's mean, adaptation, and what has to be done again."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from asr_kd.decode import loading
from asr_kd.decode.acoustics import Acoustics
from asr_kd.decode.journal import Journal
from asr_kd.decode.recognition import Outcome, Recognition, Task
from asr_kd.decode.search import Hypothesis
from asr_kd.decode.systems import Decoding, Speech, System
from asr_kd.decode.tuning import Point
from asr_kd.errors import UserError
from asr_kd.files import read_json, write_json
from asr_kd.nn.posteriors import mean_log_posteriors
from asr_kd.pipeline import Job
from asr_kd.recipe import Lattice, Recipe
from asr_kd.stages.decode import made_from
from asr_kd.wfst.graph import from_rows
from asr_kd.workspace import LAST_TREE, Workspace

SPEAKERS = {"u": "ann", "v": "ann", "w": "bob"}


@pytest.fixture
def job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Job:
    """A graph of one word, and three utterances of two speakers."""
    work = Workspace(tmp_path)
    work.lang.mkdir()
    (work.lang / "words.txt").write_text("<eps> 0\nyes 1\n#0 2\n<s> 3\n</s> 4\n")
    speech = Speech(dict.fromkeys(SPEAKERS, 0.02), {name: ["yes"] for name in SPEAKERS}, SPEAKERS)
    monkeypatch.setattr(Speech, "load", lambda work, split: speech)
    monkeypatch.setattr(Decoding, "graph", lambda self, tree: work.graph(tree) / "HCLG.fst")
    from_rows(0, {2: 0.0}, [(0, 1, 1, 1, 0.5), (1, 2, 1, 0, 0.0)]).write(work.graph(LAST_TREE) / "HCLG.fst")
    return Job(Recipe(), work)


def with_decode(job: Job, **keys: Any) -> Job:
    decode = job.recipe.decode.model_copy(update=keys)
    return Job(job.recipe.model_copy(update={"decode": decode}), job.work)


def test_without_k2_its_back_end_is_refused_before_a_graph_is_read(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "k2", None)
    (job.work.graph(LAST_TREE) / "HCLG.fst").unlink()
    acoustics = Acoustics(lambda utterance: np.zeros((2, 1), np.float32), None)
    system = System("student", LAST_TREE, 1, 1, dict.fromkeys(("dev", "test"), acoustics))
    with pytest.raises(UserError, match=r"decode\.backend: k2 cannot be imported"):
        Decoding(with_decode(job, backend="k2"), []).search("toy", system, "dev", Point(1.0, 0.0))


class Batches:
    """A search of many utterances at once, all of which say `yes`."""

    batch_seconds = 100.0

    def search_batch(self, batch: Sequence[np.ndarray]) -> list[Hypothesis]:
        return [Hypothesis([1], np.zeros(len(scores), np.int32), 0.0, 0.0, True) for scores in batch]


def test_what_is_recognised_in_batches_is_journalled(job: Job, tmp_path: Path) -> None:
    task = Task(Acoustics(lambda utterance: np.zeros((2, 1), np.float32), None), Batches())  # type: ignore[arg-type]
    Decoding(job, []).spread(task, dict.fromkeys(SPEAKERS, 0.02), "toy", Journal(tmp_path, "toy"))
    found = Journal(tmp_path, "toy").read()
    assert {name: outcome.words for name, outcome in found.items()} == dict.fromkeys(SPEAKERS, (1,))


def test_the_ensembles_mean_is_that_of_the_targets_unless_decode_says_otherwise(
    job: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    means = []
    monkeypatch.setattr(loading, "load_network", lambda work, names, mean: means.append(mean))
    for keys in ({}, {"mean": "geometric"}):
        changed = with_decode(job, **keys)
        loading.load_networks(changed.work, changed.recipe, "ensemble")
    assert means == ["arithmetic", "geometric"]


def test_the_geometric_mean_averages_log_likelihoods() -> None:
    """Up to a constant a frame, which no search sees, the members' log posteriors less the log prior are averaged."""
    logits = [torch.randn(6, 9, generator=torch.Generator().manual_seed(seed)) for seed in range(3)]
    prior = torch.randn(9, generator=torch.Generator().manual_seed(9))
    mean = mean_log_posteriors(logits, "geometric") - prior
    likelihoods = torch.stack([member.log_softmax(1) - prior for member in logits]).mean(0)
    difference = mean - likelihoods
    assert torch.allclose(difference, difference[:, :1].expand_as(difference), atol=1e-5)


@pytest.mark.parametrize(("adapt", "expected"), [(None, SPEAKERS), ("utterance", {u: u for u in SPEAKERS})])
def test_adaptation_is_by_speaker_or_by_utterance(job: Job, adapt: str | None, expected: dict[str, str]) -> None:
    seen = []

    class Stub:
        def scores(self, split: str, utterance: str) -> np.ndarray:
            return np.zeros((2, 1), np.float32)

        def adapt(self, split: str, paths: dict[str, np.ndarray], speakers: dict[str, str]) -> "Stub":
            assert set(paths) == set(SPEAKERS)
            seen.append(speakers)
            return self

    Decoding(with_decode(job, adapt=adapt), []).adapted(Stub(), "dev")  # type: ignore[arg-type]
    assert seen == [expected] * 2


def test_lattices_leave_decoded_systems_decoded(job: Job) -> None:
    plain = made_from(job, "student")
    assert made_from(with_decode(job, lattice=Lattice()), "student") == plain
    assert made_from(with_decode(job, mean="geometric"), "student") == plain
    assert made_from(with_decode(job, mean="geometric"), "ensemble") != made_from(job, "ensemble")
    assert made_from(with_decode(job, backend="k2"), "student") != plain
    assert made_from(with_decode(job, pronunciation_probabilities=True), "student") != plain


@pytest.fixture
def searched(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Titles of the searches, which all find the same."""
    titles: list[str] = []

    def search(decoding: Decoding, title: str, *_: Any) -> Recognition:
        titles.append(title)
        return Recognition({name: Outcome(name, (1,)) for name in SPEAKERS})

    monkeypatch.setattr(Decoding, "system", lambda self, name: None)
    monkeypatch.setattr(Decoding, "tune", lambda self, system: {Point(1.0, 0.0): 0.5})
    monkeypatch.setattr(Decoding, "search", search)
    monkeypatch.setattr(Decoding, "summary", lambda self, *_: {"rtf": 1.0})
    return titles


BOTH = ["student dev", "student test"]


def test_a_system_is_decoded_again_where_its_hypotheses_are_not_as_they_were(job: Job, searched: list[str]) -> None:
    decoding, folder = Decoding(job, []), job.work.decode("student")
    decoding.decode("student", "this one")
    whole = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert searched == BOTH and set(whole) == {"dev.txt", "test.txt", "summary.json"}
    decoding.decode("student", "this one")
    assert searched == BOTH
    for name, content in [("dev.txt", whole["dev.txt"][:-4]), ("test.txt", b""), ("summary.json", b"[]")]:
        searched.clear()
        (folder / name).write_bytes(content)
        decoding.decode("student", "this one")
        assert searched == BOTH and {path.name: path.read_bytes() for path in folder.iterdir()} == whole
    searched.clear()
    decoding.decode("student", "another")
    assert searched == BOTH


def test_a_summary_without_checksums_is_believed_where_the_hypotheses_are_there(job: Job, searched: list[str]) -> None:
    decoding, folder = Decoding(job, []), job.work.decode("student")
    decoding.decode("student", "this one")
    summary = read_json(folder / "summary.json")
    del summary["checksums"]
    write_json(folder / "summary.json", summary)
    decoding.decode("student", "this one")
    assert searched == BOTH
    (folder / "test.txt").unlink()
    decoding.decode("student", "this one")
    assert searched == BOTH * 2


def test_a_damaged_system_of_another_experiment_is_not_written_to(job: Job, searched: list[str]) -> None:
    decoding, folder, others = Decoding(job, []), job.work.decode("student"), job.work.root / "others"
    decoding.decode("student", "this one")
    folder.rename(others)
    folder.symlink_to(others)
    decoding.decode("student", "this one")
    assert searched == BOTH and folder.is_symlink()
    (others / "dev.txt").write_text("half")
    decoding.decode("student", "this one")
    assert searched == BOTH * 2 and not folder.is_symlink()
    assert (others / "dev.txt").read_text() == "half"
