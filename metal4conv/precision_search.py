"""What `convert --precision auto` does first: a float32 package, and what must stay so."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from metal4conv.assembly import GoldenOptions, golden_cases, make_package, run_source
from metal4conv.errors import UnsupportedModel
from metal4conv.frontends.mixed import MIXED
from metal4conv.frontends.provenance import name_before_cast
from metal4conv.frontends.source import (
    CastOperation,
    Lowered,
    LoweringRequest,
    ModelSource,
)
from metal4conv.mil.program import TensorType
from metal4conv.precision.extremes import KINDS, extreme_cases
from metal4conv.precision.search import Search, Trial, open_search
from metal4conv.precision.tolerance import Wanted
from metal4conv.report import Finding
from metal4conv.verify.draw import (
    DrawnCases,
)
from metal4conv.verify.golden import GoldenCase
from metal4conv.verify.verification import package_input

WIDE_PACKAGE = ".float32.mlpackage"
"""Where the float32 package of a search is until the end; no package's name starts with a dot."""

Say = Callable[[str], None]


@dataclass(frozen=True)
class Looked:
    """A search for operations to keep in float32, and the golden cases that it is made with."""

    search: Search
    base: LoweringRequest
    drawn: DrawnCases
    cases: tuple[GoldenCase, ...]
    findings: tuple[Finding, ...]

    @property
    def request(self) -> LoweringRequest:
        """What the search asks of the frontend now."""
        return replace(self.base, precision=MIXED, float32_operations=self.search.names)


def look_for_precision(
    source: ModelSource,
    request: LoweringRequest,
    golden: GoldenOptions,
    wanted: Wanted,
    work: Path,
    say: Say,
) -> Looked:
    """Converts to float32, measures, and finds which operations must stay in float32."""
    say("converting to float32")
    seen: list[CastOperation] = []
    wide = replace(request, precision=MIXED, io_precision=request.io_dtype, cast_operations=seen)
    made = make_package(source, wide, work.with_name(WIDE_PACKAGE), work)
    say("running the source model")
    drawn, cases = golden_cases(source, made, golden, request.output_names)
    types = {item.name: item.type for item in made.package.interface().inputs}
    dtypes = {name: type.dtype for name, type in types.items()}
    outputs = dict(zip(source.outputs, request.output_names, strict=True))
    extremes, failed = run_extremes(
        source, extreme_cases(source.inputs, cases, dtypes, golden.seed), outputs
    )
    say("looking for operations that need float32")
    search, findings = open_search(
        made.package,
        [trial_of(f"golden case {n}", case, types) for n, case in enumerate(cases)],
        [
            trial_of(f"inputs at the ends of their ranges ({kind})", case, types)
            for kind, case in zip(KINDS, extremes, strict=False)
        ],
        wanted,
        seen,
    )
    search.choose()
    return Looked(search, request, drawn, cases, (*failed, *findings))


def run_extremes(
    source: ModelSource, extremes: Sequence[GoldenCase], names: Mapping[str, str]
) -> tuple[tuple[GoldenCase, ...], tuple[Finding, ...]]:
    """The source's outputs at the ends of value ranges; none where it does not run there."""
    try:
        return run_source(source, extremes, names), ()
    except UnsupportedModel as error:
        return (), (
            Finding(
                "warning",
                "precision-extreme",
                f"precision is not tried at the ends of the inputs' ranges: {error.message}",
                hint="give the ranges that the model takes with -i",
            ),
        )


def trial_of(label: str, case: GoldenCase, types: Mapping[str, TensorType]) -> Trial:
    """A case as the package takes it."""
    inputs = {name: package_input(array, types[name]) for name, array in case.inputs.items()}
    return Trial(label, inputs, case.outputs)


def source_texts(source: ModelSource, lowered: Lowered) -> dict[str, str]:
    """What values of the package are in the source, by their names before the casts to float16."""
    known = {row.name: str(row) for row in source.values()}
    return {
        name_before_cast(value): known[name]
        for value, name in lowered.values.items()
        if name in known
    }
