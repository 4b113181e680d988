"""The table of operations against coremltools' registry: names, parameters and defaults."""

from __future__ import annotations

import inspect
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from metal4conv.errors import UnsupportedModel
from metal4conv.execute.families import load_all
from metal4conv.execute.table import MIL_OPS

ct = pytest.importorskip("coremltools")
load_all()

TARGETS = {15: "iOS15", 16: "iOS16", 17: "iOS17", 18: "iOS18"}
REGISTRY = ct.converters.mil.mil.ops.registry.SSAOpRegistry
CORE = REGISTRY.core_ops

OF_PACKAGES = {"coreml_update_state", "write_state"}
"""Operations outside the registry's core: what updates of states become on disk."""

BY_SHAPE = {"axes", "box_indices", "dilations", "pad", "strides"}
"""Parameters whose default is made of the input's shape; None stands for that here."""


def test_every_operation_is_here() -> None:
    assert set(MIL_OPS) == set(CORE) | OF_PACKAGES


def fitting(name: str, opset: int) -> Any:
    """coremltools' class of an operation for an opset, None where it is too old."""
    versions = CORE[name]
    known = [target for target in versions if target <= getattr(ct.target, TARGETS[opset])]
    return versions[max(known)] if known else None


@pytest.mark.parametrize("opset", TARGETS)
@pytest.mark.parametrize("name", sorted(CORE))
def test_signature_is_mil_schema(name: str, opset: int) -> None:
    theirs = fitting(name, opset)
    if theirs is None:
        with pytest.raises(UnsupportedModel, match="exists from version"):
            MIL_OPS.lookup(name, opset)
        return
    expected = {
        parameter: kind.optional
        for parameter, kind in theirs.input_spec.input_types.items()
        if not parameter.startswith("_")  # Python functions that build nested blocks
    }
    ours = inspect.signature(MIL_OPS.lookup(name, opset)).parameters
    found = {
        parameter: item.default is not inspect.Parameter.empty
        for parameter, item in ours.items()
        if parameter != "blocks"
    }
    assert found == expected


@pytest.mark.parametrize("opset", TARGETS)
@pytest.mark.parametrize("name", sorted(CORE))
def test_defaults_are_mils(name: str, opset: int) -> None:
    theirs = fitting(name, opset)
    if theirs is None:
        pytest.skip("not in this opset")
    ours = inspect.signature(MIL_OPS.lookup(name, opset)).parameters
    for parameter, expected in defaults(theirs).items():
        found = ours[parameter].default
        if parameter in BY_SHAPE:
            assert found is None
        elif name == "linear" and parameter == "bias":
            assert found is None
            assert not np.any(expected)
        else:
            assert (found, type(found)) == (expected, type(expected)), parameter


def defaults(operation: Any) -> dict[str, Any]:
    """An operation's defaults, which some compute from an input of rank 4."""
    values = ct.converters.mil.mil.types
    tensor = SimpleNamespace(rank=4, shape=(1, 2, 3, 4), dtype=values.fp32)
    bare = operation.__new__(operation)
    for parameter in operation.input_spec.input_types:
        setattr(bare, parameter, None if parameter == "return_indices" else tensor)
    found = bare.default_inputs()
    return {name: plain(value) for name, value in found.items()}


def plain(value: Any) -> Any:
    """A default as a Python number of the precision in which coremltools gives it."""
    if isinstance(value, np.floating):
        return next((item for item in (1e-4, 1e-12, 1e-45) if np.float32(item) == value), value)
    return value


def test_defaults_are_found_where_coremltools_has_them() -> None:
    assert defaults(fitting("conv", 15))["pad_type"] == "valid"
    assert defaults(fitting("rsqrt", 17))["epsilon"] == 1e-12
    assert defaults(fitting("topk", 17))["output_indices_dtype"] == "int32"
