"""Attention that models write out, beside onnxruntime and TensorFlow; it is one operation then."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch

from metal4conv import load
from metal4conv.frontends.attention_masks import known_mask
from metal4conv.frontends.tensorflow_runtime import load_keras
from metal4conv.frontends.toolkit import quiet
from tests.frontends.helpers import assert_outputs, packaged, source
from tests.frontends.helpers import draw as draw_inputs
from tests.frontends.onnx.models import check, draw, model, node, operations

HEADS, QUERIES, KEYS, WIDTH = 4, 5, 6, 8
FUSED = "scaled_dot_product_attention"
LOWEST = float(np.finfo(np.float32).min)
ROOT = 1 / math.sqrt(WIDTH)

SHAPES: dict[str, Any] = {
    "q": [1, HEADS, QUERIES, WIDTH],
    "k": [1, HEADS, KEYS, WIDTH],
    "v": [1, HEADS, KEYS, 3],
}


def written(
    shapes: dict[str, Any] | None = None,
    *,
    scale: tuple[float, float, float] = (1.0, 1.0, 1.0),
    order: list[int] | None = None,
    mask: np.ndarray | str | None = None,
    axis: int = -1,
    after: list[onnx.NodeProto] | None = None,
    outputs: tuple[str, ...] = ("y",),
    middle: list[onnx.NodeProto] | None = None,
) -> onnx.ModelProto:
    """softmax(q·a @ (k transposed)·b / c + mask) @ v; what is 1 or None is left out.

    A mask is a constant or the name of an input; `middle` makes "weights" of "raw".
    """
    shapes = shapes or SHAPES
    constants: dict[str, np.ndarray] = {}
    rank = len(shapes["k"])
    nodes = [node("Transpose", ["k"], ["kt"], perm=order or [*range(rank - 2), rank - 1, rank - 2])]
    names = {"q": "q", "kt": "kt"}
    for name, factor in zip(("q", "kt"), scale, strict=False):
        if factor != 1:
            constants[f"by_{name}"] = np.float32(factor)
            nodes.append(node("Mul", [name, f"by_{name}"], [f"{name}_scaled"]))
            names[name] = f"{name}_scaled"
    nodes.append(node("MatMul", [names["q"], names["kt"]], ["scores"]))
    last = "scores"
    if scale[2] != 1:
        constants["divisor"] = np.float32(scale[2])
        nodes.append(node("Div", [last, "divisor"], ["divided"]))
        last = "divided"
    if mask is not None:
        if isinstance(mask, np.ndarray):
            constants["mask"] = mask
        nodes.append(node("Add", [last, mask if isinstance(mask, str) else "mask"], ["masked"]))
        last = "masked"
    weights = "raw" if middle else "weights"
    nodes.append(node("Softmax", [last], [weights], axis=axis))
    nodes += middle or []
    nodes.append(node("MatMul", ["weights", "v"], ["y"]))
    return model([*nodes, *(after or [])], shapes, outputs, constants)


def feeds(shapes: dict[str, Any] | None = None, **sizes: int) -> dict[str, np.ndarray]:
    """Seeded inputs."""
    return {
        name: draw(*(sizes.get(size, size) for size in shape), seed=seed)
        for seed, (name, shape) in enumerate((shapes or SHAPES).items())
    }


def causal(low: float, length: int = QUERIES, keys: int = KEYS) -> np.ndarray:
    """A mask that hides what comes later."""
    return np.triu(np.full((length, keys), low, np.float32), 1)


@pytest.mark.parametrize(
    ("scale", "extra"),
    [
        ((ROOT, 1.0, 1.0), 0),
        ((1.0, ROOT, 1.0), 0),
        ((math.sqrt(ROOT), math.sqrt(ROOT), 1.0), 0),
        ((1.0, 1.0, 1 / ROOT), 0),
        ((2.0, ROOT, 2.0), 0),
        ((1.0, 1.0, 1.0), 1),
        ((0.25, 1.0, 1.0), 1),
        ((-0.25, 1.0, 3.0), 1),
    ],
)
def test_scales(scale: tuple[float, float, float], extra: int, tmp_path: Path) -> None:
    package = check(written(scale=scale), tmp_path, feeds())
    assert operations(package) == ["mul"] * extra + [FUSED]


def test_float16(tmp_path: Path) -> None:
    made = written(scale=(0.7, 0.7, 1.0), mask=causal(LOWEST))
    package = check(made, tmp_path, feeds(), precision="float16", tolerance=1e-2)
    found = operations(package)
    assert FUSED in found
    assert "softmax" not in found


@pytest.mark.parametrize(
    ("shape", "order", "found"),
    [
        ([1, KEYS, HEADS, WIDTH], [0, 2, 3, 1], ["transpose", FUSED]),
        ([1, HEADS, WIDTH, KEYS], [0, 1, 2, 3], ["matmul", "softmax", "matmul"]),
        ([WIDTH, 1, HEADS, KEYS], [1, 2, 0, 3], ["transpose", FUSED]),
    ],
)
def test_orders_of_keys(
    shape: list[int], order: list[int], found: list[str], tmp_path: Path
) -> None:
    shapes = {**SHAPES, "k": shape}
    package = check(written(shapes, order=order, scale=(ROOT, 1, 1)), tmp_path, feeds(shapes))
    assert [item for item in operations(package) if item != "mul"] == found


@pytest.mark.parametrize(
    ("flat", "whole"),
    [
        ([-1, KEYS, WIDTH], [1, HEADS, WIDTH, KEYS]),
        ([2, -1, KEYS, WIDTH], [1, HEADS, WIDTH, KEYS]),
        ([-1, WIDTH, KEYS], [1, HEADS, WIDTH, KEYS]),
        ([2, KEYS, 2 * WIDTH], [1, HEADS, WIDTH, KEYS]),
    ],
)
def test_keys_as_a_batch_of_matrices(flat: list[int], whole: list[int], tmp_path: Path) -> None:
    """As PyTorch's newer ONNX exporter transposes them; the last two are something else."""
    rank = len(flat)
    nodes = [
        node("Reshape", ["k", "flat"], ["matrices"]),
        node("Transpose", ["matrices"], ["turned"], perm=[*range(rank - 2), rank - 1, rank - 2]),
        node("Reshape", ["turned", "whole"], ["kt"]),
        node("MatMul", ["q", "kt"], ["scores"]),
        node("Softmax", ["scores"], ["weights"], axis=3),
        node("MatMul", ["weights", "v"], ["y"]),
    ]
    package = check(
        model(nodes, SHAPES, ["y"], {"flat": np.array(flat), "whole": np.array(whole)}),
        tmp_path,
        feeds(),
    )
    is_fused = flat[-2:] == [KEYS, WIDTH]
    assert (operations(package) == ["mul", FUSED]) == is_fused
    assert (FUSED in operations(package)) == is_fused


@pytest.mark.parametrize("batch", [[3], [2, 3], [2, 1, 3]])
def test_batches(batch: list[int], tmp_path: Path) -> None:
    shapes = {name: [*batch, *shape[2:]] for name, shape in SHAPES.items()}
    package = check(written(shapes, scale=(ROOT, 1, 1)), tmp_path, feeds(shapes))
    assert operations(package) == [FUSED]


def test_keys_that_are_used_elsewhere(tmp_path: Path) -> None:
    after = [node("Relu", ["kt_scaled"], ["z"])]
    made = written(scale=(1, ROOT, 1), after=after, outputs=("y", "z"))
    assert FUSED in operations(check(made, tmp_path, feeds()))


def test_attention_of_attention(tmp_path: Path) -> None:
    shapes = {**SHAPES, "v": SHAPES["k"]}
    again = [
        node("MatMul", ["y", "kt"], ["scores_2"]),
        node("Softmax", ["scores_2"], ["weights_2"], axis=3),
        node("MatMul", ["weights_2", "v"], ["z"]),
    ]
    package = check(written(shapes, after=again, outputs=("y", "z")), tmp_path, feeds(shapes))
    assert operations(package) == ["mul", FUSED] * 2


# what stays written out ----------------------------------------------------------------------


def refused(made: onnx.ModelProto, folder: Path, given: dict[str, Any], target: str) -> None:
    found = operations(check(made, folder, given, target=target))
    assert FUSED not in found
    assert "softmax" in found


@pytest.mark.parametrize(
    ("options", "target"),
    [
        ({}, "iOS17"),
        ({"axis": 2}, "iOS18"),
        ({"after": [node("Relu", ["weights"], ["z"])], "outputs": ("y", "z")}, "iOS18"),
        ({"after": [node("Relu", ["scores"], ["z"])], "outputs": ("y", "z")}, "iOS18"),
        ({"outputs": ("y", "weights")}, "iOS18"),
        ({"outputs": ("y", "scores")}, "iOS18"),
        ({"scale": (1.0, 1.0, 2.0), "outputs": ("y", "divided")}, "iOS18"),
        ({"mask": causal(LOWEST), "outputs": ("y", "masked")}, "iOS18"),
        ({"mask": np.ones((QUERIES, 1), np.float32)}, "iOS18"),
        ({"mask": np.ones((2, 1, 1, KEYS), np.float32)}, "iOS18"),
        ({"mask": np.full((QUERIES, KEYS), LOWEST, np.float32)}, "iOS18"),
        ({"mask": np.full((QUERIES, KEYS), -np.inf, np.float32)}, "iOS18"),
        ({"mask": np.full((QUERIES, KEYS), np.nan, np.float32)}, "iOS18"),
    ],
)
def test_refused(options: dict[str, Any], target: str, tmp_path: Path) -> None:
    refused(written(**options), tmp_path, feeds(), target)


@pytest.mark.parametrize(
    "changed",
    [
        {"k": [1, 1, KEYS, WIDTH]},
        {"v": [1, 1, KEYS, 3]},
        {"q": [2, HEADS, QUERIES, WIDTH]},
        {"v": [KEYS, 3]},
        {"q": [QUERIES, WIDTH], "k": [KEYS, WIDTH], "v": [KEYS, 3]},
    ],
)
def test_refused_shapes(changed: dict[str, Any], tmp_path: Path) -> None:
    shapes = {**SHAPES, **changed}
    refused(written(shapes), tmp_path, feeds(shapes), "iOS18")


def test_a_width_that_is_not_known(tmp_path: Path) -> None:
    shapes = {**SHAPES, "q": [1, HEADS, QUERIES, "d"], "k": [1, HEADS, KEYS, "d"]}
    made = written(shapes)
    package = check(made, tmp_path, *(feeds(shapes, d=d) for d in (1, 8)), dims=["d=1..8@4"])
    assert FUSED not in operations(package)


def test_scales_for_each_head(tmp_path: Path) -> None:
    nodes = [
        node("Transpose", ["k"], ["kt"], perm=[0, 1, 3, 2]),
        node("Mul", ["q", "scale"], ["scaled"]),
        node("MatMul", ["scaled", "kt"], ["scores"]),
        node("Softmax", ["scores"], ["weights"], axis=3),
        node("MatMul", ["weights", "v"], ["y"]),
    ]
    made = model(nodes, SHAPES, ["y"], {"scale": draw(HEADS, 1, 1)})
    package = check(made, tmp_path, feeds())
    assert operations(package) == ["mul", "mul", FUSED]


def test_names_of_new_operations(tmp_path: Path) -> None:
    """Outputs keep names that the operations of a mask or a scale would have."""
    shapes = {**SHAPES, "m": [QUERIES, KEYS]}
    names = ("m_add", "m_sub", "y_mul", "m_reduce_max", "y")
    after = [node("Relu", ["y"], [name]) for name in names[:-1]]
    made = written(shapes, mask="m", after=after, outputs=names)
    assert FUSED in operations(check(made, tmp_path, feeds(shapes)))


@pytest.mark.parametrize("takes", [True, False])
def test_within_a_branch(takes: bool, tmp_path: Path) -> None:
    inner = written(scale=(0.3, 1, 1)).graph
    branch = onnx.helper.make_graph(inner.node, "branch", [], inner.output, inner.initializer)
    other = onnx.helper.make_graph(
        [node("Identity", ["v"], ["plain"])], "other", [], [onnx.ValueInfoProto(name="plain")]
    )
    shapes = {**SHAPES, "v": [1, HEADS, QUERIES, 3], "k": [1, HEADS, QUERIES, WIDTH]}
    nodes = [
        node("ReduceMax", ["q"], ["most"], keepdims=0),
        node("Greater", ["most", "limit"], ["takes"]),
        node("If", ["takes"], ["z"], then_branch=branch, else_branch=other),
    ]
    limit = {"limit": np.float32(-100 if takes else 100)}
    package = check(model(nodes, shapes, ["z"], limit), tmp_path, feeds(shapes))
    assert FUSED in operations(package)


def test_half_precision_models(tmp_path: Path) -> None:
    made = written(scale=(ROOT, 1, 1))
    for item in (*made.graph.input, *made.graph.output):
        item.type.tensor_type.elem_type = onnx.TensorProto.FLOAT16
    scale = made.graph.initializer[0]
    scale.CopyFrom(onnx.numpy_helper.from_array(np.float16(ROOT), scale.name))
    given = {name: array.astype(np.float16) for name, array in feeds().items()}
    package = check(made, tmp_path, given, precision="float16", tolerance=1e-2)
    assert FUSED in operations(package)


# masks ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("low", [-np.inf, LOWEST, -1e9, -1e4, -1.0])
@pytest.mark.parametrize("precision", ["float32", "float16"])
def test_constant_masks(precision: str, low: float, tmp_path: Path) -> None:
    made = written(scale=(1.0, 1.0, 3.0), mask=causal(low))
    tolerance = 1e-5 if precision == "float32" else 1e-2
    package = check(made, tmp_path, feeds(), precision=precision, tolerance=tolerance)
    assert [item for item in operations(package) if item != "cast"] == ["mul", FUSED]


@pytest.mark.parametrize(
    "shape",
    [(KEYS,), (1, KEYS), (QUERIES, KEYS), (HEADS, 1, KEYS), (1, 1, 1, KEYS), (1, 4, 5, 6)],
)
@pytest.mark.parametrize("is_input", [False, True])
def test_masks_broadcast(is_input: bool, shape: tuple[int, ...], tmp_path: Path) -> None:
    shapes = {**SHAPES, **({"m": list(shape)} if is_input else {})}
    made = written(shapes, mask="m" if is_input else draw(*shape))
    package = check(made, tmp_path, feeds(shapes))
    guard = ["reduce_max", "sub", "add"] if is_input else []
    assert sorted(operations(package)) == sorted(["mul", *guard, FUSED])


@pytest.mark.parametrize("low", [-np.inf, LOWEST, -1e9, -1e4])
def test_queries_that_see_no_key(low: float, tmp_path: Path) -> None:
    """NaN where onnxruntime gives NaN: with torch alone it would be 0."""
    shapes = {**SHAPES, "m": [QUERIES, KEYS]}
    given = feeds(shapes)
    given["m"] = causal(low)
    given["m"][2] = low
    made = written(shapes, mask="m", scale=(ROOT, 1, 1))
    package = check(made, tmp_path, given)
    assert FUSED in operations(package)
    if low == -np.inf:
        assert np.isnan(load(package).predict(given)["y"][:, :, 2]).all()


def test_layers_share_a_mask(tmp_path: Path) -> None:
    shapes = {**SHAPES, "v": SHAPES["k"], "m": [1, 1, 1, KEYS]}
    again = [
        node("MatMul", ["y", "kt"], ["scores_2"]),
        node("Add", ["m", "scores_2"], ["masked_2"]),
        node("Softmax", ["masked_2"], ["weights_2"], axis=3),
        node("MatMul", ["weights_2", "v"], ["z"]),
    ]
    made = written(shapes, mask="m", after=again, outputs=("z",))
    package = check(made, tmp_path, feeds(shapes))
    assert operations(package).count("reduce_max") == 1
    assert operations(package).count(FUSED) == 2


@pytest.mark.parametrize("precision", ["float32", "float16"])
@pytest.mark.parametrize("sizes", [{}, {"t": "t"}])
def test_nan_that_becomes_0(sizes: dict[str, str], precision: str, tmp_path: Path) -> None:
    """As PyTorch's ONNX exporter writes attention with a boolean mask."""
    queries, keys = sizes.get("t", QUERIES), sizes.get("t", KEYS)
    shapes: dict[str, Any] = {
        "q": [1, HEADS, queries, WIDTH],
        "k": [1, HEADS, keys, WIDTH],
        "v": [1, HEADS, keys, 3],
        "m": ("bool", [1, 1, queries, keys]),
    }
    made = written(
        shapes,
        scale=(math.sqrt(ROOT), math.sqrt(ROOT), 1),
        mask="added",
        middle=[
            node("IsNaN", ["raw"], ["is_nan"]),
            node("Where", ["is_nan", "zero", "raw"], ["weights"]),
        ],
    )
    graph = made.graph
    graph.node.insert(0, node("Where", ["m", "zero", "low"], ["added"]))
    for name, number in (("zero", 0.0), ("low", -np.inf)):
        graph.initializer.append(onnx.numpy_helper.from_array(np.float32(number), name))
    cases = []
    for t in (3, 7) if sizes else (0,):
        plain = {name: shape for name, shape in shapes.items() if name != "m"}
        given = feeds(plain, t=t)
        allowed = causal(1.0, t or QUERIES, t or KEYS) == 0
        allowed[2] = False
        cases.append({**given, "m": allowed[None, None]})
    package = check(
        made,
        tmp_path,
        *cases,
        dims=["t=1..16@4"] if sizes else [],
        precision=precision,
        tolerance=1e-5 if precision == "float32" else 1e-2,
    )
    assert FUSED in operations(package)
    assert (
        not load(package)
        .predict({**cases[0], "m": cases[0]["m"].astype(np.int32)})["y"][:, :, 2]
        .any()
    )


@pytest.mark.parametrize("low", [-np.inf, LOWEST, -1e4])
@pytest.mark.parametrize("allows", [True, False])
def test_scores_that_are_replaced(allows: bool, low: float, tmp_path: Path) -> None:
    later = causal(1.0) != 0
    branches = ["scores", "low"] if allows else ["low", "scores"]
    nodes = [
        node("Transpose", ["k"], ["kt"], perm=[0, 1, 3, 2]),
        node("MatMul", ["q", "kt"], ["scores"]),
        node("Where", ["cond", *branches], ["masked"]),
        node("Softmax", ["masked"], ["weights"], axis=3),
        node("MatMul", ["weights", "v"], ["y"]),
    ]
    constants = {"cond": ~later if allows else later, "low": np.float32(low)}
    package = check(model(nodes, SHAPES, ["y"], constants), tmp_path, feeds())
    assert (FUSED in operations(package)) == (low < -1e9)


def test_masks_are_small_numbers() -> None:
    assert known_mask(causal(LOWEST)).dtype == bool
    assert known_mask(causal(-3.0)).dtype == np.float32


# sizes ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("mask", [None, "m"])
def test_dynamic_sizes(mask: str | None, tmp_path: Path) -> None:
    shapes: dict[str, Any] = {
        "q": ["b", HEADS, "t", WIDTH],
        "k": ["b", HEADS, "s", WIDTH],
        "v": ["b", HEADS, "s", 3],
    }
    if mask:
        shapes["m"] = ["t", "s"]
    cases = [feeds(shapes, b=b, t=t, s=s) for b, t, s in ((1, 1, 1), (2, 5, 6), (3, 7, 3))]
    made = written(shapes, scale=(ROOT, 1, 1), mask=mask)
    package = check(made, tmp_path, *cases, dims=["b=1..3@1", "t=1..16@4", "s=1..16@4"])
    assert FUSED in operations(package)


def test_sizes_that_may_be_1_at_run_time(tmp_path: Path) -> None:
    """Keys of one batch and queries of many broadcast; MIL's operation does not."""
    shapes = {**SHAPES, "q": ["b", HEADS, QUERIES, WIDTH]}
    cases = [feeds(shapes, b=b) for b in (1, 3)]
    package = check(written(shapes), tmp_path, *cases, dims=["b=1..3@1"])
    assert FUSED not in operations(package)


# frameworks ----------------------------------------------------------------------------------


@pytest.mark.parametrize("is_causal", [False, True])
@pytest.mark.parametrize("precision", ["float32", "float16"])
def test_keras(precision: str, is_causal: bool, tmp_path: Path) -> None:
    keras = load_keras()
    with quiet():
        keras.utils.set_random_seed(0)
        x = keras.Input((7, 32), batch_size=1)
        y = keras.layers.MultiHeadAttention(4, 8)(x, x, use_causal_mask=is_causal)
        keras.Model(x, y).save(tmp_path / "net.keras")
    opened = source(tmp_path / "net.keras")
    package, _ = packaged(opened, tmp_path / "package", precision)
    assert operations(package).count(FUSED) == 1
    inputs = draw_inputs(opened)
    tolerance = 1e-5 if precision == "float32" else 1e-2
    assert_outputs(load(package).predict(inputs), opened.predict(inputs), tolerance)


@pytest.mark.parametrize("is_dynamic", [False, True])
@pytest.mark.parametrize("mask", ["none", "causal", "bool", "float"])
def test_torch_exporter(mask: str, is_dynamic: bool, tmp_path: Path) -> None:
    """What PyTorch's older ONNX exporter makes of its attention."""

    class Net(torch.nn.Module):
        def forward(self, x: Any, m: Any = None) -> Any:
            batch, tokens, width = x.shape
            q, k, v = x.reshape(batch, tokens, 3, 4, width // 12).permute(2, 0, 3, 1, 4).unbind(0)
            is_causal = {"is_causal": True} if mask == "causal" else {}
            y = torch.nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=m, **is_causal)
            return y.transpose(1, 2).reshape(batch, tokens, width // 3)

    if mask == "causal" and is_dynamic:
        pytest.skip("that exporter takes no dynamic length with it")
    given = {"bool": (torch.ones(7, 7) > 0,), "float": (torch.zeros(7, 7),)}.get(mask, ())
    names = ["x", "m"][: 1 + len(given)]
    axes = {"x": {1: "t"}, "m": {0: "t", 1: "t"}} if is_dynamic else {}
    file = tmp_path / "net.onnx"
    with quiet():
        torch.onnx.export(
            Net(),
            (torch.randn(1, 7, 96), *given),
            str(file),
            input_names=names,
            output_names=["y"],
            dynamic_axes={name: axes[name] for name in names if name in axes},
            dynamo=False,
        )
    opened = source(file, dims=["t=1..16@7"] if is_dynamic else [])
    package, _ = packaged(opened, tmp_path / "package")
    assert FUSED in operations(package)
    assert "softmax" not in operations(package)
    for t in (3, 7) if is_dynamic else (7,):
        inputs = draw_inputs(opened, {"t": t} if is_dynamic else {})
        if mask == "bool":
            inputs["m"] = np.tri(t, t, -1) > 0
        expected = opened.predict(inputs)
        if mask == "bool":
            inputs["m"] = inputs["m"].astype(np.int32)
        assert_outputs(load(package).predict(inputs), expected)
