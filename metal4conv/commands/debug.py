from __future__ import annotations

import click

from metal4conv.commands import output_options, report_options, source_options, write_reports
from metal4conv.commands.debug_cutting import CuttingOptions, cutting_options


@click.command()
@click.argument("package")
@click.option("--against", metavar="SOURCE", help="The source model to compare with.")
@click.option(
    "--golden", metavar="FILE", help="Golden vectors; those beside the package without it."
)
@click.option("--input-npz", metavar="FILE.npz", help="Inputs to run with.")
@click.option("--atol", type=float, help="Largest absolute error of an output.")
@click.option("--rtol", type=float, help="Largest relative error of an output.")
@click.option("--min-psnr", type=float, metavar="DB", help="Smallest PSNR of each output.")
@click.option("--function", metavar="NAME", help="Function of a package that has several.")
@click.option("--all", "everything", is_flag=True, help="Print every operation.")
@cutting_options
@source_options
@report_options
@output_options
def command(
    package: str,
    against: str | None,
    golden: str | None,
    input_npz: str | None,
    atol: float | None,
    rtol: float | None,
    min_psnr: float | None,
    function: str | None,
    everything: bool,
    search: bool,
    reduce: bool,
    check: str | None,
    check_timeout: float | None,
    max_checks: int | None,
    case: int,
    output_dir: str | None,
    name: str | None,
    resume: bool,
    inputs: tuple[str, ...],
    dims: tuple[str, ...],
    weights: str | None,
    signature: str | None,
    trust: bool,
    page: str | None,
    junit: str | None,
    **shown: bool,
) -> int:
    """Find the operation that makes a package differ from its source, and why.

    Both run on the golden inputs, and every operation that has a counterpart is compared: as the
    package runs, and alone on the source's own inputs. Exit code 1 means that the outputs are out
    of tolerance, or that an operation computes something else.

    With --search the package is cut and bisected, with --reduce cut to the smallest part that still
    fails. A part is bad when it does not give what it gives in float32, or what --against names
    (the source, or another package of the same program) gives; or when --check COMMAND says so.

    \b
    Example:
      metal4conv debug build/upscaler.mlpackage --against upscaler.py:upscaler
      metal4conv debug build/upscaler.mlpackage --search --check './check.sh {package} {inputs}'
      metal4conv debug build/upscaler.mlpackage --reduce -o case
    """
    from metal4conv import console
    from metal4conv.commands.cutting_tables import show_cutting
    from metal4conv.commands.debug_cutting import cut
    from metal4conv.commands.debug_tables import show_debug
    from metal4conv.debug.debugging import debug, open_beside
    from metal4conv.errors import UsageError
    from metal4conv.frontends.source import parse_options
    from metal4conv.mil.package import read_package
    from metal4conv.verify.tolerance import GivenTolerance

    given = parse_options(inputs, dims, weights=weights, signature=signature, trust=trust)
    cutting = CuttingOptions(
        search, reduce, check, check_timeout, max_checks, case, output_dir, name, resume
    )
    if cutting.wanted:
        if page is not None or junit is not None or everything:
            raise UsageError("--report, --junit and --all do not go with --search and --reduce")
        with console.talking() as say:
            report = cut(
                package,
                cutting,
                against=against,
                source_options=given,
                golden=golden,
                inputs_npz=input_npz,
                given=GivenTolerance(atol, rtol, min_psnr),
                function=function,
                say=say,
            )
        return console.show(report, show_cutting)
    if against is None:
        raise UsageError(
            "there is nothing to compare the package with",
            hint="name the source model: --against SOURCE, or find the operation without one: "
            "--search",
        )
    with console.talking() as say:
        say(f"reading {against}")
        opened = open_beside(read_package(package), against, given)
        report = debug(
            package,
            opened,
            golden=golden,
            inputs_npz=input_npz,
            given=GivenTolerance(atol, rtol, min_psnr),
            function=function,
            say=say,
        )
    write_reports(report, page, junit)
    return console.show(report, lambda shown, to: show_debug(shown, to, everything=everything))
