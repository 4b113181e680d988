"""Which sizes the cases have: the smallest, the default and the largest, as far as a limit allows.

All dimensions vary together, on a path from their smallest sizes (position 0) over their defaults
(1) to their largest (2). An enumerated dimension gets further cases until each size has one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from metal4conv.mil.program import Dimension
from metal4conv.report import Finding

Sizes = dict[str, int]
BytesOf = Callable[[Mapping[str, int]], int]
"""Bytes that a case with these sizes takes in the file."""

POSITIONS = (("smallest", 0.0), ("default", 1.0), ("largest", 2.0))
STEPS = 1024
"""Positions that are tried on each half of the path."""
MIB = 2**20


def choose_sizes(
    dimensions: Mapping[str, Dimension], bytes_of: BytesOf, limit_bytes: int, count: int = 3
) -> tuple[list[Sizes], list[Finding]]:
    """The sizes of at least `count` cases, and what the limit took away.

    >>> sizes, _ = choose_sizes({"h": Dimension(8, 64, 16)}, lambda at: at["h"], 1000)
    >>> sizes
    [{'h': 8}, {'h': 16}, {'h': 64}]
    """
    findings = unbounded_findings(dimensions)
    smallest = max(bytes_of(sizes_at(dimensions, 0.0)), 1)
    if not dimensions or smallest * count > limit_bytes:
        fitting = max(1, min(count, limit_bytes // smallest))
        findings += fewer_findings(fitting, count, smallest, limit_bytes)
        return [sizes_at(dimensions, 0.0)] * fitting, findings
    chosen: list[Sizes] = []
    remaining = limit_bytes
    wanted = [*POSITIONS, *[POSITIONS[1]] * (count - len(POSITIONS))][:count]
    for number, (role, position) in enumerate(wanted, 1):
        budget = remaining - smallest * (count - number)
        sizes = sizes_at(dimensions, position)
        if bytes_of(sizes) > budget:
            share = budget if number == count else budget // 2
            asked, sizes = sizes, largest_fitting(dimensions, bytes_of, max(share, smallest))
            findings.append(capped_finding(role, asked, sizes, limit_bytes))
        remaining -= bytes_of(sizes)
        chosen.append(sizes)
    more, skipped = enumerated_sizes(dimensions, chosen, bytes_of, remaining)
    if skipped:
        findings.append(skipped_finding(skipped, limit_bytes))
    return chosen + more, findings


def sizes_at(dimensions: Mapping[str, Dimension], position: float) -> Sizes:
    """The sizes at a position of the path.

    >>> sizes_at({"h": Dimension(8, 64, 16, step=8), "w": Dimension(1, 4, 1, values=(1, 4))}, 1.5)
    {'h': 40, 'w': 1}
    """
    return {name: size_at(dimension, position) for name, dimension in dimensions.items()}


def size_at(dimension: Dimension, position: float) -> int:
    """The declared size at or below a position of the path."""
    low, middle, high = dimension.minimum, dimension.default, largest_size(dimension)
    if position <= 1:
        wanted = int(low + (middle - low) * position)
    else:
        wanted = int(middle + (high - middle) * (position - 1))
    if dimension.values:
        return max((value for value in dimension.values if value <= wanted), default=low)
    if wanted in (low, middle, high):
        return wanted
    return max(low, wanted // dimension.step * dimension.step)


def largest_size(dimension: Dimension) -> int:
    """The maximum; for an unbounded dimension twice its default.

    >>> largest_size(Dimension(8, None, 24, step=8))
    48
    """
    return 2 * dimension.default if dimension.maximum is None else dimension.maximum


def largest_fitting(
    dimensions: Mapping[str, Dimension], bytes_of: BytesOf, budget_bytes: int
) -> Sizes:
    """The last sizes on the path that take no more than `budget_bytes`; the first ones at least."""
    low, high = 0, 2 * STEPS
    while low < high:
        middle = (low + high + 1) // 2
        if bytes_of(sizes_at(dimensions, middle / STEPS)) <= budget_bytes:
            low = middle
        else:
            high = middle - 1
    return sizes_at(dimensions, low / STEPS)


def enumerated_sizes(
    dimensions: Mapping[str, Dimension],
    chosen: Sequence[Sizes],
    bytes_of: BytesOf,
    remaining_bytes: int,
) -> tuple[list[Sizes], list[Sizes]]:
    """Sizes for the values of enumerated dimensions that have no case yet, and those left out.

    Several enumerated dimensions take their i-th values together; the others have their defaults,
    or their smallest sizes where that would be too much.
    """
    rows = {name: dimension.values for name, dimension in dimensions.items() if dimension.values}
    more: list[Sizes] = []
    skipped: list[Sizes] = []
    for index in range(max(map(len, rows.values()), default=0)):
        values = {name: row[min(index, len(row) - 1)] for name, row in rows.items()}
        if all(values[name] in {sizes[name] for sizes in [*chosen, *more]} for name in values):
            continue
        options = [sizes_at(dimensions, position) | values for position in (1.0, 0.0)]
        sizes = next((sizes for sizes in options if bytes_of(sizes) <= remaining_bytes), None)
        if sizes is None:
            skipped.append(values)
            continue
        more.append(sizes)
        remaining_bytes -= bytes_of(sizes)
    return more, skipped


def unbounded_findings(dimensions: Mapping[str, Dimension]) -> list[Finding]:
    """Says which size stands for the largest of a dimension without a maximum."""
    return [
        Finding(
            "info",
            "golden-unbounded",
            f'dimension "{name}" has no maximum; the largest golden case has '
            f"{largest_size(entry)}, twice the default",
            where=name,
        )
        for name, entry in dimensions.items()
        if entry.maximum is None
    ]


def fewer_findings(fitting: int, count: int, case_bytes: int, limit_bytes: int) -> list[Finding]:
    """Says that not all cases of the smallest size fit, or not even one."""
    if fitting == count and case_bytes * count <= limit_bytes:
        return []
    above = case_bytes > limit_bytes
    kept = f"{fitting} of {count} golden cases {'is' if fitting == 1 else 'are'} kept"
    return [
        Finding(
            "warning" if above else "info",
            "golden-over-limit" if above else "golden-fewer-cases",
            f"{kept}: a case of the smallest size takes {case_bytes / MIB:.1f} MB, the limit is "
            f"{limit_bytes / MIB:.1f} MB",
            hint="raise --golden-limit for more",
        )
    ]


def capped_finding(role: str, asked: Sizes, given: Sizes, limit_bytes: int) -> Finding:
    """Says which sizes were made smaller, from what to what."""
    changed = [
        f"{name} {asked[name]} → {given[name]}" for name in asked if asked[name] != given[name]
    ]
    return Finding(
        "info",
        "golden-capped",
        f"the {role} golden case is smaller than declared, to stay below "
        f"{limit_bytes / MIB:.0f} MB: {', '.join(changed)}",
        where=", ".join(name for name in asked if asked[name] != given[name]),
        hint="raise --golden-limit to have it whole",
    )


def skipped_finding(skipped: Sequence[Sizes], limit_bytes: int) -> Finding:
    """Says which enumerated sizes have no case."""
    listed = "; ".join(sizes_text(sizes) for sizes in skipped)
    return Finding(
        "info",
        "golden-skipped",
        f"no golden case for {listed}, to stay below {limit_bytes / MIB:.0f} MB",
        hint="raise --golden-limit to have them",
    )


def sizes_text(sizes: Mapping[str, int]) -> str:
    """Sizes in words.

    >>> sizes_text({"h": 8, "w": 16})
    'h=8, w=16'
    """
    return ", ".join(f"{name}={size}" for name, size in sizes.items())
