from __future__ import annotations

import click

from metal4conv.commands import output_options


@click.command()
@click.argument("package", metavar="FILE")
@click.option(
    "--dim", "dims", multiple=True, metavar="NAME=SIZE", help="A number for a dynamic dimension."
)
@click.option(
    "--emit",
    type=click.Choice(["json", "swift", "objc", "cpp"]),
    help="Print the manifest itself, or code for an app, instead of a table.",
)
@click.option(
    "-o", "--output-file", "output", metavar="FILE", help="Write what --emit prints to a file."
)
@click.option("--function", metavar="NAME", help="Function of a package that has several.")
@output_options
def command(
    package: str,
    dims: tuple[str, ...],
    emit: str | None,
    output: str | None,
    function: str | None,
    **shown: bool,
) -> int:
    """Show how to create and bind the tensors of a package, or of a shader.

    Dimensions are innermost first, as MTLTensorExtents takes them; strides are in elements. Sizes
    are formulas of the dynamic dimensions until --dim gives them numbers.

    --emit prints code that an app compiles in: the sizes as functions of the dynamic dimensions,
    and what creates and binds the tensors. cpp is a header of plain numbers for C, C++ and
    shaders; objc is that header with Metal's objects; swift is one file.

    Of a shader's NAME.shader.json it shows what its functions are to be given, and emits code that
    makes its pipelines and binds its weights; cpp is a metal-cpp header then.

    \b
    Example:
      metal4conv layout build/upscaler.mlpackage --dim h=720 --dim w=1280
      metal4conv layout build/upscaler.mlpackage --emit swift -o UpscalerLayout.swift
      metal4conv layout build/material.shader.json
    """
    from metal4conv import console
    from metal4conv.commands.rendering import show_layout
    from metal4conv.errors import UsageError
    from metal4conv.inspection import emitted_text, layout_report

    if output is not None and emit is None:
        raise UsageError("-o needs --emit: the table is for the terminal", where="-o")
    if package.endswith(".shader.json"):
        return shader_layout(package, dims, function, emit, output)
    report = layout_report(package, dims, function)
    if emit is None:
        return console.show(report, show_layout)
    text = emitted_text(report, emit)
    if output is None:
        click.echo(text, nl=False)
    else:
        write_text(output, text)
    if emit != "json" and not shown["quiet"]:
        console.show_findings(report.findings)
    return report.exit_code


def shader_layout(
    path: str, dims: tuple[str, ...], function: str | None, emit: str | None, output: str | None
) -> int:
    """The same for a shader, which has no dimensions and functions to choose from."""
    from metal4conv import console
    from metal4conv.commands.shader_tables import show_shader_layout
    from metal4conv.errors import UsageError
    from metal4conv.inspection import emitted_shader
    from metal4conv.shader.manifest import shader_layout_report

    for option, value in {"--dim": dims, "--function": function}.items():
        if value:
            raise UsageError(f"{option} does not go with a shader", where=option)
    if emit is None:
        return console.show(shader_layout_report(path), show_shader_layout)
    text = emitted_shader(path, emit)
    if output is None:
        click.echo(text, nl=False)
    else:
        write_text(output, text)
    return 0


def write_text(output: str, text: str) -> None:
    """Writes one file, unless a folder stands there."""
    from pathlib import Path

    from metal4conv.errors import UsageError
    from metal4conv.outputs import write_file

    path = Path(output)
    if path.is_dir():
        raise UsageError(f"{output} is a folder, and a file is to be written", where="-o")
    write_file(path, text)
