"""Formulas: parsing, printing, evaluation and canonical form, against Python's own arithmetic."""

import random

import pytest

from metal4conv.errors import UsageError
from metal4conv.layout.canonical import of_text
from metal4conv.layout.expression import (
    Binary,
    Call,
    Expression,
    Name,
    Number,
    evaluate,
    names,
    parse,
    text_of,
    value_of,
)
from metal4conv.layout.sizes import align_size, largest, product, simplify, substitute, total

PYTHON = {
    "ceildiv": lambda a, b: -(-a // b),
    "align": lambda a, b: -(-a // b) * b,
    "min": min,
    "max": max,
    "__builtins__": {},
}


def random_tree(draw: random.Random, depth: int) -> Expression:
    """Divisors and multiples are positive numbers, as in layouts and in convolutions' sizes."""
    if depth == 0 or draw.random() < 0.15:
        return draw.choice([Number(draw.randint(0, 9)), Name("h"), Name("w"), Name("c")])
    first, second = random_tree(draw, depth - 1), random_tree(draw, depth - 1)
    divisor = Number(draw.randint(1, 8))
    return draw.choice(
        [
            Binary("+", first, second),
            Binary("-", first, second),
            Binary("*", first, second),
            Binary("//", first, divisor),
            Binary("//", first, Call("max", (second, Number(1)))),
            Call("ceildiv", (first, divisor)),
            Call("align", (first, divisor)),
            Call("min", (first, second, Name("w"))),
            Call("max", (first, second)),
        ]
    )


@pytest.mark.parametrize("seed", range(150))
def test_text_value_and_canonical_form_agree_with_python(seed):
    draw = random.Random(seed)
    tree = random_tree(draw, 4)
    text = text_of(tree)
    assert value_of(parse(text), {"h": 5, "w": 7, "c": 3}) == value_of(
        tree, {"h": 5, "w": 7, "c": 3}
    )
    short = simplify(text)
    assert simplify(short) == short
    for _ in range(20):
        sizes = {name: draw.randint(1, 40) for name in "hwc"}
        expected = eval(text, PYTHON, dict(sizes))
        assert evaluate(text, sizes) == expected
        assert evaluate(short, sizes) == expected
        assert of_text(text).value(sizes) == expected
        assert substitute(text, sizes) == expected
        partly = substitute(text, {"h": sizes["h"]})
        assert evaluate(partly, sizes) == expected


@pytest.mark.parametrize(
    ("text", "short"),
    [
        ("h*w*4*2", "8*h*w"),
        ("w*h", "h*w"),
        ("h + h + 3 - 1", "2*h+2"),
        ("align(2*w, 32)", "align(2*w, 32)"),
        ("align(64*w, 32)", "64*w"),
        ("align(w+33, 32)", "align(w+1, 32)+32"),
        ("2*((h-1)//2)+2", "2*((h+1)//2)"),
        ("(8*h)//2", "4*h"),
        ("(4*h+2*w+5)//4", "h+w//2+1"),
        ("((h+1)//2+1)//2", "(h+3)//4"),
        ("ceildiv(h, 2)", "(h+1)//2"),
        ("(h*w*8)//(2*h)", "4*w"),
        ("h//h", 1),
        ("h-h", 0),
        ("3*4-5", 7),
        ("0-h", "0-h"),
        ("-2*h-5", "0-2*h-5"),
        ("2-7", -5),
        ("1-h", "1-h"),
        ("w*((h+1)//2)*3", "3*w*((h+1)//2)"),
        ("max(h, h+2, max(w, 3))", "max(h+2, w, 3)"),
        ("min(h, h)", "h"),
        ("(h+1)*(h-1)", "h*h-1"),
        ("5//0 + h", "h+5//0"),
    ],
)
def test_canonical_form(text, short):
    assert simplify(text) == short


def test_tree_is_data():
    assert parse("2*h//4") == Binary("//", Binary("*", Number(2), Name("h")), Number(4))
    assert parse("-3*align(w, 8)") == Binary("*", Number(-3), Call("align", (Name("w"), Number(8))))
    assert names(parse("align(w, 8)*h-w")) == ("w", "h")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", 'expected a number, a name or "(" at position 1, found the end'),
        ("2*(h", 'expected an operator or ")" at position 5, found the end'),
        ("2*h)", 'expected an operator or the end at position 4, found ")"'),
        ("2 *  % h", 'expected a number, a name or "(" at position 6, found "% h"'),
        ("h/2", 'expected an operator or the end at position 2, found "/2"'),
        ("1 + sqrt(h)", 'at position 5, found "sqrt(h)"'),
        ("1.5*h", "expected an operator or the end at position 2"),
        ("align(h)", "expected two arguments of align, got 1, at position 1"),
        ("max()", 'expected a number, a name or "(" at position 5'),
        ("h w", "expected an operator or the end at position 3"),
        ("__import__('os')", "at position 1"),
        ("(" * 150 + "h" + ")" * 150, "no more than 100 nested parentheses"),
        ("+".join("h" * 2000), "a formula of at most 500 numbers, names and marks"),
        ("-" * 5000 + "h", "no more than 100 nested parentheses"),
    ],
)
def test_errors_have_a_position(text, message):
    with pytest.raises(UsageError) as raised:
        parse(text)
    assert message in raised.value.message


def test_extremum_of_one_size():
    assert evaluate("min(h)-max(w)", {"h": 7, "w": 3}) == 4


def test_evaluation_errors():
    with pytest.raises(UsageError, match='needs the size of "hight"') as raised:
        evaluate("2*hight", {"height": 3})
    assert raised.value.hint == 'did you mean "height"? (known: height)'
    with pytest.raises(UsageError, match="divides by zero"):
        evaluate("4//(h-3)", {"h": 3})
    assert evaluate(12, {}) == 12


def test_size_arithmetic():
    assert product([2, 3]) == 6
    assert product(["h+1", "h-1", 4]) == "4*h*h-4"
    assert total([1, "h", 2]) == "h+3"
    assert align_size("w", 16) == "align(w, 16)"
    assert largest(["2*h", "2*h+1", 0]) == "max(2*h+1, 0)"
    assert substitute("2*h*w", {"h": 4}) == "8*w"
    assert substitute(5, {"h": 4}) == 5
