"""The table of MIL operations, and the kinds of their parameters.

An operation is a function whose parameters have MIL's names and, where MIL gives one, its default.
The annotations say how arguments are handed over:

| annotation | what the function gets |
|---|---|
| `Tensor`, `Tensor | None` | a torch tensor |
| `Tensors` | a list of torch tensors (a tuple parameter such as concat's `values`) |
| `int`, `float`, `bool`, `str` (or None) | a Python value; an int may be a `torch.SymInt` |
| `Ints`, `Floats`, `Bools` (or None) | a tuple of such values |
| `list[Any]` | the values of a tuple parameter as they are |
| `Any` | the value as it is: a list of MIL, a state, a host array |

`@MIL_OPS("add")` marks arithmetic: its float16 tensors come as float32, and the result is rounded
once to the declared dtype. `@EXACT_OPS("reshape")` marks operations that only move or choose
elements, or whose results every dtype holds exactly: they run on tensors as they are.
`@ROUNDED_OPS("sigmoid")` marks arithmetic that torch rounds just so by itself. `HOST_OPS` are the
same operations on small arrays of sizes, kept in numpy (see `host.py`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

from torch import Tensor

from metal4conv.registry import OpTable

Ints = tuple[int, ...]
Floats = tuple[float, ...]
Bools = tuple[bool, ...]
Tensors = list[Tensor]

Operator = Callable[..., Any]
"""A function with MIL's parameters; it gives a tensor, or a tuple of them."""

MIL_OPS: OpTable[Operator] = OpTable("MIL operation")
HOST_OPS: OpTable[Operator] = OpTable("MIL operation on sizes")

EXACT: set[Operator] = set()
"""The functions in `MIL_OPS` that run on float16 tensors as they are."""

ROUNDED: set[Operator] = set()
"""Arithmetic whose float16 kernels in torch give the float32 result rounded once.

They need no widened copies. Sums, differences, products and quotients are that with any correct
kernel: float32 has more than twice the bits of float16, so that rounding through it changes
nothing. For functions of one element a test goes through all float16 numbers.
"""

Specialize = Callable[[dict[str, Any], set[str]], "tuple[Operator, dict[str, Any]] | None"]
"""From constant arguments, and the names of the others, to a function that computes the same.

It is called with the arguments given here instead of the constant ones; None where there is no
such function. (Any: constant arguments.)
"""

SPECIALIZED: dict[Operator, Specialize] = {}
"""Operators that are faster once their weights are prepared."""

Arithmetic = Literal["exact", "rounded", "wide"]
"""How an operation treats float16: moves it, rounds by itself, or is given float32 and rounded."""


def arithmetic_of(operator: Operator) -> Arithmetic:
    """How an operation treats float16."""
    if operator in EXACT:
        return "exact"
    return "rounded" if operator in ROUNDED else "wide"


def EXACT_OPS(*names: str, since: int = 0) -> Callable[[Operator], Operator]:
    """Decorator that registers an operation which does no arithmetic."""
    register = MIL_OPS(*names, since=since)

    def register_exact(function: Operator) -> Operator:
        EXACT.add(function)
        return register(function)

    return register_exact


def ROUNDED_OPS(*names: str) -> Callable[[Operator], Operator]:
    """Decorator that registers arithmetic which rounds float16 by itself."""
    register = MIL_OPS(*names)

    def register_rounded(function: Operator) -> Operator:
        ROUNDED.add(function)
        return register(function)

    return register_rounded


def is_exact(name: str) -> bool:
    """Whether an operation, in each of its versions, is one of `EXACT_OPS`.

    >>> from metal4conv.execute.families import load_all
    >>> load_all()
    >>> is_exact("transpose"), is_exact("add")
    (True, False)
    """
    versions = MIL_OPS.handlers.get(name, {}).values()
    return bool(versions) and all(operator in EXACT for operator in versions)
