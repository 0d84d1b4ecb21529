"""What is shared, who makes what is not, and what a failure costs, with stages that only leave marks."""

from collections.abc import Callable
from pathlib import Path

import pytest
from fake_stages import Factory

from asr_kd.experiment.definition import load_experiment
from asr_kd.experiment.run import make_cells
from asr_kd.experiment.scheduler import run_cells
from asr_kd.experiment.sharing import FROM, CellRun, read_record
from asr_kd.files import read_json
from asr_kd.pipeline import STAGE_NAMES, run_stages
from asr_kd.recipe_file import load_recipe

Sweep = Callable[..., list[CellRun]]
LAST = len(STAGE_NAMES) - 1


@pytest.fixture
def sweep(tmp_path: Path, base_recipe: Path, factory: Factory) -> Sweep:
    """Run an experiment over the base: sweep(definition text, seeds, jobs) → its cells."""

    def run(text: str, seeds: tuple[int, ...] = (0,), jobs: int = 1, last: int = LAST) -> list[CellRun]:
        path = tmp_path / "sweep.yaml"
        path.write_text(text)
        experiment = load_experiment(path)
        cells = make_cells(experiment, base_recipe, tmp_path / "sweep", seeds, [])
        runs = [run for by_seed in cells.values() for run in by_seed.values()]
        providers = [tmp_path / "base", *sorted((tmp_path / "sweep" / "cells").glob("*/seed-*"))]
        run_cells(runs, providers, last, jobs, factory.start)
        return runs

    return run


@pytest.fixture
def base(tmp_path: Path, base_recipe: Path, factory: Factory) -> Path:
    """The base experiment, all stages done."""
    run_stages(load_recipe(base_recipe), tmp_path / "base")
    factory.trained.clear()
    return tmp_path / "base"


def maker(path: Path) -> str:
    return read_json(path)["maker"]


def test_a_sweep_of_the_student_shares_all_before_it(base: Path, factory: Factory, sweep: Sweep) -> None:
    runs = sweep("grid: {student.temperature: [2, 3, 4]}")
    assert not any(run.failure for run in runs)
    assert factory.ran_stage("student") == ["temperature-3/0", "temperature-4/0"], "2 is the base's"
    assert set(factory.ran) == {
        *(f"temperature-{t}/0 {stage}" for t in (3, 4) for stage in ("student", "decode")),
        *(f"temperature-{t}/0 score" for t in (2, 3, 4)),
    }
    for run in runs:
        for name in ("manifests/mark.json", "hmm/alignment/mark.json", "targets/mark.json"):
            assert maker(run.root / name) == "base"
        assert maker(run.root / "decode" / "baseline" / "summary.json") == "base"
        record = read_record(run.root, "targets")
        assert record and record[FROM] == str(base.resolve())
    for run in runs[1:]:
        assert (run.root / "graph" / "sat").resolve() == (base / "graph" / "sat").resolve()
    assert [maker(run.root / "models" / "student" / "mark.json") for run in runs] == [
        "base", "sweep_temperature-3_0", "sweep_temperature-4_0"
    ]  # fmt: skip
    assert maker(runs[1].root / "decode" / "student" / "summary.json") == "sweep_temperature-3_0"
    assert maker(base / "decode" / "student" / "summary.json") == "base"


def test_cells_share_among_themselves_without_a_base(factory: Factory, sweep: Sweep) -> None:
    text = "grid: {targets.top_k: [5, 10], student.hard_weight: [0, 1]}"
    runs = sweep(text, seeds=(0, 1), jobs=4, last=STAGE_NAMES.index("student"))
    assert all(run.position == STAGE_NAMES.index("student") + 1 for run in runs)
    for stage in ("prepare", "features", "lang", "align", "teachers"):
        assert len(factory.ran_stage(stage)) == 1
    assert len(factory.ran_stage("targets")) == 2
    assert len(factory.ran_stage("student")) == 8
    assert factory.busiest <= 4
    assert 4 in factory.cores and 1 in factory.cores, "a stage alone has all cores"


def test_no_graph_is_built_twice(tmp_path: Path, base_recipe: Path, factory: Factory, sweep: Sweep) -> None:
    run_stages(load_recipe(base_recipe), tmp_path / "base", 0, STAGE_NAMES.index("student"))
    runs = sweep("grid: {student.temperature: [3, 4, 5]}", jobs=3)
    graphs = {maker(run.root / "graph" / "sat" / "stats.json") for run in runs}
    baselines = {maker(run.root / "decode" / "baseline" / "summary.json") for run in runs}
    assert graphs == baselines and len(graphs) == 1
    assert not (tmp_path / "base" / "graph").exists(), "nothing is written into the base"


def test_an_ensemble_grows_by_the_members_it_lacks(base: Path, factory: Factory, sweep: Sweep) -> None:
    runs = sweep("grid: {teachers.members: [2, 3, 5, 4]}", jobs=4, last=STAGE_NAMES.index("teachers"))
    assert factory.ran_stage("teachers") == ["members-2/0", "members-5/0", "members-4/0"]
    assert factory.trained == ["sweep_members-5_0 member-03", "sweep_members-5_0 member-04"]
    assert (runs[1].root / "models" / "member-00").is_symlink(), "3 members are the base's"
    for run in (runs[0], runs[2], runs[3]):
        assert not any(path.is_symlink() for path in (run.root / "models").iterdir())


def test_members_of_another_architecture_are_trained(base: Path, factory: Factory, sweep: Sweep) -> None:
    networks = "[{}, {width: 64}]"
    sweep(f"cells: {{mixed: {{teachers.networks: {networks}}}}}", last=STAGE_NAMES.index("teachers"))
    assert factory.trained == ["sweep_mixed_0 member-01"], "members 0 and 2 have the base's network"


def test_a_second_call_runs_nothing(base: Path, factory: Factory, sweep: Sweep) -> None:
    text = "grid: {student.temperature: [3, 4]}"
    sweep(text, seeds=(0, 1))
    factory.ran.clear()
    assert all(run.position == LAST + 1 for run in sweep(text, seeds=(0, 1)))
    assert factory.ran == []


def test_a_changed_cell_is_redone_without_touching_what_others_link_to(
    base: Path, factory: Factory, sweep: Sweep
) -> None:
    first, second = sweep("grid: {targets.top_k: {a: 5, b: 5}, student.temperature: [3]}")
    assert (second.root / "targets").is_symlink() and not (first.root / "targets").is_symlink()
    factory.ran.clear()
    first, second = sweep("grid: {targets.top_k: {a: 6, b: 5}, student.temperature: [3]}")
    for run in (first, second):
        assert not run.failure
        assert read_json(run.root / "targets" / "mark.json")["fingerprint"] == run.fingerprints["targets"]
        student = read_json(run.root / "models" / "student" / "mark.json")
        assert student["fingerprint"] == run.fingerprints["student"]


def test_what_the_base_makes_anew_is_linked_no_longer(
    base: Path, base_recipe: Path, factory: Factory, sweep: Sweep
) -> None:
    (run,) = sweep("grid: {student.temperature: [3]}")
    run_stages(load_recipe(base_recipe, ["targets.top_k=7"]), base)
    factory.ran.clear()
    (run,) = sweep("grid: {student.temperature: [3]}")
    assert factory.ran_stage("targets") == ["temperature-3/0"], "the base holds other targets now"
    assert maker(run.root / "targets" / "mark.json") == run.recipe.name
    assert maker(base / "targets" / "mark.json") == "base"


def test_a_failure_costs_only_what_depends_on_it(base: Path, factory: Factory, sweep: Sweep) -> None:
    text = "grid: {targets.top_k: [5, 6], student.temperature: [3, 4]}"
    factory.fails = lambda run, stage: stage.name == "targets" and run.recipe.targets.top_k == 5
    runs = sweep(text, jobs=2)
    assert [bool(run.failure) for run in runs] == [True, True, False, False]
    assert runs[0].failure.startswith("stage targets failed (status 2); see ")
    assert runs[1].failure == "stage targets failed in top_k-5_temperature-3 seed 0"
    assert factory.ran_stage("targets") == ["top_k-5_temperature-3/0", "top_k-6_temperature-3/0"]
    factory.fails = lambda run, stage: False
    factory.ran.clear()
    assert not any(run.failure for run in sweep(text, jobs=2))
    assert factory.ran_stage("targets") == ["top_k-5_temperature-3/0"], "the next call tries again, and only that"
    assert len(factory.ran_stage("student")) == 2


def test_an_interrupt_ends_what_runs(
    base: Path, factory: Factory, sweep: Sweep, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(seconds: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("asr_kd.experiment.scheduler.time.sleep", interrupt)
    with pytest.raises(KeyboardInterrupt):
        sweep("grid: {student.temperature: [3, 4, 5]}", jobs=2)
    assert factory.stopped == 2
