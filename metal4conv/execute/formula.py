"""From sympy expressions over symbolic sizes to formulas in the words of a layout manifest."""

from __future__ import annotations

from collections.abc import Mapping

import sympy
from torch.utils._sympy import functions as torch_functions

from metal4conv.errors import UnsupportedModel


def formula(expression: sympy.Expr, names: Mapping[sympy.Symbol, tuple[str, int]]) -> int | str:
    """A size as a number, or as a formula over dimension names.

    `names` maps a symbol to its dimension and step: with step 8 the symbol k stands for `h // 8`.

    >>> h = sympy.Symbol("s0", integer=True, positive=True)
    >>> formula(2 * h + 1, {h: ("h", 1)}), formula(16 * h, {h: ("h", 8)})
    ('2*h+1', '2*h')
    """
    expression = sympy.sympify(expression)
    if expression.is_Integer:
        return int(expression)
    return Printer(names).text(expression)


class Printer:
    """Prints expressions with as few parentheses as reading them needs."""

    def __init__(self, names: Mapping[sympy.Symbol, tuple[str, int]]) -> None:
        self.names = names

    def text(self, expression: sympy.Expr) -> str:
        """The formula of any expression."""
        if expression.is_Integer:
            return str(int(expression))
        if expression.is_Symbol:
            return self.symbol(expression, 1)
        if expression.is_Add:
            return self.total(expression)
        if expression.is_Mul:
            return self.product(expression)
        if expression.is_Pow and expression.exp.is_Integer and expression.exp > 0:
            return "*".join([self.factor(expression.base)] * int(expression.exp))
        return self.call(expression)

    def symbol(self, symbol: sympy.Symbol, times: int) -> str:
        """`times` multiplied by a symbol; a step is divided out of the factor if it can be."""
        if symbol not in self.names:
            raise UnsupportedModel(
                f"a size depends on the data ({symbol}), not on the inputs' sizes"
            )
        name, step = self.names[symbol]
        if times % step == 0:
            times //= step
            return name if times == 1 else f"{times}*{name}"
        divided = name if step == 1 else f"({name}//{step})"
        return divided if times == 1 else f"{times}*{divided}"

    def total(self, expression: sympy.Expr) -> str:
        """A sum, positive terms first."""
        terms = sorted(expression.args, key=lambda term: (term.is_Integer, str(term)))
        positive = [term for term in terms if not term.could_extract_minus_sign()]
        negative = [term for term in terms if term.could_extract_minus_sign()]
        text = "+".join(self.text(term) for term in positive) or "0"
        return text + "".join(f"-{self.factor(-term)}" for term in negative)

    def product(self, expression: sympy.Expr) -> str:
        """A product; a rational factor becomes a division of the rest, which it divides."""
        number, rest = expression.as_coeff_Mul()
        if number.is_Rational and not number.is_Integer:
            top = self.text(number.p * rest)
            return f"({top})//{number.q}"
        number = int(number)
        factors = list(rest.args) if rest.is_Mul else [rest]
        parts = []
        for factor in factors:
            if factor.is_Symbol and factor in self.names:
                step = self.names[factor][1]
                if number % step == 0:
                    number //= step
                    parts.append(self.names[factor][0])
                    continue
            parts.append(self.factor(factor))
        text = "*".join(parts)
        if number == 1:
            return text
        return f"-{text}" if number == -1 else f"{number}*{text}"

    def factor(self, expression: sympy.Expr) -> str:
        """An operand of a product: sums and divisions stand in parentheses."""
        text = self.text(expression)
        simple = expression.is_Symbol or expression.is_Integer or expression.is_Pow
        simple = simple or type(expression).__name__ in ("Max", "Min")
        return text if simple and "//" not in text else f"({text})"

    def call(self, expression: sympy.Expr) -> str:
        """Divisions, roundings, maxima and minima as torch and sympy spell them."""
        name = type(expression).__name__
        args = expression.args
        if name in ("FloorDiv", "CleanDiv", "FloorToInt") and len(args) == 2:
            bottom = self.factor(args[1])
            return f"{self.factor(args[0])}//{f'({bottom})' if args[1].is_Pow else bottom}"
        if name in ("CeilDiv", "CeilToInt") and len(args) == 2:
            return f"ceildiv({self.text(args[0])},{self.text(args[1])})"
        if name in ("Max", "Min"):
            return f"{name.lower()}({','.join(sorted(map(self.text, args)))})"
        if name in ("Mod", "PythonMod") and len(args) == 2:
            top, bottom = self.factor(args[0]), self.factor(args[1])
            return f"{self.text(args[0])}-{bottom}*({top}//{bottom})"
        if name in (
            "floor",
            "FloorToInt",
            "TruncToInt",
            "ceiling",
            "CeilToInt",
            "RoundToInt",
            "ToFloat",
        ):
            return self.rounded(name, args[0])
        raise UnsupportedModel(f"the size {expression} cannot be written as a formula")

    def rounded(self, name: str, inner: sympy.Expr) -> str:
        """A rounded product with a rational factor: `floor(h * 0.5)` is `h//2`."""
        inner = inner.replace(torch_functions.ToFloat, lambda argument: argument)
        inner = sympy.expand(inner.replace(sympy.Float, sympy.nsimplify))
        inner = inner.replace(torch_functions.FloatTrueDiv, lambda a, b: a / b)
        inner = inner.replace(torch_functions.IntTrueDiv, lambda a, b: a / b)
        top, bottom = sympy.fraction(sympy.together(inner))
        if not bottom.is_Integer:
            raise UnsupportedModel(f"the size {inner} cannot be written as a formula")
        if bottom == 1:
            return self.text(top)
        if name in ("ceiling", "CeilToInt"):
            return f"ceildiv({self.text(top)},{int(bottom)})"
        if name == "RoundToInt":
            return f"(2*({self.text(top)})+{int(bottom)})//{2 * int(bottom)}"
        return f"{self.factor(top)}//{int(bottom)}"
