from __future__ import annotations

import click

from metal4conv.commands import output_options


@click.command()
@click.argument("file")
@click.option("--tensor", metavar="NAME", help="One tensor in detail; without it, all in a table.")
@click.option("--operation", metavar="NAME", help="What one operation of a trace gave.")
@click.option(
    "--slice", metavar="INDEX", help="A part, as numpy writes it: 0,:,10:20,-1 (... for the rest)."
)
@click.option("--numbers", is_flag=True, help="Print the elements.")
@click.option("--png", metavar="FILE", help="Write the picture, a pixel for each element.")
@click.option("--range", "value_range", metavar="LOW..HIGH", help="What is black and what white.")
@click.option(
    "--against", metavar="FILE", help="What is expected: shows both, and how far they are apart."
)
@click.option(
    "--amplify",
    type=click.FloatRange(min=0, min_open=True),
    metavar="FACTOR",
    help="Multiplies the difference in the picture.",
)
@click.option("--layout", metavar="FILE", help="Layout manifest of a raw buffer, with --tensor.")
@click.option(
    "--dim", "dims", multiple=True, metavar="NAME=SIZE", help="A dimension of the manifest: h=720."
)
@click.option("--shape", metavar="SIZES", help="Shape of a raw buffer, as 3x720x1280.")
@click.option(
    "--dtype", metavar="TYPE", help="Its element type; other files' bytes are read as this type."
)
@click.option(
    "--row-stride",
    type=click.IntRange(min=1),
    metavar="BYTES",
    help="From one row of its innermost dimension to the next.",
)
@click.option("--strides", metavar="BYTES,...", help="All its strides, one for each dimension.")
@click.option(
    "--offset", type=click.IntRange(min=0), default=0, metavar="BYTES", help="Where it begins."
)
@click.option(
    "--innermost-first", is_flag=True, help="Dimensions in Metal's order, given and shown."
)
@output_options
def command(
    file: str,
    layout: str | None,
    dims: tuple[str, ...],
    shape: str | None,
    dtype: str | None,
    row_stride: int | None,
    strides: str | None,
    offset: int,
    innermost_first: bool,
    verbose: bool,
    quiet: bool,
    as_json: bool,
    **given: object,
) -> int:
    """Show what is in a tensor: figures, histogram, picture, numbers.

    FILE is .npy, .npz, .safetensors (golden vectors, too), a folder that run --trace wrote, or a
    raw buffer with --layout or --shape. Rows of a raw buffer lose their padding.

    NaN is magenta in pictures and infinities are cyan; N and I where there is no colour. --png of
    two files writes FILE, the other one and the difference from left to right.

    \b
    Example:
      metal4conv view build/net.golden.safetensors
      metal4conv view frame.bin --layout build/net.layout.json --tensor color --dim h=720
      metal4conv view out.npz --against expected.npz --tensor upscaled --png difference.png
    """
    from metal4conv import console
    from metal4conv.commands.tensor_rendering import show_view
    from metal4conv.view.buffers import BufferOptions
    from metal4conv.view.parts import ViewOptions
    from metal4conv.view.viewing import view_file

    buffer = BufferOptions(layout, dims, shape, dtype, row_stride, strides, offset, innermost_first)
    options = ViewOptions(buffer=buffer, **given)  # type: ignore[arg-type]
    with console.talking() as say:
        viewed = view_file(file, options, say)
    return console.show(viewed.report, lambda report, out: show_view(viewed, out))
