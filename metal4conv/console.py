"""Printing: results to stdout, talk to stderr, one JSON document with `--json`."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click

from metal4conv.report import Finding, Report

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

MARKS = {"info": ("note", "cyan"), "warning": ("warning", "yellow"), "failure": ("fail", "red")}


def show(report: Report, render: Callable[[Report, Console], None]) -> int:
    """Prints a report as the command's options say; returns its exit code.

    `-q` prints nothing when all is well, and what is wrong when the answer is no.
    """
    options = current_options()
    if options.get("as_json"):
        click.echo(json.dumps(report.to_json(), indent=2, allow_nan=False, default=str))
        return report.exit_code
    if options.get("quiet") and report.passed:
        return report.exit_code
    render(report, stdout())
    show_findings(report.findings)
    return report.exit_code


def current_options() -> dict[str, Any]:  # Any: values of click options
    """The parameters of the running command."""
    context = click.get_current_context(silent=True)
    return dict(context.params) if context else {}


def stdout() -> Console:
    """Where results go; as wide as the terminal, or wide enough for any table."""
    from rich.console import Console

    width = None if sys.stdout.isatty() else 110
    return Console(file=sys.stdout, width=width, highlight=False, soft_wrap=False)


def stderr() -> Console:
    """Where talk goes."""
    from rich.console import Console

    return Console(file=sys.stderr, width=None if sys.stderr.isatty() else 110, highlight=False)


def show_findings(findings: Sequence[Finding]) -> None:
    """Prints findings on stderr, each with what to do."""
    if not findings:
        return
    from rich.text import Text

    console = stderr()
    for finding in findings:
        label, color = MARKS[finding.severity]
        console.print(Text.assemble((f"{label}: ", color), finding.message), soft_wrap=True)
        if finding.hint:
            console.print(Text(f"  hint: {finding.hint}"), soft_wrap=True)


def table(titles: Sequence[str], rows: Sequence[Sequence[object]], *, right: str = "") -> Table:
    """A plain table; `right` names the columns that hold numbers."""
    from rich.table import Table

    made = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    aligned = right.split()
    for title in titles:
        made.add_column(title, justify="right" if title in aligned else "left", overflow="fold")
    for row in rows:
        made.add_row(*(cell(item) for item in row))
    return made


def cell(value: object) -> str:
    """A table cell; brackets are text, not markup."""
    from rich.markup import escape

    return escape("" if value is None else str(value))


@contextmanager
def talking() -> Iterator[Callable[[str], None]]:
    """Says what is being done: a spinner on a terminal, lines with `-v`, else nothing."""
    options = current_options()
    if options.get("verbose"):
        follow_logs()
        yield lambda text: click.echo(text, err=True)
    elif options.get("quiet") or options.get("as_json") or not sys.stderr.isatty():
        yield lambda text: None
    else:
        console = stderr()
        with console.status("") as status:
            yield lambda text: status.update(text)


def follow_logs() -> None:
    """Shows our own log, into which the frameworks' messages go, on stderr."""
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(name)s: %(message)s"))
    logger = logging.getLogger("metal4conv")
    logger.handlers[:] = [handler]
    logger.setLevel(logging.DEBUG)


def human_bytes(count: int) -> str:
    """A size in bytes with a unit.

    >>> human_bytes(512), human_bytes(3_500_000)
    ('512 B', '3.5 MB')
    """
    size = float(count)
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000 or unit == "GB":
            return f"{count} B" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1000
    raise AssertionError("unreachable")


def human_count(count: float) -> str:
    """A large number with a letter.

    >>> human_count(86_567_656), human_count(12)
    ('86.6 M', '12')
    """
    for limit, letter in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if count >= limit:
            return f"{count / limit:.1f} {letter}"
    return f"{count:g}"
