"""The benchmarks of decoding: they leave the experiment as it is, and sum up what they measured."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
import yaml

from asr_kd.decode.search import Hypothesis
from asr_kd.errors import UserError
from asr_kd.files import write_text
from asr_kd.pipeline import Job
from asr_kd.recipe import Recipe
from asr_kd.stages import decode as stage
from asr_kd.workspace import Workspace


def load(repository: Path, name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"benchmark_{name}", repository / "benchmarks" / f"{name}.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("name", ["decode", "lattices"])
def test_graphs_are_those_of_the_stage(
    name: str, repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With other inputs than the stage's, a graph counts as out of date and is made again."""
    benchmark, recipe, asked = load(repository, name), Recipe(), list[list[str]]()
    write_text(tmp_path / "recipe.yaml", yaml.safe_dump(recipe.model_dump(mode="json")))

    def refuse(job: Job, graph_inputs: list[str]) -> None:
        asked.append(graph_inputs)
        raise UserError("not loaded")

    for module in (stage, benchmark):
        monkeypatch.setattr(module, "Decoding", refuse)
    monkeypatch.setattr(torch, "set_num_threads", lambda count: None)  # of the other tests
    monkeypatch.setattr(sys, "argv", [name, str(tmp_path)])
    with pytest.raises(UserError, match="not loaded"):
        stage.run(Job(recipe, Workspace(tmp_path)))
    assert benchmark.main() == 2
    assert len(asked) == 2 and asked[0] == asked[1] != []


class Narrow:
    """A search that loses every path of a single frame."""

    def search(self, scores: np.ndarray) -> Hypothesis:
        if len(scores) == 1:
            raise ValueError("no path survived the beam")
        return Hypothesis([7], np.zeros(len(scores), np.int32), 0.0, 0.0, True)


def test_an_utterance_without_a_path_has_no_words(repository: Path) -> None:
    scores = {"short": np.zeros((1, 3), np.float32), "long": np.zeros((2, 3), np.float32)}
    _, found = load(repository, "decode").measure(scores.__getitem__, {7.0: Narrow()}, list(scores))
    assert found[7.0].words == {"short": [], "long": [7]} and found[7.0].failed == 1


def test_the_summary_by_hand(repository: Path) -> None:
    benchmark = load(repository, "decode")
    rows = [
        benchmark.Row("ensemble", 7.0, 1.0, 0.1, 0.11),
        benchmark.Row("student", 7.0, 0.01, 0.05, 0.13),
        benchmark.Row("student", 9.0, 0.01, 0.09, 0.122),  # 0.2 above the best
        benchmark.Row("student", 11.0, 0.01, 0.24, 0.12),
        benchmark.Row("student, exported, int8", 9.0, 0.004, 0.09, 0.121, failed=2),
    ]
    assert list(benchmark.summary(rows)) == [
        "student: real-time factor 0.100 at beam 9 (WER 12.20%), the bar is 0.15",
        "student, exported, int8: real-time factor 0.094 at beam 9 (WER 12.10%), the bar is 0.15",
        "network time of the ensemble: 250.0 times that of the student with 8-bit weights",
    ]
    assert list(benchmark.summary(rows[:1])) == []
    assert str(rows[-1]) == "| student, exported, int8 | 9 | 0.0040 | 0.0900 | 0.0940 | 12.10% | 2 |"
