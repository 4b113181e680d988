"""What `-i` and `--dim` say, joined with what models declare."""

from __future__ import annotations

import pytest

from metal4conv.errors import UsageError
from metal4conv.frontends.shapes import DeclaredInput, Resolved, resolve_inputs
from metal4conv.frontends.source import SourceOptions
from metal4conv.frontends.spec import parse_dimension, parse_input
from metal4conv.mil.program import Dimension

TOKENS = DeclaredInput("ids", "int64", (None, None))
MASK = DeclaredInput("mask", "bool", (None, None))
IMAGE = DeclaredInput(
    "x", "float32", (1, 3, "h", "w"), {"h": Dimension(2, 64, 8), "w": Dimension(8, 64, 8, 8)}
)
TRACED = DeclaredInput("input.1", None, None)


def resolve(declared, inputs=(), dims=(), fix_batch=True) -> Resolved:
    options = SourceOptions(tuple(map(parse_input, inputs)), dict(map(parse_dimension, dims)))
    return resolve_inputs(declared, options, fix_batch=fix_batch)


@pytest.mark.parametrize(
    ("declared", "inputs", "dims", "types", "ranges"),
    [
        ([TOKENS], [], ["ids_1=1..8"], ["int64[1, ids_1]"], {"ids_1": "1..8@1"}),
        ([TOKENS], ["ids:1x7"], [], ["int64[1, 7]"], {}),
        (
            [TOKENS, MASK],
            ["ids:1xt", "mask:1xt"],
            ["t=2..9@4"],
            ["int64[1, t]", "bool[1, t]"],
            {"t": "2..9@4"},
        ),
        ([TOKENS], ["ids:bx8"], ["b=2"], ["int64[2, 8]"], {}),
        (
            [TOKENS, MASK],
            [],
            ["batch=1..4", "ids_1=3", "mask_1=3"],
            ["int64[batch, 3]", "bool[batch, 3]"],
            {"batch": "1..4@1"},
        ),
        ([IMAGE], [], [], ["float32[1, 3, h, w]"], {"h": "2..64@8", "w": "8..64/8@8"}),
        (
            [IMAGE],
            ["x:1x3xHxw"],
            ["H=4|6"],
            ["float32[1, 3, H, w]"],
            {"H": "4|6@4", "w": "8..64/8@8"},
        ),
        ([IMAGE], ["x:1x3x10x16"], [], ["float32[1, 3, 10, 16]"], {}),
        ([IMAGE], ["x:1x3xsxs"], ["s=16..64/16"], ["float32[1, 3, s, s]"], {"s": "16..64/16@16"}),
        ([TRACED], ["input.1:1xn:int32"], ["n=1..3"], ["int32[1, n]"], {"n": "1..3@1"}),
        ([DeclaredInput("x", "float32", ())], [], [], ["float32[]"], {}),
    ],
)
def test_resolved(declared, inputs, dims, types, ranges):
    found, dimensions, _ = resolve(declared, inputs, dims)
    assert [str(item.type) for item in found] == types
    assert {name: str(row) for name, row in dimensions.items()} == ranges


@pytest.mark.parametrize(
    ("declared", "inputs", "dims", "message"),
    [
        ([TOKENS], [], [], 'input "ids", axis 1: ids_1'),
        ([TOKENS], [], [], "--dim ids_1=1..512, or fixed ones: -i ids:1x128"),
        ([TOKENS], ["idz:1x8"], [], 'did you mean "ids"?'),
        ([TOKENS], ["ids:1x8", "ids:1x8"], [], "given twice"),
        ([TOKENS], ["ids:1x2x3"], [], "expected ?x?, -i says 1x2x3"),
        ([TOKENS], ["ids:1x8:float32"], [], "is int64 in the model, -i says float32"),
        ([TOKENS], ["ids:1xt"], ["u=1..8"], 'no input has a dimension "u"'),
        ([TOKENS], ["ids:1x8"], ["batch=2"], "all sizes of the inputs are fixed"),
        ([IMAGE], ["x:1x4xhxw"], [], "expected 1x3xhxw, -i says 1x4xhxw"),
        ([IMAGE], ["x:1x3x8x9"], [], "the model allows 8..64/8, asked for was 9"),
        ([IMAGE], ["x:bx3xhxw"], [], "the model allows only 1"),
        ([IMAGE], ["x:bx3xhxw"], ["b=1..4"], "the model allows only 1, asked for was 1..4"),
        ([IMAGE], [], ["h=1..64"], "the model allows 2..64, asked for was 1..64"),
        ([IMAGE], [], ["w=8..64"], "the model allows 8..64/8, asked for was 8..64"),
        ([IMAGE], [], ["h=2.."], "the model allows 2..64, asked for was 2.."),
        ([IMAGE], ["x:1x3xsxs"], [], "different ranges"),
        ([TRACED], [], [], 'does not say the shape of its input "input.1"'),
    ],
)
def test_contradictions(declared, inputs, dims, message):
    with pytest.raises(UsageError) as caught:
        resolve(declared, inputs, dims)
    assert message in str(caught.value)


def test_fixed_batch_is_told_once():
    findings = resolve([TOKENS, MASK], ["ids:1x8"], ["mask_1=8"])[2]
    assert [(item.code, item.where) for item in findings] == [("batch-fixed-to-one", "mask")]


def test_batch_is_kept_open_for_other_frontends():
    with pytest.raises(UsageError, match="2 dynamic dimensions"):
        resolve([TOKENS], fix_batch=False)


def test_lone_dynamic_axis_is_no_batch():
    with pytest.raises(UsageError, match='input "a", axis 0: a_0'):
        resolve([DeclaredInput("a", "float32", (None,))])
