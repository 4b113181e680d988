"""Formulas against the expressions that they print, by evaluation."""

from __future__ import annotations

import itertools

import pytest
import sympy
from torch.utils._sympy.functions import CeilToInt, FloorDiv, Max, Min, Mod

from metal4conv.execute.formula import formula
from metal4conv.layout.expression import evaluate

H, W = (sympy.Symbol(name, integer=True, positive=True) for name in ("s0", "s1"))

EXPRESSIONS = {
    "a maximum less a size, divided": FloorDiv(Max(0, H - 1) - H + 5, 2),
    "a minimum and a size, divided": FloorDiv(Min(9, H) + W, 3),
    "divided by a square": FloorDiv(100 * H, W**2),
    "divided by a product": FloorDiv(100 * H, 2 * W),
    "a square divided": FloorDiv(H**2 * W, 3),
    "less a quotient": H - FloorDiv(H, 2) - FloorDiv(W, 3),
    "a product of sums": (H + 1) * (W - 3) * 2,
    "a rest of a product": Mod(3 * H + W, 4) * 2,
    "a maximum of products": 3 * Max(2 * H - W, W - H, 0),
    "a ceiling": CeilToInt(H * sympy.Rational(3, 2)),
}


@pytest.mark.parametrize("name", EXPRESSIONS)
def test_a_formula_has_its_expressions_value(name: str) -> None:
    expression = EXPRESSIONS[name]
    text = formula(expression, {H: ("h", 1), W: ("w", 1)})
    for h, w in itertools.product((1, 2, 3, 7, 10), (1, 2, 4, 9)):
        assert evaluate(text, {"h": h, "w": w}) == int(expression.subs({H: h, W: w})), (text, h, w)
