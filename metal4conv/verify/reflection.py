"""What a pipeline's reflection shows beside what the layout manifest says."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from metal4conv.device.protocol import Binding, Outcome, RunCase, TensorPlan
from metal4conv.layout.rules import type_name
from metal4conv.report import Finding


def reflection_findings(case: RunCase, bindings: Sequence[Binding]) -> Iterator[Finding]:
    """Differences between a reflection and the plan of a case.

    A name, type or size that differs is a failure: the app's code would bind something else. The
    index is only what was expected, since bindings go by name: a warning. What Metal does not show
    cannot be compared; the runner has noted it.
    """
    if not bindings:
        return
    if not any(binding.name for binding in bindings):
        yield Finding(
            "warning",
            "reflection-without-names",
            "the reflection shows bindings without names; they were matched by order and shape",
            hint="bind at the manifest's expected_buffer_index in the app, too",
        )
        return
    found = {binding.name: binding for binding in bindings}
    for plan in case.tensors:
        if plan.name not in found:
            yield Finding(
                "failure",
                "binding-missing",
                f'the reflection has no {plan.role} "{plan.name}"; it shows '
                + ", ".join(sorted(found)),
                plan.name,
            )
            continue
        yield from binding_findings(plan, found[plan.name])
    for name in sorted(set(found) - {plan.name for plan in case.tensors}):
        yield Finding(
            "failure",
            "binding-unknown",
            f'the reflection has a binding "{name}" that the package does not have',
            name,
        )


def binding_findings(plan: TensorPlan, binding: Binding) -> Iterator[Finding]:
    """Differences of one tensor."""
    where = f'{plan.role} "{plan.name}"'
    if binding.data_type != plan.data_type:
        yield Finding(
            "failure",
            "binding-type",
            f"{where}: the manifest has {type_name(plan.data_type)}, the reflection "
            f"{type_name(binding.data_type)}",
            plan.name,
        )
    shown = binding.dimensions
    is_shown = shown is not None and all(size >= 0 for size in shown)
    if is_shown and shown != plan.dimensions:
        yield Finding(
            "failure",
            "binding-dimensions",
            f"{where}: the manifest has dimensions {plan.dimensions} (innermost first), the "
            f"reflection {shown}",
            plan.name,
        )
    if binding.index != plan.index:
        yield Finding(
            "warning",
            "binding-index",
            f"{where} is at buffer index {binding.index}, the manifest expects {plan.index}",
            plan.name,
            "bind by name through reflection, never by a fixed index",
        )


def reflection_rows(plans: Mapping[str, RunCase], outcome: Outcome) -> list[dict[str, Any]]:
    """Manifest and reflection of each tensor side by side, for the first run. (Any: JSON.)"""
    if not outcome.results:
        return []
    first = outcome.results[0]
    found = {binding.name: binding for binding in first.bindings}
    return [row_of(plan, found.get(plan.name)) for plan in plans[first.label].tensors]


def row_of(plan: TensorPlan, binding: Binding | None) -> dict[str, Any]:  # Any: JSON
    """One tensor of the table."""
    shown = binding and binding.dimensions
    return {
        "name": plan.name,
        "role": plan.role,
        "expected_index": plan.index,
        "index": binding and binding.index,
        "expected_dimensions": list(plan.dimensions),
        "dimensions": shown and list(shown),
        "expected_data_type": type_name(plan.data_type),
        "data_type": binding and type_name(binding.data_type),
    }
