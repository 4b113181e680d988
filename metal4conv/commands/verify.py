from __future__ import annotations

from pathlib import Path

import click

from metal4conv.commands import output_options, source_options


@click.command()
@click.argument("package")
@click.option(
    "--on",
    type=click.Choice(["reference"]),
    default="reference",
    show_default=True,
    help="What runs the package: this machine's MIL executor.",
)
@click.option(
    "--golden", metavar="FILE", help="Golden vectors; those beside the package without it."
)
@click.option("--against", metavar="SOURCE", help="Run this source model and compare with it.")
@click.option("--input-npz", metavar="FILE.npz", help="Inputs to run with.")
@click.option("--atol", type=float, help="Largest absolute error.")
@click.option("--rtol", type=float, help="Largest relative error.")
@click.option("--min-psnr", type=float, metavar="DB", help="Smallest PSNR of each output.")
@click.option("--function", metavar="NAME", help="Function of a package that has several.")
@click.option("--junit", metavar="FILE", help="Write a JUnit report.")
@source_options
@output_options
def command(
    package: str,
    on: str,
    golden: str | None,
    against: str | None,
    input_npz: str | None,
    atol: float | None,
    rtol: float | None,
    min_psnr: float | None,
    function: str | None,
    junit: str | None,
    inputs: tuple[str, ...],
    dims: tuple[str, ...],
    weights: str | None,
    signature: str | None,
    trust: bool,
    **shown: bool,
) -> int:
    """Prove that a package gives what its source model gave.

    The package runs on the golden vectors that convert wrote beside it, so the source model and its
    framework are not needed. Exit code 1 means that an output is out of tolerance.

    \b
    Example:
      metal4conv verify build/upscaler.mlpackage
    """
    from metal4conv import console
    from metal4conv.commands.rendering import show_verdict
    from metal4conv.frontends.source import open_source, parse_options
    from metal4conv.verify.verification import verify

    with console.talking() as say:
        source = None
        if against is not None:
            say(f"reading {against}")
            source = open_source(
                against,
                parse_options(inputs, dims, weights=weights, signature=signature, trust=trust),
            )
        say("running the package")
        report = verify(
            package,
            on=on,
            golden=golden,
            against=source,
            inputs_npz=input_npz,
            atol=atol,
            rtol=rtol,
            min_psnr=min_psnr,
            function=function,
        )
    if junit is not None:
        from metal4conv.outputs import write_file
        from metal4conv.verify.junit import junit_xml

        write_file(Path(junit), junit_xml(report))
    return console.show(report, show_verdict)
