from __future__ import annotations

import click

from metal4conv.commands import (
    depfile_option,
    golden_inputs_option,
    output_dir_option,
    output_names_option,
    output_options,
    seed_option,
    source_options,
)


@click.command()
@click.argument("source")
@source_options
@output_dir_option
@click.option("--name", help="Name of the package; the source's without it.")
@output_names_option
@click.option(
    "--precision",
    metavar="float16|float32|auto|mixed:FILE",
    default="float16",
    show_default=True,
    help="Precision inside the package; auto keeps in float32 what a tolerance needs, and writes "
    "it to a file that mixed:FILE takes.",
)
@click.option(
    "--min-psnr", type=float, metavar="DB", help="Smallest PSNR for auto; 50 without any of these."
)
@click.option("--atol", type=float, help="Largest absolute error for auto.")
@click.option("--rtol", type=float, help="Largest relative error for auto.")
@click.option(
    "--io-precision",
    type=click.Choice(["float16", "float32"]),
    help="Precision of float inputs and outputs; without it float32 for --precision float32, else "
    "float16.",
)
@click.option("--target", default="iOS18", show_default=True, help="Oldest system: iOS15 … iOS18.")
@golden_inputs_option
@click.option(
    "--golden-limit",
    type=click.FloatRange(min=0.1),
    default=32,
    show_default=True,
    metavar="MB",
    help="Size of the golden vectors.",
)
@seed_option
@click.option(
    "--mtlpackage/--no-mtlpackage",
    default=None,
    help="Make a Metal package, too; without it, where metal-package-builder is found.",
)
@depfile_option
@output_options
def command(
    source: str,
    inputs: tuple[str, ...],
    dims: tuple[str, ...],
    output_dir: str,
    name: str | None,
    outputs: tuple[str, ...],
    precision: str,
    min_psnr: float | None,
    atol: float | None,
    rtol: float | None,
    io_precision: str | None,
    target: str,
    weights: str | None,
    signature: str | None,
    trust: bool,
    golden_inputs: str | None,
    golden_limit: float,
    seed: int,
    mtlpackage: bool | None,
    depfile: str | None,
    **shown: bool,
) -> int:
    """Make a Core ML package, its layout manifest and golden vectors from a model.

    SOURCE is a .pt2 or TorchScript .pt file, file.py:factory or package.module:factory, an
    .onnx file, a SavedModel folder, a .keras, .h5 or frozen .pb file. The outputs appear
    together when all went well.

    \b
    Example:
      metal4conv convert upscaler.py:upscaler --weights upscaler.safetensors \\
        -i color:1x3xhxw --dim h=64..1080 --dim w=64..1920 -o build
      metal4conv convert net.pt2 --precision auto --min-psnr 60
      metal4conv convert net.pt2 --precision mixed:net.precision.json
    """
    from metal4conv import console
    from metal4conv.assembly import GoldenOptions
    from metal4conv.commands.rendering import show_conversion
    from metal4conv.conversion import convert

    with console.talking() as say:
        done = convert(
            source,
            inputs=inputs,
            dims=dims,
            output=output_dir,
            name=name,
            output_names=outputs,
            precision=precision,
            io_precision=io_precision,
            min_psnr=min_psnr,
            atol=atol,
            rtol=rtol,
            target=target,
            weights=weights,
            signature=signature,
            trust=trust,
            golden=GoldenOptions(golden_inputs, int(golden_limit * 2**20), seed),
            mtlpackage=mtlpackage,
            depfile=depfile,
            say=say,
        )
    return console.show(done.report(), show_conversion)
