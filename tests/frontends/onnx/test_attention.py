"""Attention and rotations, beside onnxruntime."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from metal4conv import load
from tests.frontends.onnx.models import check, draw, model, node

HEADS, KEYS, WIDTH = 4, 6, 8


def attention(
    shapes: dict[str, Any], opset: int = 23, outputs: int = 1, **attributes: Any
) -> onnx.ModelProto:
    names = ["Q", "K", "V", "attn_mask", "past_key", "past_value", "nonpad_kv_seqlen"]
    inputs = [name if name in shapes else "" for name in names]
    while not inputs[-1]:
        inputs.pop()
    wanted = ["Y", "present_key", "present_value", "qk"][:outputs]
    return model([node("Attention", inputs, wanted, **attributes)], shapes, wanted, opset=opset)


def qkv(heads: int = HEADS, length: Any = 5, keys: Any = KEYS) -> dict[str, Any]:
    return {
        "Q": [1, HEADS, length, WIDTH],
        "K": [1, heads, keys, WIDTH],
        "V": [1, heads, keys, WIDTH],
    }


def drawn(shapes: dict[str, Any], **sizes: int) -> dict[str, np.ndarray]:
    found = {}
    for seed, (name, given) in enumerate(shapes.items()):
        shape = given[1] if isinstance(given, tuple) else given
        numbers = [sizes.get(size, size) for size in shape]
        found[name] = draw(*numbers, seed=seed)
        if isinstance(given, tuple):
            found[name] = found[name] > -0.5
    return found


@pytest.mark.parametrize("causal", [0, 1])
@pytest.mark.parametrize("groups", [1, 2, 4])
def test_grouped_heads(groups: int, causal: int, tmp_path: Path) -> None:
    shapes = qkv(groups)
    check(attention(shapes, is_causal=causal), tmp_path, drawn(shapes))


@pytest.mark.parametrize("scale", [None, 0.25])
def test_three_dimensions(scale: float | None, tmp_path: Path) -> None:
    shapes = {"Q": [2, 5, 32], "K": [2, 6, 16], "V": [2, 6, 12]}
    given = {} if scale is None else {"scale": scale}
    made = attention(shapes, q_num_heads=4, kv_num_heads=2, **given)
    check(made, tmp_path, drawn(shapes))


@pytest.mark.parametrize("shape", [(5, 6), (4, 5, 6), (1, 1, 5, 6), (1, 4, 5, 6)])
@pytest.mark.parametrize("dtype", ["bool", "float32"])
def test_masks_broadcast(dtype: str, shape: tuple[int, ...], tmp_path: Path) -> None:
    shapes = {**qkv(), "attn_mask": ("bool", shape) if dtype == "bool" else list(shape)}
    check(attention(shapes), tmp_path, drawn(shapes))


def test_dynamic_lengths(tmp_path: Path) -> None:
    shapes = {**qkv(length="q", keys="k"), "attn_mask": ["q", "k"]}
    cases = [drawn(shapes, q=q, k=k) for q, k in ((1, 1), (5, 6), (7, 3), (16, 16))]
    dims = ["q=1..16@4", "k=1..16@4"]
    check(attention(shapes), tmp_path, *cases, dims=dims)


def test_dynamic_causal_with_past(tmp_path: Path) -> None:
    shapes = {
        **qkv(2, "q", "q"),
        "past_key": [1, 2, "p", WIDTH],
        "past_value": [1, 2, "p", WIDTH],
    }
    cases = [drawn(shapes, q=q, p=p) for q, p in ((1, 1), (5, 6), (7, 3), (16, 16))]
    made = attention(shapes, is_causal=1, outputs=3)
    check(made, tmp_path, *cases, dims=["q=1..16@4", "p=1..16@4"])


def test_queries_without_keys_give_zeros(tmp_path: Path) -> None:
    """onnx's own evaluator is the reference: onnxruntime's result depends on its version."""
    shapes = {**qkv(), "attn_mask": ("bool", [5, 6])}
    feeds = drawn(shapes)
    feeds["attn_mask"][2] = False
    package = check(attention(shapes), tmp_path, drawn(shapes))
    found = load(package).predict(feeds)["Y"]
    wanted = onnx.reference.ReferenceEvaluator(attention(shapes)).run(None, feeds)[0]
    np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-5)
    assert not found[:, :, 2].any()


@pytest.mark.parametrize("position", ["none", "rows"])
@pytest.mark.parametrize("interleaved", [0, 1])
def test_dynamic_rotary_embedding(interleaved: int, position: str, tmp_path: Path) -> None:
    shapes: dict[str, Any] = {"X": [1, "t", 32]}
    if position == "rows":
        shapes["ids"] = ("int64", [1, "t"])
    rows = [20, 4] if position == "rows" else [1, "t", 4]
    shapes |= {"cos": rows, "sin": rows}
    names = ["X", "cos", "sin", *(["ids"] if position == "rows" else [])]
    made = model(
        [node("RotaryEmbedding", names, ["Y"], num_heads=4, interleaved=interleaved)],
        shapes,
        ["Y"],
        opset=23,
    )
    cases = []
    for t in (1, 7, 16):
        feeds = drawn(shapes, t=t)
        if position == "rows":
            feeds["ids"] = np.arange(t)[::-1].reshape(1, t) + 2
        cases.append(feeds)
    check(made, tmp_path, *cases, dims=["t=1..16@4"])
