"""The denoiser: the network that is trained, and the ONNX graph that is written of it.

The graph is put together node by node, with names that say what a value is. So no exporter has a
hand in it, and the same weights give the same bytes.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, nn
from torch.nn import functional

FULL, HALF, QUARTER = 16, 24, 28  # channels at each resolution
OPSET, IR_VERSION = 17, 8


def convolution(inputs: int, outputs: int) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, 3, padding=1)


class Denoiser(nn.Module):
    """A U-Net: halved twice by averaging, enlarged twice by repeating pixels."""

    def __init__(self) -> None:
        super().__init__()
        self.level_1 = convolution(3, FULL)
        self.level_2 = convolution(FULL, HALF)
        self.level_4 = convolution(HALF, QUARTER)
        self.level_4_again = convolution(QUARTER, QUARTER)
        self.level_2_merged = convolution(QUARTER + HALF, HALF)
        self.level_1_merged = convolution(HALF + FULL, FULL)
        self.correction = convolution(FULL, 3)

    def forward(self, noisy: Tensor) -> Tensor:
        """`denoised` 1×3×h×w from `noisy`, both 0 to 1 (sRGB encoded), h and w in steps of 4."""
        full = torch.relu(self.level_1(noisy))
        half = torch.relu(self.level_2(functional.avg_pool2d(full, 2)))
        quarter = torch.relu(self.level_4(functional.avg_pool2d(half, 2)))
        quarter = torch.relu(self.level_4_again(quarter))
        enlarged = functional.interpolate(quarter, scale_factor=2.0, mode="nearest")
        half = torch.relu(self.level_2_merged(torch.cat([enlarged, half], dim=1)))
        enlarged = functional.interpolate(half, scale_factor=2.0, mode="nearest")
        full = torch.relu(self.level_1_merged(torch.cat([enlarged, full], dim=1)))
        return torch.clamp(noisy + self.correction(full), 0.0, 1.0)


def onnx_model(model: Denoiser) -> onnx.ModelProto:
    """The network as ONNX, for any h and w in steps of 4."""
    nodes = [
        *activated("level_1", "noisy"),
        averaged("level_1_averaged", "level_1"),
        *activated("level_2", "level_1_averaged"),
        averaged("level_2_averaged", "level_2"),
        *activated("level_4", "level_2_averaged"),
        *activated("level_4_again", "level_4"),
        *merged("level_4_again", "level_2"),
        *merged("level_2_merged", "level_1"),
        convolved("correction", "level_1_merged"),
        node("Add", ["noisy", "correction"], "corrected"),
        node("Clip", ["corrected", "black", "white"], "denoised"),
    ]
    constants = {
        "twice": np.array([1, 1, 2, 2], np.float32),
        "black": np.array(0, np.float32),
        "white": np.array(1, np.float32),
    }
    weights = {name: value.numpy(force=True) for name, value in model.state_dict().items()}
    picture = (1, 3, "h", "w")
    graph = helper.make_graph(
        nodes,
        "denoiser",
        [helper.make_tensor_value_info("noisy", TensorProto.FLOAT, picture)],
        [helper.make_tensor_value_info("denoised", TensorProto.FLOAT, picture)],
        [numpy_helper.from_array(array, name) for name, array in (constants | weights).items()],
    )
    opsets = [helper.make_opsetid("", OPSET)]
    made = helper.make_model(graph, opset_imports=opsets, ir_version=IR_VERSION)
    onnx.checker.check_model(made, full_check=True)
    return made


def write_onnx(model: Denoiser, path: Path) -> None:
    """Writes the network as an ONNX file."""
    path.write_bytes(onnx_model(model).SerializeToString(deterministic=True))


def node(kind: str, inputs: list[str], output: str, **attributes: object) -> onnx.NodeProto:
    """A node with the name of what it gives."""
    return helper.make_node(kind, inputs, [output], output, **attributes)


def convolved(layer: str, source: str, output: str | None = None) -> onnx.NodeProto:
    inputs = [source, f"{layer}.weight", f"{layer}.bias"]
    return node("Conv", inputs, output or layer, kernel_shape=[3, 3], pads=[1, 1, 1, 1])


def activated(layer: str, source: str) -> list[onnx.NodeProto]:
    """A convolution and what is positive of it, which has the name of the layer."""
    return [
        convolved(layer, source, f"{layer}_signed"),
        node("Relu", [f"{layer}_signed"], layer),
    ]


def averaged(output: str, source: str) -> onnx.NodeProto:
    """Half the height and width."""
    return node("AveragePool", [source], output, kernel_shape=[2, 2], strides=[2, 2])


def merged(source: str, finer: str) -> list[onnx.NodeProto]:
    """`source` at twice its size, beside what was found at that size before."""
    repeats = {
        "mode": "nearest",
        "nearest_mode": "floor",
        "coordinate_transformation_mode": "asymmetric",
    }
    return [
        node("Resize", [source, "", "twice"], f"{source}_enlarged", **repeats),
        node("Concat", [f"{source}_enlarged", finer], f"{finer}_both", axis=1),
        *activated(f"{finer}_merged", f"{finer}_both"),
    ]
