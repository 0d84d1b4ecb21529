"""The acoustic model: a context window of features to the logits of the tied states."""

import itertools
import math
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor, nn
from torch.nn.functional import batch_norm, layer_norm, linear

from asr_kd.checksums import checksum, checksum_of
from asr_kd.errors import UserError
from asr_kd.files import atomic_path, read_json, write_json
from asr_kd.nn.convolution import convolve, weight_shapes
from asr_kd.nn.dropout import Draws, dropped_input, relu_dropout
from asr_kd.recipe import Network

WEIGHTS, DESCRIPTION = "model.safetensors", "model.json"
BATCH_MOMENTUM = 0.1  # of each batch in the running mean and variance


class AcousticModel(nn.Module):
    """Fully connected ReLU layers over `left + 1 + right` frames of `dim` features (Dahl et al. 2012).

    With `network.kind` the layers are those of a convolutional network, a frame being an image.

    Buffers: `mean`, `scale` (dim,), to standardise a feature row by, and `log_prior` (num_pdfs,),
    the log of each state's share of the training frames. With `network.norm` a hidden layer's biases are added after
    its units are normalised and multiplied by `gains`; over the batch, the buffers `running_mean` and `running_var`
    (layers, width) are what inference normalises by.
    """

    mean: Tensor
    scale: Tensor
    log_prior: Tensor
    running_mean: Tensor
    running_var: Tensor

    def __init__(self, network: Network, dim: int, num_pdfs: int) -> None:
        super().__init__()
        self.network, self.dim, self.num_pdfs = network, dim, num_pdfs
        self.window = network.left + 1 + network.right
        sizes = [self.window * dim, *[network.width] * network.layers, num_pdfs]
        shapes: list[tuple[int, ...]] = [(above, below) for below, above in itertools.pairwise(sizes)]
        if network.kind:
            shapes = weight_shapes(network.kind, dim, num_pdfs)
        # Not nn.Linear, which would draw its weights from torch's global generator.
        self.weights = nn.ParameterList(torch.empty(shape) for shape in shapes)
        self.biases = nn.ParameterList(torch.zeros(shape[0]) for shape in shapes)
        self.gains = nn.ParameterList(torch.ones(size) for size in sizes[1:-1] if network.norm)
        if network.norm == "batch":
            self.register_buffer("running_mean", torch.zeros(network.layers, network.width))
            self.register_buffer("running_var", torch.ones(network.layers, network.width))
        self.register_buffer("mean", torch.zeros(dim))
        self.register_buffer("scale", torch.ones(dim))
        self.register_buffer("log_prior", torch.full((num_pdfs,), -math.log(num_pdfs)))

    @property
    def parameter_count(self) -> int:
        return sum(parameter.numel() for parameter in self.parameters())

    @torch.no_grad()
    def initialise(self, draws: torch.Generator) -> None:
        """Weights from N(0, 2 / fan-in) (He et al. 2015), output layer N(0, 1 / fan-in); biases zero."""
        for weight in self.weights:
            gain = 1.0 if weight is self.weights[-1] else 2.0
            weight.normal_(0, math.sqrt(gain / weight[0].numel()), generator=draws)
        for bias in self.biases:
            bias.zero_()

    @torch.no_grad()
    def bound_norms(self, longest: float) -> None:
        """Shorten the incoming weights of every hidden unit to at most `longest` (Srivastava et al. 2014)."""
        for weight in self.weights[:-1]:
            norms = weight.flatten(1).norm(dim=1)
            if (norms > longest).any():
                weight.mul_((longest / norms).clamp(max=1).view(-1, *[1] * (weight.ndim - 1)))

    def standardise(self, rows: Tensor) -> Tensor:
        """(frames, dim) features to zero mean and unit variance over the training frames, same type."""
        return ((rows.float() - self.mean) * self.scale).to(rows.dtype)

    def forward(self, windows: Tensor, draws: Draws | None = None) -> Tensor:
        """windows: (batch, window, dim), standardised; returns logits (batch, num_pdfs) of the same type.

        The products run in that type too: bfloat16 windows make a bfloat16 pass over float32 weights.
        `draws` feeds dropout; None, the default, is inference.
        """
        x = windows.flatten(1)
        if self.network.input_dropout:
            x = dropped_input(x, self.network.input_dropout, draws)
        if self.network.kind:
            return convolve(self.network.kind, x, list(self.weights), list(self.biases), self.network.dropout, draws)
        for number, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            if number:
                x = relu_dropout(x, self.network.dropout, draws)
            if self.network.norm and number < self.network.layers:
                x = self.normalise(linear(x, weight.to(x.dtype)), number, draws)
            else:
                x = linear(x, weight.to(x.dtype), bias.to(x.dtype))
        return x

    def normalise(self, x: Tensor, layer: int, draws: Draws | None) -> Tensor:
        """(batch, width) of a hidden layer before its biases, normalised, scaled and shifted, same type.

        Over the batch (Ioffe and Szegedy 2015) a training step takes the batch's own moments; inference, and
        dropout in a finished network, the running ones. Over the layer (Ba et al. 2016) each frame takes its own.
        """
        gain, shift = self.gains[layer], self.biases[layer]
        if self.network.norm == "layer":
            return layer_norm(x, gain.shape, gain.to(x.dtype), shift.to(x.dtype))
        mean, variance = self.running_mean[layer], self.running_var[layer]
        training = self.training and draws is not None and len(x) > 1  # one frame has no variance
        return batch_norm(x, mean, variance, gain, shift, training, BATCH_MOMENTUM)

    def save(self, path: Path, description: dict[str, Any]) -> None:
        """Write model.safetensors, then model.json: the architecture, the weights' checksum and `description`."""
        contents = save({name: tensor.cpu().contiguous() for name, tensor in self.state_dict().items()})
        with atomic_path(path / WEIGHTS) as temporary:
            temporary.write_bytes(contents)
        architecture = {"network": self.network.model_dump(), "dim": self.dim, "num_pdfs": self.num_pdfs}
        architecture |= {"parameters": self.parameter_count, "checksum": checksum_of(contents)}
        write_json(path / DESCRIPTION, {**architecture, **description})


def is_whole(path: Path) -> bool:
    """Whether the weights are those that model.json was written with; one of an older release does not tell."""
    expected = read_json(path / DESCRIPTION).get("checksum")
    try:
        return expected is None or checksum(path / WEIGHTS) == expected
    except OSError:
        return False


def load_model(path: Path, device: str = "cpu") -> AcousticModel:
    """Read a model folder. Raises UserError when a file is missing, damaged or does not fit model.json."""
    description = read_json(path / DESCRIPTION)
    try:
        network = Network(**description["network"])
        dim, num_pdfs = int(description["dim"]), int(description["num_pdfs"])
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"{path / DESCRIPTION}: describes no network ({error}); train it again") from None
    try:
        tensors = load_file(path / WEIGHTS, device=device)
    except (OSError, SafetensorError, ValueError) as error:
        raise UserError(f"{path / WEIGHTS}: cannot be read ({error}); train it again") from None
    try:
        if not network.kind and network.layers >= len(tensors):
            raise ValueError(f"{network.layers} layers, and {len(tensors)} tensors in all")
        with torch.device("meta"):  # which takes no memory, whatever the sizes
            shapes = {name: tensor.shape for name, tensor in AcousticModel(network, dim, num_pdfs).state_dict().items()}
    except (TypeError, ValueError, RuntimeError) as error:
        raise UserError(f"{path / DESCRIPTION}: describes no network ({error}); train it again") from None
    if not is_whole(path):
        raise UserError(f"{path / WEIGHTS}: not the weights that {DESCRIPTION} was written with; train it again")
    for name, expected in shapes.items():
        found = tuple(tensors[name].shape) if name in tensors else "absent"
        if found != tuple(expected):
            raise UserError(
                f"{path / WEIGHTS}: {name} is {found}, {DESCRIPTION} needs {tuple(expected)}; "
                "the two files are of different networks, train it again"
            )
    model = AcousticModel(network, dim, num_pdfs)
    model.load_state_dict(tensors, strict=False)
    return model.to(device).eval()
