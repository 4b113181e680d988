"""How far a shader's output may be from the source's: by the precision of its weights and depth.

As `tolerance` has it for packages, an element e of the source's output and a of the shader's agree
when

    |a - e| <= atol + rtol * |e|,    atol = rtol * RMS(output)

Between linear layers all arithmetic is float32, so what rounds are the weights and operands of the
layers, two errors a layer. They are independent, and so add up with the root of their number d:

- float32: rtol = 1e-5 * sqrt(d).
- float16: rtol = 6 * eps * sqrt(d), eps = 2**-11, and an RMS of the error below a quarter of that.
- int8, with a scale for each output: the same with eps = 1.5 * 2**-8. A weight's error is half a
  step of 127 in the largest one of its row, so relative to weights of the usual size it is larger.

Simulated, for 60 random networks of up to 8 layers each, the largest RMS of the error in units of
eps * sqrt(d) * RMS(output) is 0.7 with ReLU, tanh and SiLU, and 1.2 with sines of 30 x (int8: 0.7
and 1.0); of an element, in units of eps * sqrt(d) * (RMS(output) + |e|), 2.1 and 4.6 (2.0 and 3.2).
A sigmoid at the end makes errors a tenth of that.

That has to do for all networks, and so is far too much for most. Manifests say more: what the
storage of weights and operands alone costs each output, computed when the shader was written. Of 18
networks with each precision, what a shader gave here was off by 0.7 to 1.0 times that. So here
twice the largest such error is allowed, an RMS of 1.5 times theirs, and beside them what float32 is
allowed. On a GPU, whose functions are less exact, the larger one of both rules counts.

`--rtol`, `--atol` and `--min-psnr` replace these as they do for packages.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from metal4conv.shader.document import Rounding
from metal4conv.verify.tolerance import (
    FLOAT16_ELEMENT,
    FLOAT16_RMS,
    FLOORS,
    GivenTolerance,
    Tolerance,
    magnitude,
)

FLOAT32_RTOL = 1e-5
EPS = {"float16": 2.0**-11, "int8": 1.5 * 2.0**-8}
ROUNDINGS = 2
"""Of a layer: its weights, and its operand."""


ELEMENT_MARGIN = 2.0
RMS_MARGIN = 1.5
"""Over the errors of storage: sums in another order make operands round the other way."""


def choose_shader_tolerance(
    expected: np.ndarray,
    precision: str,
    layers: int,
    given: GivenTolerance,
    rounding: Rounding | None = None,
    *,
    is_gpu: bool = False,
) -> Tolerance:
    """The tolerance for a shader's output behind `layers` linear layers, with what the manifest
    says of its rounding.

    >>> ramp = np.linspace(-1, 1, 101, dtype=np.float32)
    >>> found = choose_shader_tolerance(ramp, "float16", 2, GivenTolerance())
    >>> round(found.rtol, 5), round(found.min_psnr, 1), found.basis
    (0.00586, 67.4, 'float16 weights, 2 layers')
    """
    if expected.dtype.kind != "f":
        exact = given.atol is None
        return Tolerance(given.atol or 0.0, 0.0, basis="integers" if exact else "given")
    rms, peak = magnitude(expected)
    root = math.sqrt(ROUNDINGS * max(layers, 1))
    allowed = usual_errors(precision, root, rms)
    if rounding is not None and precision != "float32":
        stored = stored_errors(rounding, root, rms)
        allowed = larger(allowed, stored) if is_gpu else stored
    if given.rtol is not None:
        allowed = Allowed(given.rtol * rms, given.rtol)
    atol = allowed.atol if given.atol is None else given.atol
    if given.atol is not None or given.rtol is not None:
        return Tolerance(atol, allowed.rtol, given.min_psnr)
    min_psnr = given.min_psnr
    if min_psnr is None and peak and allowed.rms is not None:
        min_psnr = 20 * math.log10(peak / allowed.rms)
    plural = "" if layers == 1 else "s"
    basis = f"{precision} weights, {layers} layer{plural}"
    return Tolerance(atol, allowed.rtol, min_psnr, basis=basis)


@dataclass(frozen=True)
class Allowed:
    """How large errors may be: of an element, and the RMS of all (None: it does not matter)."""

    atol: float
    rtol: float
    rms: float | None = None


def usual_errors(precision: str, root: float, rms: float) -> Allowed:
    """What any network is allowed; `root` is that of the roundings, `rms` the output's."""
    if precision not in EPS:
        rtol = FLOAT32_RTOL * root
        return Allowed(max(rtol * rms, FLOORS["float32"]), rtol)
    unit = root * EPS[precision]
    rtol, floor = FLOAT16_ELEMENT * unit, FLOORS["float16"]
    return Allowed(max(rtol * rms, floor), rtol, max(FLOAT16_RMS * unit * rms, floor))


def stored_errors(rounding: Rounding, root: float, rms: float) -> Allowed:
    """What a network is allowed whose storage costs so much; the rest is float32 arithmetic."""
    rest = usual_errors("float32", root, rms)
    return Allowed(
        ELEMENT_MARGIN * rounding.largest + rest.atol,
        rest.rtol,
        RMS_MARGIN * rounding.rms + rest.atol,
    )


def larger(one: Allowed, other: Allowed) -> Allowed:
    """What either allows."""
    found = [item.rms for item in (one, other) if item.rms is not None]
    return Allowed(max(one.atol, other.atol), max(one.rtol, other.rtol), max(found, default=None))
