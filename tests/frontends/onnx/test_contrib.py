"""onnxruntime's own operators, beside onnxruntime."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from metal4conv.errors import UnsupportedModel
from tests.frontends.helpers import packaged
from tests.frontends.onnx.models import check, draw, model, node, opened

MS = {"com.microsoft": 1}


def single(
    operator: str,
    inputs: Mapping[str, Any],
    constants: Mapping[str, np.ndarray] | None = None,
    outputs: tuple[str, ...] = ("Y",),
    order: tuple[str, ...] | None = None,
    domain: str = "com.microsoft",
    **attributes: Any,
) -> onnx.ModelProto:
    """A model of one node; its inputs are those given and then the constants, unless in order."""
    names = order or (*inputs, *(constants or {}))
    made = node(operator, names, outputs, domain=domain, **attributes)
    wanted = [name for name in outputs if name]
    return model([made], inputs, wanted, constants, opset=17, domains=MS)


@pytest.mark.parametrize(
    ("operator", "bias"),
    [("Gelu", False), ("BiasGelu", True), ("FastGelu", False), ("FastGelu", True)],
)
def test_gelu(operator: str, bias: bool, tmp_path: Path) -> None:
    constants = {"bias": draw(8, seed=1)} if bias else {}
    made = single(operator, {"X": [1, "t", 8]}, constants)
    check(made, tmp_path, {"X": draw(1, 1, 8)}, {"X": draw(1, 7, 8)}, dims=["t=1..8@4"])


@pytest.mark.parametrize("alpha", [1.0, 1.702])
def test_quick_gelu(alpha: float, tmp_path: Path) -> None:
    check(single("QuickGelu", {"X": [2, 8]}, alpha=alpha), tmp_path, {"X": draw(2, 8)})


@pytest.mark.parametrize(
    ("a", "b", "given"),
    [
        ([2, 3, 4, 5], [2, 3, 5, 6], {"alpha": 0.5}),
        ([2, 3, 5, 4], [2, 3, 6, 5], {"transA": 1, "transB": 1}),
        ([4, 2, 3, 5], [2, 3, 5, 6], {"transBatchA": 1}),
        ([2, 3, 4, 5], [6, 2, 3, 5], {"transBatchB": 1, "transB": 1, "alpha": 2.0}),
    ],
)
def test_fused_matmul(a: list[int], b: list[int], given: dict[str, Any], tmp_path: Path) -> None:
    made = single("FusedMatMul", {"A": a, "B": b}, **given)
    check(made, tmp_path, {"A": draw(*a), "B": draw(*b, seed=1)})


@pytest.mark.parametrize("activation", ["Relu", "Tanh", "LeakyRelu"])
def test_fused_gemm(activation: str, tmp_path: Path) -> None:
    made = single(
        "FusedGemm",
        {"A": [3, 4]},
        {"B": draw(5, 4, seed=1), "C": draw(5, seed=2)},
        transB=1,
        alpha=0.5,
        beta=2.0,
        activation=activation,
        activation_alpha=0.3,
    )
    check(made, tmp_path, {"A": draw(3, 4)})


@pytest.mark.parametrize(
    ("activation", "parameters"),
    [("Relu", []), ("Sigmoid", []), ("LeakyRelu", [0.2]), ("HardSigmoid", [0.2, 0.4])],
)
def test_fused_conv(activation: str, parameters: list[float], tmp_path: Path) -> None:
    made = single(
        "FusedConv",
        {"X": [1, 3, "h", "w"]},
        {"W": draw(4, 3, 3, 3, seed=1), "B": draw(4, seed=2)},
        pads=[1, 1, 1, 1],
        activation=activation,
        **({"activation_params": parameters} if parameters else {}),
    )
    cases = [{"X": draw(1, 3, h, w)} for h, w in ((1, 1), (6, 5))]
    check(made, tmp_path, *cases, dims=["h=1..8@4", "w=1..8@4"])


@pytest.mark.parametrize("operator", ["SkipLayerNormalization", "SkipSimplifiedLayerNormalization"])
def test_skip_layer_normalization(operator: str, tmp_path: Path) -> None:
    more = {"beta": draw(8, seed=2)} if operator == "SkipLayerNormalization" else {}
    constants = {"gamma": draw(8, seed=1), **more, "bias": draw(8, seed=3)}
    made = single(
        operator, {"x": [1, "t", 8], "skip": [1, "t", 8]}, constants, ("Y", "", "", "sum")
    )
    cases = [{"x": draw(1, t, 8), "skip": draw(1, t, 8, seed=5)} for t in (1, 6)]
    check(made, tmp_path, *cases, dims=["t=1..8@4"])


@pytest.mark.parametrize("domain", ["", "com.microsoft"])
def test_simplified_layer_normalization(domain: str, tmp_path: Path) -> None:
    made = single(
        "SimplifiedLayerNormalization",
        {"X": [2, 3, 8]},
        {"scale": draw(8, seed=1)},
        domain=domain,
        epsilon=1e-3,
    )
    if domain:
        made.graph.node[0].domain = domain
    feeds = {"X": draw(2, 3, 8)}
    if not domain:
        check(made, tmp_path, feeds)
        return
    source = opened(made, tmp_path)  # onnxruntime has it in the standard domain only
    assert packaged(source, tmp_path / "package")[0].is_dir()


@pytest.mark.parametrize("mask", [False, True])
def test_embed_layer_normalization(mask: bool, tmp_path: Path) -> None:
    inputs: dict[str, Any] = {"ids": ("int32", [1, "t"]), "segments": ("int32", [1, "t"])}
    if mask:
        inputs["mask"] = ("int32", [1, "t"])
    constants = {
        "words": draw(10, 8, seed=1),
        "places": draw(16, 8, seed=2),
        "kinds": draw(2, 8, seed=3),
        "gamma": draw(8, seed=4),
        "beta": draw(8, seed=5),
    }
    names = ("ids", "segments", "words", "places", "kinds", "gamma", "beta")
    order = (*names, "mask") if mask else names
    made = single("EmbedLayerNormalization", inputs, constants, ("Y", "index"), order)
    made.graph.output[1].type.tensor_type.elem_type = onnx.TensorProto.INT32
    cases = []
    for t in (1, 5):
        feeds = {
            "ids": np.arange(t, dtype=np.int32).reshape(1, t),
            "segments": np.arange(t, dtype=np.int32).reshape(1, t) % 2,
        }
        if mask:
            feeds["mask"] = (np.arange(t, dtype=np.int32).reshape(1, t) < 3).astype(np.int32)
        cases.append(feeds)
    check(made, tmp_path, *cases, dims=["t=1..16@4"])


@pytest.mark.parametrize("kind", ["none", "lengths", "ends and starts", "rows", "matrix"])
@pytest.mark.parametrize("causal", [0, 1])
def test_attention(causal: int, kind: str, tmp_path: Path) -> None:
    inputs: dict[str, Any] = {"x": [2, "t", 12]}
    constants = {"weights": draw(12, 24, seed=1), "bias": draw(24, seed=2)}
    shape = {"lengths": [2], "ends and starts": [4], "rows": [2, "t"], "matrix": [2, "t", "t"]}
    if kind != "none":
        inputs["mask"] = ("int32", shape[kind])
    order = ("x", "weights", "bias", *(["mask"] if kind != "none" else []))
    made = single("Attention", inputs, constants, order=order, num_heads=2, unidirectional=causal)
    cases = []
    for t in (2, 6):
        masks = {
            "lengths": [t, 1],
            "ends and starts": [t, t - 1, 1, 0],
            "rows": np.arange(2 * t).reshape(2, t) % 3,
            "matrix": np.arange(2 * t * t).reshape(2, t, t) % 3,
        }
        feeds = {"x": draw(2, t, 12)}
        if kind != "none":
            feeds["mask"] = np.array(masks[kind], np.int32)
        cases.append(feeds)
    check(made, tmp_path, *cases, dims=["t=2..8@4"])


def test_attention_with_past(tmp_path: Path) -> None:
    inputs = {"x": [1, "t", 8], "past": [2, 1, 2, "p", 4]}
    constants = {"weights": draw(8, 24, seed=1), "bias": draw(24, seed=2)}
    made = single(
        "Attention",
        inputs,
        constants,
        ("Y", "present"),
        ("x", "weights", "bias", "", "past"),
        num_heads=2,
        unidirectional=1,
    )
    cases = [{"x": draw(1, t, 8), "past": draw(2, 1, 2, p, 4)} for t, p in ((1, 1), (3, 5))]
    check(made, tmp_path, *cases, dims=["t=1..8@4", "p=1..8@4"])


@pytest.mark.parametrize("kind", ["plain", "bias", "padding", "added", "causal", "scaled"])
def test_multi_head_attention(kind: str, tmp_path: Path) -> None:
    inputs: dict[str, Any] = {"q": [1, "t", 8], "k": [1, "s", 8], "v": [1, "s", 8]}
    order = ["q", "k", "v", "", "", ""]
    constants = {}
    if kind == "bias":
        constants["bias"] = draw(24, seed=4)
        order[3] = "bias"
    if kind == "padding":
        inputs["padding"] = ("int32", [1, "s"])
        order[4] = "padding"
    if kind == "added":
        inputs["added"] = [1, 2, "t", "s"]
        order[5] = "added"
    given: dict[str, Any] = {"unidirectional": 1} if kind == "causal" else {}
    given |= {"scale": 0.3} if kind == "scaled" else {}
    made = single(
        "MultiHeadAttention", inputs, constants, ("Y",), tuple(order), num_heads=2, **given
    )
    cases = []
    for t, s in ((1, 1), (5, 5)) if kind == "causal" else ((1, 1), (5, 3)):
        feeds = {"q": draw(1, t, 8), "k": draw(1, s, 8, seed=1), "v": draw(1, s, 8, seed=2)}
        if kind == "padding":
            feeds["padding"] = (np.arange(s).reshape(1, s) < 2).astype(np.int32)
        if kind == "added":
            feeds["added"] = draw(1, 2, t, s, seed=3)
        cases.append(feeds)
    check(made, tmp_path, *cases, dims=["t=1..8@4", "s=1..8@4"])


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("rotary", [0, 1])
@pytest.mark.parametrize("window", [-1, 2])
def test_group_query_attention(window: int, rotary: int, packed: bool, tmp_path: Path) -> None:
    inputs: dict[str, Any] = {"q": [1, "t", 128 if packed else 64]}
    if not packed:
        inputs |= {"k": [1, "t", 32], "v": [1, "t", 32]}
    inputs |= {
        "past_k": [1, 2, "p", 16],
        "past_v": [1, 2, "p", 16],
        "lengths": ("int32", [1]),
        "total": ("int32", []),
    }
    constants = {"cos": draw(32, 8, seed=7), "sin": draw(32, 8, seed=8)} if rotary else {}
    front = ["q", "", ""] if packed else ["q", "k", "v"]
    order = (*front, "past_k", "past_v", "lengths", "total", *constants)
    made = single(
        "GroupQueryAttention",
        inputs,
        constants,
        ("Y", "present_k", "present_v"),
        order,
        num_heads=4,
        kv_num_heads=2,
        do_rotary=rotary,
        local_window_size=window,
    )
    cases = []
    for t, p in ((1, 1), (1, 6), (1, 2), (1, 4), (1, 8)):
        feeds = {"past_k": draw(1, 2, p, 16, seed=3), "past_v": draw(1, 2, p, 16, seed=4)}
        feeds["q"] = draw(1, t, 128 if packed else 64)
        if not packed:
            feeds |= {"k": draw(1, t, 32, seed=1), "v": draw(1, t, 32, seed=2)}
        feeds["lengths"] = np.array([p + t - 1], np.int32)
        feeds["total"] = np.array(p + t, np.int32)
        cases.append(feeds)
    check(made, tmp_path, *cases, dims=["t=1..8@4", "p=1..8@4"], is_free=False)


@pytest.mark.parametrize("ids", [[3], [[4, 2, 0], [1, 1, 5]]])
@pytest.mark.parametrize("interleaved", [0, 1])
def test_rotary_embedding(interleaved: int, ids: list[Any], tmp_path: Path) -> None:
    places = np.array(ids, np.int64)
    made = single(
        "RotaryEmbedding",
        {"x": [2, 3, 16], "ids": ("int64", list(places.shape))},
        {"cos": draw(9, 4, seed=1), "sin": draw(9, 4, seed=2)},
        interleaved=interleaved,
    )
    check(made, tmp_path, {"x": draw(2, 3, 16), "ids": places})


@pytest.mark.parametrize("size", [1, 2, 3])
def test_inverse(size: int, tmp_path: Path) -> None:
    made = single("Inverse", {"X": [2, size, size]})
    check(made, tmp_path, {"X": draw(2, size, size) + 2 * np.eye(size, dtype=np.float32)})


def test_large_inverse_is_refused(tmp_path: Path) -> None:
    source = opened(single("Inverse", {"X": [4, 4]}), tmp_path)
    with pytest.raises(UnsupportedModel, match="matrices of 4 × 4 cannot be inverted"):
        packaged(source, tmp_path)
