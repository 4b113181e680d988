"""How far a shader's output may be from the source's: by the precision of its weights and depth.

As `tolerance` has it for packages, an element e of the source's output and a of the shader's agree
when

    |a - e| <= atol + rtol * |e|,    atol = rtol * RMS(output)

Between linear layers all arithmetic is float32, so what rounds are the weights and operands of the
layers, two errors a layer. They are independent, and so add up with the root of their number d:

- float32: rtol = 1e-5 * sqrt(d).
- float16: rtol = 6 * eps * sqrt(d), eps = 2**-10, and an RMS of the error below a quarter of that.
- int8, with a scale for each output: half a step of 127 in the largest weight of a row. Weights are
  some thrice smaller than that, so a weight's error is some 2**-7 of it; eps = 2**-7.

Layers whose operands are amplified, as the sine of a large number is, may need more: `--rtol`,
`--atol` and `--min-psnr` replace these as they do for packages.
"""

from __future__ import annotations

import math

import numpy as np

from metal4conv.verify.tolerance import (
    FLOAT16_ELEMENT,
    FLOAT16_EPS,
    FLOAT16_RMS,
    FLOORS,
    GivenTolerance,
    Tolerance,
    magnitude,
)

FLOAT32_RTOL = 1e-5
INT8_EPS = 2.0**-7
ROUNDINGS = 2
"""Of a layer: its weights, and its operand."""


def choose_shader_tolerance(
    expected: np.ndarray, precision: str, layers: int, given: GivenTolerance
) -> Tolerance:
    """The tolerance for a shader's output behind `layers` linear layers.

    >>> ramp = np.linspace(-1, 1, 101, dtype=np.float32)
    >>> found = choose_shader_tolerance(ramp, "float16", 2, GivenTolerance())
    >>> round(found.rtol, 5), round(found.min_psnr, 1), found.basis
    (0.01172, 61.4, 'float16 weights, 2 layers')
    """
    if expected.dtype.kind != "f":
        exact = given.atol is None
        return Tolerance(given.atol or 0.0, 0.0, basis="integers" if exact else "given")
    rms, peak = magnitude(expected)
    root = math.sqrt(ROUNDINGS * max(layers, 1))
    unit = root * (INT8_EPS if precision == "int8" else FLOAT16_EPS)
    rtol = FLOAT32_RTOL * root if precision == "float32" else FLOAT16_ELEMENT * unit
    floor = FLOORS["float32" if precision == "float32" else "float16"]
    if given.rtol is not None:
        rtol, floor = given.rtol, 0.0
    atol = max(rtol * rms, floor) if given.atol is None else given.atol
    if given.atol is not None or given.rtol is not None:
        return Tolerance(atol, rtol, given.min_psnr)
    min_psnr = given.min_psnr
    if min_psnr is None and peak and precision != "float32":
        min_psnr = 20 * math.log10(peak / max(FLOAT16_RMS * unit * rms, floor))
    plural = "" if layers == 1 else "s"
    return Tolerance(atol, rtol, min_psnr, basis=f"{precision} weights, {layers} layer{plural}")
