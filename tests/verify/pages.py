"""Packages and reports for pages: thousands of operations, hostile names, faults."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from metal4conv.mil.package import Package
from metal4conv.report import Finding, Picture, Report
from metal4conv.verify.expectation import Expectation
from metal4conv.verify.golden import GoldenCase
from metal4conv.verify.tolerance import GivenTolerance
from metal4conv.verify.verification import judge_case, verdict
from tests.layout.packages import PackageBuilder

Json = dict[str, Any]

HOSTILE = (
    "<img src=x onerror=alert(1)>",
    "</script><script>alert(2)</script>",
    "\" onmouseover='alert(3)' x=\"",
    "{{ 7 * 7 }} {% raw %} ${alert(4)} `x`",
    "\u202egnp.live\u202c \u0645\u0631\u062d\u0628\u0627",
    "a\u2028b <!-- & &amp; ]]>",
    "x" * 3000,
)


def blocks(count: int) -> PackageBuilder:
    """About `count` operations: blocks with a branch around them, and one value that all read."""
    build = PackageBuilder()
    build.input("x", "float16", (8, 8))
    build.literal("one", "float16", (), [1.0])
    mask = build.operation("sigmoid", "mask", "float16", (8, 8), {"x": ["x"]})
    last = "x"
    for number in range(count // 5):
        start = last
        for type in ("relu", "sigmoid", "tanh"):
            last = build.operation(type, f"block_{number}_{type}", "float16", (8, 8), {"x": [last]})
        inputs = {"x": [last], "y": [mask if number % 8 == 0 else "one"]}
        last = build.operation("mul", f"block_{number}_scaled", "float16", (8, 8), inputs)
        name = "y" if number == count // 5 - 1 else f"block_{number}_sum"
        last = build.operation("add", name, "float16", (8, 8), {"x": [last], "y": [start]})
    build.output("y", "float16")
    return build


def hostile() -> PackageBuilder:
    """A chain whose values have the names of `HOSTILE`."""
    build = PackageBuilder()
    last = build.input("x", "float16", (8, 8))
    for name in HOSTILE:
        last = build.operation("relu", name, "float16", (8, 8), {"x": [last]})
    build.output(last, "float16")
    return build


def operation_names(package: Package) -> list[tuple[str, str]]:
    """Name and type of each operation that computes something, in order."""
    return [
        (operation.outputs[0].name, operation.type)
        for operation in package.function().block.operations
        if operation.type != "const"
    ]


def debug_report(package: Package, *, fault: int | None, named: Sequence[str] = ()) -> Report:
    """What `debug` says when the operation with number `fault` is the first to differ.

    `named` are places in the model's code, one for each operation in turn.
    """
    random = np.random.default_rng(0)
    names = operation_names(package)
    rows = []
    error = 2e-4
    for number, (name, type) in enumerate(names):
        error *= 1 + 0.02 * random.random() / (1 + number / 200)
        is_wrong = fault is not None and number >= fault
        rows.append(operation_row(number, name, type, error, is_wrong, number == fault, named))
    first = None if fault is None else names[fault][0]
    cause = {
        "kind": "operation",
        "operation": first,
        "message": f"{first}, alone in float32 on the source's inputs, still differs by 0.21",
        "hint": "compare its attributes with the source's",
    }
    finding = Finding("failure", "operation", f"{first} differs: 0.21", where=first)
    data = {
        "package": str(package.path),
        "source": "pytorch exported program net.pt2",
        "function": "main",
        "verdict": "agrees" if fault is None else "differs",
        "first": first,
        "coverage": {
            "operations": len(rows),
            "compared": sum(row["error"] is not None for row in rows),
        },
        "cases": [{"label": "case0", "dimensions": {"h": 8}}],
        "causes": [] if fault is None else [cause],
        "operations": rows,
    }
    return Report("debug", data, () if fault is None else (finding,))


def operation_row(
    number: int,
    name: str,
    type: str,
    error: float,
    is_wrong: bool,
    is_first: bool,
    named: Sequence[str],
) -> Json:
    """One operation of a report of `debug`; every seventh was not compared."""
    is_known = number % 7 != 3 or is_first
    running = min(error + 0.2, 0.9) if is_wrong else error
    place = named[number % len(named)] if named else f"blocks.{number // 5}.act"
    line = named[(number + 1) % len(named)] if named else f"net.py:{20 + number % 5}"
    code = named[(number + 2) % len(named)] if named else "return x + self.act(y) * self.gain"
    return {
        "name": name,
        "type": type,
        "source": {"name": f"{type}_{number}", "module": place, "line": line, "code": code},
        "error": running if is_known else None,
        "local_error": 1e-7 + (0.21 if is_first else 0.0) if is_known else None,
        "local_error_declared": 3e-4 + (0.21 if is_first else 0.0) if is_known else None,
        "source_range": [-1.5, 2.25] if is_known else None,
        "package_range": [-1.5, 2.75] if is_known else None,
        "input_ranges": [{"name": "x", "range": [-1.0, 1.0]}],
        "nan": 0,
        "inf": 0,
        "jump": is_first,
    }


def gradient(height: int, width: int) -> np.ndarray:
    """A smooth picture (1, 3, height, width) of numbers within 0..1."""
    y, x = np.mgrid[0:height, 0:width] / max(height, width)
    waves = np.sin(12 * x) * np.cos(9 * y) / 2 + 0.5
    return np.stack([x, y, waves])[None].astype(np.float32)


def pictured(report: Report, count: int, name: str = "y") -> Report:
    """The report with pictures of `count` cases."""
    whole = gradient(48, 64)
    noise = np.random.default_rng(0).normal(size=whole.shape).astype(np.float32)
    pictures = tuple(
        Picture(name, f"case{number}", whole, whole + 0.01 * (number + 1) * noise)
        for number in range(count)
    )
    return Report(report.kind, report.data, report.findings, report.files, pictures)


def built(build: PackageBuilder, folder: Path, name: str = "net") -> Package:
    """The package on disk."""
    return build.write(folder / f"{name}.mlpackage")


def verify_report(package: Package, *, off: float = 0.0, wrong: Sequence[str] = ()) -> Report:
    """What `verify` says of outputs 8 × 8 in two sizes; those in `wrong` are `off`."""
    names = list(package.function().output_types)
    results = []
    for number, height in enumerate((8, 16)):
        whole = np.linspace(-1, 2, height * 8, dtype=np.float32).reshape(height, 8)
        case = GoldenCase({"x": whole}, {"h": height}, dict.fromkeys(names, whole))
        given = {
            name: (whole + (off if name in wrong else 0.0)).astype(np.float16) for name in names
        }
        depths = dict.fromkeys(names, 4)
        results.append(judge_case(f"case{number}", case, given, depths, GivenTolerance()))
    cases = tuple(result.case for result in results)
    origin = Expectation(cases, "golden vectors net.golden.safetensors: onnx model")
    return verdict(package, None, "reference", "MIL executor, cpu", origin, results)


def branches(names: Sequence[str] = ("left", "right")) -> PackageBuilder:
    """Two outputs with one operation before both, and one more before each."""
    build = PackageBuilder()
    build.input("x", "float16", (8, 8))
    build.operation("tanh", "stem", "float16", (8, 8), {"x": ["x"]})
    for name in names:
        build.operation("relu", f"{name} relu", "float16", (8, 8), {"x": ["stem"]})
        build.operation("abs", name, "float16", (8, 8), {"x": [f"{name} relu"]})
        build.output(name, "float16")
    return build
