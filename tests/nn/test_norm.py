"""Hidden layers normalised over the batch or over the layer."""

from collections.abc import Iterable, Sequence
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor
from toy_experiment import DIM, NETWORK, NUM_PDFS, TRAINING

from asr_kd.nn.inputs import Inputs
from asr_kd.nn.metrics import read_history
from asr_kd.nn.model import BATCH_MOMENTUM, WEIGHTS, AcousticModel, load_model
from asr_kd.nn.seeds import generator
from asr_kd.nn.training import HardTargets, Run, evaluate, train
from asr_kd.recipe import Network

EPSILON = 1e-5  # torch's, of both norms
PLAIN = NETWORK.model_copy(update={"dropout": 0.0})


class Interrupted(Exception):
    pass


def silent(batches: Sequence[Tensor], title: str) -> Iterable[Tensor]:
    return batches


def make_model(norm: str, network: Network = PLAIN) -> AcousticModel:
    """A network whose gains and biases are not the ones and zeros that it starts from."""
    model = AcousticModel(network.model_copy(update={"norm": norm}), DIM, NUM_PDFS)
    draws = generator((0, "initialisation"))
    model.initialise(draws)
    with torch.no_grad():
        for parameter in (*model.gains, *model.biases):
            parameter.add_(0.3 * torch.randn(parameter.shape, generator=draws))
    return model


def by_definition(model: AcousticModel, windows: Tensor, moments: list[tuple[Tensor, Tensor]] | None) -> Tensor:
    """The forward pass written out; `moments` of each layer's units, None for those of each frame."""
    x = windows.flatten(1)
    for layer, gain in enumerate(model.gains):
        x = x @ model.weights[layer].T
        mean, variance = moments[layer] if moments else (x.mean(1, keepdim=True), x.var(1, False, keepdim=True))
        x = ((x - mean) / (variance + EPSILON).sqrt() * gain + model.biases[layer]).clamp(min=0)
    return x @ model.weights[-1].T + model.biases[-1]


def batch_moments(model: AcousticModel, windows: Tensor) -> list[tuple[Tensor, Tensor]]:
    """Mean and biased variance of each hidden layer's units over the batch."""
    x, found = windows.flatten(1), []
    for layer, gain in enumerate(model.gains):
        x = x @ model.weights[layer].T
        mean, variance = x.mean(0), x.var(0, unbiased=False)
        found.append((mean, variance))
        x = ((x - mean) / (variance + EPSILON).sqrt() * gain + model.biases[layer]).clamp(min=0)
    return found


def test_layer_norm_is_that_of_each_frame() -> None:
    model, windows = make_model("layer"), torch.randn(20, 3, DIM, generator=generator((1,)))
    assert torch.allclose(model(windows), by_definition(model, windows, None), atol=1e-5)
    assert torch.allclose(model(windows[:1]), model(windows)[:1], atol=1e-6)


def test_a_training_step_normalises_by_the_batch_and_remembers_it() -> None:
    model, windows = make_model("batch"), torch.randn(64, 3, DIM, generator=generator((2,)))
    moments = batch_moments(model, windows)
    logits = model(windows, generator((3,)))
    assert torch.allclose(logits, by_definition(model, windows, moments), atol=1e-4)
    for layer, (mean, variance) in enumerate(moments):
        unbiased = variance * 64 / 63
        assert torch.allclose(model.running_mean[layer], BATCH_MOMENTUM * mean, atol=1e-5)
        assert torch.allclose(
            model.running_var[layer], (1 - BATCH_MOMENTUM) + BATCH_MOMENTUM * unbiased, rtol=1e-4, atol=1e-5
        )


@pytest.mark.parametrize("draws", [None, generator((4,))])
def test_inference_and_dropout_in_a_finished_network_normalise_by_what_was_remembered(
    draws: torch.Generator | None,
) -> None:
    model, windows = make_model("batch"), torch.randn(20, 3, DIM, generator=generator((5,)))
    for step in range(5):
        model(2 + torch.randn(64, 3, DIM, generator=generator((6, step))), generator((7,)))
    model.eval()
    running = [
        (mean.clone(), variance.clone()) for mean, variance in zip(model.running_mean, model.running_var, strict=True)
    ]
    assert torch.allclose(model(windows, draws), by_definition(model, windows, running), atol=1e-4)
    assert all(torch.equal(model.running_mean[layer], mean) for layer, (mean, _) in enumerate(running))


def test_a_last_batch_of_one_frame_can_be_trained_on() -> None:
    model = make_model("batch")
    logits = model(torch.randn(1, 3, DIM, generator=generator((8,))), generator((9,)))
    assert logits.isfinite().all() and not model.running_mean.any()


@pytest.mark.parametrize("norm", ["batch", "layer"])
def test_bfloat16_windows_stay_near_float32(norm: str) -> None:
    model, windows = make_model(norm), torch.randn(64, 3, DIM, generator=generator((10,)))
    draws = generator((11,))
    half, full = model(windows.bfloat16(), draws), model(windows, draws)
    assert half.dtype == torch.bfloat16
    assert torch.allclose(half.float(), full, atol=0.25)
    assert model(windows.bfloat16()).dtype == torch.bfloat16


@pytest.mark.parametrize("norm", ["batch", "layer"])
def test_an_interrupted_run_ends_in_the_same_bits(inputs: Inputs, tmp_path: Path, norm: str) -> None:
    network = NETWORK.model_copy(update={"norm": norm})
    run = Run(network, TRAINING, (0, "member", 0), inputs.num_pdfs, inputs.data)
    targets = HardTargets(inputs.train.labels)

    def interrupt(batches: Sequence[Tensor], title: str) -> Iterable[Tensor]:
        yield from batches[:2] if title.endswith("epoch 3") else batches
        if title.endswith("epoch 3"):
            raise Interrupted

    with pytest.raises(Interrupted):
        train(tmp_path / "resumed", run, inputs.train, inputs.dev, targets, interrupt)
    for name in ("resumed", "straight"):
        train(tmp_path / name, run, inputs.train, inputs.dev, targets, silent)
    resumed, straight = (load_file(tmp_path / name / WEIGHTS) for name in ("resumed", "straight"))
    assert resumed.keys() == straight.keys()
    assert all(torch.equal(tensor, straight[name]) for name, tensor in resumed.items())


def test_a_normalised_network_comes_back_from_disk_as_accurate(inputs: Inputs, tmp_path: Path) -> None:
    run = Run(NETWORK.model_copy(update={"norm": "batch"}), TRAINING, (0,), inputs.num_pdfs, inputs.data)
    train(tmp_path, run, inputs.train, inputs.dev, HardTargets(inputs.train.labels), silent)
    model, best = load_model(tmp_path), max(row["dev_frame_accuracy"] for row in read_history(tmp_path))
    assert model.running_mean.any()
    row = evaluate(model, inputs.dev.standardised(model), torch.float32)
    assert row["dev_frame_accuracy"] == pytest.approx(best) and best > 0.4
