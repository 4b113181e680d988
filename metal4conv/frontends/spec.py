"""What the user says of inputs and sizes: `-i x:1x3xhxw:float16` and `--dim h=64..2160/8@720`."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass

from metal4conv.errors import UsageError
from metal4conv.mil.program import Dimension, Shape

INPUT_DTYPES = ("float32", "float16", "int32", "int64", "int16", "int8", "uint8", "bool", "float64")
SIZE_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]*")
LARGEST_UNNAMED = 2**31 - 1


@dataclass(frozen=True)
class InputSpec:
    """An input as `-i` names it; what was left out is None.

    `value_range` bounds the golden inputs that are drawn for it, both ends included.
    """

    name: str
    shape: Shape | None = None
    dtype: str | None = None
    value_range: tuple[float, float] | None = None


def parse_input(text: str) -> InputSpec:
    """An `-i` argument: `name[:shape[:dtype[:low..high]]]`; an empty part is left out.

    Sizes are separated by `x`, or by commas where a dimension's name contains an x.

    >>> parse_input("color:1x3xhxw:float16").shape
    (1, 3, 'h', 'w')
    >>> parse_input("ids:1,tokens:int32:0..30521").value_range
    (0.0, 30521.0)
    """
    name, *parts = text.split(":")
    if not name or len(parts) > 3:
        raise UsageError(
            f'input "{text}" cannot be read',
            where="--input",
            hint="write name:shape:dtype:low..high, such as color:1x3xhxw:float16",
        )
    shape_text, dtype, range_text = (*parts, "", "", "")[:3]
    if dtype and dtype not in INPUT_DTYPES:
        raise UsageError(
            f'input "{name}" has dtype "{dtype}"',
            where="--input",
            hint=f"one of: {', '.join(INPUT_DTYPES)}",
        )
    return InputSpec(
        name,
        parse_shape(shape_text, name) if shape_text else None,
        dtype or None,
        parse_value_range(range_text, name) if range_text else None,
    )


def parse_shape(text: str, name: str) -> Shape:
    """A shape as `-i` writes it; `scalar` is the empty one.

    >>> parse_shape("1x3xhxw", "color")
    (1, 3, 'h', 'w')
    """
    if text == "scalar":
        return ()
    sizes: list[int | str] = []
    for part in text.split("," if "," in text else "x"):
        if part.isdecimal() and int(part) > 0:
            sizes.append(int(part))
        elif SIZE_NAME.fullmatch(part):
            sizes.append(part)
        else:
            raise UsageError(
                f'input "{name}" has shape "{text}", in which "{part}" is no size',
                where="--input",
                hint="sizes are numbers above 0 or names of dynamic dimensions: 1x3xhxw",
            )
    return tuple(sizes)


def parse_value_range(text: str, name: str) -> tuple[float, float]:
    """`low..high`, both ends included.

    >>> parse_value_range("-1..1", "normals")
    (-1.0, 1.0)
    """
    low_text, dots, high_text = text.partition("..")
    try:
        low, high = float(low_text), float(high_text)
    except ValueError:
        dots = ""
    if not dots or not -math.inf < low <= high < math.inf:  # NaN fits nowhere
        raise UsageError(
            f'input "{name}" has value range "{text}"', where="--input", hint="write it as 0..1"
        )
    return low, high


def parse_dimension(text: str) -> tuple[str, Dimension | int]:
    """A `--dim` argument: a range, a range with default and step, a list, or a plain number.

    >>> parse_dimension("h=64..2160/8@720")
    ('h', Dimension(minimum=64, maximum=2160, default=720, step=8, values=()))
    >>> parse_dimension("h=360|720")[1].values
    (360, 720)
    >>> parse_dimension("h=720")
    ('h', 720)
    """
    name, equals, sizes = text.partition("=")
    if not equals or not SIZE_NAME.fullmatch(name):
        raise UsageError(
            f'dimension "{text}" cannot be read',
            where="--dim",
            hint="write name=64..2160, name=64..2160/8@720, name=360|720|1080 or name=720",
        )
    body, at, default_text = sizes.partition("@")
    default = parse_size(default_text, name, "default") if at else None
    if ".." in body:
        return name, parse_range(name, body, default)
    if "|" in body:
        values = tuple(sorted({parse_size(part, name, "size") for part in body.split("|")}))
        if default is not None and default not in values:
            raise UsageError(
                f'dimension "{name}" has default {default}, which is not one of its sizes '
                f"{', '.join(map(str, values))}",
                where="--dim",
            )
        chosen = default if default is not None else values[0]
        return name, Dimension(values[0], values[-1], chosen, values=values)
    size = parse_size(body, name, "size")
    if default not in (None, size):
        raise UsageError(
            f'dimension "{name}" is always {size} and cannot have default {default}',
            where="--dim",
            hint=f"write {name}={size}, or a range",
        )
    return name, size


def parse_range(name: str, body: str, default: int | None) -> Dimension:
    """`low..high` or `low..high/step`; without a high end the range is unbounded."""
    bounds, slash, step_text = body.partition("/")
    low_text, _, high_text = bounds.partition("..")
    low = parse_size(low_text, name, "minimum")
    high = parse_size(high_text, name, "maximum") if high_text else None
    step = parse_size(step_text, name, "step") if slash else 1
    if high is not None and low > high:
        raise UsageError(
            f'dimension "{name}" has minimum {low} above its maximum {high}',
            where="--dim",
            hint=f"did you mean {name}={high}..{low}?",
        )
    for label, size in (("minimum", low), ("maximum", high), ("default", default)):
        if size is not None and size % step:
            below, above = size // step * step, -(-size // step) * step
            raise UsageError(
                f'dimension "{name}" has {label} {size}, which is no multiple of its step {step}',
                where="--dim",
                hint=f"the next multiples are {below} and {above}"
                if below
                else f"the next multiple is {above}",
            )
    chosen = low if default is None else default
    if chosen < low or (high is not None and chosen > high):
        raise UsageError(
            f'dimension "{name}" has default {chosen} outside its range {low}..{high or ""}',
            where="--dim",
        )
    return Dimension(low, high, chosen, step)


def parse_size(text: str, name: str, role: str) -> int:
    """A size above 0; an error names the dimension and what the number was meant to be."""
    if text.isdecimal() and 0 < int(text) <= LARGEST_UNNAMED:
        return int(text)
    raise UsageError(
        f'dimension "{name}" has {role} "{text}": expected a whole number above 0', where="--dim"
    )


def named_sizes(shapes: Iterable[Shape]) -> list[str]:
    """The names of dynamic dimensions in order of their first use.

    >>> named_sizes([(1, "h", "w"), ("w", 3)])
    ['h', 'w']
    """
    return list(dict.fromkeys(size for shape in shapes for size in shape if isinstance(size, str)))
