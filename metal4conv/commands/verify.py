from __future__ import annotations

from pathlib import Path

import click

from metal4conv.commands import output_options, report_options, source_options, write_reports


@click.command()
@click.argument("package")
@click.option(
    "--on",
    type=click.Choice(["reference", "emulator", "metal", "coreml", "host"]),
    default="reference",
    show_default=True,
    help="What runs the package: this machine's MIL executor; a Metal 4 machine-learning encoder "
    "(metal), or its emulator; Core ML. A shader: this machine's C++ compiler, with headers that "
    "stand for Metal's (host, its default); compute passes of Metal 4, or their emulator.",
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
@click.option(
    "--skip-if-missing", is_flag=True, help="Exit 0 where this machine cannot run it, and say so."
)
@click.option(
    "--backing",
    type=click.Choice(["device", "buffer", "both"]),
    default="device",
    show_default=True,
    help="Tensors that the device lays out, or tensors in buffers (metal, emulator).",
)
@click.option(
    "--mtlpackage", metavar="PATH", help="Metal package to run; the one beside the package."
)
@click.option(
    "--timeout",
    type=click.FloatRange(0.001, 86400),
    default=60.0,
    show_default=True,
    metavar="SECONDS",
    help="For one submission to the GPU.",
)
@click.option(
    "--repeat", type=click.IntRange(1), default=1, metavar="N", help="Runs for the GPU's times."
)
@click.option("--strict", is_flag=True, help="Turn Metal's own validation layers on.")
@click.option("--capture", metavar="FILE.gputrace", help="Write a GPU capture.")
@click.option("--misbehave", hidden=True, help="Make the emulator fail in this way.")
@click.option(
    "--host", metavar="USER@MAC", help="Verify on that machine, over OpenSSH, with its metal4conv."
)
@click.option(
    "--remote-command",
    metavar="COMMAND",
    default="metal4conv",
    show_default=True,
    help="What starts metal4conv there.",
)
@report_options
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
    skip_if_missing: bool,
    backing: str,
    mtlpackage: str | None,
    timeout: float,
    repeat: int,
    strict: bool,
    capture: str | None,
    misbehave: str | None,
    host: str | None,
    remote_command: str,
    page: str | None,
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
    framework are not needed. Exit code 1 means that an output is out of tolerance, or that the
    device did not run the package; 4 that this machine has no such device. A shader's
    NAME.shader.json stands for the files that were written with it.

    \b
    Example:
      metal4conv verify build/upscaler.mlpackage
      metal4conv verify build/upscaler.mlpackage --on emulator --backing both
      metal4conv verify build/neural_material.shader.json
    """
    from metal4conv import console
    from metal4conv.commands.rendering import show_verdict
    from metal4conv.frontends.source import open_source, parse_options
    from metal4conv.verify.device import DeviceOptions
    from metal4conv.verify.host import verify_on_host
    from metal4conv.verify.verification import verify

    device = DeviceOptions(
        backing=backing,  # type: ignore[arg-type]  # one of click's choices
        metal_package=None if mtlpackage is None else Path(mtlpackage),
        timeout=timeout,
        repeat=repeat,
        strict=strict,
        capture=None if capture is None else Path(capture),
        misbehave=misbehave,
    )
    with console.talking() as say:
        if host is not None:
            refuse_with_host({"--against": against, "--input-npz": input_npz, "--capture": capture})
            say(f"verifying on {host}")
            report = verify_on_host(
                host,
                package,
                on=on,
                golden=golden,
                options={
                    "--atol": atol,
                    "--rtol": rtol,
                    "--min-psnr": min_psnr,
                    "--function": function,
                    "--skip-if-missing": skip_if_missing,
                    **device.words(),
                },
                metal_package=device.metal_package,
                remote_command=remote_command,
            )
        else:
            source = None
            if against is not None:
                say(f"reading {against}")
                options = parse_options(
                    inputs, dims, weights=weights, signature=signature, trust=trust
                )
                source = open_source(against, options)
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
                device=device,
                skip_if_missing=skip_if_missing,
            )
    write_reports(report, page, junit)
    return console.show(report, show_verdict)


def refuse_with_host(given: dict[str, str | None]) -> None:
    """`UsageError` for options that name files which stay on this machine."""
    from metal4conv.errors import UsageError

    for name, value in given.items():
        if value is not None:
            raise UsageError(
                f"{name} does not go with --host",
                where=f"{name} {value}",
                hint="package and golden vectors are what is copied to the other machine",
            )
