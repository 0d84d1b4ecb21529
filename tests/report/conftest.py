from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from spoken_experiment import spoken_experiment

from asr_kd.files import read_json
from asr_kd.nn.products import threads
from asr_kd.pipeline import Job
from asr_kd.stages import score


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    with threads(1):
        yield


@pytest.fixture(scope="session")
def scored(tmp_path_factory: pytest.TempPathFactory) -> Job:
    """The miniature experiment after stage 8; tests do not write into it."""
    job = spoken_experiment(tmp_path_factory.mktemp("spoken") / "exp" / "spoken")
    write_neighbour(job.work.root.parent / "temperature")
    with threads(1):
        score.run(job)
    return job


@pytest.fixture(scope="session")
def results(scored: Job) -> dict[str, Any]:
    return read_json(scored.work.results)


def write_neighbour(folder: Path) -> None:
    """The table of a finished sweep over temperature and hard weight."""
    from asr_kd.files import write_json

    axes = {"student.temperature": ["1", "2"], "student.hard_weight": ["0", "0.5"]}
    cells = []
    for row, temperature in enumerate(axes["student.temperature"]):
        for column, weight in enumerate(axes["student.hard_weight"]):
            labels = {"student.temperature": temperature, "student.hard_weight": weight}
            summary = {"mean": 0.4 + 0.02 * row + 0.01 * column, "sd": None, "ci95": None, "seeds": 1}
            figures = {"frame_accuracy.dev": summary} if row or column else {}
            cells.append({"name": f"{temperature}-{weight}", "labels": labels, "figures": figures})
    table = {"experiment": "temperature", "description": "T and w", "base": "recipes/spoken.yaml", "axes": axes}
    write_json(folder / "table.json", {**table, "cells": cells})
