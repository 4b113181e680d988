"""The inputs of golden cases, drawn from a seed, and the source's outputs for them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from metal4conv import __version__
from metal4conv.frontends.source import ModelSource, SourceInput
from metal4conv.mil.dtypes import DTYPES
from metal4conv.mil.program import Dimension, Shape
from metal4conv.report import Finding
from metal4conv.verify.arrays import (
    concrete_shape,
    draw_array,
    generator,
    is_byte_picture,
    round_to_package,
)
from metal4conv.verify.golden import (
    GoldenCase,
    GoldenOrigin,
    installed_versions,
    source_sha256,
)
from metal4conv.verify.sizes import BytesOf, choose_sizes, sizes_text

DEFAULT_LIMIT_BYTES = 32 * 2**20
HEADER_BYTES = 64 * 2**10
"""Kept free for the file's header."""
DISTRIBUTIONS = {
    "pytorch": ("torch",),
    "tensorflow": ("tensorflow", "tensorflow-cpu", "keras"),
    "onnx": ("onnx", "onnxruntime"),
}
"""Whose versions matter for the numbers, by framework."""


@dataclass(frozen=True)
class DrawnCases:
    """Cases without outputs, and what the user should know about them."""

    cases: tuple[GoldenCase, ...]
    findings: tuple[Finding, ...] = ()


def draw_cases(
    inputs: Sequence[SourceInput],
    dimensions: Mapping[str, Dimension],
    *,
    seed: int = 0,
    limit_bytes: int = DEFAULT_LIMIT_BYTES,
    count: int = 3,
    input_dtypes: Mapping[str, str] | None = None,
    output_bytes: BytesOf | None = None,
) -> DrawnCases:
    """At least `count` cases: for dynamic sizes the smallest, the default and the largest.

    `input_dtypes` are the package's own, by input. `output_bytes` gives the bytes of a case's
    float32 outputs for given sizes, so that they count against the limit; without it only inputs
    count.
    """

    def bytes_of(sizes: Mapping[str, int]) -> int:
        taken = sum(input_bytes(item, sizes) for item in inputs)
        return taken + (output_bytes(sizes) if output_bytes else 0)

    used = used_dimensions(inputs, dimensions)
    room = max(limit_bytes - HEADER_BYTES, 1)
    chosen, findings = choose_sizes(used, bytes_of, room, count)
    findings += integer_findings(inputs)
    held = input_dtypes or {}
    cases = tuple(
        GoldenCase(
            {
                item.name: round_to_package(
                    draw_array(item, sizes, generator(seed, number, item.name)),
                    held.get(item.name, item.type.dtype),
                    item.name,
                )
                for item in inputs
            },
            sizes,
        )
        for number, sizes in enumerate(chosen)
    )
    return DrawnCases(cases, tuple(findings))


def predict_cases(
    source: ModelSource,
    cases: Sequence[GoldenCase],
    output_names: Mapping[str, str] | None = None,
) -> tuple[GoldenCase, ...]:
    """The same cases with the source's own outputs, floats as float32.

    `output_names` gives the package's name of a source output where it differs.
    """
    return tuple(
        predict_case(source, number, case, output_names or {}) for number, case in enumerate(cases)
    )


def predict_case(
    source: ModelSource, number: int, case: GoldenCase, output_names: Mapping[str, str]
) -> GoldenCase:
    """One case with its outputs."""
    try:
        outputs = source.predict(case.inputs)
    except Exception as error:
        error.add_note(f"while running the source model on case {number} {case_text(case)}")
        raise
    return replace(
        case,
        outputs={output_names.get(name, name): as_golden(array) for name, array in outputs.items()},
    )


def golden_origin(
    source: ModelSource, package: str, package_sha256: str, seed: int | None
) -> GoldenOrigin:
    """Where golden vectors from `source` come from; `seed` None for given inputs."""
    versions = installed_versions("numpy", *DISTRIBUTIONS.get(source.framework, ()))
    return GoldenOrigin(
        package,
        package_sha256,
        f"{source.framework} {source.kind}",
        source_sha256(source.files),
        {"metal4conv": __version__, **versions},
        seed,
    )


def case_text(case: GoldenCase) -> str:
    """The sizes of a case in words.

    >>> case_text(GoldenCase({"x": np.zeros((1, 8))}, {"w": 8})), case_text(GoldenCase({}))
    ('(w=8)', '(fixed sizes)')
    """
    return f"({sizes_text(case.dimensions) or 'fixed sizes'})"


def as_golden(array: np.ndarray) -> np.ndarray:
    """An output as golden vectors hold it: floats are float32.

    >>> as_golden(np.array([0.5], np.float64)).dtype
    dtype('float32')
    """
    array = np.asarray(array)
    return array.astype(np.float32) if array.dtype.kind == "f" else array


def used_dimensions(
    inputs: Sequence[SourceInput], dimensions: Mapping[str, Dimension]
) -> dict[str, Dimension]:
    """The dimensions that the inputs' shapes name, in order of their first use."""
    names = dict.fromkeys(
        size for item in inputs for size in item.type.shape if isinstance(size, str)
    )
    return {name: dimensions[name] for name in names}


def input_bytes(item: SourceInput, sizes: Mapping[str, int]) -> int:
    """Bytes of one input in the file, where int64 is stored as int32."""
    bits = 32 if item.type.dtype == "int64" else DTYPES[item.type.dtype].bits
    return math.prod(concrete_shape(item.type.shape, sizes)) * bits // 8


def integer_findings(inputs: Sequence[SourceInput]) -> list[Finding]:
    """Warns of integer inputs whose range nobody gave."""
    return [
        Finding(
            "warning",
            "golden-integer-range",
            f'golden values of the integer input "{item.name}" are only 0 and 1, as its range is '
            "not known",
            where=item.name,
            hint="give the range: "
            f"-i {item.name}:{shape_option(item.type.shape)}:{item.type.dtype}:0..999",
        )
        for item in inputs
        if item.type.dtype.startswith(("int", "uint"))
        and item.value_range is None
        and not is_byte_picture(item)
    ]


def shape_option(shape: Shape) -> str:
    """A shape as `-i` takes it.

    >>> shape_option((1, "h")), shape_option((1, "max")), shape_option(())
    ('1xh', '1,max', 'scalar')
    """
    named = any(isinstance(size, str) and "x" in size for size in shape)
    return ("," if named else "x").join(map(str, shape)) or "scalar"
