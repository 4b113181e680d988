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
@click.option("--name", help="Name of the shader; the source's without it.")
@output_names_option
@click.option("--function", metavar="NAME", help="Function of a package that has several.")
@click.option(
    "--precision",
    type=click.Choice(["float16", "float32", "int8"]),
    default="float16",
    show_default=True,
    help="Of weights and what they are multiplied with; int8 has a scale for each output and "
    "float16 operands. Sums, biases and activations are float32.",
)
@click.option(
    "--tensors",
    type=click.Choice(["inline", "handle"]),
    default="inline",
    show_default=True,
    help="Weights for matmul2d as tensors that the shader makes in a buffer, or as MTLTensors "
    "that the app binds.",
)
@click.option("--inline-weights", is_flag=True, help="Write the weights into the source.")
@click.option(
    "--latents",
    multiple=True,
    metavar="NAME=FILE",
    help="Sample this input from textures: rows × columns × features, of a .safetensors, .npy or "
    ".npz file, or pictures.",
)
@click.option(
    "--filter",
    "texture_filter",
    type=click.Choice(["linear", "nearest"]),
    help="How textures are sampled; linear without it.",
)
@click.option(
    "--address",
    type=click.Choice(["repeat", "clamp_to_edge"]),
    help="What is beyond a texture's border; repeat without it.",
)
@click.option(
    "--system",
    default="26.0",
    show_default=True,
    metavar="VERSION",
    help="Oldest macOS or iOS that compiles the source; int8 needs 26.4 for matmul2d.",
)
@click.option(
    "--emit",
    "languages",
    type=click.Choice(["swift", "objc", "cpp"]),
    multiple=True,
    help="Write code for an app, too.",
)
@click.option(
    "--compile",
    "compile_metal",
    is_flag=True,
    help="Run Apple's compiler over the source (a Mac with Xcode).",
)
@golden_inputs_option
@seed_option
@depfile_option
@output_options
def command(
    source: str,
    inputs: tuple[str, ...],
    dims: tuple[str, ...],
    output_dir: str,
    name: str | None,
    outputs: tuple[str, ...],
    function: str | None,
    precision: str,
    tensors: str,
    inline_weights: bool,
    latents: tuple[str, ...],
    texture_filter: str | None,
    address: str | None,
    system: str,
    languages: tuple[str, ...],
    compile_metal: bool,
    weights: str | None,
    signature: str | None,
    trust: bool,
    golden_inputs: str | None,
    seed: int,
    depfile: str | None,
    **shown: bool,
) -> int:
    """Write a small network as Metal source that runs inside a shader.

    SOURCE is what convert takes, or a .mlpackage. The source has a function for each point or
    pixel to call from a shader of one's own, and ready fragment and compute functions; beside it
    are the packed weights, a manifest of what to bind, and golden vectors for verify.

    \b
    Example:
      metal4conv shader material.py:material --weights material.safetensors -o build
      metal4conv shader net.onnx --precision float32 --tensors handle --emit swift
      metal4conv verify build/material.shader.json --on host
    """
    from metal4conv import console
    from metal4conv.assembly import GoldenOptions
    from metal4conv.commands.shader_tables import show_shader
    from metal4conv.errors import UsageError
    from metal4conv.shader.document import SamplerLayout
    from metal4conv.shader.options import ShaderOptions, parse_system
    from metal4conv.shading import shade

    for option, value in {"--filter": texture_filter, "--address": address}.items():
        if value is not None and not latents:
            raise UsageError(f"{option} is for textures: it needs --latents", where=option)
    options = ShaderOptions(
        precision,  # type: ignore[arg-type]  # one of click's choices
        tensors,  # type: ignore[arg-type]  # as above
        inline_weights,
        parse_system(system),
    )
    with console.talking() as say:
        done = shade(
            source,
            inputs=inputs,
            dims=dims,
            output=output_dir,
            name=name,
            output_names=outputs,
            function=function,
            options=options,
            latents=latents,
            sampler=SamplerLayout(texture_filter or "linear", address or "repeat"),
            languages=languages,
            compile_metal=compile_metal,
            weights=weights,
            signature=signature,
            trust=trust,
            golden=GoldenOptions(golden_inputs, seed=seed),
            depfile=depfile,
            say=say,
        )
    return console.show(done.report(), show_shader)
