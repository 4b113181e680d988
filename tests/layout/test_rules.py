"""Strides and byte counts: the worked examples of Apple's rules, and those rules themselves."""

import pytest

from metal4conv.layout.expression import evaluate
from metal4conv.layout.rules import (
    DATA_TYPES,
    buffer_bytes,
    buffer_strides,
    tight_strides,
)


@pytest.mark.parametrize(
    ("dimensions", "element_bytes", "strides", "length"),
    [
        ((10, 1), 4, (1, 16), 64),
        ((224, 224, 3, 1), 2, (1, 224, 50176, 150528), 301056),
        ((518, 518, 3, 1), 2, (1, 544, 544 * 518, 544 * 518 * 3), 1690752),
        ((518, 2), 4, (1, 528), 2 * 2112),
        ((4, 8), 4, (1, 16), 512),
        ((10,), 4, (1,), 40),
        ((), 2, (), 2),
        ((100, 2, 2), 1, (1, 128, 256), 512),
        ((32, 5), 2, (1, 32), 320),
        (("w", "h", 3), 2, (1, "align(w, 32)", "h*align(w, 32)"), "6*h*align(w, 32)"),
        (("2*w", "2*h"), 4, (1, "align(2*w, 16)"), "8*h*align(2*w, 16)"),
        (("64*w", 3), 2, (1, "64*w"), "384*w"),
        ((8, "n"), 2, (1, 32), "64*n"),
        (("n",), 2, (1,), "2*n"),
    ],
)
def test_worked_examples(dimensions, element_bytes, strides, length):
    assert buffer_strides(dimensions, element_bytes) == strides
    assert buffer_bytes(dimensions, element_bytes) == length


@pytest.mark.parametrize("element_bytes", [1, 2, 4])
@pytest.mark.parametrize("width", [1, 3, 31, 32, 33, 64, 65, 200])
def test_header_rules_hold_and_formulas_agree(width, element_bytes):
    dimensions = (width, 7, 5, 2)
    strides = buffer_strides(dimensions, element_bytes)
    assert strides[0] == 1
    assert strides[1] * element_bytes % 64 == 0
    assert width <= strides[1] < width + 64 // element_bytes
    assert strides[2] == strides[1] * 7
    assert strides[3] == strides[2] * 5
    named = ("a", "b", "c", "d")
    sizes = dict(zip(named, dimensions, strict=True))
    formulas = buffer_strides(named, element_bytes)
    assert tuple(evaluate(formula, sizes) for formula in formulas) == strides
    length = evaluate(buffer_bytes(named, element_bytes), sizes)
    assert length == strides[3] * 2 * element_bytes


def test_tight_strides_are_those_of_numpy():
    numpy = pytest.importorskip("numpy")
    array = numpy.zeros((2, 3, 4, 5), "float16")
    assert tight_strides((5, 4, 3, 2)) == tuple(s // 2 for s in reversed(array.strides))
    assert tight_strides(("w", "h", 3)) == (1, "w", "h*w")


def test_data_types_have_the_values_of_the_header():
    raw = {name: row.raw for name, row in DATA_TYPES.items()}
    assert raw == {
        "float32": 3,
        "float16": 16,
        "bfloat16": 121,
        "int8": 45,
        "uint8": 49,
        "int16": 37,
        "uint16": 41,
        "int32": 29,
        "uint32": 33,
    }
    assert "bool" not in DATA_TYPES
    assert "int64" not in DATA_TYPES
    assert DATA_TYPES["uint16"].constant == "MTLTensorDataTypeUInt16"
