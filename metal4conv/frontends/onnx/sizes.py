"""Values of small integer tensors as expressions of the dynamic sizes.

coremltools follows a size through `shape`, `gather`, `concat` and a few more, and loses it in
arithmetic. Models compute shapes with more than those, so what a MIL operation gives for sizes is
computed here, element by element, and told to coremltools, whose shape inference then goes on:

    shape(x) = [1, 3, h, w];   mul(gather(…, 2), 2)   →   2*h
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

MOST = 256
"""Shapes are short; longer tensors are data."""

Rule = Callable[..., Any]  # Any: arrays of ints and sympy expressions, numbers, lists


def infer_sizes(
    operation: str, inputs: Mapping[str, Any], results: Any, positive: frozenset[Any]
) -> None:
    """Gives a new operation's result its elements as expressions, if coremltools did not.

    `positive` are the symbols that are at least 1. (Any: coremltools variables.)
    """
    rule = RULES.get(operation)
    if rule is None or isinstance(results, (tuple, list)) or results.sym_val is not None:
        return
    found: dict[str, Any] = {}
    for name, item in inputs.items():
        value = elements_of(item)
        if value is None:
            return
        found[name] = value
    try:
        elements = rule(**found, decide=Decider(positive))
    except Undecided:
        return
    array = np.asarray(elements, dtype=object)
    if array.size > MOST or array.ndim != len(results.shape):
        return
    results._sym_val = typed_elements(results, array)


def elements_of(item: Any) -> Any:
    """The elements of an input; None when they are not known. (Any: variable, array, number.)"""
    if isinstance(item, (list, tuple)) and any(hasattr(part, "sym_val") for part in item):
        parts = [elements_of(part) for part in item]
        return None if any(part is None for part in parts) else parts
    if not hasattr(item, "sym_val"):
        return item
    if item.sym_val is None or np.size(item.sym_val) > MOST:
        return None
    return np.asarray(item.sym_val, dtype=object)


def typed_elements(var: Any, array: np.ndarray) -> Any:
    """The elements as coremltools keeps them: its own scalar type for a scalar. (Any: untyped.)"""
    from coremltools.converters.mil.mil import types

    if not array.ndim:
        value = var.dtype()
        value.val = simplified(array[()])
        return value
    value = types.tensor(var.dtype, array.shape)()
    cleaned = np.vectorize(simplified, otypes=[object])(array) if array.size else array
    if all(isinstance(item, (int, float, bool)) for item in cleaned.reshape(-1)):
        cleaned = cleaned.astype(types.nptype_from_builtin(var.dtype))
    value.val = cleaned
    return value


def simplified(element: Any) -> Any:
    """An expression as a plain number where it is one. (Any: a number or a sympy expression.)"""
    if isinstance(element, (bool, np.bool_)):
        return bool(element)
    if isinstance(element, (int, np.integer)):
        return int(element)
    if isinstance(element, (float, np.floating)):
        return float(element)
    if element.is_Integer:
        return int(element)
    return float(element) if element.is_number else element


class Undecided(Exception):
    """A comparison whose answer depends on the sizes."""


class Decider:
    """Answers comparisons of sizes that hold for all of them."""

    def __init__(self, positive: frozenset[Any]) -> None:
        self.positive = positive

    def is_positive(self, expression: Any) -> bool:
        """Whether the expression is above 0; `Undecided` if that depends on the sizes."""
        if isinstance(expression, (int, float, np.number)):
            return bool(expression > 0)
        bounded = self.bounded(expression)
        if bounded.is_positive:
            return True
        if bounded.is_nonpositive:
            return False
        raise Undecided

    def is_zero(self, expression: Any) -> bool:
        """Whether the expression is 0; `Undecided` if that depends on the sizes."""
        if isinstance(expression, (int, float, np.number)):
            return bool(expression == 0)
        bounded = self.bounded(expression)
        if bounded.is_zero:
            return True
        if bounded.is_positive or bounded.is_negative:
            return False
        raise Undecided

    def bounded(self, expression: Any) -> Any:
        """The expression with sizes that are known to be integers of at least 1."""
        import sympy

        known = {}
        for symbol in expression.free_symbols:
            if symbol not in self.positive:
                raise Undecided
            known[symbol] = 1 + sympy.Dummy(integer=True, nonnegative=True)
        return sympy.expand(expression.subs(known))


def each(function: Callable[..., Any]) -> Rule:
    """A rule that applies a function to each pair of elements, broadcast."""

    def rule(x: Any, y: Any, decide: Decider) -> Any:
        return np.frompyfunc(lambda a, b: function(a, b, decide), 2, 1)(x, y)

    return rule


def floor_quotient(x: Any, y: Any, decide: Decider) -> Any:
    import sympy

    if is_number(x) and is_number(y):
        return 0 if y == 0 else x // y
    return sympy.floor(sympy.sympify(x) / y)


def real_quotient(x: Any, y: Any, decide: Decider) -> Any:
    import sympy

    if is_number(x) and is_number(y):
        if y == 0:
            raise Undecided
        return x / y
    return sympy.sympify(x) / y


def remainder(x: Any, y: Any, decide: Decider) -> Any:
    import sympy

    if is_number(x) and is_number(y):
        return 0 if y == 0 else x % y
    return sympy.Mod(x, y)


def larger(x: Any, y: Any, decide: Decider) -> Any:
    import sympy

    if is_number(x) and is_number(y):
        return max(x, y)
    try:
        return x if decide.is_positive(x - y) else y
    except Undecided:
        return sympy.Max(x, y)


def smaller(x: Any, y: Any, decide: Decider) -> Any:
    import sympy

    if is_number(x) and is_number(y):
        return min(x, y)
    try:
        return y if decide.is_positive(x - y) else x
    except Undecided:
        return sympy.Min(x, y)


def is_number(x: Any) -> bool:
    """Whether an element is a plain number."""
    return isinstance(x, (int, float, np.number, bool, np.bool_))


def choose(cond: Any, a: Any, b: Any, decide: Decider) -> Any:
    return np.where(np.asarray(cond).astype(bool), a, b)


def product(x: Any, axes: Any = None, keep_dims: Any = False, *, decide: Decider) -> Any:
    return reduced(math.prod, x, axes, keep_dims)


def total(x: Any, axes: Any = None, keep_dims: Any = False, *, decide: Decider) -> Any:
    return reduced(sum, x, axes, keep_dims)


def reduced(function: Callable[[Any], Any], x: Any, axes: Any, keep_dims: Any) -> Any:
    """A reduction over all axes of a vector; others are data."""
    if np.ndim(x) != 1:
        raise Undecided
    result = function(np.asarray(x).tolist())
    return [result] if bool(np.all(keep_dims)) else result


def rounded(direction: str) -> Rule:
    def rule(x: Any, decide: Decider) -> Any:
        import sympy

        function = getattr(sympy, direction)
        return np.frompyfunc(lambda a: function(sympy.sympify(a)), 1, 1)(x)

    return rule


def without_axes(x: Any, axes: Any = None, *, decide: Decider) -> Any:
    return np.squeeze(x, None if axes is None else tuple(np.atleast_1d(axes).astype(int)))


def with_axes(x: Any, axes: Any, decide: Decider) -> Any:
    return np.expand_dims(x, tuple(np.atleast_1d(axes).astype(int)))


def sliced(
    x: Any,
    begin: Any,
    end: Any,
    stride: Any = None,
    begin_mask: Any = None,
    end_mask: Any = None,
    squeeze_mask: Any = None,
    *,
    decide: Decider,
) -> Any:
    if np.ndim(x) != 1:
        raise Undecided
    first, last = (
        None if given else item
        for given, item in zip(
            (mask_of(begin_mask), mask_of(end_mask)),
            (whole(begin), whole(end)),
            strict=True,
        )
    )
    if mask_of(squeeze_mask):
        return np.asarray(x)[whole(begin)]
    step = 1 if stride is None else whole(stride)
    return np.asarray(x)[first:last:step]


def mask_of(mask: Any) -> bool:
    return mask is not None and bool(np.asarray(mask).reshape(-1)[0])


def whole(vector: Any) -> int:
    """The only element of a vector of numbers."""
    element = np.asarray(vector).reshape(-1)[0]
    if not is_number(element):
        raise Undecided
    return int(element)


def tiled(x: Any, reps: Any, decide: Decider) -> Any:
    return np.tile(np.asarray(x, object), [whole(item) for item in np.atleast_1d(reps)])


def filled(shape: Any, value: Any = 0, *, decide: Decider) -> Any:
    return np.full([whole(size) for size in np.atleast_1d(shape)], value, object)


RULES: dict[str, Rule] = {
    "add": each(lambda x, y, decide: x + y),
    "sub": each(lambda x, y, decide: x - y),
    "mul": each(lambda x, y, decide: x * y),
    "floor_div": each(floor_quotient),
    "real_div": each(real_quotient),
    "mod": each(remainder),
    "maximum": each(larger),
    "minimum": each(smaller),
    "equal": each(lambda x, y, decide: decide.is_zero(x - y)),
    "not_equal": each(lambda x, y, decide: not decide.is_zero(x - y)),
    "less": each(lambda x, y, decide: decide.is_positive(y - x)),
    "greater": each(lambda x, y, decide: decide.is_positive(x - y)),
    "less_equal": each(lambda x, y, decide: not decide.is_positive(x - y)),
    "greater_equal": each(lambda x, y, decide: not decide.is_positive(y - x)),
    "select": choose,
    "reduce_prod": product,
    "reduce_sum": total,
    "floor": rounded("floor"),
    "ceil": rounded("ceiling"),
    "squeeze": without_axes,
    "expand_dims": with_axes,
    "slice_by_index": sliced,
    "tile": tiled,
    "fill": filled,
}
"""By MIL operation: the elements of its result from those of its inputs."""
