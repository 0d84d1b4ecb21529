from pathlib import Path

import pytest
import torch
from toy_experiment import DIM, NETWORK, NUM_PDFS

from asr_kd.errors import UserError
from asr_kd.files import read_json, write_json
from asr_kd.nn.model import DESCRIPTION, WEIGHTS, AcousticModel, load_model
from asr_kd.nn.seeds import generator
from asr_kd.recipe import Network


@pytest.fixture
def model() -> AcousticModel:
    model = AcousticModel(NETWORK, DIM, NUM_PDFS)
    model.initialise(generator((0, "initialisation")))
    return model


def test_forward_is_the_layers_applied_in_turn(model: AcousticModel) -> None:
    windows = torch.randn(5, 3, DIM, generator=generator((1,)))
    x = windows.reshape(5, 3 * DIM)
    x = (x @ model.weights[0].T + model.biases[0]).clamp(min=0)
    x = (x @ model.weights[1].T + model.biases[1]).clamp(min=0)
    assert torch.allclose(model(windows), x @ model.weights[2].T + model.biases[2], atol=1e-6)


def test_no_hidden_layer_is_a_linear_classifier() -> None:
    model = AcousticModel(Network(left=0, right=0, layers=0), DIM, NUM_PDFS)
    assert [tuple(weight.shape) for weight in model.weights] == [(NUM_PDFS, DIM)]


def test_bfloat16_windows_make_a_bfloat16_pass(model: AcousticModel) -> None:
    windows = torch.randn(64, 3, DIM, generator=generator((2,)))
    logits = model(windows.bfloat16())
    assert logits.dtype == torch.bfloat16
    assert torch.allclose(logits.float(), model(windows), atol=0.1)
    logits.float().sum().backward()
    assert model.weights[0].grad.dtype == torch.float32


def test_initialisation_keeps_the_variance_through_the_layers() -> None:
    model = AcousticModel(Network(layers=6, width=400), 40, 300)
    model.initialise(generator((3,)))
    logits = model(torch.randn(500, 26, 40, generator=generator((4,))))
    assert 0.3 < logits.std().item() < 1.5


def test_comes_back_from_disk_as_it_was(model: AcousticModel, tmp_path: Path) -> None:
    model.log_prior = torch.randn(NUM_PDFS)
    model.save(tmp_path, {"epoch": 3})
    loaded = load_model(tmp_path)
    assert loaded.network == NETWORK
    for name, tensor in model.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], tensor)
    assert read_json(tmp_path / DESCRIPTION)["parameters"] == sum(p.numel() for p in model.parameters())


def test_refuses_weights_of_another_shape(model: AcousticModel, tmp_path: Path) -> None:
    model.save(tmp_path, {})
    description = read_json(tmp_path / DESCRIPTION)
    write_json(tmp_path / DESCRIPTION, {**description, "num_pdfs": NUM_PDFS + 1})
    with pytest.raises(UserError, match=r"model\.safetensors: .* needs \(13"):
        load_model(tmp_path)


def test_refuses_a_damaged_file(model: AcousticModel, tmp_path: Path) -> None:
    model.save(tmp_path, {})
    (tmp_path / WEIGHTS).write_bytes((tmp_path / WEIGHTS).read_bytes()[:100])
    with pytest.raises(UserError, match=r"model\.safetensors: cannot be read"):
        load_model(tmp_path)
    write_json(tmp_path / DESCRIPTION, {"network": {"width": "wide"}})
    with pytest.raises(UserError, match=r"model\.json: describes no network"):
        load_model(tmp_path)
