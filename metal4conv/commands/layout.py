from __future__ import annotations

import click

from metal4conv.commands import output_options


@click.command()
@click.argument("package")
@click.option(
    "--dim", "dims", multiple=True, metavar="NAME=SIZE", help="A number for a dynamic dimension."
)
@click.option(
    "--emit", type=click.Choice(["json"]), help="Print the manifest itself instead of a table."
)
@click.option("--function", metavar="NAME", help="Function of a package that has several.")
@output_options
def command(
    package: str, dims: tuple[str, ...], emit: str | None, function: str | None, **shown: bool
) -> int:
    """Show how to create and bind the tensors of a package.

    Dimensions are innermost first, as MTLTensorExtents takes them; strides are in elements. Sizes
    are formulas of the dynamic dimensions until --dim gives them numbers.

    \b
    Example:
      metal4conv layout build/upscaler.mlpackage --dim h=720 --dim w=1280
    """
    from metal4conv import console
    from metal4conv.commands.rendering import show_layout
    from metal4conv.inspection import layout_report

    report = layout_report(package, dims, function)
    if emit == "json":
        import json

        click.echo(json.dumps(report.data["layout"], indent=2))
        return report.exit_code
    return console.show(report, show_layout)
