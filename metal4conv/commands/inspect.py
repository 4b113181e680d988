from __future__ import annotations

import click

from metal4conv.commands import output_options, source_options


@click.command()
@click.argument("file")
@source_options
@output_options
def command(
    file: str,
    inputs: tuple[str, ...],
    dims: tuple[str, ...],
    weights: str | None,
    signature: str | None,
    trust: bool,
    **shown: bool,
) -> int:
    """Show what is in a package or model: inputs, outputs, operations, weights.

    For a package: operations by type, weights by dtype, arithmetic, memory of intermediate values.
    For a source model: its operations, and which of them cannot be converted.

    \b
    Example:
      metal4conv inspect build/upscaler.mlpackage
    """
    from metal4conv import console
    from metal4conv.commands.rendering import show_inspection
    from metal4conv.inspection import inspect_file

    with console.talking() as say:
        say(f"reading {file}")
        report = inspect_file(file, inputs, dims, weights=weights, signature=signature, trust=trust)
    return console.show(report, show_inspection)
