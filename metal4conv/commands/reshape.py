from __future__ import annotations

import click

from metal4conv.commands import (
    depfile_option,
    output_dir_option,
    output_options,
)


@click.command()
@click.argument("package")
@click.option(
    "-i",
    "--input",
    "inputs",
    multiple=True,
    metavar="NAME:SHAPE",
    help="New shape of an input, such as color:1x3xhxw; a letter is a dynamic dimension.",
)
@click.option(
    "--dim",
    "dims",
    multiple=True,
    metavar="NAME=SIZES",
    help="Sizes of a dimension: 720, 64..2160, 64..2160/8@720, or 360|720|1080.",
)
@output_dir_option
@click.option("--name", help="Name of the new package; that of the old one without it.")
@depfile_option
@output_options
def command(
    package: str,
    inputs: tuple[str, ...],
    dims: tuple[str, ...],
    output_dir: str,
    name: str | None,
    depfile: str | None,
    **shown: bool,
) -> int:
    """Give a package other sizes: fixed, enumerated, or a range.

    A dynamic dimension is named as the layout manifest names it; a fixed one gets its name with -i.
    What was fixed inside the network when it was converted is named, not worked around.

    \b
    Example:
      metal4conv reshape build/upscaler.mlpackage --dim h=720 --dim w=1280 -o build/720p
    """
    from metal4conv import console
    from metal4conv.commands.rendering import show_conversion
    from metal4conv.reshaping import reshape

    with console.talking() as say:
        done = reshape(
            package,
            inputs=inputs,
            dims=dims,
            output=output_dir,
            name=name,
            depfile=depfile,
            say=say,
        )
    return console.show(done.report(), show_conversion)
