"""The acoustic model as an ONNX graph, written out operator by operator, and with weights of 8 bits.

torch.onnx would need another package for the same: the network is a window, a few products and a softmax.
"""

import logging
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization import QuantType, quantize_dynamic

from asr_kd.nn.model import AcousticModel

OPSET, IR_VERSION = 17, 9  # of 2022: an older onnxruntime will do
EPSILON = 1e-5  # torch's, of both norms


@dataclass
class _Operators:
    """A chain of operators, each fed with the one before; `last` names its output."""

    last: str
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    constants: list[onnx.TensorProto] = field(default_factory=list)

    def apply(self, operator: str, *operands: np.ndarray, **attributes: Any) -> None:
        name = f"{operator.lower()}_{len(self.nodes)}"
        self._node(operator, [self.last, *(self._constant(operand) for operand in operands)], name, **attributes)
        self.last = name

    def splice(self, window: int) -> None:
        """(T + window − 1, dim) to (T, window · dim), the oldest frame first."""
        if window == 1:
            return
        axis = self._constant(np.array([0]))
        shifted = []
        for place in range(window):
            end = place - window + 1 if place < window - 1 else np.iinfo(np.int64).max
            bounds = [self._constant(np.array([value])) for value in (place, end)]
            shifted.append(f"frame_{place}")
            self._node("Slice", [self.last, *bounds, axis], shifted[-1])
        self._node("Concat", shifted, "windows", axis=1)
        self.last = "windows"

    def _node(self, operator: str, inputs: list[str], output: str, **attributes: Any) -> None:
        self.nodes.append(helper.make_node(operator, inputs, [output], **attributes))

    def _constant(self, value: np.ndarray) -> str:
        name = f"constant_{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(value, name))
        return name


def onnx_model(model: AcousticModel) -> onnx.ModelProto:
    """`frames` (left + T + right, dim) float32, normalised as for training, to `log_post` (T, num_pdfs) float32.

    Frames are rounded to float16 where the frame stores and the training round them, so that the same frames give
    what asr_kd.nn.posteriors gives, to the rounding of float32 sums.
    """
    tensors = {name: tensor.cpu().numpy() for name, tensor in model.state_dict().items()}
    operators = _Operators("frames")
    operators.apply("Sub", tensors["mean"])
    operators.apply("Mul", tensors["scale"])
    operators.apply("Cast", to=TensorProto.FLOAT16)
    operators.apply("Cast", to=TensorProto.FLOAT)
    operators.splice(model.window)
    last = len(model.weights) - 1
    for layer in range(last + 1):
        weight, bias = tensors[f"weights.{layer}"], tensors[f"biases.{layer}"]
        norm = model.network.norm if layer < last else None
        if norm == "batch":
            gain = tensors[f"gains.{layer}"] / np.sqrt(tensors["running_var"][layer] + np.float32(EPSILON))
            weight, bias = weight * gain[:, None], bias - tensors["running_mean"][layer] * gain
        operators.apply("MatMul", np.ascontiguousarray(weight.T))
        if norm == "layer":
            operators.apply("LayerNormalization", tensors[f"gains.{layer}"], bias, axis=-1, epsilon=EPSILON)
        else:
            operators.apply("Add", bias)
        if layer < last:
            operators.apply("Relu")
    operators.apply("LogSoftmax", axis=1)
    operators.nodes[-1].output[0] = "log_post"
    graph = helper.make_graph(
        operators.nodes,
        "acoustic_model",
        [helper.make_tensor_value_info("frames", TensorProto.FLOAT, ["context_frames", model.dim])],
        [helper.make_tensor_value_info("log_post", TensorProto.FLOAT, ["frames", model.num_pdfs])],
        operators.constants,
    )
    built = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], producer_name="asr_kd")
    built.ir_version = IR_VERSION
    onnx.checker.check_model(built)
    return built


def quantised(model: onnx.ModelProto) -> bytes:
    """The serialised model with weights of 8 bits, a scale and a zero for each output; inputs of products are quantised
    as they come (onnxruntime's dynamic quantisation).

    Unsigned weights are nearer to the float32 network than signed ones, and do not overflow on processors without
    VNNI instructions; signed ones would be faster, where hardly any time is spent.
    """
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)  # it advises a preparation that changes nothing here
    try:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "model.onnx"
            quantize_dynamic(model, path, weight_type=QuantType.QUInt8, per_channel=True)
            return path.read_bytes()
    finally:
        logging.disable(before)
