from __future__ import annotations

import click

from metal4conv.commands import output_options


@click.command()
@output_options
def command(**shown: bool) -> int:
    """Show what this machine can do, and what to install for the rest.

    \b
    Example:
      metal4conv doctor
    """
    from metal4conv import console
    from metal4conv.commands.rendering import show_doctor
    from metal4conv.machine import examine_machine

    return console.show(examine_machine(), show_doctor)
