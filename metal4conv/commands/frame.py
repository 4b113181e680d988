from __future__ import annotations

import click

from metal4conv.commands import output_options


@click.command()
@click.argument("file", metavar="FRAME.toml")
@click.option(
    "--dim", "dims", multiple=True, metavar="NAME=SIZE", help="Another number for a dimension."
)
@click.option("--svg", metavar="FILE.svg", help="Draw passes, resources and what waits for what.")
@click.option(
    "--depfile", metavar="FILE", help="Write the files that were read, for make or ninja."
)
@output_options
def command(
    file: str, dims: tuple[str, ...], svg: str | None, depfile: str | None, **shown: bool
) -> int:
    """Check the passes of a frame: what must wait for what, and which barriers are missing.

    The file lists passes (render, compute, machine learning, CPU) with the textures, buffers and
    tensors that they read and write, and the app's barriers, fences, events and residency sets.
    Exit code 1 means that two passes race, or that something does not fit. With mode = "plan" in
    the file, barriers that it lacks are what one asks for: they are listed and are no failures.

    \b
    A small frame, which asks for its barriers; type and size are the network's:
      format = "metal4conv.frame/1"
      mode = "plan"
      dims = { h = 720, w = 1280 }
      tensor = [{ name = "color" }, { name = "upscaled" }]
      [[pass]]
      name = "draw"
      kind = "render"
      writes = ["color"]
      [[pass]]
      name = "upscale"
      kind = "machine_learning"
      package = "build/upscaler.mlpackage"
      inputs = { color = "color" }
      outputs = { upscaled = "upscaled" }
      [[pass]]
      name = "show"
      kind = "render"
      reads = ["upscaled"]

    python -m pydoc metal4conv.frame.document describes every key.

    \b
    Example:
      metal4conv frame frame.toml --svg frame.svg
      metal4conv frame frame.toml --dim h=1080 --dim w=1920 --json
    """
    from pathlib import Path

    from metal4conv import console
    from metal4conv.commands.frame_tables import show_frame
    from metal4conv.errors import UsageError
    from metal4conv.frame.analysis import analyse
    from metal4conv.frame.drawing import svg_of
    from metal4conv.frame.networks import files_read
    from metal4conv.frame.report import report_of
    from metal4conv.inspection import parse_number
    from metal4conv.outputs import depfile_text, write_file

    if depfile is not None and svg is None:
        raise UsageError("--depfile needs --svg: nothing else is written", where="--depfile")
    if svg is not None and Path(svg).is_dir():
        raise UsageError(f"{svg} is a folder, and a file is to be written", where="--svg")
    with console.talking() as say:
        say(f"reading {file}")
        analysis = analyse(file, dict(parse_number(text) for text in dims))
    if svg is not None:
        write_file(Path(svg), svg_of(analysis))
        if depfile is not None:
            write_file(Path(depfile), depfile_text([Path(svg)], files_read(analysis.frame)))
    report = report_of(analysis, () if svg is None else (svg,))
    return console.show(report, show_frame)
