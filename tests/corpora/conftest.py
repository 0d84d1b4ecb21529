"""A small corpus in LibriSpeech's layout, and a way to run the first stage on it."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from asr_kd.pipeline import Job
from asr_kd.recipe import Recipe
from asr_kd.stages import prepare
from asr_kd.workspace import Workspace

RATE = 16000
WriteTone = Callable[..., Path]
Prepare = Callable[..., Workspace]


@pytest.fixture
def write_tone() -> WriteTone:
    def write(path: Path, seconds: float = 0.5, rate: int = RATE) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        samples = 0.3 * np.sin(2 * np.pi * 300 * np.arange(round(seconds * rate)) / rate)
        soundfile.write(path, samples, rate, subtype="PCM_16")
        return path

    return write


@pytest.fixture
def librispeech(tmp_path: Path, write_tone: WriteTone) -> Path:
    """Three parts of two speakers with three utterances each: 1-7-0000 … 22-7-0002."""
    root = tmp_path / "LibriSpeech"
    for number, part in enumerate(("train-x", "dev-x", "test-x")):
        for speaker in (str(10 * number + 1), str(10 * number + 2)):
            chapter = root / part / speaker / "7"
            names = [f"{speaker}-7-{index:04d}" for index in range(3)]
            for index, name in enumerate(names):
                write_tone(chapter / f"{name}.flac", seconds=0.5 + 0.1 * index)
            lines = "".join(f"{name} THE  {part[:3].upper()}\n" for name in names)
            (chapter / f"{speaker}-7.trans.txt").write_text(lines)
    return root


@pytest.fixture
def run_prepare(tmp_path: Path) -> Prepare:
    """Run stage 0 on a corpus section; returns the experiment's paths."""

    def run(corpus: dict[str, Any], name: str = "exp", jobs: int = 1, seed: int = 0) -> Workspace:
        work = Workspace(tmp_path / name)
        prepare.run(Job(Recipe.model_validate({"name": "test", "seed": seed, "corpus": corpus}), work, jobs=jobs))
        return work

    return run
