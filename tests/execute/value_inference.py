"""What coremltools computes for an operation on constants, and calls of our own operations."""

from __future__ import annotations

import functools

import numpy as np
import torch

from metal4conv.execute.families import load_all
from metal4conv.execute.table import MIL_OPS


@functools.cache
def coremltools_builder():
    """The builder and the function class; the import takes some seconds."""
    import coremltools
    from coremltools.converters.mil.mil import Builder, Function

    return Builder, lambda: Function({}, opset_version=coremltools.target.iOS18)


def inferred(operation, **inputs):
    """The value that coremltools infers."""
    builder, function = coremltools_builder()
    with function():
        return getattr(builder, operation)(**inputs).val


def computed(operation, version=18, **inputs):
    """What our operation gives, with arrays (but not scalars and tuples) as tensors."""
    load_all()
    tensors = {name: as_tensor(value) for name, value in inputs.items()}
    result = MIL_OPS.lookup(operation, version)(**tensors)
    if isinstance(result, tuple):
        return tuple(item.numpy() for item in result)
    return result.numpy()


def as_tensor(value):
    if isinstance(value, list):
        return [as_tensor(item) for item in value]
    return torch.from_numpy(value) if isinstance(value, np.ndarray) else value


def assert_close(found, expected, tolerance=1e-5):
    """Same shape, and the same values up to float32 rounding."""
    expected = np.asarray(expected)
    assert found.shape == expected.shape
    np.testing.assert_allclose(found, expected, rtol=tolerance, atol=tolerance)


def random_array(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def symbolic_shapes(operation, dynamic, version=18, **inputs):
    """Result shapes, with the sizes of the tensors in `dynamic` symbolic, at their true sizes.

    The sizes are found by evaluation, after a check that no equation froze one of them.
    """
    import sympy
    from torch._dispatch.python import enable_python_dispatcher
    from torch._subclasses.fake_tensor import FakeTensorMode
    from torch.fx.experimental.symbolic_shapes import (
        DimDynamic,
        ShapeEnv,
        StatelessSymbolicContext,
    )

    load_all()
    environment = ShapeEnv(duck_shape=False)
    mode = FakeTensorMode(shape_env=environment, allow_non_fake_inputs=True)
    values = {}
    for name, value in inputs.items():
        if not isinstance(value, np.ndarray):
            values[name] = value
            continue
        axes = dynamic.get(name, ())
        kinds = [
            DimDynamic.DYNAMIC if axis in axes else DimDynamic.STATIC for axis in range(value.ndim)
        ]
        context = StatelessSymbolicContext(dynamic_sizes=kinds)
        values[name] = mode.from_tensor(torch.from_numpy(value), symbolic_context=context)
    with mode, enable_python_dispatcher():
        result = MIL_OPS.lookup(operation, version)(**values)
    frozen = [guard.expr for guard in environment.guards if isinstance(guard.expr, sympy.Eq)]
    assert not frozen
    results = result if isinstance(result, tuple) else (result,)
    symbolic = any(isinstance(size, torch.SymInt) for item in results for size in item.shape)
    return symbolic, [tuple(size_hint(size) for size in item.shape) for item in results]


def size_hint(size):
    return size.node.hint if isinstance(size, torch.SymInt) else size
