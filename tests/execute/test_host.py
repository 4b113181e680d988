from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch

from metal4conv.execute import host
from metal4conv.execute.elementwise_unary import converted
from metal4conv.execute.families import load_all
from metal4conv.execute.marshal import host_to_dtype
from metal4conv.execute.table import HOST_OPS, MIL_OPS
from tests.execute.symbols import Symbols, symbolic

load_all()


def run(name: str, *arguments: Any, **named: Any) -> Any:
    return HOST_OPS.lookup(name, 18)(*arguments, **named)


def sizes(values: Any) -> np.ndarray:
    """A host array of plain or symbolic numbers."""
    items = values if isinstance(values, list) else [values]
    array = np.empty(len(items), dtype=object)
    array[:] = items
    return array if isinstance(values, list) else array.reshape(())


def real(size: Any) -> np.ndarray:
    return run("cast", sizes(size), "fp32")


def whole(x: np.ndarray) -> np.ndarray:
    return run("cast", x, "int32")


@pytest.mark.parametrize(
    ("name", "x", "y", "expected"),
    [
        ("add", [1, 2], 3, [4, 5]),
        ("sub", [1, 2], [3, 4], [-2, -2]),
        ("mul", 3, [4, 0.5], [12, 1.5]),
        ("floor_div", [7, -7], 2, [3, -4]),
        ("real_div", [7, -7], 2, [3.5, -3.5]),
        ("mod", [7, -7], 4, [3, 1]),
        ("pow", [2, 3], 2, [4, 9]),
        ("maximum", [2, 3.5], [4, 1], [4, 3.5]),
        ("minimum", [2, 3.5], [4, 1], [2, 1.0]),
        ("equal", [2, 3], 2, [True, False]),
        ("greater_equal", [2, 3], 3, [False, True]),
        ("logical_and", [True, True], [True, False], [True, False]),
        ("logical_or", [True, False], [False, False], [True, False]),
        ("logical_xor", [True, True], [True, False], [False, True]),
    ],
)
def test_binary_of_plain_numbers(name: str, x: Any, y: Any, expected: list[Any]) -> None:
    found = run(name, sizes(x), sizes(y))
    assert found.dtype == object
    assert found.tolist() == expected
    assert [type(item) for item in found] == [type(item) for item in expected]


@pytest.mark.parametrize(
    ("name", "x", "expected"),
    [
        ("abs", [-2, 2.5], [2, 2.5]),
        ("ceil", [1.2, -1.2], [2.0, -1.0]),
        ("floor", [1.2, -1.2], [1.0, -2.0]),
        ("round", [0.5, 1.5, -2.6], [0.0, 2.0, -3.0]),
        ("sign", [-3, 0, 2.5], [-1, 0, 1.0]),
        ("logical_not", [True, False], [False, True]),
        ("identity", [1], [1]),
    ],
)
def test_unary_of_plain_numbers(name: str, x: list[Any], expected: list[Any]) -> None:
    assert run(name, sizes(x)).tolist() == expected


def test_moves() -> None:
    x = sizes([1, 4, 6, 8])
    assert run("shape", torch.zeros(2, 3)).tolist() == [2, 3]
    assert run("gather", x, sizes(-1)).shape == ()
    assert run("gather", x, sizes([0, 2])).tolist() == [1, 6]
    assert run("slice_by_index", x, (-2,), (9,)).tolist() == [6, 8]
    assert run("slice_by_index", x, (1,), (0,), squeeze_mask=(True,)).tolist() == 4
    assert run("slice_by_index", x, (3,), (0,), (-2,)).tolist() == [8, 4]
    assert run("slice_by_size", x, (-3,), (-1,)).tolist() == [4, 6, 8]
    assert run("concat", [sizes(1), sizes(2)], 0).tolist() == [1, 2]
    assert run("concat", [x, sizes([9])], -1).tolist() == [1, 4, 6, 8, 9]
    assert run("concat", [sizes([1, 2]), sizes([3, 4])], 0, True).tolist() == [1, 3, 2, 4]
    assert run("stack", [sizes(1), sizes(2)], 0).tolist() == [1, 2]
    assert [part.tolist() for part in run("split", x, 0, 2)] == [[1, 4], [6, 8]]
    assert [part.tolist() for part in run("split", x, 0, None, (1, 3))] == [[1], [4, 6, 8]]
    assert run("expand_dims", sizes(5), (0,)).tolist() == [5]
    assert run("squeeze", sizes([5])).tolist() == 5
    assert run("reshape", x, (-1, 2)).tolist() == [[1, 4], [6, 8]]
    assert run("select", sizes([True, False]), sizes([1, 2]), sizes(7)).tolist() == [1, 7]
    assert run("cast", sizes([2.9, -2.9, True]), "int32").tolist() == [2, -2, 1]
    assert run("cast", sizes([2, 0]), "bool").tolist() == [True, False]
    assert run("clip", sizes([0.5, 9.0]), 1.0, 4.0).tolist() == [1.0, 4.0]
    assert run("range_1d", 7, 1, 2).tolist() == [1, 3, 5]
    assert run("fill", (2,), 3).tolist() == [3, 3]
    assert run("tile", sizes([1, 2]), (2,)).tolist() == [1, 2, 1, 2]
    assert run("reverse", x).tolist() == [8, 6, 4, 1]


def test_reductions() -> None:
    x = sizes([2, 3, 7])
    assert run("reduce_prod", x).tolist() == 42
    assert run("reduce_sum", x, (0,), True).tolist() == [12]
    assert run("reduce_max", x, (-1,)).tolist() == 7
    assert run("reduce_min", x).tolist() == 2


def test_large_results_are_tensors() -> None:
    assert torch.equal(run("fill", (40, 50), 2), torch.full((40, 50), 2, dtype=torch.int32))
    assert torch.equal(run("range_1d", 5000, 0, 1), torch.arange(5000, dtype=torch.int32))


def computations(s: Symbols) -> dict[str, tuple[np.ndarray, Any]]:
    """Sizes as models compute them, and what they have to be."""
    h = s.h
    half = run("mul", real(h), sizes(0.5))
    return {
        "half": (whole(run("floor", half)), lambda n: n // 2),
        "half cut": (whole(half), lambda n: n // 2),
        "half up": (whole(run("ceil", half)), lambda n: (n + 1) // 2),
        "double": (whole(run("mul", real(h), sizes(2.0))), lambda n: 2 * n),
        "half and double": (whole(run("mul", half, sizes(2.0))), lambda n: n),
        "rounded": (whole(run("round", run("mul", real(h), sizes(3.0)))), lambda n: 3 * n),
        "one and a half": (whole(run("mul", real(h), sizes(1.5))), lambda n: 3 * n // 2),
        "eighths": (whole(run("ceil", run("real_div", sizes(h), sizes(8)))), lambda n: -(-n // 8)),
        "sum": (whole(run("add", half, sizes(1.5))), lambda n: (n + 3) // 2),
        "floor_div": (whole(run("floor_div", real(h), sizes(3.0))), lambda n: n // 3),
        "mod": (run("mod", run("sub", sizes(0), sizes(h)), sizes(8)), lambda n: -n % 8),
        "real mod": (whole(run("mod", real(h), sizes(8.0))), lambda n: n % 8),
        "at least": (run("maximum", sizes(h), sizes(16)), lambda n: max(n, 16)),
        "at most": (whole(run("minimum", half, sizes(7.0))), lambda n: min(n // 2, 7)),
        "clipped": (whole(run("clip", real(h), 4.0, 20.0)), lambda n: min(max(n, 4), 20)),
        "absolute": (run("abs", sizes(h)), lambda n: n),
        "product": (run("reduce_prod", sizes([h, 3, h])), lambda n: 3 * n * n),
        "chosen": (run("select", run("greater", sizes(h), sizes(0)), sizes(h), sizes(1)), int),
    }


def test_computed_sizes_stay_symbolic() -> None:
    with symbolic() as symbols:
        for name, (found, expected) in computations(symbols).items():
            for n in (1, 5, 24, 33):
                assert symbols.at(found.item(), n, 0) == expected(n), (name, n)


def test_tensors_of_symbolic_sizes() -> None:
    with symbolic() as symbols:
        counted = run("range_1d", symbols.h, 0, 1)
        real_counted = run("range_1d", real(symbols.h).item(), 0.0, 1.0)
        filled = run("fill", (symbols.h, 2), 1.0)
        for n in (5, 24):
            assert symbols.shape_at(counted, n, 0) == (n,)
            assert symbols.shape_at(real_counted, n, 0) == (n,)
            assert symbols.shape_at(filled, n, 0) == (n, 2)


NUMBERS = [-7, -2, -1, 0, 1, 3, 8]


@pytest.mark.parametrize("name", ["floor_div", "mod", "pow", "real_div"])
def test_sizes_are_divided_as_tensors_are(name: str) -> None:
    x, y = (np.array(part, np.int32) for part in np.meshgrid(NUMBERS, NUMBERS))
    found = host_to_dtype(run(name, x.astype(object), y.astype(object)), "int32")
    expected = MIL_OPS.lookup(name, 18)(torch.from_numpy(x), torch.from_numpy(y))
    assert found.tolist() == converted(expected, torch.int32).tolist()


def test_sizes_wrap_around_where_they_do_not_fit() -> None:
    product = run("mul", sizes([2**20, -3]), sizes(2**12))
    assert host_to_dtype(product, "int32").tolist() == [0, -3 * 2**12]
    assert host_to_dtype(run("cast", sizes([300.0, -5.0, 300]), "uint8"), "uint8").tolist() == [
        255,
        0,
        44,
    ]


@pytest.mark.parametrize("number", [math.inf, -math.inf, math.nan])
def test_rounding_keeps_what_is_not_finite(number: float) -> None:
    for name in ("ceil", "floor", "round"):
        assert repr(run(name, sizes([number])).tolist()) == repr([number])
    assert math.isnan(run("sign", sizes(math.nan)).item())


def test_a_large_size_as_float16_is_infinite() -> None:
    assert host_to_dtype(sizes([1e6]), "float16").tolist() == [math.inf]


def test_a_range_without_steps() -> None:
    with pytest.raises(ValueError, match="steps of 0"):
        run("range_1d", 5, 0, 0)


@pytest.mark.parametrize(
    ("shape", "places", "axis", "batch_dims"),
    [
        ((2, 3), (2, 2), 1, 1),
        ((2, 3), (2,), 1, 1),
        ((2, 3, 4), (2, 5), 2, 1),
        ((2, 3, 4), (2, 3, 2), 2, 2),
        ((0, 3), (0, 2), 1, 1),
    ],
)
def test_gather_with_batches_picks_as_tensors_do(
    shape: tuple[int, ...], places: tuple[int, ...], axis: int, batch_dims: int
) -> None:
    random = np.random.default_rng(0)
    x = np.arange(math.prod(shape), dtype=np.int32).reshape(shape)
    indices = random.integers(0, shape[axis], places, np.int32)
    found = run("gather", x.astype(object), indices.astype(object), axis, batch_dims)
    from coremltools.converters.mil.mil.ops.defs._utils import compute_gather

    expected = compute_gather(x, indices, axis, batch_dims) if x.size else np.zeros((0, 2))
    assert found.dtype == object
    assert found.shape == expected.shape
    np.testing.assert_array_equal(found.astype(np.int32), expected)


@pytest.mark.parametrize("name", sorted({*host.BINARY, *host.UNARY} - {"identity"}))
@pytest.mark.parametrize("dtype", ["int32", "float32"])
def test_sizes_are_computed_as_tensors_are(name: str, dtype: str) -> None:
    """A program must not notice whether a value is kept among the sizes."""
    if name.startswith("logical_"):
        dtype = "bool"
    elif name in ("ceil", "floor", "round"):
        dtype = "float32"
    shift = 0.25 if dtype == "float32" else 0
    numbers = np.array([number + shift for number in NUMBERS], dtype)
    given = np.meshgrid(numbers, numbers) if name in host.BINARY else [numbers]
    expected = MIL_OPS.lookup(name, 18)(*map(torch.from_numpy, given))
    declared = "bool" if expected.dtype == torch.bool else dtype
    expected = converted(expected, getattr(torch, declared)).numpy()
    found = host_to_dtype(run(name, *(item.astype(object) for item in given)), declared)
    kind = {"bool": bool, "int32": int, "float32": float}[declared]
    assert {type(item) for item in found.reshape(-1).tolist()} == {kind}
    np.testing.assert_allclose(found.astype(declared), expected, rtol=1e-6)
