"""The command group: imports a command when it is called, and turns errors into exit codes."""

from __future__ import annotations

import errno
import importlib
import io
import os
import signal
import sys
from typing import Any, NoReturn

import click

from metal4conv import __version__

COMMANDS = {
    "convert": "Make a Core ML package, its layout manifest and golden vectors from a model.",
    "reshape": "Give a package other sizes: fixed, enumerated, or a range.",
    "inspect": "Show what is in a package or model: inputs, outputs, operations, weights.",
    "layout": "Show how to create and bind the tensors of a package, or of a shader.",
    "package": "Make a Metal package, which an app loads as a library, of a Core ML package.",
    "verify": "Prove that a package gives what its source model gave.",
    "run": "Run a package on this machine: its outputs, and with --trace every operation's.",
    "debug": "Find the operation that makes a package differ from its source, and why.",
    "view": "Show what is in a tensor: figures, histogram, picture, numbers.",
    "frame": "Check the passes of a frame: what must wait for what, and missing barriers.",
    "shader": "Write a small network as Metal source that runs inside a shader.",
    "doctor": "Show what this machine can do, and what to install for the rest.",
}
"""Commands that work, with the first line of their help, so that `--help` imports none of them."""


class LazyGroup(click.Group):
    """A group whose commands are imported when they are used."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        command = importlib.import_module(f"metal4conv.commands.{cmd_name}").command
        assert isinstance(command, click.Command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] not in COMMANDS and not args[0].startswith("-"):
            from metal4conv.errors import did_you_mean

            ctx.fail(f'there is no command "{args[0]}": {did_you_mean(args[0], COMMANDS)}')
        return super().resolve_command(ctx, args)


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="metal4conv")
def cli() -> None:
    """Neural networks for Metal 4: convert, lay out, verify on any machine."""


UNREADABLE = (errno.EACCES, errno.EPERM, errno.ENAMETOOLONG)
"""What the system may have against a file that the user named, wherever it is opened."""


def main(args: list[str] | None = None) -> NoReturn:
    """Runs the command line and exits with its code."""
    sys.exit(run(args))


def run(args: list[str] | None = None) -> int:
    """The exit code of a command line; errors are printed, a bug keeps its traceback."""
    # an interrupt must also reach long calls into native code of a framework
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, terminate)
    spell_anything()
    try:
        words = sys.argv[1:] if args is None else args
        result: Any = cli.main(words, standalone_mode=False, obj=["metal4conv", *words])
        code = result if isinstance(result, int) else 0
        sys.stdout.flush()
    except BrokenPipeError:
        # the reader of our output went away; Python would complain once more at exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except (KeyboardInterrupt, click.Abort):
        click.echo("interrupted", err=True)
        return 130
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except Exception as error:
        return report_error(error)
    return code


def spell_anything() -> None:
    """Lets a terminal that knows ASCII alone show `?` where it cannot spell a sign."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")


def terminate(number: int, frame: object) -> NoReturn:
    """Ends the program as a signal would, but cleans up on the way out."""
    raise SystemExit(128 + number)


def report_error(error: Exception) -> int:
    """Prints an error; one that is not ours is a bug, and shows where it came from."""
    from metal4conv.errors import Metal4ConvError

    if isinstance(error, Metal4ConvError) and error.exit_code != 70:
        click.echo(f"{click.style('error:', fg='red', bold=True)} {error}", err=True)
        return error.exit_code
    if isinstance(error, OSError) and error.errno in UNREADABLE and error.filename is not None:
        label = click.style("error:", fg="red", bold=True)
        click.echo(f"{label} cannot open {error.filename}: {error.strerror}", err=True)
        return 4
    import traceback

    traceback.print_exception(error)
    click.echo(
        "error: this is a bug in metal4conv; please report it with the lines above", err=True
    )
    return 70
