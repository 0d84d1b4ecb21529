from pathlib import Path

import numpy as np
import pytest
import soundfile
from tiny_experiment import make_experiment

from asr_kd.deploy.bundle import load_bundle
from asr_kd.deploy.export import export
from asr_kd.deploy.recogniser import Recogniser
from asr_kd.workspace import Workspace

RATE = 16000


@pytest.fixture(scope="session")
def experiment(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    return make_experiment(tmp_path_factory.mktemp("experiment"))


@pytest.fixture(scope="session")
def bundle(experiment: Workspace, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The exported bundle, for reading only."""
    folder = tmp_path_factory.mktemp("exported") / "bundle"
    export(experiment, "student", folder)
    return folder


@pytest.fixture(scope="session")
def recogniser(bundle: Path) -> Recogniser:
    return Recogniser.load(load_bundle(bundle))


@pytest.fixture(scope="session")
def noise() -> np.ndarray:
    """3 s of noise whose colour changes four times a second, float32."""
    draws = np.random.default_rng(1)
    pieces = [np.convolve(draws.normal(size=RATE // 4 + 40), draws.normal(size=41), "valid") for _ in range(12)]
    return (0.02 * np.concatenate(pieces)).astype(np.float32)


@pytest.fixture
def recording(tmp_path: Path, noise: np.ndarray) -> Path:
    path = tmp_path / "noise.wav"
    soundfile.write(path, noise, RATE, subtype="PCM_16")
    return path
