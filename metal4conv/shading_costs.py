"""What the storage of a shader's weights and operands costs, and what to tell of it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from metal4conv.report import Finding
from metal4conv.shader.document import Rounding, ShaderManifest
from metal4conv.shader.evaluation import evaluate
from metal4conv.shader.network import Network
from metal4conv.shader.options import Precision
from metal4conv.verify.golden import GoldenCase

MOST_OTHER_ERROR = 10.0
"""Times what storage changes: the rounding of a package's weights before."""

LEAST_PSNR = 40.0
"""Below this many dB the precision of weights shows in a picture."""


@dataclass(frozen=True)
class StorageCosts:
    """What the storage of weights and operands costs each output, over all cases.

    `lost` counts the elements of an output that are no numbers for it.
    """

    rounding: tuple[Rounding, ...]
    lost: Mapping[str, int]


def storage_costs(
    network: Network, precision: Precision, cases: Sequence[GoldenCase], *, is_package: bool = False
) -> StorageCosts:
    """What the storage costs: the difference from exact arithmetic on the network, so that a wrong
    network is not given more.

    A package's weights may have been rounded before, which its golden vectors tell: there it is the
    difference from those, unless that is too large to be rounding.
    """
    errors: dict[str, list[tuple[float, float]]] = {port.name: [] for port in network.outputs}
    lost = dict.fromkeys(errors, 0)
    for case in cases:
        rows = {port.name: port.rows(case.inputs[port.name]) for port in network.inputs}
        size = image_size(network, case)
        with np.errstate(all="ignore"):  # what is lost is counted
            found = evaluate(network, rows, size=size, precision=precision)
            exact = evaluate(network, rows, size=size)
        for port in network.outputs:
            expected = port.rows(case.outputs[port.name])
            with np.errstate(all="ignore"):
                error = np.abs(found[port.name] - expected)
                stored = np.abs(found[port.name] - exact[port.name])
            # what overflows or is not a number must not widen the tolerance: it is to be found
            finite = np.isfinite(error) & np.isfinite(stored)
            error, stored = np.where(finite, error, 0), np.where(finite, stored, 0)
            if not is_package or error.max() > MOST_OTHER_ERROR * stored.max():
                error = stored
            errors[port.name].append((float(error.max()), float(np.sqrt(np.mean(error**2)))))
            if precision != "float32":
                missing = ~np.isfinite(found[port.name]) & np.isfinite(expected)
                lost[port.name] += int(missing.sum())
    rounding = tuple(
        Rounding(name, rounded_up(max(a for a, _ in rows)), rounded_up(max(b for _, b in rows)))
        for name, rows in errors.items()
        if rows
    )
    return StorageCosts(rounding, lost)


def rounded_up(number: float) -> float:
    """A number with three digits, not below it; the same however sums are ordered.

    >>> rounded_up(0.0123449), rounded_up(0.0)
    (0.0124, 0.0)
    """
    if not number:
        return 0.0
    step = 10.0 ** (math.floor(math.log10(number)) - 2)
    return float(f"{math.ceil(number / step - 1e-3) * step:.3g}")


def image_size(network: Network, case: GoldenCase) -> tuple[int, int] | None:
    """Width and height of a case's pixels; None where points are no pixels."""
    for port in network.inputs:
        axes = port.point_axes
        if not port.uniform and len(axes) > 1:
            shape = case.inputs[port.name].shape
            return shape[axes[-1]], shape[axes[-2]]
    return None


def rounded(manifest: ShaderManifest, cases: Sequence[GoldenCase]) -> list[Finding]:
    """Warnings for outputs that the precision of weights and operands spoils."""
    findings = []
    for row in manifest.rounding:
        peak = max(float(np.abs(case.outputs[row.output]).max()) for case in cases)
        if row.rms == 0 or peak == 0:
            continue
        psnr = 20 * math.log10(peak / row.rms)
        if psnr < LEAST_PSNR:
            findings.append(
                Finding(
                    "warning",
                    "shader-precision",
                    f'output "{row.output}": {manifest.precision} of weights and operands leaves '
                    f"PSNR {psnr:.1f} dB",
                    row.output,
                    "--precision float32 keeps more"
                    + (", float16 too" if manifest.precision == "int8" else ""),
                )
            )
    return findings


def overflows(costs: StorageCosts) -> list[Finding]:
    """Warnings for outputs that are lost because operands of layers are float16."""
    return [
        Finding(
            "warning",
            "shader-overflow",
            f'output "{name}": {count} elements of the golden cases are lost, as an operand of a '
            "layer goes beyond float16's 65504",
            name,
            "use --precision float32, or scale the layer before down",
        )
        for name, count in costs.lost.items()
        if count
    ]
