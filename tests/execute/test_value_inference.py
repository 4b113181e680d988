"""The executor's operations against coremltools' value inference."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from metal4conv.execute.families import load_all
from metal4conv.execute.marshal import parameters
from metal4conv.execute.table import MIL_OPS

ct = pytest.importorskip("coremltools")
load_all()

TARGETS = {15: "iOS15", 16: "iOS16", 17: "iOS17", 18: "iOS18"}

X = np.array([[1.5, -2.0, 0.25], [4.0, -0.5, 3.0]], np.float32)
Y = np.array([[0.5, 3.0, -2.0]], np.float32)
I = np.array([[7, -7, 3], [-8, 2, 5]], np.int32)  # noqa: E741
J = np.array([2, 3, -2], np.int32)
CUBE = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
UNIT = np.array([-0.75, 0.0, 0.5], np.float32)
POSITIVE = np.array([0.5, 1.0, 9.0], np.float32)
HALVES = np.array([-2.5, -1.5, -0.5, 0.5, 1.5, 2.5], np.float32)
TRUTH = np.array([True, False, True])

CASES: list[tuple[str, int, dict[str, Any]]] = [
    *((name, 15, {"x": UNIT}) for name in ("acos", "asin", "atan", "atanh", "erf", "tan", "tanh")),
    *((name, 15, {"x": X}) for name in ("abs", "ceil", "cos", "cosh", "exp", "exp2", "floor")),
    *((name, 15, {"x": X}) for name in ("sign", "sin", "sinh", "square")),
    *((name, 15, {"x": I}) for name in ("abs", "sign", "square")),
    *((name, 15, {"x": POSITIVE}) for name in ("inverse", "log", "rsqrt", "sqrt")),
    ("inverse", 17, {"x": POSITIVE, "epsilon": 0.5}),
    ("round", 15, {"x": HALVES}),
    ("clip", 15, {"x": X, "alpha": -1.0, "beta": 2.0}),
    ("clip", 15, {"x": X, "alpha": 2.0, "beta": -1.0}),
    ("threshold", 15, {"x": X, "alpha": 0.5}),
    ("logical_not", 15, {"x": TRUTH}),
    ("cast", 15, {"x": X * 1.3, "dtype": "int32"}),
    ("cast", 15, {"x": X, "dtype": "fp16"}),
    ("cast", 15, {"x": np.array([0.0, -0.5, np.nan], np.float32), "dtype": "bool"}),
    ("cast", 17, {"x": np.array([300, -1, 5], np.int32), "dtype": "uint8"}),
    *(
        (name, 15, {"x": x, "y": y})
        for name in ("add", "floor_div", "maximum", "minimum", "mod", "mul", "sub")
        for x, y in ((X, Y), (I, J), (-X, Y * 1.7))
    ),
    *(
        (name, 15, {"x": I, "y": np.array([7, 2, 5], np.int32)})
        for name in ("equal", "greater", "greater_equal", "less", "less_equal", "not_equal", "pow")
    ),
    ("pow", 15, {"x": np.abs(X), "y": Y}),
    ("real_div", 15, {"x": X, "y": Y}),
    *(
        (f"logical_{name}", 15, {"x": TRUTH, "y": np.array([True, True, False])})
        for name in ("and", "or", "xor")
    ),
    *(
        (f"reduce_{name}", 15, {"x": x, **axes})
        for name in ("l1_norm", "l2_norm", "max", "mean", "min", "prod", "sum", "sum_square")
        for x in (X, I)
        for axes in ({}, {"axes": [-1]}, {"axes": [0, 1], "keep_dims": True})
    ),
    ("reduce_log_sum", 15, {"x": POSITIVE}),
    ("reduce_log_sum_exp", 15, {"x": X * 100, "axes": [1], "keep_dims": True}),
    ("reduce_argmax", 15, {"x": X}),
    ("reduce_argmin", 17, {"x": X, "axis": 0, "keep_dims": True}),
    ("band_part", 15, {"x": CUBE, "lower": 0, "upper": 1}),
    ("band_part", 15, {"x": CUBE, "lower": 1}),
    ("cumsum", 15, {"x": CUBE, "axis": 1, "reverse": True}),
    ("cumsum", 15, {"x": I}),
    ("fill", 15, {"shape": [2, 3], "value": 4.5}),
    ("fill_like", 16, {"ref_tensor": X, "value": True}),
    ("non_zero", 15, {"x": np.array([[0, 3], [1, 0]], np.int32)}),
    ("pad", 15, {"x": CUBE, "pad": [1, 2, 0, 3], "constant_val": 9.0}),
    ("pad", 15, {"x": CUBE, "pad": [1, 0, 2, 1, 3, 2], "mode": "reflect"}),
    ("pad", 15, {"x": CUBE, "pad": [2, 1, 3, 2], "mode": "replicate"}),
    ("range_1d", 15, {"start": 2, "end": 11, "step": 3}),
    ("range_1d", 15, {"start": 5, "end": -1, "step": -2}),
    ("range_1d", 15, {"start": 0.0, "end": 1.0, "step": 0.25}),
    ("tile", 15, {"x": X, "reps": [2, 3]}),
    ("argsort", 15, {"x": X}),
    ("argsort", 15, {"x": X, "axis": 0, "ascending": True}),
    ("topk", 15, {"x": X, "k": 2}),
    ("topk", 16, {"x": I, "k": 1, "axis": 0, "ascending": True}),
    ("topk", 17, {"x": X, "k": 2, "return_indices": False}),
    ("flatten2d", 15, {"x": CUBE, "axis": -1}),
    ("flatten2d", 15, {"x": CUBE, "axis": 2}),
    ("concat", 15, {"values": (X, Y), "axis": 0}),
    ("split", 15, {"x": CUBE, "split_sizes": [1, 3], "axis": -1}),
    ("split", 15, {"x": CUBE, "num_splits": 3, "axis": 1}),
    ("stack", 15, {"values": (X, X + 1), "axis": -1}),
    ("identity", 15, {"x": X}),
    ("select", 15, {"cond": TRUTH, "a": X, "b": -X}),
    ("expand_dims", 15, {"x": X, "axes": [0, -1]}),
    ("squeeze", 15, {"x": CUBE.reshape(1, 2, 1, 12), "axes": [0]}),
    ("squeeze", 15, {"x": CUBE.reshape(1, 2, 1, 12)}),
    ("reshape", 15, {"x": CUBE, "shape": [0, -1, 2]}),
    ("reshape", 17, {"x": X, "shape": [1, 0, -1, 0]}),
    ("reshape", 17, {"x": CUBE, "shape": [-1, 0]}),
    ("reverse", 15, {"x": CUBE, "axes": [0, -1]}),
    ("reverse", 15, {"x": CUBE}),
    ("slice_by_index", 15, {"x": CUBE, "begin": [0, -2, 1], "end": [2, 3, -1]}),
    (
        "slice_by_index",
        15,
        {"x": CUBE, "begin": [1, 2, 3], "end": [0, 0, 0], "stride": [1, -1, -2]}
        | {"end_mask": [False, False, True], "squeeze_mask": [True, False, False]},
    ),
    (
        "slice_by_index",
        15,
        {"x": CUBE, "begin": [0, 0, -1], "end": [0, 9, -4], "stride": [1, 2, -1]}
        | {"begin_mask": [True, False, False], "end_mask": [True, False, False]},
    ),
    ("slice_by_size", 15, {"x": CUBE, "begin": [1, -2, 0], "size": [1, -1, 3]}),
    (
        "slice_update",
        18,
        {"x": CUBE, "update": -CUBE[:, 2:0:-1, ::2], "begin": [0, 2, 0], "end": [2, 0, 4]}
        | {"stride": [1, -1, 2]},
    ),
    ("transpose", 15, {"x": CUBE, "perm": [-1, 0, 1]}),
    ("gather", 15, {"x": CUBE, "indices": np.array([[0, -1]], np.int32), "axis": 1}),
    ("gather", 16, {"x": CUBE, "indices": np.array([[2, 0], [1, 1]], np.int32)}
     | {"axis": 1, "batch_dims": 1}),
    ("gather", 17, {"x": CUBE, "indices": np.array([[[2], [0]], [[1], [1]]], np.int32)}
     | {"axis": 2, "batch_dims": 1}),
    ("gather", 17, {"x": CUBE, "indices": np.int32(1), "axis": -1}),
    ("gather_along_axis", 15, {"x": X, "indices": np.array([[0, -1, 1]], np.int32)}),
    (
        "scatter_along_axis",
        15,
        {"data": X, "indices": np.array([[2], [0]], np.int32), "mode": "update"}
        | {"updates": np.array([[9.0], [8.0]], np.float32), "axis": 1},
    ),
]  # fmt: skip


def inferred(name: str, opset: int, given: dict[str, Any]) -> list[np.ndarray]:
    """What coremltools folds the operation to."""
    mb = ct.converters.mil.Builder
    found: list[Any] = []

    @mb.program(input_specs=[], opset_version=getattr(ct.target, TARGETS[opset]))
    def program() -> Any:
        results = getattr(mb, name)(**given)
        results = results if isinstance(results, (tuple, list)) else [results]
        found.extend(result.val for result in results)
        return mb.const(val=0.0)

    return [np.asarray(value) for value in found]


def executed(name: str, opset: int, given: dict[str, Any]) -> list[np.ndarray]:
    """What the operation here gives, its arguments handed over as its annotations say."""
    operator = MIL_OPS.lookup(name, opset)
    kinds = parameters(operator)
    known = {parameter: handed(value, kinds[parameter][0]) for parameter, value in given.items()}
    results = operator(**known)
    return [part.numpy() for part in (results if isinstance(results, tuple) else (results,))]


def handed(value: Any, kind: str) -> Any:
    """An argument as a parameter of this kind takes it."""
    if kind == "tensors":
        return [torch.from_numpy(np.array(item)) for item in value]
    if kind in ("scalar", "text", "tuple"):
        return tuple(value) if isinstance(value, list) else value
    return torch.from_numpy(np.array(value))


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case[0]}-{case[1]}")
def test_value_inference(case: tuple[str, int, dict[str, Any]]) -> None:
    expected = inferred(*case)
    found = executed(*case)
    assert [part.shape for part in found] == [part.shape for part in expected]
    for ours, theirs in zip(found, expected, strict=True):
        np.testing.assert_allclose(ours.astype(theirs.dtype), theirs, rtol=2e-6, atol=2e-6)
