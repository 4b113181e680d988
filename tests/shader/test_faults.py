"""Mistakes that people make by hand, made here on purpose: each is found without a Mac.

One thing in a generated source is changed, the rest stays. What finds it is a rule that the
stand-in checks when it compiles, a failure when it runs, or numbers that are not the network's.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from metal4conv.errors import RejectedShader
from metal4conv.shader.compiler import Compiler, HostBuild
from metal4conv.shader.evaluation import evaluate
from metal4conv.shader.host import HostShader, open_shader
from metal4conv.shader.options import ShaderOptions
from tests.shader.handmade import Hand, shader_files, written

HALF = ShaderOptions()
HANDLE = ShaderOptions(tensors="handle")

ROUNDED = 4e-3
"""More than float16 rounds here, and less than any mistake changes."""


@dataclass(frozen=True)
class Fault:
    """What is changed, and how it is found: by a `rule`, a `failure`, or else by numbers."""

    name: str
    before: str
    after: str
    entry: str = "compute"
    matmul2d: bool = True
    rule: str = ""
    failure: str = ""
    options: ShaderOptions = HALF


def small() -> Hand:
    """Widths that need padding: 24 to 32 inputs, 40 to 64, outputs to multiples of 16."""
    hand = Hand("small", seed=21)
    hidden = hand.layer("first", hand.input("x", 24), 40, "relu")
    hidden = hand.layer("second", hidden, 24, "tanh")
    hand.output("y", hand.layer("third", hidden, 3, "identity"))
    return hand


FAULTS = [
    Fault(
        "transpose of a fragment function's product",
        "matmul2d_descriptor(1, OUTPUTS, INPUTS, false, true, false)",
        "matmul2d_descriptor(1, OUTPUTS, INPUTS, false, false, false)",
        entry="fragment",
        rule="extents",
    ),
    Fault(
        "transpose of bound tensors, whose sizes the compiler does not know",
        "small_tile_points, OUTPUTS, INPUTS, false, true, false)",
        "small_tile_points, OUTPUTS, INPUTS, false, false, false)",
        failure="the left tensor 64 and the right one 32",
        options=HANDLE,
    ),
    Fault(
        "stride of the weights' rows in the plain path",
        "row += INPUTS / 4;",
        "row += OUTPUTS / 4;",
        matmul2d=False,
    ),
    Fault(
        "stride of the weights' tensor",
        "(device half *)weight, extents<int, INPUTS, OUTPUTS>());",
        "(device half *)weight, extents<int, INPUTS, OUTPUTS>(), array<int, 2>{1, OUTPUTS});",
    ),
    Fault("offset of a layer", "small_w1_offset = ", "small_w1_offset = 128 + "),
    Fault("offset of a bias", "small_b0_offset = ", "small_b0_offset = 4 + ", matmul2d=False),
    Fault(
        "40 inputs without padding as a static inner extent",
        "small_w1_inputs = 64;",
        "small_w1_inputs = 40;",
        rule="multiple of 32",
    ),
    Fault("a bias that is left out", "second_sums[i] + b1[i]", "second_sums[i]", matmul2d=False),
    Fault("a bias that is left out on the cooperative path", "sum + b0[i]", "sum"),
    Fault(
        "a simdgroup's scope in a fragment function",
        "execution_thread> multiply",
        "execution_simdgroup> multiply",
        entry="fragment",
        rule="tensors in thread memory are for execution_thread alone",
    ),
    Fault(
        "a tile's evaluation, with simdgroup scope, called by a fragment function",
        "const small_outputs outputs = small_evaluate(inputs, weights);",
        "const small_outputs outputs =\n"
        "        small_evaluate_tile(inputs, weights, (threadgroup uchar *)nullptr, 0);",
        entry="fragment",
        rule="a fragment function uses no barrier and no scope but execution_thread",
    ),
    Fault(
        "no barrier before the product",
        "    simdgroup_barrier(mem_flags::mem_threadgroup); // all rows are written\n",
        "",
    ),
    Fault(
        "no barrier before sums are read",
        "    simdgroup_barrier(mem_flags::mem_threadgroup); // all sums are written\n",
        "",
    ),
    Fault(
        "half weights read as float in the plain path",
        "const device half4 *row = (const device half4 *)weight;",
        "const device float4 *row = (const device float4 *)weight;",
        matmul2d=False,
    ),
    Fault(
        "bfloat weights beside half operands",
        "tensor<device half, extents<int, INPUTS, OUTPUTS>, tensor_inline>(\n"
        "        (device half *)weight",
        "tensor<device bfloat, extents<int, INPUTS, OUTPUTS>, tensor_inline>(\n"
        "        (device bfloat *)weight",
        rule="bfloat",
    ),
    Fault(
        "rows and columns of cooperative elements",
        "rows[point * OUTPUTS + o] = sum;",
        "rows[o * OUTPUTS + point] = sum;",
    ),
    Fault(
        "a lane that takes its own elements for its own point",
        "const auto at = sums.get_multidimensional_index(e);",
        "const int at[2] = {int(e) % OUTPUTS, int(e) / OUTPUTS};",
    ),
    Fault(
        "padding of an operand in threadgroup memory that nobody zeroes",
        "((threadgroup half *)tile)[lane * small_w1_inputs + i] = 0;",
        "",
    ),
    Fault(
        "points beyond the grid",
        "if (point < count) {\n        small_store",
        "{\n        small_store",
        failure='writes beyond the end of buffer "output y"',
    ),
]


def changed(fault: Fault) -> str:
    """The source with the fault in it."""
    text = written(small().network(), fault.options).text
    assert text.count(fault.before) >= 1, "the source does not say that any more"
    return text.replace(fault.before, fault.after)


def opened(fault: Fault, folder: Path, text: str | None) -> HostShader:
    """The shader with a source of its own."""
    return open_shader(shader_files(small().network(), fault.options, folder, text), folder)


def error_of(shader: HostShader, fault: Fault) -> float:
    """How far the worst output is from the network's, as a share; infinite for no number."""
    hand = small()
    network = hand.network()
    rows = hand.rows(77)
    got = shader.run(f"small_{fault.entry}", rows, (11, 7), fault.matmul2d, threads=1)["y"]
    exact = evaluate(network, rows)["y"]
    error = np.abs(got - exact).max() / np.abs(exact).max()
    return float(error) if np.isfinite(error) else float("inf")


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_fault_is_found(fault, compiler: Compiler, tmp_path):
    shader = opened(fault, tmp_path, changed(fault))
    if fault.rule:
        with pytest.raises(RejectedShader, match=fault.rule):
            shader.compile()
    elif fault.failure:
        with pytest.raises(RejectedShader, match=fault.failure):
            error_of(shader, fault)
    else:
        assert error_of(shader, fault) > 2 * ROUNDED


@pytest.mark.parametrize("options", [HALF, HANDLE], ids=lambda options: options.tensors)
def test_without_faults_the_numbers_are_right(options, compiler: Compiler, tmp_path):
    shader = opened(Fault("none", "", "", options=options), tmp_path, None)
    for entry in ("compute", "fragment"):
        for matmul2d in (False, True):
            fault = Fault("none", "", "", entry=entry, matmul2d=matmul2d, options=options)
            assert error_of(shader, fault) < ROUNDED


def test_dropped_remainder_changes_numbers(compiler: Compiler, tmp_path):
    """What a static inner extent of 40 does on a system that does not refuse it: the sums of the
    last 8 inputs are missing.
    """
    fault = Fault("", "small_w1_inputs = 64;", "small_w1_inputs = 40;")
    shader = opened(fault, tmp_path, changed(fault))
    shader.build = HostBuild(drop_remainder=True)
    assert error_of(shader, fault) > 2 * ROUNDED
