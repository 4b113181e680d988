"""Floating point operations of single operations, from their textbook formulas."""

import pytest

from metal4conv.layout.flops import COUNTED, function_flops
from metal4conv.layout.sizes import size_of
from metal4conv.mil.program import Block, Constant, Function, Operation, TensorType, Value


def flops(kind, output, **shapes):
    """The count for one operation whose inputs and output have these shapes."""
    names = {
        key: [f"{key}_{index}" for index in range(len(value))] if isinstance(value, list) else [key]
        for key, value in shapes.items()
    }
    operands = {
        name: TensorType("float16", shape)
        for key, value in shapes.items()
        for name, shape in zip(
            names[key], value if isinstance(value, list) else [value], strict=True
        )
    }
    inputs = {key: tuple(value) for key, value in names.items()}
    if kind == "einsum":
        inputs["equation"] = (Constant(TensorType("string", ()), lambda: Text(EQUATION)),)
    out = Value("out", TensorType("float16", output))
    block = Block((), (Operation(kind, "op", inputs, (out,)),), ("out",))
    found = function_flops(Function("main", "CoreML8", (), block), {**operands, "out": out.type})
    return None if found is None else size_of(found)


EQUATION = "bnqd,bnkd->bnqk"


class Text(str):
    def item(self):
        return str(self)


@pytest.mark.parametrize(
    ("kind", "output", "shapes", "expected"),
    [
        ("conv", (1, 64, 56, 56), {"x": (1, 3, 112, 112), "weight": (64, 3, 7, 7)}, 59006976),
        ("conv", (1, 32, 8, 8), {"x": (1, 32, 8, 8), "weight": (32, 1, 3, 3)}, 36864),
        ("conv", (1, 8, "h", "w"), {"x": (1, 4, "h", "w"), "weight": (8, 4, 3, 3)}, "576*h*w"),
        ("conv_transpose", (1, 3, 8, 8), {"x": (1, 6, 4, 4), "weight": (6, 3, 2, 2)}, 2304),
        ("linear", (5, 7), {"x": (5, 10), "weight": (7, 10), "bias": (7,)}, 700),
        ("matmul", (2, 3, 5), {"x": (2, 3, 4), "y": (2, 4, 5)}, 240),
        ("matmul", (2, 3, 5), {"x": (2, 4, 3), "y": (2, 4, 5)}, 240),
        ("matmul", (6, 9, 5), {"x": (9, 4), "y": (6, 4, 5)}, 2160),
        ("matmul", (5,), {"x": (4,), "y": (4, 5)}, 40),
        ("matmul", (8, "n", "n"), {"x": (8, "n", 64), "y": (8, "n", 64)}, "1024*n*n"),
        ("einsum", (2, 3, 4, 5), {"values": [(2, 3, 4, 6), (2, 3, 5, 6)]}, 1440),
        (
            "scaled_dot_product_attention",
            (2, 4, 10, 16),
            {"query": (2, 4, 10, 8), "key": (2, 4, 12, 8), "value": (2, 4, 12, 16)},
            2 * 2 * 4 * 10 * 12 * (8 + 16),
        ),
        (
            "lstm",
            (7, 2, 16),
            {"x": (7, 2, 5), "weight_ih": (64, 5), "weight_hh": (64, 16), "bias": (64,)},
            2 * 7 * 2 * 64 * 21,
        ),
        ("relu", (5, 7), {"x": (5, 7)}, 0),
        ("conv", (1, 8, "?0"), {"x": (1, 4, "?0"), "weight": (8, 4, 3)}, None),
    ],
)
def test_count(kind, output, shapes, expected):
    assert flops(kind, output, **shapes) == expected


def test_recurrent_kinds_and_matrix_kinds_are_counted():
    assert {"conv", "linear", "matmul", "gru", "rnn", "lstm", "einsum"} <= COUNTED.keys()
