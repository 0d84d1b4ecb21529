"""The runner with stages that only count their calls."""

import logging
import sys
import time
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from asr_kd.errors import UserError
from asr_kd.files import read_json
from asr_kd.pipeline import MEANS, STAGE_NAMES, Job, digest, fingerprint, run_stages, stage_seconds
from asr_kd.recipe import Recipe
from asr_kd.recipe_file import load_recipe
from asr_kd.workspace import Workspace

Behaviour = Callable[[Job], None]


@pytest.fixture
def ran(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Replace every stage by one that appends its name to this list."""
    calls: list[str] = []
    for name in STAGE_NAMES:
        replace_stage(monkeypatch, name, lambda _, name=name: calls.append(name))
    return calls


def replace_stage(monkeypatch: pytest.MonkeyPatch, name: str, behaviour: Behaviour) -> None:
    module = ModuleType(f"asr_kd.stages.{name}")
    module.run = behaviour  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, f"asr_kd.stages.{name}", module)


def with_key(tmp_path: Path, override: str) -> Recipe:
    path = tmp_path / "r.yaml"
    path.write_text("corpus: {kind: embedded}\n")
    return load_recipe(path, [override] if override else [])


def test_all_stages_run_in_order_and_then_none(tmp_path: Path, ran: list[str]) -> None:
    run_stages(Recipe(), tmp_path / "exp")
    assert ran == list(STAGE_NAMES)
    run_stages(Recipe(), tmp_path / "exp")
    assert ran == list(STAGE_NAMES)


EVERYTHING = " ".join(STAGE_NAMES)
NETWORKS = "teachers targets student decode score"


@pytest.mark.parametrize(
    ("override", "redone"),
    [
        ("seed=1", EVERYTHING),
        ("corpus.embedded.test_utterances=7", EVERYTHING),
        ("features.fbank.num_bins=30", f"features align {NETWORKS}"),
        ("lang.lexicon=my.txt", f"lang align {NETWORKS}"),
        ("lang.max_words=100", f"lang align {NETWORKS}"),
        ("lang.units=grapheme", f"lang align {NETWORKS}"),
        ("lang.ngram.prune=1e-7", "lang decode score"),
        ("hmm.sat.leaves=100", f"align {NETWORKS}"),
        ("teachers.members=2", NETWORKS),
        ("teachers.network.width=64", NETWORKS),
        ("targets.top_k=null", "targets student decode score"),
        ("student.temperature=4", "student decode score"),
        ("student.network.width=64", "student decode score"),
        ("decode.beam=10", "decode score"),
        ("score.worst_utterances=3", "score"),
        ("name=other", "score"),
        ("description=words", ""),
    ],
)
def test_a_changed_key_redoes_exactly_what_depends_on_it(
    tmp_path: Path, ran: list[str], override: str, redone: str
) -> None:
    run_stages(with_key(tmp_path, ""), tmp_path / "exp")
    ran.clear()
    run_stages(with_key(tmp_path, override), tmp_path / "exp")
    assert " ".join(ran) == redone


# Which stages every key of the recipe redoes; a key belongs to the longest name here that it begins with.
REDONE = {
    "seed": EVERYTHING,
    "corpus": EVERYTHING,
    "features": f"features align {NETWORKS}",
    "lang": f"lang align {NETWORKS}",
    "lang.ngram": "lang decode score",
    "lang.ngram.arpa": f"lang align {NETWORKS}",
    "lang.tokens": "lang decode score",
    "lang.pieces": "lang decode score",
    "hmm": f"align {NETWORKS}",
    "teachers": NETWORKS,
    "specialists": NETWORKS,
    "targets": "targets student decode score",
    "targets.mean": NETWORKS,
    "student": "student decode score",
    "decode": "decode score",
    "score": "score",
    "name": "score",
    "description": "",
    "track": "",
    "needs": "",
}


def leaves(section: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Every key of a recipe, by its whole name."""
    found: dict[str, Any] = {}
    for key, value in section.items():
        found |= leaves(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return found


class Changed:
    """Recipe() with another value of one key: what a fingerprint sees of a recipe."""

    def __init__(self, key: str) -> None:
        self.data = Recipe().model_dump(mode="json")
        *parents, last = key.split(".")
        section = self.data
        for parent in parents:
            section = section[parent]
        section[last] = "another value"

    def model_dump(self, mode: str) -> dict[str, Any]:
        return self.data


def test_every_key_redoes_what_the_table_says() -> None:
    before = {name: fingerprint(Recipe(), name) for name in STAGE_NAMES}
    keys = leaves(Recipe().model_dump(mode="json"))
    assert len(keys) > 100
    for key in keys:
        longest = max((name for name in REDONE if f"{key}.".startswith(f"{name}.")), key=len, default=None)
        assert longest is not None, f"{key}: say in REDONE what it redoes"
        changed = Changed(key)
        redone = [name for name in STAGE_NAMES if fingerprint(changed, name) != before[name]]  # type: ignore[arg-type]
        expected = "" if key.rpartition(".")[2] in MEANS else REDONE[longest]
        assert " ".join(redone) == expected, key


def test_a_comment_redoes_nothing(tmp_path: Path, ran: list[str]) -> None:
    path = tmp_path / "r.yaml"
    for text in ("name: r\nseed: 3\n", "# tried on Monday\nseed: 3  # the best\n\nname: r\n"):
        path.write_text(text)
        ran.clear()
        run_stages(load_recipe(path), tmp_path / "exp")
    assert ran == []


@pytest.mark.parametrize(("first", "missing"), [(1, "prepare"), (3, "prepare"), (7, "lang"), (8, "targets")])
def test_a_stage_without_its_inputs_names_file_and_stage(
    tmp_path: Path, ran: list[str], first: int, missing: str
) -> None:
    number = STAGE_NAMES.index(missing)
    with pytest.raises(
        UserError, match=rf"\.done/{missing}\.json: stage {first} .* run --stage {number} first"
    ) as error:
        run_stages(Recipe(), tmp_path / "exp", first)
    assert "\n" not in str(error.value)
    assert ran == []


def test_alignment_waits_for_the_lexicon(tmp_path: Path, ran: list[str]) -> None:
    run_stages(Recipe(), tmp_path / "exp", 0, 1)
    with pytest.raises(UserError, match=r"\.done/lang\.json"):
        run_stages(Recipe(), tmp_path / "exp", 3)


def test_inputs_of_another_recipe_do_not_count(tmp_path: Path, ran: list[str]) -> None:
    run_stages(with_key(tmp_path, ""), tmp_path / "exp")
    with pytest.raises(UserError, match=r"older than the recipe; run --stage 6 first"):
        run_stages(with_key(tmp_path, "student.temperature=4"), tmp_path / "exp", 7)


def test_files_of_another_recipe_further_back_do_not_count_either(tmp_path: Path, ran: list[str]) -> None:
    run_stages(with_key(tmp_path, ""), tmp_path / "exp")
    run_stages(with_key(tmp_path, "features.fbank.num_bins=30"), tmp_path / "exp", 1, 1)
    (tmp_path / "exp" / ".done" / "decode.json").unlink()
    with pytest.raises(UserError, match=r"features\.json: stage 7 \(decode\) reads .*; run --stage 1 first"):
        run_stages(with_key(tmp_path, ""), tmp_path / "exp", 7)


def test_a_failing_stage_leaves_no_record(tmp_path: Path, ran: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    work = Workspace(tmp_path / "exp")
    run_stages(with_key(tmp_path, ""), work.root)

    def fail(job: Job) -> None:
        raise RuntimeError("no memory")

    with monkeypatch.context() as patch:
        replace_stage(patch, "student", fail)
        with pytest.raises(RuntimeError, match="no memory"):
            run_stages(with_key(tmp_path, "student.temperature=4"), work.root)
    assert not work.record("student").exists()
    assert "no memory" in work.log("student").read_text()
    ran.clear()
    run_stages(with_key(tmp_path, ""), work.root)
    assert "student" in ran, "the old recipe's files were half overwritten"


def test_records_logs_and_recipe_explain_the_run(
    tmp_path: Path, ran: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    work = Workspace(tmp_path / "exp")

    def count(job: Job) -> None:
        assert list(job.progress(range(5), "counting")) == [0, 1, 2, 3, 4]
        logging.getLogger("asr_kd").info("a line for the log")

    replace_stage(monkeypatch, "prepare", count)
    run_stages(with_key(tmp_path, "seed=3"), work.root, 0, 0)
    log = work.log("prepare").read_text()
    assert "a line for the log" in log and "counting: 5 in" in log
    record = read_json(work.record("prepare"))
    assert record["keys"]["seed"] == 3
    assert stage_seconds(work) == {"prepare": {key: record[key] for key in ("seconds", "cpu_seconds")}}
    assert load_recipe(work.root / "recipe.yaml") == with_key(tmp_path, "seed=3")
    assert read_json(work.root / "environment.json")["packages"]["torch"]


def test_seconds_are_those_of_all_attempts_at_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    work, clock = Workspace(tmp_path / "exp"), [0.0]
    told = SimpleNamespace(monotonic=lambda: clock[0], strftime=time.strftime)
    monkeypatch.setattr("asr_kd.pipeline.time", told)
    monkeypatch.setattr("asr_kd.pipeline._cpu_seconds", lambda: 2 * clock[0])

    def attempt(seconds: float, error: type[BaseException] | None, override: str) -> None:
        def behave(job: Job) -> None:
            clock[0] += seconds
            if error:
                raise error

        replace_stage(monkeypatch, "prepare", behave)
        with pytest.raises(error) if error else nullcontext():
            run_stages(with_key(tmp_path, override), work.root, 0, 0)

    attempt(5, KeyboardInterrupt, "seed=1")
    attempt(3, RuntimeError, "seed=1")
    attempt(2, None, "seed=1")
    assert stage_seconds(work) == {"prepare": {"seconds": 10.0, "cpu_seconds": 20.0}}
    assert not work.partial.exists()
    attempt(5, KeyboardInterrupt, "seed=2")
    attempt(2, None, "seed=3")
    assert stage_seconds(work) == {"prepare": {"seconds": 2.0, "cpu_seconds": 4.0}}, "those were of another recipe"
    attempt(5, KeyboardInterrupt, "seed=4")
    noted = work.seconds("prepare")
    noted.write_text(noted.read_text().replace("5.0", "9.0"))
    attempt(3, None, "seed=4")
    assert stage_seconds(work) == {"prepare": {"seconds": 3.0, "cpu_seconds": 6.0}}, "a damaged note is as good as none"


def test_an_option_that_is_off_is_as_good_as_absent() -> None:
    assert digest({"a": 1, "b": {"c": None}, "d": [{"e": None}]}) == digest({"a": 1, "b": {}, "d": [{}]})
    assert digest({"a": 1}) != digest({"a": 0})
    assert digest({"a": [None, 1]}) != digest({"a": [1]})
