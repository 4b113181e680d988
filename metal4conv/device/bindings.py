"""The bindings that reflection shows, and which of them is which tensor of the layout manifest."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import permutations
from typing import Any

from metal4conv.device.failures import RunFailed
from metal4conv.device.protocol import Binding, TensorPlan
from metal4conv.device.tensors import extents_values
from metal4conv.errors import did_you_mean
from metal4conv.layout.rules import MAXIMUM_RANK, READ, WRITE, type_name

TENSOR_BINDING = 37
"""`MTLBindingTypeTensor`, from Apple's header MTLArgument.h."""

READ_WRITE = 1
"""`MTLBindingAccessReadWrite`."""

MOST_ORDERS = 6
"""Nameless bindings of one kind beyond which their orders are not tried: 6! is 720."""

MISMATCH_HINT = "the Metal package is not of this Core ML package: build it again"


@dataclass(frozen=True)
class Slot:
    """A tensor and the argument table's index that it is bound at.

    `binding` is None where Metal shows none, and the layout manifest had to say the index.
    """

    plan: TensorPlan
    index: int
    binding: Binding | None = None


def read_bindings(reflection: Any) -> tuple[Binding, ...] | None:  # Any: a Metal object
    """The tensor bindings of a function's or a pipeline's reflection, None when it shows none.

    The objects themselves are never printed: on a beta of macOS 27 their description crashed.
    """
    listed = None if reflection is None else reflection.bindings()
    if listed is None:
        return None
    found = tuple(read_binding(item) for item in listed if int(item.type()) == TENSOR_BINDING)
    return found or None


def read_binding(item: Any) -> Binding:  # Any: a Metal object
    """One binding, its sizes as they are: negative where dynamic, None where Metal gives none."""
    return Binding(
        name=str(item.name() or ""),
        index=int(item.index()),
        access=int(item.access()),
        data_type=int(item.tensorDataType()),
        dimensions=read_dimensions(item.dimensions()),
    )


def read_dimensions(extents: Any) -> tuple[int, ...] | None:  # Any: an MTLTensorExtents
    """The sizes of extents, None for none; `RunFailed` for a rank that Metal cannot have."""
    if extents is None:
        return None
    if not 0 <= int(extents.rank()) <= MAXIMUM_RANK:
        raise RunFailed(
            "error", f"reflection shows a tensor with {extents.rank()} dimensions, at most 16 exist"
        )
    return tuple(map(signed, extents_values(extents)))


def signed(size: int) -> int:
    """A size as NSInteger; where -1 was read as an unsigned number it is 2^64-1.

    >>> signed(2**64 - 1), signed(-1), signed(224)
    (-1, -1, 224)
    """
    return size - 2**64 if size >= 2**63 else size


def is_open(binding: Binding) -> bool:
    """Whether reflection leaves a size open, or shows none."""
    return binding.dimensions is None or any(size < 0 for size in binding.dimensions)


def match(plans: Sequence[TensorPlan], bindings: Sequence[Binding] | None) -> tuple[Slot, ...]:
    """A slot for each plan: by name; nameless bindings by order, shape and type.

    Without bindings the manifest's indices stand. `RunFailed` (refused) when bindings and plans do
    not pair up, or two share an index.
    """
    if bindings is None:
        return tuple(Slot(plan, plan.index) for plan in plans)
    named = by_name(bindings)
    pairs = {plan.name: named[plan.name] for plan in plans if plan.name in named}
    rest = [plan for plan in plans if plan.name not in pairs]
    nameless = [binding for binding in bindings if not binding.name]
    check_names(plans, rest, named, nameless)
    for role, access in (("input", READ.raw), ("output", WRITE.raw)):
        open_plans = [plan for plan in rest if plan.role == role]
        candidates = [binding for binding in nameless if binding.access == access]
        pairs |= pair_up(role, open_plans, candidates)
    slots = tuple(Slot(plan, pairs[plan.name].index, pairs[plan.name]) for plan in plans)
    check_indices(slots)
    return slots


def by_name(bindings: Iterable[Binding]) -> dict[str, Binding]:
    """Bindings that have names, by name; no two of them may share one."""
    named: dict[str, Binding] = {}
    for binding in bindings:
        if binding.name in named:
            raise RunFailed("refused", f'the Metal package has two bindings named "{binding.name}"')
        if binding.name:
            named[binding.name] = binding
    return named


def check_names(
    plans: Sequence[TensorPlan],
    unmatched: Sequence[TensorPlan],
    named: dict[str, Binding],
    nameless: Sequence[Binding],
) -> None:
    """Each name must be known on both sides, but for what bindings without names make up for."""
    unknown = sorted(set(named) - {plan.name for plan in plans})
    if unmatched and len(unmatched) != len(nameless):
        plan = unmatched[0]
        raise RunFailed(
            "refused",
            f'the Metal package has no binding for {plan.role} "{plan.name}": '
            + did_you_mean(plan.name, named),
            MISMATCH_HINT,
        )
    if unknown or len(unmatched) != len(nameless):
        name = f'"{unknown[0]}"' if unknown else "without a name"
        raise RunFailed(
            "refused",
            f"the Metal package has a binding {name} that the layout manifest does not have",
            MISMATCH_HINT,
        )


def pair_up(
    role: str, plans: Sequence[TensorPlan], bindings: Sequence[Binding]
) -> dict[str, Binding]:
    """Nameless bindings for plans: in the order of indices, or else the only order that fits."""
    ordered = sorted(bindings, key=lambda binding: binding.index)
    if len(plans) != len(ordered):
        raise RunFailed(
            "refused",
            f"the Metal package has {len(ordered)} {role} bindings without names, "
            f"the layout manifest {len(plans)}",
            MISMATCH_HINT,
        )
    if all(map(fits, plans, ordered)):
        return {plan.name: binding for plan, binding in zip(plans, ordered, strict=True)}
    orders = permutations(ordered) if len(ordered) <= MOST_ORDERS else iter(())
    fitting = [order for order in orders if all(map(fits, plans, order))]
    if len(fitting) != 1:
        raise RunFailed(
            "refused",
            f"the {role} bindings have no names, and shapes and types do not say which is which",
            MISMATCH_HINT,
        )
    return {plan.name: binding for plan, binding in zip(plans, fitting[0], strict=True)}


def fits(plan: TensorPlan, binding: Binding) -> bool:
    """Whether a binding can be this tensor, by type and shape."""
    shown = binding.dimensions
    return binding.data_type == plan.data_type and (
        shown is None or sizes_agree(plan.dimensions, shown) or plan.is_dynamic
    )


def sizes_agree(planned: tuple[int, ...], shown: tuple[int, ...]) -> bool:
    """Whether sizes are equal where both are known.

    >>> sizes_agree((224, 3), (-1, 3)), sizes_agree((224, 3), (224, 3, 1))
    (True, False)
    """
    return len(planned) == len(shown) and all(
        size in (expected, -1) for expected, size in zip(planned, shown, strict=True)
    )


def check_indices(slots: Sequence[Slot]) -> None:
    """No two tensors may be bound at one index."""
    taken: dict[int, str] = {}
    for slot in slots:
        if slot.index < 0 or slot.index in taken:
            other = taken.get(slot.index, "nothing")
            raise RunFailed(
                "refused",
                f'tensor "{slot.plan.name}" would be bound at index {slot.index}, as is {other}',
            )
        taken[slot.index] = f'"{slot.plan.name}"'


def check_library(slot: Slot) -> None:
    """Type, access and shape of a binding before compilation; sizes that are dynamic are open."""
    check_binding(slot, lambda plan, shown: plan.is_dynamic and len(shown) == len(plan.dimensions))


def check_pipeline(slot: Slot) -> None:
    """The same after compilation, where all sizes that are shown have to be the plan's."""
    check_binding(slot, lambda plan, shown: False)


def check_binding(slot: Slot, passes: Callable[[TensorPlan, tuple[int, ...]], bool]) -> None:
    """`RunFailed` (refused) where Metal would end the process, or bind something else.

    A tensor of another type than the binding's ends the process inside MPSGraph, as others
    measured; other sizes are an assertion of Metal's validation layer.
    """
    plan, binding = slot.plan, slot.binding
    if binding is None:
        return
    where = f'{plan.role} "{plan.name}"'
    access = READ.raw if plan.role == "input" else WRITE.raw
    if binding.access not in (access, READ_WRITE):
        raise RunFailed(
            "refused",
            f"{where} has access {binding.access} in the reflection, {access} was expected",
            MISMATCH_HINT,
        )
    if binding.data_type != plan.data_type:
        raise RunFailed(
            "refused",
            f"{where} is {type_name(plan.data_type)} in the layout manifest and "
            f"{type_name(binding.data_type)} in the reflection",
            MISMATCH_HINT,
        )
    shown = binding.dimensions
    if shown is None or sizes_agree(plan.dimensions, shown) or passes(plan, shown):
        return
    raise RunFailed(
        "refused",
        f"{where} has dimensions {plan.dimensions} (innermost first) in the layout manifest and "
        f"{shown} in the reflection",
        MISMATCH_HINT,
    )
