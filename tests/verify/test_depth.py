import inspect
import math

import numpy as np
import pytest
import torch

from metal4conv.execute.families import load_all
from metal4conv.execute.table import EXACT, MIL_OPS, is_exact
from metal4conv.mil.program import Block, Operation, TensorType, Value
from metal4conv.verify.depth import AS_THEY_ARE, CHOOSING, REPEATS, float16_depths
from tests.verify.fakes import function_of, operation


def test_the_longest_path_counts():
    operations = [
        operation("conv", "a", ["x"]),
        operation("relu", "b", ["a"]),
        operation("conv", "c", ["b"]),
        operation("reshape", "d", ["x"]),
        operation("add", "y", ["c", "d"]),
        operation("mul", "z", ["d", "d"]),
    ]
    assert float16_depths(function_of(operations, ["y", "z"], "float16")) == {"y": 3, "z": 1}


def test_float32_does_not_count_but_passes_on():
    operations = [
        operation("conv", "a", ["x"], "float32"),
        operation("cast", "b", ["a"], "float16"),
        operation("tanh", "y", ["b"], "float32"),
    ]
    assert float16_depths(function_of(operations, ["a", "y"], "float32")) == {"a": 0, "y": 1}


def test_an_input_may_be_an_output():
    assert float16_depths(function_of([], ["x"], "float16")) == {"x": 0}


def test_a_loop_counts_its_body_many_times():
    carried = Value("i", TensorType("float16", (1,)))
    body = Block((carried,), (operation("add", "j", ["i"]),), ("j",))
    output = Value("y", TensorType("float16", (1,)))
    loop = Operation("while_loop", "y", {"loop_vars": ("x",)}, (output,), (body,))
    first = operation("tanh", "x0", ["x"])
    depths = float16_depths(function_of([first, loop], ["y"], "float16"))
    assert depths == {"y": 16}


def test_a_branch_counts_the_deeper_one():
    blocks = (
        Block((), (operation("mul", "a", ["x0"]), operation("add", "b", ["a"])), ("b",)),
        Block((), (), ("x0",)),
    )
    output = Value("y", TensorType("float16", (1,)))
    branch = Operation("cond", "y", {"pred": ("x",)}, (output,), blocks)
    first = operation("tanh", "x0", ["x"])
    assert float16_depths(function_of([first, branch], ["y"], "float16")) == {"y": 3}


def depth_of(type):
    """The depth of a single operation."""
    return float16_depths(function_of([operation(type, "y", ["x"])], ["y"], "float16"))["y"]


MOVING = "concat gather list_read one_hot read_state transpose"
CHOICES = "clip max_pool maximum reduce_max relu relu6 round threshold"
WEIGHTS = "const constexpr_affine_dequantize constexpr_blockwise_shift_scale constexpr_cast"


@pytest.mark.parametrize("type", f"{MOVING} {CHOICES} {WEIGHTS}".split())
def test_moving_and_choosing_do_not_count(type):
    assert depth_of(type) == 0


ARITHMETIC = "add avg_pool batch_norm cast conv dequantize range_1d reduce_sum scatter_nd not_known"


@pytest.mark.parametrize("type", ARITHMETIC.split())
def test_arithmetic_counts(type):
    assert depth_of(type) == 1


def test_the_lists_name_operations_and_say_nothing_twice():
    load_all()
    assert set(REPEATS) | CHOOSING | AS_THEY_ARE <= set(MIL_OPS)
    assert not [name for name in CHOOSING if is_exact(name)]
    assert set(filter(is_exact, MIL_OPS)) == AS_THEY_ARE


def test_all_versions_of_an_operation_are_exact_or_none():
    load_all()
    for name, versions in MIL_OPS.handlers.items():
        assert len({operator in EXACT for operator in versions.values()}) == 1, name


def needed_parameters(operator):
    """Names of the parameters without a default."""
    parameters = inspect.signature(operator).parameters.items()
    return [name for name, parameter in parameters if parameter.default is parameter.empty]


def test_exact_operations_give_numbers_that_float16_holds():
    """Those that can be called with one or two tensors, in double precision."""
    load_all()
    random = np.random.default_rng(0)
    shape = (1, 4, 8, 8)
    x, y = (torch.from_numpy(random.normal(0, 4, shape).astype(np.float16)) for _ in range(2))
    tried = set()
    for name in filter(is_exact, MIL_OPS):
        for operator in MIL_OPS.handlers[name].values():
            needed = needed_parameters(operator)
            if needed not in (["x"], ["x", "y"]):
                continue
            results = operator(*(x.double(), y.double())[: len(needed)])
            for result in results if isinstance(results, tuple) else (results,):
                if torch.is_tensor(result) and result.is_floating_point():
                    assert torch.equal(result, result.half().to(result.dtype)), name
            tried.add(name)
    assert {"abs", "ceil", "maximum", "reduce_max", "relu", "relu6", "sign", "topk"} <= tried


@pytest.mark.parametrize("type", sorted(CHOOSING))
def test_choosing_operations_give_numbers_that_float16_holds(type):
    load_all()
    x = torch.from_numpy(np.random.default_rng(0).normal(0, 4, (1, 4, 8, 8)).astype(np.float16))
    options = {
        "clip": {"alpha": -1.5, "beta": math.inf},
        "max_pool": {"kernel_sizes": (3, 3), "strides": (2, 2), "pad_type": "same"},
        "threshold": {"alpha": 0.25},
    }
    result = MIL_OPS.lookup(type, 18)(x.double(), **options[type])
    assert torch.equal(result, result.half().double())
