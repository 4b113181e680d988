"""Options that several commands share: the same name, letter and meaning everywhere."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

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
