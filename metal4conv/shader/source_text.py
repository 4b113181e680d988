"""Lines of Metal: breaking them, comments, functions and structures."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

COLUMNS = 100
INDENT = "    "


def shown(text: str) -> str:
    """A name of the model for a comment: on one line, which no backslash makes longer.

    >>> shown("linear\\n0"), shown("path\\\\")
    ('linear 0', 'path/')
    """
    return "".join(letter if letter.isprintable() else " " for letter in text.replace("\\", "/"))


def comment(text: str) -> list[str]:
    """A comment that fits in its lines."""
    return textwrap.wrap(text, COLUMNS - 8, initial_indent="// ", subsequent_indent="//   ")


def broken(statement: str, indent: str = "", room: int = COLUMNS - len(INDENT)) -> list[str]:
    """A statement in as many lines as it takes: its arguments, or the branches of a choice, begin
    new ones. `room` is for what the statement and its indentation have.

    >>> broken("first(second, third);"), broken("first(second, third);", room=20)
    (['first(second, third);'], ['first(', '    second, third);'])
    """
    if len(indent + statement) <= room:
        return [indent + statement]
    further = indent + INDENT
    opening = statement.find("(")
    if statement.endswith(");") and closing(statement, opening) == len(statement) - 2:
        head, rest = statement[: opening + 1], statement[opening + 1 :]
        if len(indent + head) <= room and len(further + rest) <= room:
            return [indent + head, further + rest]
    for mark in (" ? ", " = "):
        if mark in statement:
            place = statement.index(mark) + (1 if mark == " ? " else 3)
            head, rest = statement[:place].rstrip(), statement[place:]
            if len(indent + head) <= room and len(further + rest) <= room:
                return [indent + head, further + rest]
    return textwrap.wrap(
        statement,
        room,
        initial_indent=indent,
        subsequent_indent=further,
        break_long_words=False,
        break_on_hyphens=False,
    )


def closing(text: str, opening: int) -> int:
    """Where the parenthesis ends that opens at a place; -1 where it does not.

    >>> closing("f(g(x), y) + 1", 1), closing("f", -1)
    (9, -1)
    """
    depth = 0
    for place in range(max(opening, 0), len(text)):
        depth += {"(": 1, ")": -1}.get(text[place], 0)
        if depth == 0 and text[place] == ")":
            return place
    return -1


def wrapped(text: str, indent: str = "    ") -> list[str]:
    """A long text in lines."""
    return textwrap.wrap(
        text, COLUMNS, initial_indent=indent, subsequent_indent=indent, break_long_words=False
    )


def fitted(text: str) -> str:
    """The text with lines that a long name made too long broken into several."""
    lines: list[str] = []
    for line in text.splitlines():
        indent = line[: len(line) - len(line.lstrip())]
        if len(line) <= COLUMNS or line.startswith("#"):
            lines.append(line)
        elif line.lstrip().startswith("// "):
            lines += wrapped(line.lstrip().removeprefix("// "), f"{indent}// ")
        else:
            lines += broken(line.lstrip(), indent, COLUMNS)
    return "\n".join([*lines, ""])


def structure(name: str, lines: Sequence[str]) -> str:
    """A structure with its members."""
    return "\n".join([f"struct {name} {{", *(f"{INDENT}{line};" for line in lines), "};", ""])


def function(head: str, parameters: Sequence[str], body: Sequence[str]) -> str:
    """A function's text, with its parameters in one line or each in its own."""
    one_line = f"{head}({', '.join(parameters)})"
    if len(one_line) <= COLUMNS and "#" not in one_line:
        lines = [one_line]
    elif len(f"{INDENT}{', '.join(parameters)})") <= COLUMNS and "#" not in one_line:
        lines = [f"{head}(", f"{INDENT}{', '.join(parameters)})"]
    else:
        last = len(parameters) - 1
        rows = [
            parameter
            if parameter.startswith("#")
            else f"{INDENT}{parameter}{')' if place == last else ','}"
            for place, parameter in enumerate(parameters)
        ]
        lines = [f"{head}(", *rows]
    return "\n".join([*lines, "{", *(indented(line) for line in body), "}", ""])


def indented(line: str) -> str:
    """A line of a body; empty ones and those of the preprocessor begin where they are."""
    return f"{INDENT}{line}" if line and not line.startswith("#") else line
