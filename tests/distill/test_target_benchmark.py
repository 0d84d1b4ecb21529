"""benchmarks/ measures what it says: each part of the code gets the frames that it expects."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from torch import Tensor

from asr_kd.nn.posteriors import Ensemble

MEAN, SCALE, FRAMES = 3.0, 0.5, 600


@pytest.fixture
def benchmark(repository: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """benchmarks/targets.py, which imports its neighbour train.py."""
    monkeypatch.syspath_prepend(str(repository / "benchmarks"))
    spec = importlib.util.spec_from_file_location("targets_benchmark", repository / "benchmarks" / "targets.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_frames_are_standardised_once(benchmark: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    """`dump_targets` does so itself; forward passes and training do not."""
    seen: dict[str, list[Tensor]] = {}

    def watch(name: str, place: int) -> None:
        original = getattr(benchmark, name)

        def watched(*given: Any, **named: Any) -> Any:
            seen.setdefault(name, []).append(given[place].rows)
            return original(*given, **named)

        monkeypatch.setattr(benchmark, name, watched)

    random_teachers = benchmark.random_teachers

    def off_centre_teachers(count: int, width: int) -> Ensemble:
        ensemble: Ensemble = random_teachers(count, width)
        for model in ensemble.models:
            model.mean.fill_(MEAN)
            model.scale.fill_(SCALE)
        return ensemble

    for name, place in (("dump_targets", 2), ("forward", 1), ("TrainingLoop", 4)):
        watch(name, place)
    monkeypatch.setattr(benchmark, "random_teachers", off_centre_teachers)
    options = {"threads": 1, "members": 2, "width": 16, "frames": FRAMES, "repeats": 1}
    monkeypatch.setattr(sys, "argv", ["targets.py", *(f"--{name}={value}" for name, value in options.items())])
    benchmark.main()

    raw = benchmark.random_frames(FRAMES).rows
    expected = {"dump_targets": raw, "forward": ((raw.float() - MEAN) * SCALE).half()}
    expected["TrainingLoop"] = expected["forward"]
    assert {name: {bool(rows.equal(expected[name])) for rows in found} for name, found in seen.items()} == {
        name: {True} for name in expected
    }
