"""A report as Markdown, in the summary of the GitHub step that it runs in."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from metal4conv.errors import OutputError, shortened
from metal4conv.report import Report
from metal4conv.verify import figures
from metal4conv.verify.causes import cause_texts, other_findings
from metal4conv.verify.figures import Json

VARIABLE = "GITHUB_STEP_SUMMARY"
"""Names the file of the running step's summary; GitHub sets it."""

MOST_ROWS = 50
"""Of a table; a summary is for a glance, and GitHub takes 1 MiB from a step."""

LONGEST_TEXT = 300
"""Characters of a name or message."""

MARKS = {"agrees": "✅", "differs": "❌", "failed": "❌"}
OUTPUT_TITLES = ("output", "dtype", "max abs", "max rel", "PSNR", "cosine", "out", "verdict")
CAUSE_TITLES = ("operation", "kind", "what was found", "what to do")


def append_step_summary(report: Report) -> None:
    """Adds a report to the summary of this GitHub step; nothing anywhere else."""
    file = os.environ.get(VARIABLE)
    if not file:
        return
    text = markdown(report).encode("utf-8", "replace")
    try:
        with Path(file).open("ab") as stream:
            stream.write(text)
    except OSError as error:
        raise OutputError(
            f"cannot add to the step's summary {file}: {error.strerror}",
            where=VARIABLE,
            hint=f"unset {VARIABLE} to do without",
        ) from None


def markdown(report: Report) -> str:
    """A report of `verify` or `debug` as a section of Markdown."""
    data = report.data
    verdict = str(data["verdict"])
    mark = MARKS.get(verdict, "⚪")
    lines = [f"### {mark} metal4conv {report.kind}: {plain(data['package'])} {plain(verdict)}", ""]
    lines += debug_lines(report) if report.kind == "debug" else verify_lines(data)
    lines += finding_lines(report)
    return "\n".join(lines) + "\n\n"


def verify_lines(data: Json) -> Iterator[str]:
    """The worst figures of each output, and what was compared."""
    rows = [
        (
            row["name"],
            row["dtype"],
            figures.number(row["max_absolute_error"]),
            figures.number(row["max_relative_error"]),
            figures.psnr(row),
            figures.cosine(row["cosine"]),
            f"{row['share_out']:.2%}",
            "ok" if row["passed"] else "DIFFERS",
        )
        for row in data["outputs"]
    ]
    yield from table(OUTPUT_TITLES, rows, right=range(2, 7))
    sizes = dict.fromkeys(
        figures.sizes(case["dimensions"]) or case["label"] for case in data["cases"]
    )
    if sizes:
        yield f"Cases: {plain('; '.join(sizes))}. "
    yield f"Package: {plain(data['ran']['package'])}. Source: {plain(data['ran']['expected'])}."
    yield ""


def debug_lines(report: Report) -> Iterator[str]:
    """The causes, the first operation that differs, and how much was compared."""
    data = report.data
    rows = [(row.operation, row.kind, row.message, row.hint or "") for row in cause_texts(report)]
    yield from table(CAUSE_TITLES, rows)
    coverage = data["coverage"]
    first = next((row for row in data["operations"] if row["name"] == data["first"]), None)
    if first is not None:
        place = figures.place(first["source"])
        where = f" ({place})" if place else ""
        yield f"First to differ: {plain(first['name'])}, {plain(first['type'] + where)}. "
    yield (
        f"Compared {coverage['compared']} of {coverage['operations']} operations with "
        f"{plain(data['source'])}."
    )
    yield ""


def finding_lines(report: Report) -> Iterator[str]:
    """What is wrong and doubtful, folded away."""
    found = [item for item in other_findings(report) if item.severity != "info"]
    if not found:
        return
    rows = [(item.severity, item.code, item.message, item.hint or "") for item in found]
    yield f"<details><summary>{len(found)} finding{'s' * (len(found) > 1)}</summary>"
    yield ""
    yield from table(("", "code", "message", "hint"), rows)
    yield "</details>"


def table(
    titles: Sequence[str], rows: Sequence[Sequence[object]], *, right: Sequence[int] = ()
) -> Iterator[str]:
    """A table, or nothing without rows; columns in `right` hold numbers."""
    if not rows:
        return
    yield f"| {' | '.join(titles)} |"
    yield f"| {' | '.join('---:' if i in right else '---' for i in range(len(titles)))} |"
    for row in rows[:MOST_ROWS]:
        yield f"| {' | '.join(plain(cell) for cell in row)} |"
    yield ""
    if len(rows) > MOST_ROWS:
        yield f"{len(rows) - MOST_ROWS} more rows are left out."
        yield ""


def plain(value: object) -> str:
    r"""Text in which nothing is Markdown, HTML, a mention or a link: names are the users'.

    >>> plain("a|b*c*\n<img>"), plain("conv_12 (3×3), h=8")
    ('a&#124;b&#42;c&#42; &#60;img&#62;', 'conv&#95;12 (3×3), h=8')
    """
    text = " ".join(shortened(str(value), LONGEST_TEXT).split())
    return "".join(
        char if char.isalnum() or char in " .,;-/=()%'…±" or ord(char) > 127 else f"&#{ord(char)};"
        for char in text
    )
