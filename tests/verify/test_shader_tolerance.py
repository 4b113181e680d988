"""How far a shader's output may be from the source's."""

from __future__ import annotations

import math

import numpy as np
import pytest

from metal4conv.shader.document import Rounding
from metal4conv.verify.shader_tolerance import choose_shader_tolerance
from metal4conv.verify.tolerance import GivenTolerance

RAMP = np.linspace(-1, 1, 101, dtype=np.float32)
RMS = float(np.sqrt(np.mean(RAMP.astype(np.float64) ** 2)))
STORED = Rounding("y", 1e-3, 2e-4)


def chosen(precision="float16", layers=2, rounding=None, is_gpu=False, expected=RAMP, **given):
    return choose_shader_tolerance(
        expected, precision, layers, GivenTolerance(**given), rounding, is_gpu=is_gpu
    )


@pytest.mark.parametrize(
    ("precision", "rtol"),
    [("float32", 2e-5), ("float16", 12 / 2048), ("int8", 18 / 256)],
)
def test_by_precision(precision, rtol):
    found = chosen(precision)
    assert found.rtol == pytest.approx(rtol)
    assert found.atol == pytest.approx(rtol * RMS)
    assert (found.min_psnr is None) == (precision == "float32")
    assert str(found).endswith(f"({precision} weights, 2 layers)")


def test_depth_counts_by_its_root():
    assert chosen(layers=8).rtol == pytest.approx(2 * chosen(layers=2).rtol)
    assert chosen(layers=0).rtol == chosen(layers=1).rtol
    assert chosen(layers=1).basis == "float16 weights, 1 layer"


def test_what_the_manifest_says_counts_instead():
    found = chosen(rounding=STORED)
    assert found.rtol == pytest.approx(2e-5)
    assert found.atol == pytest.approx(2e-3 + 2e-5 * RMS)
    assert found.min_psnr == pytest.approx(20 * math.log10(2 / (3e-4 + 2e-5 * RMS)))
    assert found.atol < chosen().atol


def test_float32_has_nothing_stored_to_count():
    assert chosen("float32", rounding=STORED) == chosen("float32")


def test_a_gpu_is_allowed_what_either_rule_allows():
    usual = chosen(is_gpu=True)
    assert chosen(rounding=STORED, is_gpu=True) == usual == chosen()
    amplified = chosen(rounding=Rounding("y", 0.5, 0.1), is_gpu=True)
    assert amplified.atol == pytest.approx(1.0, rel=1e-4)
    assert amplified.rtol == usual.rtol
    assert amplified.min_psnr < usual.min_psnr


def test_given_tolerances_replace_the_rules():
    found = chosen(rounding=STORED, rtol=0.25)
    assert (found.rtol, found.atol, found.min_psnr) == (0.25, pytest.approx(0.25 * RMS), None)
    found = chosen(rounding=STORED, atol=0.5)
    assert (found.atol, found.min_psnr) == (0.5, None)
    assert chosen(min_psnr=20.0).min_psnr == 20.0


def test_integers_are_equal():
    found = chosen(expected=np.arange(3))
    assert (found.atol, found.rtol, found.basis) == (0.0, 0.0, "integers")


def test_outputs_of_zeros_have_a_floor():
    zeros = np.zeros(4, np.float32)
    assert chosen(expected=zeros).atol == 2.0**-24
    assert chosen(expected=zeros).min_psnr is None
    assert chosen("float32", expected=zeros).atol == 1e-8
