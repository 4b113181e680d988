"""LSTM, GRU and RNN beside onnxruntime: MIL's operation where it fits, else step by step."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from metal4conv import load
from metal4conv.errors import UnsupportedModel
from tests.frontends.helpers import packaged
from tests.frontends.onnx.models import check, draw, model, node, opened, operations

GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}
HIDDEN, FEATURES = 3, 2
OUTPUTS = {"LSTM": ["Y", "Y_h", "Y_c"], "GRU": ["Y", "Y_h"], "RNN": ["Y", "Y_h"]}


def layer(
    operator: str,
    steps: int | str = 4,
    batch: int | str = 2,
    *,
    computed: bool = False,
    lengths: bool = False,
    initial: bool = False,
    peephole: bool = False,
    outputs: list[str] | None = None,
    opset: int = 21,
    **attributes: Any,  # the node's
) -> onnx.ModelProto:
    """A model of one layer; `computed` weights are inputs of the model."""
    ways = 2 if attributes.get("direction") == "bidirectional" else 1
    layout = attributes.get("layout", 0)
    rows = GATES[operator] * HIDDEN
    constants = {
        "W": draw(ways, rows, FEATURES, seed=1),
        "R": draw(ways, rows, HIDDEN, seed=2),
        "B": draw(ways, 2 * rows, seed=3),
    }
    inputs: dict[str, Any] = {"X": [batch, steps, FEATURES] if layout else [steps, batch, FEATURES]}
    if computed:
        inputs |= {name: array.shape for name, array in constants.items()}
        constants = {}
    names = ["X", "W", "R", "B", "", "", "", ""]
    if lengths:
        names[4], inputs["lengths"] = "lengths", ("int32", [batch])
    state = [batch, ways, HIDDEN] if layout else [ways, batch, HIDDEN]
    for place, name in enumerate(["h", "c"][: len(OUTPUTS[operator]) - 1] if initial else []):
        names[5 + place], inputs[name] = name, state
    if peephole:
        names[7], constants["P"] = "P", draw(ways, 3 * HIDDEN, seed=4)
    while not names[-1]:
        names.pop()
    wanted = outputs or OUTPUTS[operator]
    made = node(operator, names, wanted, hidden_size=HIDDEN, **attributes)
    return model([made], inputs, [name for name in wanted if name], constants, opset=opset)


def feeds(made: onnx.ModelProto, steps: int = 4, batch: int = 2) -> dict[str, np.ndarray]:
    """Seeded inputs; lengths are the number of steps, and shorter ones."""
    sizes = {"s": steps, "b": batch}
    arrays = {}
    for seed, item in enumerate(made.graph.input):
        dims = item.type.tensor_type.shape.dim
        shape = [sizes[dim.dim_param] if dim.dim_param else dim.dim_value for dim in dims]
        arrays[item.name] = draw(*shape, seed=seed)
        if item.name == "lengths":
            arrays[item.name] = np.maximum(steps - np.arange(batch), 1).astype(np.int32)
    return arrays


DIRECTIONS = ["forward", "reverse", "bidirectional"]


@pytest.mark.parametrize("operator", GATES)
@pytest.mark.parametrize("direction", DIRECTIONS)
def test_mil_has_the_layer(operator: str, direction: str, tmp_path: Path) -> None:
    made = layer(operator, "s", "b", direction=direction, initial=True)
    cases = [feeds(made, steps, batch) for steps, batch in ((1, 1), (4, 2), (20, 3))]
    package = check(made, tmp_path, *cases, dims=["s=1..32", "b=1..4"])
    count = 2 if direction == "bidirectional" and operator != "LSTM" else 1
    assert operations(package).count(operator.lower()) == count


@pytest.mark.parametrize("operator", GATES)
@pytest.mark.parametrize("direction", DIRECTIONS)
def test_weights_that_are_computed(operator: str, direction: str, tmp_path: Path) -> None:
    made = layer(operator, "s", "b", direction=direction, computed=True)
    cases = [feeds(made, steps, batch) for steps, batch in ((1, 1), (5, 2))]
    package = check(made, tmp_path, *cases, dims=["s=1..8", "b=1..4"])
    assert operator.lower() not in operations(package)


@pytest.mark.parametrize("operator", GATES)
@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("computed", [False, True])
def test_sequences_of_different_lengths(
    operator: str, direction: str, computed: bool, tmp_path: Path
) -> None:
    made = layer(operator, "s", direction=direction, lengths=True, initial=True, computed=computed)
    check(made, tmp_path, feeds(made, 3), feeds(made, 5), dims=["s=2..8"])


@pytest.mark.parametrize("operator", GATES)
@pytest.mark.parametrize("outputs", [["Y"], ["", "Y_h"]])
def test_outputs_that_are_left_out(operator: str, outputs: list[str], tmp_path: Path) -> None:
    made = layer(operator, outputs=outputs, direction="bidirectional")
    check(made, tmp_path, feeds(made))


@pytest.mark.parametrize("operator", GATES)
@pytest.mark.parametrize("computed", [False, True])
def test_batch_first(operator: str, computed: bool, tmp_path: Path) -> None:
    """onnxruntime does not know the layout; what it must give comes from the other one."""
    made = layer(operator, direction="bidirectional", layout=1, initial=True, computed=computed)
    other = layer(operator, direction="bidirectional", initial=True, computed=computed)
    given = feeds(other)
    expected = opened(other, tmp_path).predict(given)
    (tmp_path / "other").mkdir()
    source = opened(made, tmp_path / "other")
    package, _ = packaged(source, tmp_path / "other")
    turned = {
        name: array.swapaxes(0, 1) if name in ("X", "h", "c") else array
        for name, array in given.items()
    }
    found = load(package).predict(turned)
    perms = {"Y": (2, 0, 1, 3), "Y_h": (1, 0, 2), "Y_c": (1, 0, 2)}
    for name, array in expected.items():
        np.testing.assert_allclose(found[name], array.transpose(perms[name]), 1e-5, 1e-5)


@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("computed", [False, True])
def test_peepholes(direction: str, computed: bool, tmp_path: Path) -> None:
    made = layer("LSTM", peephole=True, direction=direction, computed=computed)
    check(made, tmp_path, feeds(made))


@pytest.mark.parametrize("operator", GATES)
def test_clipped(operator: str, tmp_path: Path) -> None:
    made = layer(operator, clip=0.4)
    check(made, tmp_path, feeds(made))


def test_coupled_gates(tmp_path: Path) -> None:
    made = layer("LSTM", input_forget=1)
    check(made, tmp_path, feeds(made))


@pytest.mark.parametrize("target", [17, 18])
@pytest.mark.parametrize("computed", [False, True])
def test_reset_after_the_product(target: int, computed: bool, tmp_path: Path) -> None:
    """MIL's operation can say it from iOS18 on."""
    made = layer("GRU", linear_before_reset=1, direction="bidirectional", computed=computed)
    package = check(made, tmp_path, feeds(made), target=f"iOS{target}")
    assert ("gru" in operations(package)) == (target == 18 and not computed)


ACTIVATIONS = [
    ("Affine", [0.7], [0.1]),
    ("Elu", [0.8], []),
    ("HardSigmoid", [0.3], [0.4]),
    ("HardSigmoid", [], []),
    ("LeakyRelu", [0.2], []),
    ("Relu", [], []),
    ("ScaledTanh", [1.2], [0.6]),
    ("Sigmoid", [], []),
    ("Softplus", [], []),
    ("Softsign", [], []),
    ("ThresholdedRelu", [0.3], []),
]


@pytest.mark.parametrize(("name", "alpha", "beta"), ACTIVATIONS)
def test_activations(name: str, alpha: list[float], beta: list[float], tmp_path: Path) -> None:
    more = {"activation_alpha": alpha} if alpha else {}
    more |= {"activation_beta": beta} if beta else {}
    made = layer("RNN", activations=[name], **more)
    check(made, tmp_path, feeds(made))


def test_parameters_go_to_the_activations_that_take_some(tmp_path: Path) -> None:
    names = ["HardSigmoid", "Tanh", "Affine", "LeakyRelu", "Elu", "HardSigmoid"]
    alpha, beta = [0.3, 0.9, 0.2, 0.5, 0.4], [0.4, 0.2, 0.6]
    made = layer(
        "LSTM",
        direction="bidirectional",
        activations=names,
        activation_alpha=alpha,
        activation_beta=beta,
    )
    check(made, tmp_path, feeds(made))


def test_unknown_activations_are_refused(tmp_path: Path) -> None:
    made = layer("RNN", activations=["Gelu"])
    with pytest.raises(UnsupportedModel, match='no activation "gelu"'):
        packaged(opened(made, tmp_path), tmp_path)


@pytest.mark.parametrize("opset", [7, 14, 22])
@pytest.mark.parametrize("operator", GATES)
def test_opsets(operator: str, opset: int, tmp_path: Path) -> None:
    made = layer(operator, opset=opset)
    check(made, tmp_path, feeds(made))
