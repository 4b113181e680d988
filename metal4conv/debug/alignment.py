"""Which values of a package correspond to which of the source that the user names.

`convert` wrote down the values of the source that it read. The one that the user compares with may
be another version of it, in which nodes have other numbers; then the two lists are aligned by
operator and module, as `diff` aligns lines.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from difflib import SequenceMatcher

from metal4conv.frontends.names import clean_name
from metal4conv.frontends.provenance import name_before_cast
from metal4conv.mil.correspondence import Correspondence, SourceValue
from metal4conv.mil.program import Function


def corresponding_values(
    function: Function, written: Correspondence | None, sources: Sequence[SourceValue]
) -> dict[str, SourceValue]:
    """The source's values by the names of the package's; without a record, by equal names."""
    if written is None:
        return values_of_equal_name(function, sources)
    aligned = align(written.sources, sources)
    return {value: aligned[name] for value, name in written.values.items() if name in aligned}


def values_of_equal_name(
    function: Function, sources: Sequence[SourceValue]
) -> dict[str, SourceValue]:
    """The source's values whose name, as converters change it, is that of the package's value."""
    known = {clean_name(row.name): row for row in sources}
    found = {}
    for operation in function.block.operations:
        for value in operation.outputs:
            row = known.get(value.name) or known.get(name_before_cast(value.name))
            if row is not None and operation.type != "const":
                found[value.name] = row
    return found


def align(old: Sequence[SourceValue], new: Sequence[SourceValue]) -> Mapping[str, SourceValue]:
    """The values of `new` by the names of those of `old` that stand in the same place.

    Where operators were exchanged, as many as before, they are taken in their order; where their
    number has changed, the last ones stand for each other: what follows takes them.

    >>> old = [SourceValue("a", "Mul"), SourceValue("b", "Relu"), SourceValue("c", "Mul")]
    >>> new = [SourceValue("x", "Pow"), SourceValue("y", "Relu"), SourceValue("z", "Mul")]
    >>> [row.name for row in align(old, new).values()]
    ['x', 'y', 'z']
    """
    return dict(aligned_pairs(old, new))


def aligned_pairs(
    old: Sequence[SourceValue], new: Sequence[SourceValue]
) -> Iterator[tuple[str, SourceValue]]:
    """What `align` gives, pair by pair."""
    keys = [[(row.operator, row.module) for row in rows] for rows in (old, new)]
    matcher = SequenceMatcher(None, keys[0], keys[1], autojunk=False)
    for kind, start, end, other_start, other_end in matcher.get_opcodes():
        rows, others = old[start:end], new[other_start:other_end]
        if len(rows) != len(others):
            rows, others = rows[-1:], others[-1:]
        if kind in ("equal", "replace"):
            yield from ((row.name, other) for row, other in zip(rows, others, strict=True))
