"""The two little languages of `-i` and `--dim`: what they mean, and what they refuse."""

from __future__ import annotations

import pytest

from metal4conv.errors import UsageError
from metal4conv.frontends.source import parse_options
from metal4conv.frontends.spec import (
    INPUT_DTYPES,
    InputSpec,
    parse_dimension,
    parse_input,
)
from metal4conv.mil.program import Dimension


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("x", InputSpec("x")),
        ("x:", InputSpec("x")),
        ("x:1x3xhxw", InputSpec("x", (1, 3, "h", "w"))),
        ("x:1x3xhxw:float16", InputSpec("x", (1, 3, "h", "w"), "float16")),
        ("x:1,3,h,w", InputSpec("x", (1, 3, "h", "w"))),
        ("x:1,max_length,xy", InputSpec("x", (1, "max_length", "xy"))),
        ("x:5", InputSpec("x", (5,))),
        ("x:n", InputSpec("x", ("n",))),
        ("x:scalar", InputSpec("x", ())),
        ("x:scalar:int32", InputSpec("x", (), "int32")),
        ("x::int32", InputSpec("x", None, "int32")),
        ("x:::0..1", InputSpec("x", None, None, (0.0, 1.0))),
        ("n:1xt:int64:0..30521", InputSpec("n", (1, "t"), "int64", (0.0, 30521.0))),
        ("x:1x3::-1..1", InputSpec("x", (1, 3), None, (-1.0, 1.0))),
        ("x:::-1.5..2.5e3", InputSpec("x", None, None, (-1.5, 2500.0))),
        ("x:::3..3", InputSpec("x", None, None, (3.0, 3.0))),
        ("input.1:2x2", InputSpec("input.1", (2, 2))),
        ("a/b:2", InputSpec("a/b", (2,))),
    ],
)
def test_input(text, wanted):
    assert parse_input(text) == wanted


@pytest.mark.parametrize("dtype", INPUT_DTYPES)
def test_each_dtype(dtype):
    assert parse_input(f"x:2:{dtype}").dtype == dtype


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", ["cannot be read", "name:shape:dtype:low..high"]),
        (":1x3", ['input ":1x3" cannot be read']),
        ("x:1:float16:0..1:more", ["cannot be read"]),
        ("x:1x3:half", ['dtype "half"', "one of: float32, float16"]),
        ("x:1x3:Float32", ['dtype "Float32"']),
        ("x:1x3:complex64", ['dtype "complex64"']),
        ("x:1x0x3", ['shape "1x0x3"', '"0" is no size', "numbers above 0"]),
        ("x:1x-3", ['"-3" is no size']),
        ("x:1xx3", ['"" is no size']),
        ("x:1x3x", ['"" is no size']),
        ("x:1, 3", ['" 3" is no size']),
        ("x:1x2.5", ['"2.5" is no size']),
        ("x:1x?x3", ['"?" is no size']),
        ("x:(1,3)", ['"(1" is no size']),
        ("x:1x3d", ['"3d" is no size']),
        ("x:1x²", ['"²" is no size']),
        ("x:1x_h", ['"_h" is no size']),
        ("x:1:float32:1", ['value range "1"', "write it as 0..1"]),
        ("x:1:float32:1..0", ['value range "1..0"']),
        ("x:1:float32:a..b", ['value range "a..b"']),
        ("x:1:float32:..1", ['value range "..1"']),
        ("x:1:float32:0..", ['value range "0.."']),
        ("x:1:float32:nan..1", ['value range "nan..1"']),
        ("x:1:float32:0..nan", ['value range "0..nan"']),
        ("x:1:float32:0..inf", ['value range "0..inf"']),
    ],
)
def test_refused_input(text, words):
    with pytest.raises(UsageError) as caught:
        parse_input(text)
    assert caught.value.where == ("--input",)
    for word in words:
        assert word in str(caught.value)


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("h=64..2160", ("h", Dimension(64, 2160, 64))),
        ("h=64..2160@720", ("h", Dimension(64, 2160, 720))),
        ("h=64..2160/8", ("h", Dimension(64, 2160, 64, step=8))),
        ("h=64..2160/8@720", ("h", Dimension(64, 2160, 720, step=8))),
        ("h=64..", ("h", Dimension(64, None, 64))),
        ("h=64..@100", ("h", Dimension(64, None, 100))),
        ("h=64../8@4096", ("h", Dimension(64, None, 4096, step=8))),
        ("h=8..8", ("h", Dimension(8, 8, 8))),
        ("h=1..2147483647", ("h", Dimension(1, 2**31 - 1, 1))),
        ("h=360|720", ("h", Dimension(360, 720, 360, values=(360, 720)))),
        ("h=720|360|1080@720", ("h", Dimension(360, 1080, 720, values=(360, 720, 1080)))),
        ("h=360|360|720", ("h", Dimension(360, 720, 360, values=(360, 720)))),
        ("h=720", ("h", 720)),
        ("h=0720", ("h", 720)),
        ("max_length2=1..9", ("max_length2", Dimension(1, 9, 1))),
    ],
)
def test_dimension(text, wanted):
    assert parse_dimension(text) == wanted


@pytest.mark.parametrize(
    "text", ["64..2160/8@720", "1..9@1", "5..@7", "360|720|1080@720", "16../16@32"]
)
def test_dimension_reads_what_it_prints(text):
    assert str(parse_dimension(f"h={text}")[1]) == text


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", ['dimension "" cannot be read', "name=64..2160"]),
        ("h", ['dimension "h" cannot be read']),
        ("h:64", ["cannot be read"]),
        ("=64", ["cannot be read"]),
        ("2d=64", ["cannot be read"]),
        ("h w=64", ["cannot be read"]),
        ("h=", ['size ""', "whole number above 0"]),
        ("h=0", ['size "0"']),
        ("h=-4", ['size "-4"']),
        ("h=7.5", ['size "7.5"']),
        ("h=many", ['size "many"']),
        ("h=2²", ['size "2²"', "whole number above 0"]),
        ("h=2147483648", ['size "2147483648"']),
        ("h=0..8", ['minimum "0"']),
        ("h=..8", ['minimum ""']),
        ("h=1..x", ['maximum "x"']),
        ("h=1..2..3", ['maximum "2..3"']),
        ("h=8..64/0", ['step "0"']),
        ("h=8..64/", ['step ""']),
        ("h=8..64@", ['default ""']),
        ("h=8..64@0", ['default "0"']),
        ("h=64..8", ["minimum 64 above its maximum 8", "did you mean h=8..64?"]),
        ("h=10..64/8", ["minimum 10", "no multiple of its step 8", "multiples are 8 and 16"]),
        ("h=8..60/8", ["maximum 60", "multiples are 56 and 64"]),
        ("h=8..64/8@12", ["default 12", "multiples are 8 and 16"]),
        ("h=8..64@4", ["default 4 outside its range 8..64"]),
        ("h=8..64@65", ["default 65 outside its range 8..64"]),
        ("h=8..@4", ["default 4 outside its range 8.."]),
        ("h=360|720@500", ["default 500", "not one of its sizes 360, 720"]),
        ("h=360|", ['size ""']),
        ("h=360|x", ['size "x"']),
        ("h=720@360", ["default 360"]),
        ("h=64/8", ['size "64/8"']),
    ],
)
def test_refused_dimension(text, words):
    with pytest.raises(UsageError) as caught:
        parse_dimension(text)
    assert caught.value.where == ("--dim",)
    for word in words:
        assert word in str(caught.value)


def test_a_range_without_an_end_is_shown_without_none():
    with pytest.raises(UsageError) as caught:
        parse_dimension("h=8..@4")
    assert "None" not in str(caught.value)


def test_hint_of_too_small_a_size_names_no_zero():
    """0 is a multiple of 8, but no size."""
    with pytest.raises(UsageError) as caught:
        parse_dimension("h=4..64/8")
    assert "the next multiple is 8" in str(caught.value)


def test_options_from_texts():
    options = parse_options(["x:1xhxw"], ["h=8..64", "w=32"], weights="net.safetensors")
    assert options.inputs == (InputSpec("x", (1, "h", "w")),)
    assert options.dimensions == {"h": Dimension(8, 64, 8), "w": 32}
    assert str(options.weights) == "net.safetensors"


def test_dimension_given_twice():
    with pytest.raises(UsageError, match='dimension "h" is given twice'):
        parse_options([], ["h=8", "h=16"])
