"""Sizes of a source's inputs: what the model declares, joined with what `-i` and `--dim` say."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from metal4conv.errors import UsageError, did_you_mean
from metal4conv.frontends.ranges import Limit, resolve_dimensions
from metal4conv.frontends.source import SourceInput, SourceOptions
from metal4conv.frontends.spec import InputSpec
from metal4conv.mil.program import Dimension, Shape, TensorType
from metal4conv.report import Finding

BATCH = "batch"
"""`--dim batch=1..8` names the leading dynamic dimension of all inputs at once."""


@dataclass(frozen=True)
class DeclaredInput:
    """An input as the model declares it.

    A size is a number, the name of a dynamic dimension that the model knows (its range stands in
    `dimensions`), or None when it is dynamic without a name. A shape or dtype of None is unknown.
    """

    name: str
    dtype: str | None
    shape: tuple[int | str | None, ...] | None
    dimensions: Mapping[str, Dimension] = field(default_factory=dict)


Resolved = tuple[tuple[SourceInput, ...], dict[str, Dimension], tuple[Finding, ...]]


def resolve_inputs(
    declared: Sequence[DeclaredInput], options: SourceOptions, *, fix_batch: bool
) -> Resolved:
    """The inputs with every size a number or a named dimension, and the dimensions' ranges.

    A size that only the user knows takes its name from `-i`, else it is `{input}_{axis}`. With
    `fix_batch` a leading dynamic size without a name becomes 1, unless the user says otherwise;
    a finding tells. The dtype stays the model's: `-i x:1x3:float16` speaks of the package.

    >>> from metal4conv.frontends.spec import parse_dimension, parse_input
    >>> image = DeclaredInput("image", "float32", (None, None, None, 3))
    >>> options = SourceOptions((parse_input("image:1xhxwx3"),), dict(
    ...     map(parse_dimension, ["h=8..64", "w=32"])))
    >>> inputs, dimensions, _ = resolve_inputs([image], options, fix_batch=True)
    >>> str(inputs[0].type), str(dimensions["h"])
    ('float32[1, h, 32, 3]', '8..64@8')
    """
    specs = specs_by_name(declared, options)
    dtypes = [joined_dtype(item, specs.get(item.name)) for item in declared]
    joined = [join_shape(item, specs.get(item.name)) for item in declared]
    named, findings = name_sizes(declared, joined, options, fix_batch=fix_batch)
    renamed = renamed_dimensions(declared, named)
    shapes = [apply_names(shape, renamed) for shape in named]
    uses = {item.name: shape for item, shape in zip(declared, shapes, strict=True)}
    limits = declared_limits(declared, named, renamed)
    sizes = resolve_dimensions(uses, limits, options.dimensions)
    inputs = tuple(
        SourceInput(
            item.name,
            TensorType(dtype, with_numbers(uses[item.name], sizes)),
            specs[item.name].value_range if item.name in specs else None,
        )
        for item, dtype in zip(declared, dtypes, strict=True)
    )
    dimensions = {name: size for name, size in sizes.items() if isinstance(size, Dimension)}
    return inputs, dimensions, findings


def specs_by_name(
    declared: Sequence[DeclaredInput], options: SourceOptions
) -> dict[str, InputSpec]:
    """The `-i` arguments by input; an unknown input, or one given twice, is an error."""
    names = [item.name for item in declared]
    specs: dict[str, InputSpec] = {}
    for spec in options.inputs:
        if spec.name not in names:
            raise UsageError(
                f'the model has no input "{spec.name}"',
                where="--input",
                hint=did_you_mean(spec.name, names),
            )
        if spec.name in specs:
            raise UsageError(f'input "{spec.name}" is given twice', where="--input")
        specs[spec.name] = spec
    return specs


INTEGERS = (
    *("int2", "uint2", "int4", "uint4"),
    *("int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64"),
)
FLOATS = ("float16", "bfloat16", "float32", "float64")


def joined_dtype(item: DeclaredInput, spec: InputSpec | None) -> str:
    """The model's dtype; the user's where the model does not say, float32 where nobody does.

    >>> joined_dtype(DeclaredInput("x", "float32", (1,)), InputSpec("x", None, "float16"))
    'float32'
    """
    wanted = spec.dtype if spec else None
    if item.dtype is None or wanted is None:
        return item.dtype or wanted or "float32"
    for family in (FLOATS, INTEGERS, ("bool", "int32")):
        if item.dtype in family and wanted in family:
            return item.dtype
    raise UsageError(
        f'input "{item.name}" is {item.dtype} in the model, -i says {wanted}', where="--input"
    )


JoinedShape = tuple[tuple[int | str | None, int | str | None], ...]
"""Per axis: the model's size, and the user's, None where one does not say."""


def join_shape(item: DeclaredInput, spec: InputSpec | None) -> JoinedShape:
    """The model's and the user's sizes side by side; contradictions are errors."""
    given = spec.shape if spec else None
    if item.shape is None and given is None:
        raise UsageError(
            f'the model does not say the shape of its input "{item.name}"',
            hint=f"say it: -i {item.name}:1x3xhxw --dim h=64..512 --dim w=64..512 "
            f"(a letter is a dynamic size), or -i {item.name}:1x3x224x224",
        )
    found: tuple[int | str | None, ...] = (None,) * len(given or ())
    found = item.shape if item.shape is not None else found
    wanted: tuple[int | str | None, ...] = given if given is not None else (None,) * len(found)
    fits = len(found) == len(wanted) and all(
        not isinstance(size, int) or isinstance(new, str) or new in (None, size)
        for size, new in zip(found, wanted, strict=True)
    )
    if not fits:
        raise UsageError(
            f'input "{item.name}": expected {shape_text(found)}, -i says {shape_text(wanted)}',
            where="--input",
            hint="? stands for a size that may be chosen" if None in found else None,
        )
    return tuple(zip(found, wanted, strict=True))


def shape_text(shape: Sequence[int | str | None]) -> str:
    """A shape for a message.

    >>> shape_text((None, "h", 3)), shape_text(())
    ('?xhx3', 'scalar')
    """
    return "x".join("?" if size is None else str(size) for size in shape) or "scalar"


def name_sizes(
    declared: Sequence[DeclaredInput],
    joined: Sequence[JoinedShape],
    options: SourceOptions,
    *,
    fix_batch: bool,
) -> tuple[list[JoinedShape], tuple[Finding, ...]]:
    """Gives the sizes that neither side names a name or, for a batch, the number 1."""
    leading = [bool(shape) and shape[0] == (None, None) for shape in joined]
    # a lone [None] is a sequence, not a batch
    batches = [shape for shape, is_open in zip(joined, leading, strict=True) if is_open]
    fix_batch = fix_batch and any(len(shape) > 1 for shape in batches)
    named = []
    fixed = []
    for item, shape, is_open in zip(declared, joined, leading, strict=True):
        sizes = [
            (size, f"{identifier(item.name)}_{axis}" if size is None and new is None else new)
            for axis, (size, new) in enumerate(shape)
        ]
        if fix_batch and is_open and sizes[0][1] not in options.dimensions:
            sizes[0] = (None, BATCH if BATCH in options.dimensions else 1)
            fixed += [item.name] if sizes[0][1] == 1 else []
        named.append(tuple(sizes))
    return named, batch_findings(fixed)


def batch_findings(names: Sequence[str]) -> tuple[Finding, ...]:
    """Says for which inputs the dynamic batch became 1."""
    if not names:
        return ()
    listed = ", ".join(names)
    return (
        Finding(
            "info",
            "batch-fixed-to-one",
            f"the model takes batches of any size; the package takes 1 ({listed})",
            where=listed,
            hint=f"for another size: --dim {BATCH}=8, for a dynamic one: --dim {BATCH}=1..8",
        ),
    )


def identifier(name: str) -> str:
    """A name that `--dim` takes.

    >>> identifier("input.1"), identifier("2d")
    ('input_1', 'd_2d')
    """
    cleaned = re.sub(r"[^A-Za-z0-9_]", "_", name)
    return cleaned if cleaned[:1].isalpha() else f"d_{cleaned}"


def renamed_dimensions(
    declared: Sequence[DeclaredInput], named: Sequence[JoinedShape]
) -> dict[str, int | str]:
    """What the user calls the model's own dimensions, or the number they shall have."""
    renamed: dict[str, int | str] = {}
    for item, shape in zip(declared, named, strict=True):
        for size, new in shape:
            if not isinstance(size, str) or new is None:
                continue
            if renamed.setdefault(size, new) != new:
                raise UsageError(
                    f'input "{item.name}": the model\'s dimension "{size}" is both '
                    f"{renamed[size]} and {new} in -i",
                    where="--input",
                    hint="the model uses one size in both places",
                )
    return renamed


def apply_names(shape: JoinedShape, renamed: Mapping[str, int | str]) -> Shape:
    """One size an axis; a letter for a size that the model fixes stays, its limit tells."""
    sizes = [
        renamed.get(size, size) if isinstance(size, str) else new or size for size, new in shape
    ]
    return tuple(size for size in sizes if size is not None)


def declared_limits(
    declared: Sequence[DeclaredInput],
    named: Sequence[JoinedShape],
    renamed: Mapping[str, int | str],
) -> list[Limit]:
    """What the model itself allows for each size that it fixes or gives a range."""
    limits = []
    for item, shape in zip(declared, named, strict=True):
        for axis, (size, new) in enumerate(shape):
            place = f'input "{item.name}", axis {axis}'
            if isinstance(size, int) and isinstance(new, str):
                limits.append(Limit(new, Dimension(size, size, size), place))
            if isinstance(size, str) and size in item.dimensions:
                limits.append(Limit(renamed.get(size, size), item.dimensions[size], place))
    return limits


def with_numbers(shape: Shape, sizes: Mapping[str, Dimension | int]) -> Shape:
    """The shape with a number for each name that has one.

    >>> with_numbers((1, "h", "w"), {"h": 8, "w": Dimension(8, 64, 8)})
    (1, 8, 'w')
    """
    return tuple(
        found if isinstance(size, str) and isinstance(found := sizes[size], int) else size
        for size in shape
    )
