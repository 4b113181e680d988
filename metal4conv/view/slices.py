"""Parts of a tensor, in numpy's notation: `0,:,10:20,-1`."""

from __future__ import annotations

import re
from collections.abc import Sequence

from metal4conv.errors import UsageError

Index = int | slice

WHERE = "--slice"
RANGE = re.compile(r"(-?\d+)?:(-?\d+)?(?::(-?\d+)?)?")


def parse_slice(
    text: str, shape: Sequence[int], *, innermost_first: bool = False
) -> tuple[Index, ...]:
    """An index for each dimension of a tensor; dimensions that are not named are taken whole.

    With `innermost_first` the text has Metal's order of dimensions.

    >>> parse_slice("0,...,1", (2, 4, 4, 3))
    (0, slice(None, None, None), slice(None, None, None), 1)
    >>> parse_slice("2:8:2", (9, 9), innermost_first=True)
    (slice(None, None, None), slice(2, 8, 2))
    """
    words = [word.strip() for word in text.strip().removeprefix("[").removesuffix("]").split(",")]
    if words[-1] == "" and len(words) > 1:  # as in numpy's `0,`
        words.pop()
    words = filled(words, len(shape), text)
    if innermost_first:
        words.reverse()
    return tuple(
        parse_index(word, size, number, text, len(shape) if innermost_first else None)
        for number, (word, size) in enumerate(zip(words, shape, strict=True))
    )


def filled(words: list[str], rank: int, text: str) -> list[str]:
    """One word for each dimension: `...`, or the end, stands for all that are not named."""
    if words.count("...") > 1:
        raise UsageError(f'"{text}" has more than one "..."', where=WHERE)
    named = len(words) - words.count("...")
    if named > rank:
        raise UsageError(
            f'"{text}" names {named} dimensions, the tensor has {rank}',
            where=WHERE,
            hint=f"write at most {rank}, such as {','.join([':'] * rank) or '...'}",
        )
    position = words.index("...") if "..." in words else len(words)
    return [*words[:position], *[":"] * (rank - named), *words[position + 1 :]]


def parse_index(word: str, size: int, number: int, text: str, rank: int | None) -> Index:
    """One dimension's index, checked; with a `rank` dimensions are counted from the innermost."""
    position = number if rank is None else rank - 1 - number
    if re.fullmatch(r"-?\d+", word):
        index = int(word)
        if not -size <= index < size:
            raise UsageError(
                f'index {index} of "{text}" is out of range: dimension {position} has size {size}',
                where=WHERE,
            )
        return index
    found = RANGE.fullmatch(word)
    if not found:
        raise UsageError(
            f'"{word}" of "{text}" cannot be read',
            where=WHERE,
            hint="write numbers and ranges, such as 0,:,10:20,-1; ... stands for the rest",
        )
    start, stop, step = (None if part is None else int(part) for part in found.groups())
    if step == 0:
        raise UsageError(f'"{word}" of "{text}" has a step of 0', where=WHERE)
    picked = slice(start, stop, step)
    if not len(range(size)[picked]):
        raise UsageError(
            f'"{word}" of "{text}" picks nothing of dimension {position}, which has size {size}',
            where=WHERE,
        )
    return picked


def slice_text(index: Sequence[Index], *, innermost_first: bool = False) -> str:
    """An index as it is written.

    >>> slice_text((0, slice(None), slice(1, None, 2)))
    '0,:,1::2'
    """
    words = [str(item) if isinstance(item, int) else range_text(item) for item in index]
    return ",".join(reversed(words) if innermost_first else words)


def range_text(item: slice) -> str:
    """One range as it is written."""
    start, stop, step = (
        "" if end is None else str(end) for end in (item.start, item.stop, item.step)
    )
    return f"{start}:{stop}:{step}" if step else f"{start}:{stop}"
