from __future__ import annotations

import click

from metal4conv.commands import output_options


@click.command()
@click.argument("package")
@click.option(
    "-i",
    "--input",
    "inputs",
    multiple=True,
    metavar="FILE|NAME=FILE",
    help="Inputs by name in an .npz or .safetensors file, golden vectors too; or one input from "
    "an .npy file or a picture.",
)
@click.option(
    "--case",
    type=int,
    default=0,
    show_default=True,
    metavar="N",
    help="Which case of golden vectors.",
)
@click.option("--random", is_flag=True, help="Draw the inputs that are not given.")
@click.option(
    "--dim", "dims", multiple=True, metavar="NAME=SIZE", help="Size of drawn inputs, as h=720."
)
@click.option("--seed", type=int, default=0, show_default=True, help="Seed of drawn inputs.")
@click.option("--state", metavar="FILE", help="States to start with; zeros without it.")
@click.option("-o", "--output-file", "output", metavar="FILE", help="Outputs: .npz, .safetensors.")
@click.option(
    "--state-out", "state_output", metavar="FILE", help="States after the run; may be --state's."
)
@click.option(
    "--trace", metavar="DIR", help="Write what every operation gave, with range, NaN, overflow."
)
@click.option("--function", metavar="NAME", help="Function of a package that has several.")
@click.option("--device", default="cpu", show_default=True, help="What computes: cpu or cuda.")
@click.option(
    "--repeat",
    type=click.IntRange(min=1),
    default=1,
    metavar="N",
    help="Run N times; the time of those after the first.",
)
@output_options
def command(package: str, verbose: bool, quiet: bool, as_json: bool, **given: object) -> int:
    """Run a package on this machine: its outputs, and with --trace every operation's.

    Without -o the outputs are only summed up. A trace goes into loops and branches; the first
    operation to give NaN, an infinity, or what float16 cannot hold is named.

    \b
    Example:
      metal4conv run build/upscaler.mlpackage --input frame.npz -o upscaled.npz
    """
    from metal4conv import console
    from metal4conv.commands.rendering import show_run
    from metal4conv.running import RunOptions, run_package

    with console.talking() as say:
        report = run_package(package, RunOptions(**given), say)  # type: ignore[arg-type]
    return console.show(report, show_run)
