"""A report of `verify` or `debug` as one HTML page that needs nothing but itself.

Names come from users' models, so nothing is put into the page unescaped but what is made here:
drawings, which hold numbers only, and the page's own style and script. The script is let run by
its hash; the policy in the page's head allows no other, and no request at all.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from metal4conv.errors import Metal4ConvError
from metal4conv.mil.correspondence import correspondence_of
from metal4conv.mil.package import Package, read_package
from metal4conv.outputs import write_file
from metal4conv.report import Report
from metal4conv.verify import figures
from metal4conv.verify.causes import cause_texts, other_findings
from metal4conv.verify.html.chart import Chart, error_chart
from metal4conv.verify.html.environment import commands, environment
from metal4conv.verify.html.graph import graph_json, graph_of, place_json
from metal4conv.verify.html.pictures import gallery
from metal4conv.verify.html.visible import finalized, visible_json

FOLDER = Path(__file__).parent / "templates"
SCRIPTS = ("elements.js", "graph.js", "panel.js", "chart.js")

MOST_ROWS = 400
"""Of a table; those that are wrong come first."""

MEASURED = (
    *("error", "local_error", "local_error_declared", "source_range", "package_range"),
    *("input_ranges", "nan", "inf", "jump"),
)
"""What the graph shows of an operation in a report of `debug`."""

TONES = {"agrees": "good", "differs": "bad", "failed": "bad"}

Json = dict[str, Any]  # Any: a JSON object


def write_html(path: Path, report: Report, command_line: Sequence[str]) -> None:
    """Writes the page of a report of `verify` or `debug`."""
    write_file(path, page_html(report, command_line))


def page_html(report: Report, command_line: Sequence[str]) -> str:
    """The page; equal reports on equal machines give equal pages."""
    package, missing = package_of(report)
    graph = None if package is None else graph_of_package(package, report)
    numbers = {} if graph is None else node_numbers(graph)
    operations = report.data.get("operations", [])
    chart = error_chart(operations, report.data.get("first"))
    script = script_text()
    return (
        template_environment()
        .get_template("page.html.j2")
        .render(
            report=report,
            data=report.data,
            tone=TONES.get(report.data["verdict"], "neutral"),
            headline=headline(report),
            first=report.data.get("first"),
            causes=cause_texts(report),
            outputs=report.data.get("outputs", []),
            has_failing=report.data.get("first") in numbers or bool(failing_outputs(report)),
            style=Markup((FOLDER / "page.css").read_text("utf-8")),
            script=Markup(script),
            script_hash=content_hash(script),
            cases=case_rows(report.data["cases"]),
            case_sizes=case_sizes(report.data["cases"]),
            most_rows=MOST_ROWS,
            gallery=gallery(report.pictures, failing_outputs(report)),
            findings=other_findings(report),
            chart=chart,
            chart_svg=Markup("" if chart is None else chart.svg),
            jumps=[row for row in operations if row["jump"]],
            numbers=numbers,
            has_graph=graph is not None,
            missing=missing,
            page_data=page_data(graph, chart, operations, numbers, report),
            environment=environment(package),
            commands=commands(report, command_line),
        )
    )


def template_environment() -> Environment:
    """Templates that escape what they are given, and show what is hidden in it."""
    made = Environment(
        loader=FileSystemLoader(FOLDER),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        autoescape=True,
        finalize=finalized,
    )
    made.filters.update(
        number=figures.number,
        psnr=figures.psnr,
        cosine=figures.cosine,
        interval=figures.interval,
        sizes=figures.sizes,
        place=figures.place,
    )
    return made


def package_of(report: Report) -> tuple[Package | None, str]:
    """The package that was verified; without it, why there is none: a report may be older."""
    if "shader" in report.data:
        return None, "a shader's operations are the lines of its source"
    try:
        package = read_package(report.data["package"])
        package.function(report.data["function"])
    except Metal4ConvError as error:
        return None, error.message
    return package, ""


def graph_of_package(package: Package, report: Report) -> Json:
    """The graph with the places in the model's code and the errors that are known."""
    operations = report.data.get("operations", [])
    measured = {row["name"]: {key: row[key] for key in MEASURED} for row in operations}
    judged = {row["name"]: row for row in report.data.get("outputs", ())}
    function = package.function(report.data["function"])
    return graph_json(graph_of(function), places(package, operations), measured, judged)


def places(package: Package, operations: Sequence[Json]) -> Json:
    """Where the package's values come from: what the report says, else what the package does."""
    found: Json = {}
    known = correspondence_of(package)
    if known is not None:
        rows = {row.name: place_json(row) for row in known.sources}
        found = {value: rows[name] for value, name in known.values.items()}
    for row in operations:
        if row["source"] is not None:
            found[row["name"]] = {**found.get(row["name"], {}), **row["source"]}
    return found


def node_numbers(graph: Json) -> dict[str, int]:
    """The number of each operation's node, by the names of what it gives."""
    return {
        name: number
        for number, node in enumerate(graph["nodes"])
        if "kind" not in node
        for name in [node["name"], *(output for output, _ in node.get("outputs", ()))]
    }


def failing_outputs(report: Report) -> set[tuple[str, str]]:
    """The label of the case and the name of each output that differs.

    `debug` tells its outputs' figures for all cases together.
    """
    wrong = [output["name"] for output in report.data.get("outputs", ()) if not output["passed"]]
    if report.kind == "debug":
        return {(case["label"], name) for case in report.data["cases"] for name in wrong}
    return {
        (case["label"], output["name"])
        for case in report.data["cases"]
        for output in case.get("outputs", ())
        if not output["passed"]
    }


def case_rows(cases: Sequence[Json]) -> list[tuple[Json, Json]]:
    """Case and output of each row; of very many those that differ first."""
    rows = [(case, output) for case in cases for output in case.get("outputs", ())]
    return rows if len(rows) <= MOST_ROWS else sorted(rows, key=lambda row: row[1]["passed"])


def case_sizes(cases: Sequence[Json]) -> list[str]:
    """The sizes of all cases, each once; the number of those that have none."""
    found = dict.fromkeys(figures.sizes(case["dimensions"]) for case in cases)
    fixed = sum(not case["dimensions"] for case in cases)
    return [sizes or f"{fixed} of fixed sizes" for sizes in found]


def headline(report: Report) -> str:
    """The verdict in one sentence."""
    data = report.data
    match data["verdict"]:
        case "agrees":
            return "The package gives what its source gave, within tolerance."
        case "skipped":
            return f"Nothing was run: {data['missing']}."
        case "not compared":
            return "There is no source to compare with."
        case "failed":
            return "The device did not run the package to its end."
    if report.kind == "debug":
        return "" if data["first"] else "The outputs differ, and no operation stands out."
    wrong = failing_outputs(report)
    outputs, cases = {name for _, name in wrong}, {label for label, _ in wrong}
    if not wrong:
        return "What was found does not fit; see below."
    return (
        f"{len(outputs)} of {plural(len(data['outputs']), 'output')} out of tolerance, in "
        f"{len(cases)} of {plural(len(data['cases']), 'case')}."
    )


def plural(count: int, noun: str) -> str:
    """
    >>> plural(1, "output"), plural(3, "case")
    ('1 output', '3 cases')
    """
    return f"{count} {noun}{'' if count == 1 else 's'}"


def page_data(
    graph: Json | None,
    chart: Chart | None,
    operations: Sequence[Json],
    numbers: Mapping[str, int],
    report: Report,
) -> Markup:
    """What the script reads."""
    first = report.data.get("first")
    names = [operations[row]["name"] for row in chart.rows] if chart else []
    return script_json(
        {
            "graph": graph,
            "first": None if first is None else numbers.get(first),
            "chart": None
            if chart is None
            else {
                "x": chart.x,
                "names": names,
                "nodes": [numbers.get(name) for name in names],
                "rows": [{key: operations[row][key] for key in MEASURED[:3]} for row in chart.rows],
            },
        }
    )


def script_json(value: object) -> Markup:
    r"""JSON that nothing in it can end the script element of.

    >>> print(script_json({"name": "</script><!--"}))
    {"name":"\u003c/script\u003e\u003c!--"}
    """
    text = visible_json(json.dumps(value, separators=(",", ":"), allow_nan=False))
    for character in "<>&":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return Markup(text)


def script_text() -> str:
    """The page's script, in a scope of its own."""
    parts = "\n".join((FOLDER / name).read_text("utf-8") for name in SCRIPTS)
    return f'"use strict";\n{{\n{parts}}}\n'


def content_hash(text: str) -> str:
    """A hash as a content security policy has it."""
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
