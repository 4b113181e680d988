"""Ranges of named dimensions: those that `--dim` gives, within those that the model allows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from metal4conv.errors import UsageError, did_you_mean
from metal4conv.frontends.spec import named_sizes
from metal4conv.mil.program import Dimension, Shape


@dataclass(frozen=True)
class Limit:
    """What the model allows for a size at one place; `size` is its name or the chosen number."""

    size: int | str
    allowed: Dimension
    place: str


def resolve_dimensions(
    shapes: Mapping[str, Shape], limits: Sequence[Limit], given: Mapping[str, Dimension | int]
) -> dict[str, Dimension | int]:
    """A range or a number for every name in `shapes` (by input), in order of first use.

    >>> limit = Limit("h", Dimension(2, 64, 8), 'input "x", axis 2')
    >>> resolve_dimensions({"x": (1, 3, "h", 8)}, [limit], {"h": 16})
    {'h': 16}
    """
    names = named_sizes(shapes.values())
    check_names(names, given)
    for limit in limits:
        wanted = given.get(limit.size) if isinstance(limit.size, str) else limit.size
        if wanted is not None:
            check_within(limit, wanted)
    declared = {name: common_limit(name, limits) for name in names if name not in given}
    missing = [name for name, found in declared.items() if found is None]
    if missing:
        raise missing_ranges(missing, shapes)
    known = {name: found for name, found in declared.items() if found is not None}
    return {name: given[name] if name in given else known[name] for name in names}


def check_names(names: Sequence[str], given: Mapping[str, Dimension | int]) -> None:
    """`UsageError` when `--dim` names a dimension that no input has."""
    for name in given:
        if name not in names:
            raise UsageError(
                f'no input has a dimension "{name}"',
                where="--dim",
                hint=did_you_mean(name, names) if names else "all sizes of the inputs are fixed",
            )


def check_within(limit: Limit, wanted: Dimension | int) -> None:
    """`UsageError` when a size or range is not within what the model allows."""
    allowed = limit.allowed
    fits = allowed.allows(wanted) if isinstance(wanted, int) else contains(allowed, wanted)
    if fits:
        return
    name = f'dimension "{limit.size}"' if isinstance(limit.size, str) else "the size"
    raise UsageError(
        f"{name}: the model allows {allowed_text(allowed)}, asked for was {range_text(wanted)}",
        where=limit.place,
    )


def contains(outer: Dimension, inner: Dimension) -> bool:
    """Whether every size of `inner` is one of `outer`.

    >>> contains(Dimension(8, 64, 8, step=8), Dimension(8, 64, 8, step=16))
    True
    >>> contains(Dimension(2, 64, 8), Dimension(2, None, 8))
    False
    """
    if inner.values:
        return all(map(outer.allows, inner.values))
    if inner.minimum == inner.maximum:
        return outer.allows(inner.minimum)
    if outer.values:
        sizes = range(inner.minimum, (inner.maximum or 0) + 1, inner.step)
        return inner.maximum is not None and set(sizes) <= set(outer.values)
    below = outer.maximum is None or (inner.maximum is not None and inner.maximum <= outer.maximum)
    return inner.minimum >= outer.minimum and below and inner.step % outer.step == 0


def allowed_text(allowed: Dimension) -> str:
    """A limit in words.

    >>> allowed_text(Dimension(64, 64, 64)), allowed_text(Dimension(2, 64, 8))
    ('only 64', '2..64')
    """
    if allowed.minimum == allowed.maximum:
        return f"only {allowed.minimum}"
    return range_text(allowed)


def range_text(wanted: Dimension | int) -> str:
    """A range as `--dim` takes it, without its default.

    >>> range_text(Dimension(8, 64, 16, step=8)), range_text(7)
    ('8..64/8', '7')
    """
    return str(wanted).partition("@")[0]


def common_limit(name: str, limits: Sequence[Limit]) -> Dimension | None:
    """The model's own range for a name that `--dim` does not give; None when it has none."""
    found = [limit for limit in limits if limit.size == name]
    if not found:
        return None
    first = found[0].allowed
    if first.minimum == first.maximum:
        raise UsageError(
            f"the model allows only {first.minimum} here, not a dynamic size",
            where=found[0].place,
            hint=f'write {first.minimum} instead of "{name}" in -i',
        )
    if any(limit.allowed != first for limit in found):
        raise UsageError(
            f'dimension "{name}" joins sizes for which the model has different ranges',
            where=[f"{limit.place}: {range_text(limit.allowed)}" for limit in found],
            hint=f"say the range: --dim {name}=MIN..MAX",
        )
    return first


def missing_ranges(names: Sequence[str], shapes: Mapping[str, Shape]) -> UsageError:
    """Says which dimensions have no range, where they are, and what to write."""
    places = [
        f'input "{name}", axis {axis}: {size}'
        for name, shape in shapes.items()
        for axis, size in enumerate(shape)
        if size in names
    ]
    ranges = " ".join(f"--dim {name}=1..512" for name in names)
    numbers = {
        name: tuple(128 if size in names else size for size in shape)
        for name, shape in shapes.items()
        if set(names) & set(shape)
    }
    fixed = [
        f"-i {name}:{separator(shape).join(map(str, shape))}" for name, shape in numbers.items()
    ]
    one = len(names) == 1
    subject = "a dynamic dimension has" if one else f"{len(names)} dynamic dimensions have"
    return UsageError(
        f"{subject} no range",
        where=places,
        hint=f"say the sizes that you need: {ranges}, or fixed ones: {' '.join(fixed)}",
    )


def separator(shape: Shape) -> str:
    """What `-i` puts between sizes.

    >>> separator((1, "h")), separator((1, "x_1"))
    ('x', ',')
    """
    return "," if any("x" in str(size) for size in shape) else "x"
