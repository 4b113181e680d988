"""Functions of elements as Metal: what the standard library has, and helpers for what it lacks.

Metal compiles with fast math unless it is told otherwise; its fast versions of the functions that
stand here as `precise::` reduce large arguments badly or lose the last bits of small ones (Metal
Shading Language Specification, "Relative Errors of Math Functions").
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

LIBRARY: Mapping[str, str] = {
    "abs": "abs",
    "acos": "precise::acos",
    "asin": "precise::asin",
    "atan": "precise::atan",
    "ceil": "ceil",
    "clamp": "clamp",
    "cos": "precise::cos",
    "cosh": "precise::cosh",
    "exp": "precise::exp",
    "exp2": "precise::exp2",
    "floor": "floor",
    "log": "precise::log",
    "maximum": "max",
    "minimum": "min",
    "power": "precise::pow",
    "round": "rint",
    "rsqrt": "precise::rsqrt",
    "sign": "sign",
    "sin": "precise::sin",
    "sinh": "precise::sinh",
    "sqrt": "precise::sqrt",
    "tan": "precise::tan",
    "tanh": "precise::tanh",
    "truncate": "trunc",
}
"""Functions of `network.FUNCTIONS` that Metal's standard library has; its `rint` rounds halves to
even, its `round` does not.
"""


@dataclass(frozen=True)
class Helper:
    """A function that the source defines where it is used.

    `comment` says what it gives; `NAME_` in the body stands for the network's prefix.
    """

    comment: str
    signature: str
    body: tuple[str, ...]
    needs: tuple[str, ...] = ()


HELPERS: Mapping[str, Helper] = {
    "leaky_relu": Helper(
        "x, times the slope where it is negative.",
        "float x, float slope",
        ("return x < 0.0f ? slope * x : x;",),
    ),
    "elu": Helper(
        "x, and scale * (exp(x) - 1) where it is negative: by tanh, which keeps small x's digits.",
        "float x, float scale",
        (
            "const float t = precise::tanh(0.5f * min(x, 0.0f));",
            "return x < 0.0f ? scale * (2.0f * t / (1.0f - t)) : x;",
        ),
    ),
    "sigmoid": Helper(
        "1 / (1 + exp(-x)); the exponential is of what is not positive, so it cannot overflow.",
        "float x",
        (
            "const float e = precise::exp(-abs(x));",
            "return (x < 0.0f ? e : 1.0f) / (1.0f + e);",
        ),
    ),
    "silu": Helper(
        "x times its sigmoid.", "float x", ("return x * NAME_sigmoid(x);",), ("sigmoid",)
    ),
    "softplus": Helper(
        "log(1 + exp(x)), without overflow: log(1 + e) is 2 atanh(e / (2 + e)), whose series ends\n"
        "early as e <= 1.",
        "float x",
        (
            "const float e = precise::exp(-abs(x));",
            "const float s = e / (2.0f + e);",
            "const float s2 = s * s;",
            "float series = 1.0f / 13.0f;",
            "series = series * s2 + 1.0f / 11.0f;",
            "series = series * s2 + 1.0f / 9.0f;",
            "series = series * s2 + 1.0f / 7.0f;",
            "series = series * s2 + 1.0f / 5.0f;",
            "series = series * s2 + 1.0f / 3.0f;",
            "series = series * s2 + 1.0f;",
            "return max(x, 0.0f) + 2.0f * s * series;",
        ),
    ),
    "softsign": Helper("x / (1 + |x|).", "float x", ("return x / (1.0f + abs(x));",)),
    "erf_near": Helper(
        "The error function where |x| <= 1: x times a polynomial in x * x that was fitted to\n"
        "erf(x) / x for the smallest largest relative error, 1.3e-9 before rounding.",
        "float x",
        (
            "const float s = x * x;",
            "float p = 7.8538577e-05f;",
            "p = p * s - 0.00080101925f;",
            "p = p * s + 0.0051883277f;",
            "p = p * s - 0.026853811f;",
            "p = p * s + 0.112835854f;",
            "p = p * s - 0.37612626f;",
            "p = p * s + 1.1283791f;",
            "return x * p;",
        ),
    ),
    "erfc_far": Helper(
        "1 - erf(z) where z >= 1: t * exp(-z * z) times a polynomial in t = 1 / (1 + z / 2) that\n"
        "was fitted for the smallest largest relative error, 1.1e-8 before rounding.",
        "float z",
        (
            "const float t = 1.0f / (1.0f + 0.5f * z);",
            "float p = 0.093031824f;",
            "p = p * t - 0.22484781f;",
            "p = p * t + 0.080647431f;",
            "p = p * t + 0.062252266f;",
            "p = p * t + 0.1782823f;",
            "p = p * t + 0.2470785f;",
            "p = p * t + 0.28202549f;",
            "p = p * t + 0.28209913f;",
            "return t * precise::exp(-z * z) * p;",
        ),
    ),
    "erf": Helper(
        "The error function, which Metal's library lacks.",
        "float x",
        (
            "const float z = abs(x);",
            "return z <= 1.0f ? NAME_erf_near(x) : sign(x) * (1.0f - NAME_erfc_far(z));",
        ),
        ("erf_near", "erfc_far"),
    ),
    "gelu": Helper(
        "x times the normal distribution's share below x.",
        "float x",
        (
            "const float z = abs(x) * 0.70710678f;",
            "const float above = z <= 1.0f ? 1.0f - NAME_erf_near(z) : NAME_erfc_far(z);",
            "return 0.5f * x * (x < 0.0f ? above : 2.0f - above);",
        ),
        ("erf_near", "erfc_far"),
    ),
    "gelu_tanh": Helper(
        "x / 2 * (1 + tanh(sqrt(2 / pi) * (x + 0.044715 x^3))), written with the sigmoid.",
        "float x",
        ("return x * NAME_sigmoid(1.5957691f * (x + 0.044715f * x * x * x));",),
        ("sigmoid",),
    ),
    "gelu_sigmoid": Helper(
        "x times the sigmoid of 1.702 x.",
        "float x",
        ("return x * NAME_sigmoid(1.702f * x);",),
        ("sigmoid",),
    ),
    "modulo": Helper(
        "What is left of x after whole y's; it has y's sign.",
        "float x, float y",
        (
            "const float rest = precise::fmod(x, y);",
            "return rest != 0.0f && (rest < 0.0f) != (y < 0.0f) ? rest + y : rest;",
        ),
    ),
    "floor_divide": Helper(
        "x / y, rounded towards minus infinity.",
        "float x, float y",
        ("return rint((x - NAME_modulo(x, y)) / y);",),
        ("modulo",),
    ),
    "square": Helper("x * x.", "float x", ("return x * x;",)),
}
"""Each after those that it calls."""


def with_needed(names: Iterable[str]) -> tuple[str, ...]:
    """The helpers and those that they call, in the order in which they can be defined.

    >>> with_needed(["gelu", "silu"])
    ('sigmoid', 'silu', 'erf_near', 'erfc_far', 'gelu')
    """
    wanted = set(names)
    for name in reversed(list(HELPERS)):
        if name in wanted:
            wanted |= set(HELPERS[name].needs)
    return tuple(name for name in HELPERS if name in wanted)


def helper_text(name: str, prefix: str) -> str:
    """The definition of a helper, with its comment."""
    helper = HELPERS[name]
    comment = [f"// {line}" for line in helper.comment.splitlines()]
    body = [f"    {line}" for line in helper.body]
    lines = [*comment, f"inline float NAME_{name}({helper.signature})", "{", *body, "}"]
    return "\n".join(lines).replace("NAME_", f"{prefix}_")
