"""What the options of `convert` ask of the precision."""

from __future__ import annotations

from pathlib import Path

from metal4conv.errors import UsageError
from metal4conv.frontends.mixed import MIXED
from metal4conv.frontends.source import LoweringRequest
from metal4conv.precision.document import read_names
from metal4conv.precision.tolerance import Wanted, wanted_tolerance

AUTO = "auto"
PRECISIONS = ("float16", "float32", AUTO, f"{MIXED}:FILE")


def precision_file(precision: str) -> Path | None:
    """The file that `mixed:FILE` names."""
    kind, colon, name = precision.partition(":")
    return Path(name) if kind == MIXED and colon and name else None


def precision_request(precision: str) -> LoweringRequest:
    """What `--precision` asks of the frontend."""
    if file := precision_file(precision):
        return LoweringRequest(precision=MIXED, float32_operations=read_names(file))
    if precision not in PRECISIONS[:-1]:
        raise UsageError(
            f'there is no precision "{precision}"',
            where="--precision",
            hint=f"one of: {', '.join(PRECISIONS)}",
        )
    return LoweringRequest(precision=precision)


def asked_tolerance(
    precision: str, min_psnr: float | None, atol: float | None, rtol: float | None
) -> Wanted | None:
    """The tolerance for `--precision auto`; None for another precision, which takes none."""
    given = {"--min-psnr": min_psnr, "--atol": atol, "--rtol": rtol}
    if precision == AUTO:
        return wanted_tolerance(min_psnr, atol, rtol)
    for option, value in given.items():
        if value is not None:
            raise UsageError(
                f"{option} means nothing with --precision {precision}",
                where=option,
                hint="--precision auto looks for what holds a tolerance",
            )
    return None
