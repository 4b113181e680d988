"""Masks of attention that a model writes out: how they are found, and what MIL's operation gets.

A query whose keys are all hidden has no defined result in MIL (torch gives 0 for it). Written out
it gives NaN, or 0 where PyTorch's ONNX exporter replaces the NaN. A constant mask is only taken if
every query sees a key; one that is computed is prepared once for all layers that share it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

HIDING = -1e9
"""What hides a key when it stands in a score's place or is added to it, if the query sees another
key: its weight is 0. (Scores of that size have no use: their neighbours in float32 are 64 apart.)
"""

MOST_STEPS = 50
"""Of operations that compute a dynamic shape."""

Var = Any
"""A coremltools variable. (Any: coremltools carries no types.)"""


class Unfit(Exception):
    """Why a product is no attention."""


def check(holds: bool, reason: str) -> None:
    """`Unfit` unless it holds."""
    if not holds:
        raise Unfit(reason)


@dataclass(frozen=True)
class Mask:
    """What is added to the scores: an array, or a variable if it is only known at run time."""

    array: np.ndarray | None = None
    added: Var = None

    @property
    def shape(self) -> tuple[Any, ...]:
        """Its shape; sizes may be symbols."""
        return tuple(self.added.shape if self.array is None else self.array.shape)


def masked_scores(var: Var) -> Iterator[tuple[Var, Mask | None]]:
    """What a softmax is taken of as scores and a mask, in all ways to see it.

    add(scores, mask)                   →  scores, mask
    select(allowed, scores, -10**9)     →  scores, [0, 0, -inf] for a constant `allowed`
    """
    yield var, None
    operation = var.op
    if operation is None:
        return
    if operation.op_type == "add":
        for scores, added in ((operation.x, operation.y), (operation.y, operation.x)):
            yield scores, Mask(added.val) if added.val is not None else Mask(added=added)
    if operation.op_type == "select" and operation.cond.val is not None:
        cond = np.asarray(operation.cond.val)
        for scores, filling, hidden in (
            (operation.a, operation.b, ~cond),
            (operation.b, operation.a, cond),
        ):
            number = uniform(filling)
            if number is not None and number <= HIDING:
                yield scores, Mask(np.where(hidden, np.float32(-np.inf), np.float32(0)))


def without_nan(weights: Var) -> tuple[Var, bool]:
    """The weights before NaN among them became 0, and whether it did.

    select(not_equal(weights, weights), 0, weights)     →  weights, True
    """
    select = weights.op
    if select is None or select.op_type != "select":
        return weights, False
    test = select.cond.op
    if test is None or test.op_type != "not_equal" or {test.x, test.y} != {select.b}:
        return weights, False
    found = uniform(select.a) == 0 and is_used(weights, 1) and leads_to(select.cond, select)
    return (select.b, True) if found else (weights, False)


def is_used(var: Var, times: int) -> bool:
    """Whether a variable is an input of operations so often, and nowhere an output."""
    return len(var.child_ops) == times and not var.consuming_blocks


def leads_to(var: Var, end: Any) -> bool:  # a coremltools Operation
    """Whether everything that uses a variable serves one operation, as the sizes of its inputs."""
    waiting, seen = [var], set[Any]()
    while waiting:
        var = waiting.pop()
        if var.consuming_blocks or len(seen) > MOST_STEPS:
            return False
        for operation in var.child_ops:
            if operation is not end and operation not in seen:
                seen.add(operation)
                waiting += operation.outputs
                if not operation.outputs or operation.blocks:
                    return False
    return True


def uniform(var: Var) -> float | None:
    """The number that all elements are, also of one that is repeated to a dynamic size."""
    while var.val is None and var.op is not None and var.op.op_type in ("tile", "fill_like"):
        var = var.op.x if var.op.op_type == "tile" else var.op.value
    elements = np.ravel(() if var.val is None else var.val)
    return float(elements[0]) if elements.size and (elements == elements[0]).all() else None


def check_mask(mask: Mask, scores: tuple[Any, ...]) -> None:
    """`Unfit` for a mask that does not broadcast to the scores, or hides all keys of a query."""
    own = mask.shape
    fits = 1 <= len(own) <= len(scores) and own[-1] == scores[-1]
    pairs = zip(reversed(own), reversed(scores), strict=False)
    fits = fits and all(size in (1, wanted) for size, wanted in pairs)
    check(fits, f"a mask of {own} for scores of {scores}")
    if mask.array is not None:
        check(bool((mask.array > HIDING).any(axis=-1).all()), "the mask hides all keys of a query")
        check(bool((mask.array < np.inf).all()), "the mask has infinities or NaN")


def known_mask(array: np.ndarray) -> np.ndarray:
    """A constant mask without large numbers, which float16 could not hold; bool if that suffices.

    >>> known_mask(np.float32([[0, -3e38], [0, 0]])).tolist()
    [[True, False], [True, True]]
    >>> known_mask(np.float32([[0.5, -1e9], [0, 0]])).tolist()
    [[0.5, -inf], [0.0, 0.0]]
    """
    hidden = array <= HIDING
    if hidden.any() and not array[~hidden].any():
        return ~hidden
    return np.where(hidden, array.dtype.type(-np.inf), array)


@dataclass
class Masks:
    """The computed masks of a block that are ready for use, by identity."""

    exact: dict[int, Var] = field(default_factory=dict)
    opened: dict[int, tuple[Var, Var]] = field(default_factory=dict)

    def with_nan(self, mask: Var, before: Any) -> Var:
        """The mask with NaN for queries that see no key.

        highest = reduce_max(mask, axes=[-1], keep_dims=True)   # -inf for those queries
        exact = add(mask, sub(highest, highest))                # -inf - -inf is NaN
        """
        if id(mask) not in self.exact:
            emit = Emitter(before, mask.name)
            highest = emit("reduce_max", x=mask, axes=[-1], keep_dims=True)
            self.exact[id(mask)] = emit("add", x=mask, y=emit("sub", x=highest, y=highest))
        return self.exact[id(mask)]

    def with_all_keys(self, mask: Var, before: Any) -> tuple[Var, Var]:
        """The mask with all keys open to queries that see none, and 0 for those, 1 for others.

        sees = greater(reduce_max(mask, axes=[-1], keep_dims=True), -inf)
        opened = maximum(mask, select(sees, -inf, 0))
        visible = cast(sees, "fp32")
        """
        from coremltools.converters.mil.mil import types

        if id(mask) not in self.opened:
            number = types.nptype_from_builtin(mask.dtype)
            emit = Emitter(before, mask.name)
            highest = emit("reduce_max", x=mask, axes=[-1], keep_dims=True)
            sees = emit("greater", x=highest, y=number(-np.inf))
            least = emit.filled(highest, number(-np.inf))
            floor = emit("select", cond=sees, a=least, b=emit.filled(highest, number(0)))
            opened = emit("maximum", x=mask, y=floor)
            visible = emit("cast", x=sees, dtype=types.builtin_to_string(mask.dtype))
            self.opened[id(mask)] = opened, visible
        return self.opened[id(mask)]


@dataclass(frozen=True)
class Emitter:
    """Makes operations before another one, named after a value."""

    before: Any  # a coremltools Operation
    name: str

    def __call__(self, operation: str, **inputs: Any) -> Var:
        """The output of a new operation. (Any: variables, arrays and texts.)"""
        from coremltools.converters.mil.mil import Builder

        build = getattr(Builder, operation)
        return build(**inputs, before_op=self.before, name=f"{self.name}_{operation}")

    def filled(self, like: Var, number: Any) -> Any:
        """A numpy number in the shape of a variable: an array, or a variable."""
        if all(isinstance(size, (int, np.integer)) for size in like.shape):
            return np.full(like.shape, number)
        return self("fill_like", ref_tensor=like, value=number)
