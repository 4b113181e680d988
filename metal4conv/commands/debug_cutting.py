"""`debug --search` and `debug --reduce`: their options, and what they call."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from metal4conv.debug.reference import MakeReference
    from metal4conv.frontends.source import SourceOptions
    from metal4conv.mil.package import Package
    from metal4conv.report import Report
    from metal4conv.verify.tolerance import GivenTolerance

Decorated = TypeVar("Decorated", bound=Callable[..., Any])
Say = Callable[[str], None]


def cutting_options(function: Decorated) -> Decorated:
    """The options of `--search` and `--reduce`."""
    for option in (
        click.option("--resume", is_flag=True, help="Go on with a search that was interrupted."),
        click.option("--name", help="Name of the reduced package; NAME-reduced without it."),
        click.option(
            "-o", "--output-dir", metavar="DIR", help="Folder for the state and the parts."
        ),
        click.option(
            "--case",
            type=click.IntRange(0),
            default=0,
            metavar="N",
            help="Which of the golden inputs to cut with.",
        ),
        click.option(
            "--max-checks",
            type=click.IntRange(1),
            metavar="N",
            help="After so many checks --reduce is content with what it has; 300 without it.",
        ),
        click.option(
            "--check-timeout",
            type=click.FloatRange(0.001),
            metavar="SECONDS",
            help="A check that takes longer cannot tell.",
        ),
        click.option(
            "--check",
            metavar="COMMAND",
            help="What says whether a part is good, with {package}, {inputs} and {outputs}: exit "
            "status 0 is good, 125 cannot tell, else bad.",
        ),
        click.option("--reduce", is_flag=True, help="Write the smallest part that still fails."),
        click.option("--search", is_flag=True, help="Cut and bisect until an operation is found."),
    ):
        function = option(function)
    return function


@dataclass(frozen=True)
class CuttingOptions:
    """What the command line says about cutting."""

    search: bool = False
    reduce: bool = False
    check: str | None = None
    check_timeout: float | None = None
    max_checks: int | None = None
    case: int = 0
    output_dir: str | None = None
    name: str | None = None
    resume: bool = False

    @property
    def wanted(self) -> bool:
        """Whether the package is to be cut; `UsageError` for options that do not go together."""
        from metal4conv.errors import UsageError

        if self.search and self.reduce:
            raise UsageError("--search and --reduce do not go together", hint="name one of them")
        for option, given in (("--name", self.name), ("--max-checks", self.max_checks)):
            if self.search and given:
                raise UsageError(f"{option} is for --reduce", where=f"{option} {given}")
        if self.search or self.reduce:
            return True
        for option, value in (
            ("--check", self.check),
            ("--check-timeout", self.check_timeout),
            ("--max-checks", self.max_checks),
            ("--case", self.case),
            ("--output-dir", self.output_dir),
            ("--name", self.name),
            ("--resume", self.resume),
        ):
            if value:
                raise UsageError(f"{option} needs --search or --reduce", where=option)
        return False


def cut(
    path: str,
    options: CuttingOptions,
    *,
    against: str | None,
    source_options: SourceOptions,
    golden: str | None,
    inputs_npz: str | None,
    given: GivenTolerance,
    function: str | None,
    say: Say,
) -> Report:
    """Searches or reduces, as the options say."""
    from metal4conv.debug.check import CommandCheck
    from metal4conv.debug.inputs import chosen_inputs
    from metal4conv.debug.reduction import Failure, reduce_package
    from metal4conv.debug.reference import Widened
    from metal4conv.debug.search import search
    from metal4conv.errors import UsageError
    from metal4conv.mil.package import read_package

    if options.reduce and options.output_dir is None:
        raise UsageError("--reduce writes files", hint="name a folder for them: -o DIR")
    package = read_package(path)
    folder = Path(options.output_dir or f"{package.path.resolve().stem}.search")
    check = None
    if options.check is not None:
        log = folder / "check.log" if options.search else None
        check = CommandCheck(options.check, options.check_timeout, log)
    elif options.check_timeout is not None:
        raise UsageError("--check-timeout needs --check", where="--check-timeout")
    inputs = chosen_inputs(
        package, function, golden=golden, inputs_npz=inputs_npz, case=options.case
    )
    reference: MakeReference = Widened
    if against is not None:
        reference = named_reference(against, package, source_options, function, say)
    more: dict[str, Any] = {  # Any: keyword arguments that both take
        "inputs": inputs,
        "reference": reference,
        "given": given,
        "function": function,
        "resume": options.resume,
        "say": say,
    }
    if options.search:
        with resumable(path, folder):
            return search(path, state=folder, check=check, **more)
    failure = None
    if check is not None:
        failure = Failure(
            lambda part, given: check.ask(part).verdict == "bad",
            f"`{options.check}` says that it is bad",
            check.words,
        )
    if options.max_checks is not None:
        more["most_checks"] = options.max_checks
    with resumable(path, folder):
        return reduce_package(path, output=folder, failure=failure, name=options.name, **more)


def named_reference(
    against: str,
    package: Package,
    source_options: SourceOptions,
    function: str | None,
    say: Say,
) -> MakeReference:
    """What `--against` names: another package of the same program, or the source."""
    from metal4conv.debug.debugging import is_package, open_beside
    from metal4conv.debug.origins import package_reference, source_reference

    say(f"reading {against}")
    if is_package(against):
        return package_reference(against, function)
    return source_reference(package, open_beside(package, against, source_options), function)


@contextmanager
def resumable(path: str, folder: Path) -> Iterator[None]:
    """Says how to go on when the command is interrupted."""
    try:
        yield
    except (KeyboardInterrupt, SystemExit):
        if any((folder / name).exists() for name in ("search.json", "reduce.json")):
            click.echo(f"to go on: the same command with --resume (state in {folder})", err=True)
        raise
