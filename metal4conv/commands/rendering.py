"""How reports look on a terminal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from metal4conv.console import human_bytes, human_count, table
from metal4conv.report import Report

if TYPE_CHECKING:
    from rich.console import Console

Json = Mapping[str, Any]  # Any: a JSON object


def show_conversion(report: Report, console: Console) -> None:
    """The files, and the package's inputs and outputs."""
    for path in report.files:
        note = " (unchanged)" if path in report.data["unchanged"] else ""
        console.print(f"{path}{note}", markup=False, soft_wrap=True)
    console.print()
    console.print(features_table(report.data["layout"]))
    if "precision" in report.data:
        show_precision(report.data["precision"], console)


def show_precision(mixed: Json, console: Console) -> None:
    """The operations in float32, why, and what they cost."""
    rows = [
        (row["name"], row["type"], row["source"] or "", row["reason"])
        for row in mixed["operations"]
    ]
    console.print()
    if rows:
        console.print(table(("in float32", "type", "source", "reason"), rows))
        console.print()
    for line in precision_lines(mixed["figures"]):
        console.print(line, markup=False, soft_wrap=True)


def precision_lines(figures: Json) -> list[str]:
    """What was reached, and what it costs."""
    reached = "equal outputs" if figures["psnr"] is None else f"PSNR {figures['psnr']:.1f} dB"
    all_of_them = figures["float16"] + figures["float32"]
    share = figures["float16"] / max(all_of_them, 1)
    return [
        f"{reached} with {figures['float32']} of {all_of_them} operations in float32 "
        f"({share:.1%} in float16), {figures['casts']} casts, {figures['runs']} runs",
        f"more than in float16: {human_bytes(figures['more_weight_bytes'])} of weights, "
        f"{human_bytes(figures['more_activation_bytes'])} of activations",
    ]


def features_table(layout: Json) -> Any:
    """Inputs and outputs of a manifest, as Core ML shapes. (Any: a rich table.)"""
    rows = [
        (
            row["role"],
            row["name"],
            row["coreml"]["dtype"],
            " × ".join(str(size) for size in row["coreml"]["shape"]),
        )
        for row in layout["tensors"]
    ]
    ranges = [("dimension", name, "", size_text(row)) for name, row in layout["dimensions"].items()]
    return table(("", "name", "dtype", "shape, outermost first"), [*rows, *ranges])


def size_text(row: Json) -> str:
    """A dimension as `--dim` takes it."""
    from metal4conv.mil.interface import dimension_from_json

    return str(dimension_from_json(row))


def show_layout(report: Report, console: Console) -> None:
    """The tensors, and what the pipeline needs."""
    from metal4conv.layout.table import COLUMNS

    layout = report.data["layout"]
    console.print(table(COLUMNS, report.data["rows"], right="index bytes"))
    console.print()
    dynamic = layout["requires_input_dimensions"]
    estimated = layout["intermediates"]["estimated_bytes"]
    rows: list[tuple[str, object]] = [
        ("dimensions", dimensions_text(layout)),
        ("set input dimensions at", ", ".join(map(str, dynamic)) or "none"),
        ("max buffer bind count", layout["max_buffer_bind_count"]),
        ("intermediates heap, estimated", bytes_text(estimated)),
    ]
    console.print(table(("", ""), rows))


def dimensions_text(layout: Json) -> str:
    """The dimensions with the numbers that they were given, else with their ranges."""
    sizes = layout["sizes"]
    rows = layout["dimensions"].items()
    return ", ".join(f"{k}={sizes[k] if k in sizes else size_text(v)}" for k, v in rows) or "none"


def bytes_text(size: int | str | None) -> str:
    """Bytes with a unit; a formula as it is."""
    if size is None:
        return "not known before the run"
    return human_bytes(size) if isinstance(size, int) else f"{size} bytes"


def show_verdict(report: Report, console: Console) -> None:
    """The worst figures of each output, the tolerance, and the verdict."""
    data = report.data
    rows = [
        (
            row["name"],
            row["dtype"],
            figure(row["max_absolute_error"]),
            figure(row["max_relative_error"]),
            "∞" if row["psnr"] is None else f"{row['psnr']:.1f} dB",
            "" if row["cosine"] is None else f"{row['cosine']:.6f}",
            f"{row['share_out']:.2%}",
            "ok" if row["passed"] else "DIFFERS",
        )
        for row in data["outputs"]
    ]
    titles = ("output", "dtype", "max abs", "max rel", "PSNR", "cosine", "out", "verdict")
    if rows:
        console.print(table(titles, rows))
        for row in data["outputs"]:
            line = f"tolerance of {row['name']}: {row['tolerance']}"
            console.print(line, markup=False, soft_wrap=True)
    lines = metal_lines(data["metal"], data["on"]) if "metal" in data else []
    lines += shader_lines(data["shader"]) if "shader" in data else []
    named = "shader" not in data  # whose cases are told above
    sizes = [case_text(row) for row in data["cases"] if named or row["dimensions"]]
    lines += [f"cases: {'; '.join(dict.fromkeys(sizes))}"] if sizes else []
    ran = data["ran"]
    where = f" on {data['host']}" if "host" in data else ""
    against = f": {ran['package']}, against {ran['expected']}"
    told = f": {data['missing']}" if "missing" in data else against
    lines.append(f"{data['package']} {data['verdict']}{where}{told}")
    for line in lines:
        console.print(line, markup=False, soft_wrap=True)


def metal_lines(facts: Json, on: str) -> list[str]:
    """What a Metal 4 encoder told: bindings that agree with the manifest, and the GPU's times."""
    clock = "GPU" if on == "metal" else "emulated, no GPU"
    rows = facts["reflection"]
    shown = [row for row in rows if row["index"] is not None]
    agree = [
        row
        for row in shown
        if row["index"] == row["expected_index"]
        and row["dimensions"] == row["expected_dimensions"]
        and row["data_type"] == row["expected_data_type"]
    ]
    lines = [f"reflection: {len(agree)} of {len(rows)} bindings as in the manifest"] if rows else []
    for run in facts["runs"]:
        if len(run["gpu_seconds"]) > 1:
            times = sorted(second * 1000 for second in run["gpu_seconds"])
            lines.append(
                f"{clock}, {run['case']}, {run['backing']}: at least {times[0]:.3f} ms, "
                f"median {times[len(times) // 2]:.3f} ms of {len(times)}"
            )
    return lines


def shader_lines(facts: Json) -> list[str]:
    """In how many cases each function of a shader agrees, on each code path."""
    return [
        f"{row['function']} ({row['stage']}, {row['path']}): {row['agree']} of {row['cases']} "
        f"cases agree, max abs {figure(row['max_absolute_error'])}"
        for row in facts["runs"]
        if row["cases"]
    ]


def case_text(row: Json) -> str:
    """The sizes of a case.

    >>> case_text({"label": "case0", "dimensions": {"h": 8}})
    'h=8'
    """
    return ", ".join(f"{k}={v}" for k, v in row["dimensions"].items()) or row["label"]


def figure(value: float | None) -> str:
    """An error with three digits.

    >>> figure(0.00012345), figure(None)
    ('0.000123', '-')
    """
    return "-" if value is None else f"{value:.3g}"


def show_inspection(report: Report, console: Console) -> None:
    """Interface, operations and costs; of a pipeline, those of each model after its own."""
    show_contents(report.data, console)
    for number, model in enumerate(report.data.get("models", ()), 1):
        console.print(f"\nmodel {number}")
        show_contents(model, console)


def show_contents(data: Json, console: Console) -> None:
    """One package, model or source."""
    rows: list[tuple[object, ...]] = [("kind", data["kind"])]
    if "opset" in data:
        rows.append(("opset", f"{data['opset']}, specification {data['specification_version']}"))
    if len(data.get("functions", ())) > 1:
        names = ", ".join(sorted(data["functions"]))
        rows.append(("functions", f"{names}; shown is {data['default_function']}"))
    for role in ("inputs", "outputs", "states"):
        for index, row in enumerate(data.get(role, ())):
            rows.append(
                (role if not index else "", f"{row['name']}: {row.get('type', '')}".rstrip(": "))
            )
    for name, size in data["dimensions"].items():
        rows.append((f"dimension {name}", size))
    if "parameters" in data:
        rows.append(("parameters", human_count(data["parameters"])))
    if data.get("flops") is not None:
        rows.append(("arithmetic", f"{human_count(data['flops'])}FLOP"))
    if data.get("activations"):
        rows.append(("intermediate values", activation_text(data["activations"])))
    for dtype, row in data.get("weights", {}).items():
        rows.append((f"weights, {dtype}", f"{row['count']}, {human_bytes(row['bytes'])}"))
    console.print(table(("", ""), rows))
    if "operations" in data:
        console.print()
        counts = sorted(data["operations"].items(), key=lambda item: (-item[1], item[0]))
        console.print(table(("operation", "count"), counts, right="count"))


def activation_text(row: Json) -> str:
    """Memory of intermediate values."""
    return f"{human_bytes(row['peak_bytes'])} at once, {human_bytes(row['total_bytes'])} in all"


def show_doctor(report: Report, console: Console) -> None:
    """One line for each ability."""
    data = report.data
    console.print(f"{data['system']}, Python {data['python']}", markup=False)
    rows = [
        ("yes" if row["works"] else "no", row["name"], row["detail"], row["remedy"] or "")
        for row in data["abilities"]
    ]
    console.print(table(("", "ability", "", "to get it"), rows))
    console.print()
    hardware = [(row["name"], row["ran"]) for row in data["on_real_hardware"]]
    console.print(table(("", "has run on Apple hardware"), hardware))


def show_run(report: Report, console: Console) -> None:
    """The outputs' figures, those of each operation, the times, and the files."""
    data = report.data
    values = [*data["outputs"], *data.get("states", ())]
    console.print(table(RUN_TITLES, [value_cells(row) for row in values], right=RUN_NUMBERS))
    if "trace" in data:
        console.print()
        rows = [
            (row["number"], operation_name(row), row["type"], *trace_cells(out))
            for row in data["trace"]
            for out in row["outputs"]
        ]
        console.print(table(TRACE_TITLES, rows, right="min max NaN inf >float16"))
    if "seconds" in data:
        first, least, median = (data["seconds"][key] for key in ("first", "min", "median"))
        console.print()
        console.print(
            f"first run {first * 1000:.2f} ms, then at least {least * 1000:.2f} ms, "
            f"median {median * 1000:.2f} ms"
        )
    for path in report.files:
        console.print(path, markup=False, soft_wrap=True)


RUN_TITLES = ("name", "dtype", "shape", "min", "max", "mean", "NaN", "inf")
RUN_NUMBERS = "min max mean NaN inf"
TRACE_TITLES = ("", "operation", "type", "dtype", "shape", "min", "max", "NaN", "inf", ">float16")


def value_cells(row: Json) -> tuple[object, ...]:
    """A value's figures; a label, or the likeliest labels, stand where its range would."""
    shape = " × ".join(map(str, row["shape"])) or "scalar"
    if "value" in row:
        return (row["name"], row["dtype"], shape, row["value"], "", "", "", "")
    if "likeliest" in row:
        text = ", ".join(f"{label}: {figure(value)}" for label, value in row["likeliest"].items())
        return (row["name"], row["dtype"], shape, text, "", "", "", "")
    numbers = (figure(row[key]) for key in ("min", "max", "mean"))
    return (row["name"], row["dtype"], shape, *numbers, row["nan"] or "", row["inf"] or "")


def operation_name(row: Json) -> str:
    """An operation with the loops that it runs in."""
    return ": ".join([*row["place"], row["operation"]])


def trace_cells(row: Json) -> tuple[object, ...]:
    """The figures of an operation's output, and how many elements float16 cannot hold."""
    _, dtype, shape, least, most, _, nan, inf = value_cells(row)
    return (dtype, shape, least, most, nan, inf, row["float16_overflow"] or "")


def show_package(report: Report, console: Console) -> None:
    """The Metal package, and its tensors as the manifest and as its reflection have them."""
    data = report.data
    for path in report.files:
        note = " (unchanged)" if path in data["unchanged"] else ""
        console.print(f"{path}{note}", markup=False, soft_wrap=True)
    rows = [
        (
            row["role"],
            row["name"],
            row["expected_data_type"],
            " × ".join(map(str, row["expected_shape"])),
            row["data_type"],
            None if row["shape"] is None else " × ".join(map(str, row["shape"])),
        )
        for row in data["tensors"]
    ]
    titles = ("", "name", "manifest", "shape, outermost first", "reflection", "shape")
    console.print(table(titles, rows))
    if not report.files:
        verdict = "agrees with" if report.passed else "DIFFERS from"
        verdict = "cannot be compared with" if data["functions"] is None else verdict
        line = f"{data['metal_package']} {verdict} {data['package']}"
        console.print(line, markup=False, soft_wrap=True)
