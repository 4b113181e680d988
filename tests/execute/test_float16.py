"""float16 arithmetic: what float32 gives, rounded once; weights are widened once."""

import gc

import numpy as np
import pytest
import torch

from metal4conv.execute.interpreter import load
from metal4conv.execute.marshal import parameters
from metal4conv.execute.step import WIDE_WEIGHTS
from metal4conv.execute.table import MIL_OPS, ROUNDED
from tests.layout.packages import PackageBuilder

ALL = np.arange(65536, dtype=np.uint16).view(np.float16)
ALL = ALL[~np.isnan(ALL)]
UNARY = {
    "cos": {},
    "elu": {"alpha": 0.7},
    "exp": {},
    "gelu": {"mode": "TANH_APPROXIMATION"},
    "gelu_exact": {"mode": "EXACT"},
    "gelu_sigmoid": {"mode": "SIGMOID_APPROXIMATION"},
    "leaky_relu": {"alpha": 0.1},
    "sigmoid": {},
    "silu": {},
    "softplus": {},
    "tanh": {},
}
BINARY = {"add": np.add, "mul": np.multiply, "real_div": np.divide, "sub": np.subtract}


def operator(name):
    return MIL_OPS.lookup(name.partition("_exact")[0].partition("_sigmoid")[0], 18)


def test_every_operation_that_rounds_by_itself_is_tested():
    names = {name for name in MIL_OPS if MIL_OPS.lookup(name, 18) in ROUNDED}
    assert names == {name for name in UNARY if "gelu_" not in name} | BINARY.keys()
    for name in names - BINARY.keys():
        assert next(iter(parameters(operator(name)))) == "x"


@pytest.mark.parametrize("name", UNARY)
def test_functions_of_all_float16_numbers(name):
    """Half a spacing of float16 away from float32's, and what float32 itself leaves open.

    Kernels for vectors of different processors differ there: GELU's is a small part of x far below
    0, so it is as exact as x is.
    """
    function, options = operator(name), UNARY[name]
    found = function(torch.from_numpy(ALL), **options).numpy()
    wide = function(torch.from_numpy(ALL.astype(np.float32)), **options).numpy()
    with np.errstate(over="ignore"):
        expected = wide.astype(np.float16)
    same = (found == expected) | (np.isnan(found) & np.isnan(expected))
    assert (~same).mean() < 0.01
    both = ~same & np.isfinite(expected)
    exactness = 8 * np.finfo(np.float32).eps * np.maximum(np.abs(wide), np.abs(ALL))[both]
    spacing = np.spacing(np.abs(expected[both])).astype(np.float32)
    assert (np.abs(found[both] - wide[both]) <= spacing / 2 + exactness).all()


@pytest.mark.parametrize("name", BINARY)
def test_arithmetic_of_all_float16_numbers(name):
    """Against numpy in double precision, which is exact for float16 operands but in quotients."""
    other = np.random.default_rng(5).permutation(ALL)
    with np.errstate(all="ignore"):
        expected = BINARY[name](ALL.astype(np.float64), other).astype(np.float32)
        expected = expected.astype(np.float16)
    found = operator(name)(torch.from_numpy(ALL), torch.from_numpy(other)).numpy()
    np.testing.assert_array_equal(found, expected)


def shared_weight(path):
    build = PackageBuilder()
    build.input("x", "float16", (1, 64))
    build.literal("w", "float16", (64, 64), np.linspace(-1, 1, 4096).tolist())
    build.operation("linear", "y", "float16", (1, 64), {"x": ["x"], "weight": ["w"]})
    build.operation("linear", "z", "float16", (1, 64), {"x": ["y"], "weight": ["w"]})
    build.output("z", "float16")
    build.write(path)
    return path


def test_a_weight_is_widened_once_for_all_who_use_it(tmp_path):
    executor = load(shared_weight(tmp_path / "net.mlpackage"))
    x = np.linspace(0, 0.1, 64).astype(np.float16).reshape(1, 64)
    weight = np.linspace(-1, 1, 4096).astype(np.float16).reshape(64, 64).astype(np.float64)
    found = executor.predict({"x": x})["z"]
    middle = (x @ weight.T).astype(np.float32).astype(np.float16)
    expected = (middle @ weight.T).astype(np.float32).astype(np.float16)
    np.testing.assert_allclose(found, expected, rtol=2**-10, atol=1e-6)
    wide = {id(step.fixed["weight"]) for step in executor.plan.steps}
    assert len(wide) == 1
    assert all(step.fixed["weight"].dtype == torch.float32 for step in executor.plan.steps)
    np.testing.assert_array_equal(executor.predict({"x": x})["z"], found)
    gc.collect()
    assert not len(WIDE_WEIGHTS)  # what the wide weights were made of is gone
