from __future__ import annotations

import click

from metal4conv.commands import output_options


@click.command()
@click.argument("package")
@click.option(
    "-o",
    "--output-dir",
    metavar="DIR",
    help="Folder for the Metal package; that of PACKAGE without it.",
)
@click.option(
    "--check",
    metavar="NET.mtlpackage",
    help="Build nothing: compare this Metal package with PACKAGE, on any machine.",
)
@click.option(
    "--builder", metavar="PATH", help="metal-package-builder; Xcode's own is found without it."
)
@click.option(
    "--target-os", metavar="SYSTEM", help="What the builder's --mtargetos takes, as macos26.0."
)
@click.option(
    "--timeout",
    type=click.FloatRange(min=1),
    metavar="SECONDS",
    help="Time for the builder; half an hour without it.",
)
@click.option(
    "--depfile", metavar="FILE", help="Write the files that were read, for make or ninja."
)
@output_options
def command(
    package: str,
    output_dir: str | None,
    check: str | None,
    builder: str | None,
    target_os: str | None,
    timeout: float | None,
    depfile: str | None,
    **shown: bool,
) -> int:
    """Make a Metal package, which an app loads as a library, of a Core ML package.

    Needs a Mac with Xcode 26, or the Metal toolchain of Xcode 27. What is known not to run in a
    machine learning pass is refused before. The new package's reflection is compared with the
    layout manifest: exit code 1 means that they differ, and that nothing was written.

    \b
    Example:
      metal4conv package build/upscaler.mlpackage
      metal4conv package build/upscaler.mlpackage --check build/upscaler.mtlpackage
    """
    from metal4conv import console
    from metal4conv.commands.rendering import show_package
    from metal4conv.device.builder import TIMEOUT, BuildOptions
    from metal4conv.packaging import check_metal_package, check_options, package_for_metal

    check_options(
        check,
        output_dir=output_dir,
        builder=builder,
        target_os=target_os,
        timeout=timeout,
        depfile=depfile,
    )
    if check is not None:
        return console.show(check_metal_package(package, check), show_package)
    with console.talking() as say:
        report = package_for_metal(
            package,
            output=output_dir,
            builder=builder,
            options=BuildOptions(target_os, timeout or TIMEOUT),
            depfile=depfile,
            say=say,
        )
    return console.show(report, show_package)
