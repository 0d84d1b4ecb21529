"""The exported network against the experiment's."""

from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_experiment import BINS, NETWORK, random_model

from asr_kd.deploy.bundle import load_bundle
from asr_kd.deploy.network import Network
from asr_kd.deploy.onnx_model import onnx_model, quantised
from asr_kd.errors import UserError
from asr_kd.features.store import FrameStore
from asr_kd.nn.frames import Frames
from asr_kd.nn.posteriors import Ensemble, load_scorer
from asr_kd.recipe import Network as NetworkRecipe
from asr_kd.workspace import Workspace

FRAMES = np.random.default_rng(0).normal(size=(90, BINS)).astype(np.float16)


@pytest.mark.parametrize(
    "changes",
    [{}, {"norm": "batch"}, {"norm": "layer"}, {"left": 0, "right": 0}, {"layers": 0}, {"left": 20, "right": 5}],
)
def test_log_posteriors_are_those_of_torch(tmp_path: Path, changes: dict[str, object]) -> None:
    recipe = NetworkRecipe.model_validate({**NETWORK.model_dump(), **changes})
    model = random_model(recipe).eval()
    (tmp_path / "model.onnx").write_bytes(onnx_model(model).SerializeToString())
    network = Network(tmp_path / "model.onnx", recipe.left, recipe.right)
    with torch.inference_mode():
        rows = Frames.of_utterance("u", torch.from_numpy(FRAMES)).standardised(model)
        ensemble = Ensemble([model])
        expected = ensemble.log_posteriors(ensemble.windows(rows, torch.arange(len(FRAMES)))).numpy()
    np.testing.assert_allclose(network.log_posteriors(FRAMES), expected, atol=2e-5, rtol=1e-5)
    piece = np.pad(FRAMES, ((recipe.left, recipe.right), (0, 0)), mode="edge")[30:][: recipe.left + 10 + recipe.right]
    np.testing.assert_allclose(network.inside(piece), expected[30:40], atol=2e-5, rtol=1e-5)


def test_eight_bits_change_posteriors_little(experiment: Workspace, bundle: Path) -> None:
    scorer = load_scorer(experiment, ["student"])
    network = load_bundle(bundle).network(int8=True)
    assert network.path.stat().st_size < load_bundle(bundle).network().path.stat().st_size
    for name in ("test-0", "test-5"):
        expected = np.exp(scorer.log_posteriors("test", name))
        found = np.exp(network.log_posteriors(stored(experiment, name)))
        assert 0 < np.abs(found - expected).max() < 0.3
        assert np.abs(found - expected).mean() < 5e-3
        assert (found.argmax(1) == expected.argmax(1)).mean() > 0.9


def stored(experiment: Workspace, name: str) -> np.ndarray:
    return np.array(FrameStore(experiment.features("fbank", "test"))[name])


def test_quantising_is_silent_and_repeatable(caplog: pytest.LogCaptureFixture) -> None:
    model = onnx_model(random_model(NETWORK))
    assert quantised(model) == quantised(model)
    assert not caplog.records


def test_a_file_that_is_no_network_is_named(tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(b"nothing of the kind")
    with pytest.raises(UserError, match=r"model\.onnx: onnxruntime cannot run it"):
        Network(tmp_path / "model.onnx", 0, 0).inside(FRAMES)
