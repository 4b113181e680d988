"""Options that several commands share: the same name, letter and meaning everywhere."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from metal4conv.report import Report

Decorated = TypeVar("Decorated", bound=Callable[..., Any])


def output_options(function: Decorated) -> Decorated:
    """`--json`, `-q` and `-v`, which the console reads from the context."""
    for option in (
        click.option("-v", "--verbose", is_flag=True, help="Show what the frameworks say, too."),
        click.option(
            "-q", "--quiet", is_flag=True, help="Print nothing but errors and the answer no."
        ),
        click.option("--json", "as_json", is_flag=True, help="Print one JSON document on stdout."),
    ):
        function = option(function)
    return function


def source_options(function: Decorated) -> Decorated:
    """What describes a source model: inputs, sizes, weights, signature."""
    for option in (
        click.option("--trust", is_flag=True, help="Open files that could run code when opened."),
        click.option("--signature", metavar="NAME", help="Signature of a SavedModel."),
        click.option("--weights", metavar="FILE", help="State dict for a factory's module."),
        click.option(
            "--dim",
            "dims",
            multiple=True,
            metavar="NAME=SIZES",
            help="Sizes of a dynamic dimension: 64..2160, 64..2160/8@720 (steps, default), "
            "360|720|1080, or a number.",
        ),
        click.option(
            "-i",
            "--input",
            "inputs",
            multiple=True,
            metavar="NAME:SHAPE[:DTYPE[:LOW..HIGH]]",
            help="An input, such as color:1x3xhxw:float16; a letter is a dynamic dimension.",
        ),
    ):
        function = option(function)
    return function


output_dir_option = click.option(
    "-o", "--output-dir", default=".", metavar="DIR", help="Folder for the outputs."
)
output_names_option = click.option(
    "--output", "outputs", multiple=True, metavar="NAME", help="Name of an output, in their order."
)
golden_inputs_option = click.option(
    "--golden-inputs", metavar="FILE.npz", help="Inputs for the golden vectors."
)
seed_option = click.option(
    "--seed", type=int, default=0, show_default=True, help="Seed of the golden inputs."
)
depfile_option = click.option(
    "--depfile", metavar="FILE", help="Write the files that were read, for make or ninja."
)


def report_options(function: Decorated) -> Decorated:
    """`--report` and `--junit`, which `write_reports` takes."""
    for option in (
        click.option("--junit", metavar="FILE.xml", help="Write a JUnit report."),
        click.option(
            "--report",
            "page",
            metavar="FILE.html",
            help="Write a page with tables, pictures and the graph; it needs no network.",
        ),
    ):
        function = option(function)
    return function


def write_reports(report: Report, page: str | None, junit: str | None) -> None:
    """Writes the files that are asked for, and adds to the summary of a GitHub step."""
    from metal4conv.verify.summary import append_step_summary

    if page is not None:
        from metal4conv.verify.html.page import write_html

        write_html(Path(page), report, command_line())
    if junit is not None:
        from metal4conv.outputs import write_file
        from metal4conv.verify.junit import junit_xml

        write_file(Path(junit), junit_xml(report))
    append_step_summary(report)


def command_line() -> list[str]:
    """The words that started the running command."""
    words = click.get_current_context().find_root().obj
    return list(words) if isinstance(words, list) else ["metal4conv"]
