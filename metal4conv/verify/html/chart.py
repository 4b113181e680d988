"""How the error grows along the graph: an SVG chart with a logarithmic scale."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Json = Mapping[str, Any]  # Any: a JSON object

WIDTH, HEIGHT = 1000, 300
LEFT, RIGHT, TOP, BOTTOM = 52, 12, 14, 30
LOWEST = -9
"""The lowest decade shown; smaller errors, and none, stand at the bottom."""

FEW = 300
"""Operations up to which each is a dot on the line."""

SERIES = (
    ("error", "running", "after all operations before it, too"),
    ("local_error", "alone", "alone, in float32, on the source's inputs"),
    ("local_error_declared", "declared", "alone, in the package's precision"),
)
"""Key in the report, class in the drawing, and meaning."""


@dataclass(frozen=True)
class Chart:
    """The drawing, and for pointing at it the middle and the row of each operation shown."""

    svg: str
    x: tuple[float, ...]
    rows: tuple[int, ...]
    series: tuple[tuple[str, str], ...]
    """Class and meaning of those that have figures."""


@dataclass(frozen=True)
class Scale:
    """Places in the drawing."""

    count: int
    low: int
    high: int

    def x(self, index: int) -> float:
        """The place of the operation with this index among those shown."""
        share = (index + 0.5) / self.count
        return round(LEFT + share * (WIDTH - LEFT - RIGHT), 1)

    def y(self, error: float) -> float:
        """The place of an error."""
        decade = math.log10(error) if error > 0 else -math.inf
        share = (min(max(decade, self.low), self.high) - self.low) / (self.high - self.low)
        return round(HEIGHT - BOTTOM - share * (HEIGHT - TOP - BOTTOM), 1)


def error_chart(operations: Sequence[Json], first: str | None) -> Chart | None:
    """The chart of the operations that were compared, in order; None without any."""
    rows = [
        number
        for number, row in enumerate(operations)
        if any(row[key] is not None for key, _, _ in SERIES) or row["nan"] or row["inf"]
    ]
    if not rows:
        return None
    shown = [operations[number] for number in rows]
    scale = Scale(len(shown), *decades(shown))
    known = [item for item in SERIES if any(row[item[0]] is not None for row in shown)]
    parts = [*grid(scale), *marks(shown, scale, first)]
    for key, name, _ in reversed(known):
        points = [(index, row[key]) for index, row in enumerate(shown) if row[key] is not None]
        if key == "error":
            parts.append(line(points, scale))
        if key != "error" or len(shown) <= FEW:
            parts.append(dots(points, scale, name if len(shown) <= FEW else f"{name} many"))
    broken = [(index, math.inf) for index, row in enumerate(shown) if row["nan"] or row["inf"]]
    if broken:
        parts.append(dots(broken, scale, "broken"))
    parts.append(f'<line class="cross" y1="{TOP}" y2="{HEIGHT - BOTTOM}" visibility="hidden"/>')
    svg = (
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" tabindex="0" '
        f'aria-label="Error of each operation, logarithmic">{"".join(parts)}</svg>'
    )
    places = tuple(scale.x(index) for index in range(len(shown)))
    return Chart(svg, places, tuple(rows), tuple((name, text) for _, name, text in known))


def decades(rows: Sequence[Json]) -> tuple[int, int]:
    """The powers of ten between which all errors lie, three apart at least.

    Where some have no error, there is room for them below the others.
    """
    errors = [row[key] for row in rows for key, _, _ in SERIES if row[key]]
    if not errors:
        return -6, 0
    has_none = any(row[key] == 0 for row in rows for key, _, _ in SERIES)
    low = max(math.floor(math.log10(min(errors))) - has_none, LOWEST)
    high = max(math.ceil(math.log10(max(errors))), low + 3)
    return low, high


def grid(scale: Scale) -> Iterator[str]:
    """Lines at powers of ten, and the numbers of operations below."""
    step = max(1, math.ceil((scale.high - scale.low) / 10))
    for decade in range(scale.low, scale.high + 1, step):
        y = scale.y(10.0**decade)
        yield f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y}" y2="{y}"/>'
        yield (
            f'<text x="{LEFT - 8}" y="{y + 4}" text-anchor="end">10'
            f'<tspan dy="-5" class="power">{decade}</tspan></text>'
        )
    every = tick_step(scale.count)
    for number in dict.fromkeys((1, *range(every, scale.count + 1, every))):
        x = scale.x(number - 1)
        yield f'<text x="{x}" y="{HEIGHT - 10}" text-anchor="middle">{number}</text>'


def tick_step(count: int) -> int:
    """The distance of about ten round numbers.

    >>> tick_step(7), tick_step(40), tick_step(2000)
    (1, 5, 200)
    """
    for exponent in range(9):
        for digit in (1, 2, 5):
            if count <= 10 * digit * 10**exponent:
                return int(digit * 10**exponent)
    return count


def marks(rows: Sequence[Json], scale: Scale, first: str | None) -> Iterator[str]:
    """Lines at operations where the error jumps, and at the first that differs."""
    for index, row in enumerate(rows):
        is_first = first is not None and row["name"] == first
        if row["jump"] or is_first:
            kind = "first" if is_first else "jump"
            x = scale.x(index)
            yield f'<line class="{kind}" x1="{x}" x2="{x}" y1="{TOP}" y2="{HEIGHT - BOTTOM}"/>'
        if is_first:
            anchor = "end" if x > WIDTH * 0.8 else "start"
            at = x - 6 if anchor == "end" else x + 6
            yield (
                f'<text class="first" x="{at}" y="{TOP + 9}" text-anchor="{anchor}">'
                "first to differ</text>"
            )


def line(points: Sequence[tuple[int, float]], scale: Scale) -> str:
    """The error of the running network as a line."""
    path = "L".join(f"{scale.x(index)} {scale.y(error)}" for index, error in points)
    return f'<path class="line" d="M{path}"/>' if points else ""


def dots(points: Sequence[tuple[int, float]], scale: Scale, name: str) -> str:
    """Dots, which are lines without length with round ends: one element, however many."""
    path = "".join(f"M{scale.x(index)} {scale.y(error)}h0" for index, error in points)
    return f'<path class="dots {name}" d="{path}"/>'
