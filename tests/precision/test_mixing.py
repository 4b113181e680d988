"""Mixed programs give what coremltools' own mixed packages give, to the last bit."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from metal4conv.execute.interpreter import Executor
from metal4conv.mil.package import Package, read_package
from metal4conv.precision.eligible import constants_of, float16_values, overflowing_constant
from metal4conv.precision.mixing import Narrowing, mixed
from tests.mil.foreign import save, tensor, toolkit


def network(x: Any) -> Any:
    """Weights, an epsilon, an alpha, two results of one operation, and a cast."""
    _, mb, _ = toolkit()
    random = np.random.default_rng(3)
    weight = random.standard_normal((8, 6)).astype(np.float32)
    a = mb.linear(x=x, weight=weight, bias=random.standard_normal(8).astype(np.float32), name="a")
    b = mb.elu(x=a, alpha=0.7, name="b")
    left, right = mb.split(x=b, num_splits=2, axis=1, name="c")
    d = mb.layer_norm(x=left, axes=[-1], epsilon=1e-5, name="d")
    e = mb.exp(x=mb.mul(x=right, y=np.float32(0.3), name="e0"), name="e")
    f = mb.rsqrt(x=mb.mul(x=e, y=e, name="f0"), epsilon=1e-6, name="f")
    return mb.add(x=d, y=mb.mul(x=f, y=e, name="g"), name="h")


def loop(x: Any) -> Any:
    """A loop whose body takes a value from around it, and a branch."""
    _, mb, _ = toolkit()
    shift = mb.mul(x=x, y=np.float32(0.1), name="shift")
    last = mb.while_loop(
        _cond=lambda n, y: mb.less(x=n, y=3, name="more"),
        _body=lambda n, y: (
            mb.add(x=n, y=1, name="next"),
            mb.add(x=mb.mul(x=y, y=np.float32(1.7), name="inner_mul"), y=shift, name="inner_add"),
        ),
        loop_vars=(0, mb.relu(x=x, name="start")),
        name="loop",
    )[1]
    total = mb.reduce_sum(x=last, keep_dims=False, name="total")
    return mb.cond(
        pred=mb.greater(x=total, y=np.float32(0), name="positive"),
        _true_fn=lambda: mb.tanh(x=mb.mul(x=last, y=np.float32(0.3), name="yes0"), name="yes"),
        _false_fn=lambda: mb.sub(x=last, y=shift, name="no"),
        name="branch",
    )


def packages(
    folder: Path, body: Any, shape: tuple[int, ...], kept: Collection[str], target: str
) -> tuple[Package, Package]:
    """The float32 package, and the one that coremltools makes with `kept` in float32."""
    ct, _, _ = toolkit()
    (folder / "wide").mkdir()
    (folder / "mixed").mkdir()
    specs = [tensor(shape)]
    wide = save(folder / "wide", body, specs, target, pass_pipeline=ct.PassPipeline())
    precision = ct.transform.FP16ComputePrecision(lambda operation: operation.name not in kept)
    options = {"compute_precision": precision, "pass_pipeline": ct.PassPipeline()}
    both = save(folder / "mixed", body, specs, target, **options)
    return read_package(wide), read_package(both)


CASES = {
    "network": (network, (2, 6), ("d", "e", "f0"), "iOS18"),
    "nothing kept": (network, (2, 6), (), "iOS18"),
    "older opset": (network, (2, 6), ("a", "g"), "iOS16"),
    "loop": (loop, (4,), ("inner_mul", "total"), "iOS18"),
    "whole loop narrow": (loop, (4,), ("shift",), "iOS18"),
}


@pytest.mark.parametrize("name", CASES)
def test_as_coremltools_makes_it(name: str, tmp_path: Path) -> None:
    body, shape, kept, target = CASES[name]
    wide, both = packages(tmp_path, body, shape, kept, target)
    program = mixed(wide.function(), kept, Narrowing())
    x = np.random.default_rng(1).standard_normal(shape).astype(np.float32)
    (expected,) = Executor.from_package(both).predict({"x": x}).values()
    (found,) = Executor(program, wide.interface()).predict({"x": x}).values()
    (exact,) = Executor.from_package(wide).predict({"x": x}).values()
    np.testing.assert_array_equal(found, expected)
    assert (found != exact).any()


def test_everything_kept_is_the_program(tmp_path: Path) -> None:
    wide, _ = packages(tmp_path, network, (2, 6), (), "iOS18")
    names = {operation.name for operation in wide.function().block.walk()}
    program = mixed(wide.function(), names, Narrowing())
    types = [operation.type for operation in program.block.operations]
    assert types == [operation.type for operation in wide.function().block.operations]


def test_constants_beyond_float16_stay(tmp_path: Path) -> None:
    """A factor of finfo.min would become an infinity, and 0 times that NaN; -inf alone may."""
    _, mb, _ = toolkit()
    lowest = np.finfo(np.float32).min

    def body(x: Any) -> Any:
        masked = mb.mul(x=x, y=lowest, name="product")
        return mb.maximum(x=mb.add(x=masked, y=lowest, name="sum"), y=np.float32(1e5), name="top")

    path = save(tmp_path, body, [tensor((2,))])
    function = read_package(path).function()
    constants = constants_of(function)
    found = {
        operation.name: overflowing_constant(operation, constants)
        for operation in function.block.operations
        if operation.type != "const"
    }
    assert found == {"product": lowest, "sum": None, "top": 100_000}


def test_small_constants_do_not_vanish() -> None:
    """As coremltools does for arrays of less than 400 elements, which may be epsilons."""
    few, many = np.full(399, 1e-12, np.float32), np.full(400, 1e-12, np.float32)
    assert (float16_values(few) == np.float16(6e-8)).all()
    assert (float16_values(many) == 0).all()
