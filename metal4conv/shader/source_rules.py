"""Rules of Metal that C++ does not have, checked in a shader's text before it is compiled.

They are those of the Metal Shading Language Specification, chapters 1.5 and 4. The stand-in headers
cannot see them: `thread` is no address space to clang, and it has all of C++.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

SPACES = frozenset({"device", "constant", "thread", "threadgroup"})

UNKNOWN_WORDS = frozenset(
    {
        *("catch", "delete", "double", "dynamic_cast", "goto", "new", "noexcept", "register"),
        *("thread_local", "throw", "try", "typeid", "virtual"),
    }
)
"""Of C++, and not in Metal (1.5.4)."""

SCALARS = ("bool", "char", "uchar", "short", "ushort", "int", "uint", "half", "bfloat", "float")
TYPES = frozenset(
    {*(f"{name}{size}" for name in SCALARS for size in ("", 2, 3, 4)), "long", "ulong"}
    | {"int8_t", "uint8_t", "int16_t", "uint16_t", "int32_t", "uint32_t", "size_t", "void"}
    | {"tensor", "cooperative_tensor", "array", "vec", "extents", "dextents"}
)
"""What cannot be multiplied; `auto` and the parameters of templates may hold an address space."""

NO_VARIABLE = frozenset(
    {"using", "struct", "class", "enum", "union", "typedef", "template", "static_assert"}
    | {"namespace", "extern", "friend"}
)
"""What a statement at file scope begins with that declares no variable."""

TOKEN = re.compile(
    r"(?P<skip>\s+|//[^\n]*|/\*.*?\*/|^[ \t]*\#(?:[^\n\\]|\\.)*)"
    r"|(?P<number>(?:\d[\w.]*|\.\d[\w.]*)(?:(?<=[eEpP])[+-]\w+)?)"
    r"|(?P<word>[A-Za-z_]\w*)"
    r'|(?P<text>"(?:[^"\\]|\\.)*")'
    r"|(?P<sign>::|\[\[|\]\]|.)",
    re.DOTALL | re.MULTILINE,
)


@dataclass(frozen=True)
class Token:
    """A word, number or sign of a source, and its line."""

    text: str
    line: int
    kind: str


@dataclass(frozen=True)
class BrokenRule:
    """A rule, and the line that breaks it."""

    rule: str
    line: int


def tokens_of(text: str) -> list[Token]:
    """The tokens of a source without its comments and lines of the preprocessor.

    >>> [token.text for token in tokens_of("x *= 1.5e-3f; // half\\n[[buffer(0)]]")]
    ['x', '*', '=', '1.5e-3f', ';', '[[', 'buffer', '(', '0', ')', ']]']
    """
    tokens, line = [], 1
    for found in TOKEN.finditer(text):
        kind = found.lastgroup or "sign"
        if kind != "skip":
            tokens.append(Token(found[0], line, kind))
        line += found[0].count("\n")
    return tokens


def broken_source_rules(text: str) -> list[BrokenRule]:
    """The rules that a source breaks, by their lines.

    >>> broken_source_rules("inline float first(const float *x) { return x[0] * 2.0; }")[0].rule
    'a pointer or reference names its address space: device, constant, thread or threadgroup'
    """
    tokens = tokens_of(text)
    checks = (unknown_words, unnamed_spaces, misplaced_variables, derived_classes, doubles)
    found = dict.fromkeys(rule for check in checks for rule in check(tokens))
    return sorted(found, key=lambda rule: rule.line)


def unknown_words(tokens: Sequence[Token]) -> Iterator[BrokenRule]:
    """Words of C++ that Metal does not have."""
    for token in tokens:
        if token.text in UNKNOWN_WORDS:
            yield BrokenRule(f"Metal has no {token.text}", token.line)


def doubles(tokens: Sequence[Token]) -> Iterator[BrokenRule]:
    """Numbers that C++ takes as double."""
    for token in tokens:
        is_decimal = token.kind == "number" and not token.text.lower().startswith("0x")
        if is_decimal and re.fullmatch(
            r"[\d.]*\.[\d.]*(?:[eE][+-]?\d+)?|\d+[eE][+-]?\d+", token.text
        ):
            yield BrokenRule(
                f"{token.text} says whether it is float or half: {token.text}f or {token.text}h",
                token.line,
            )


def declared_types(tokens: Sequence[Token]) -> set[str]:
    """The names of types: those of the language, and those that the source declares."""
    names = set(TYPES)
    for before, token in pairwise(tokens):
        if before.text in ("struct", "class", "using", "enum") and token.kind == "word":
            names.add(token.text)
    return names - {"namespace", *SPACES}


def unnamed_spaces(tokens: Sequence[Token]) -> Iterator[BrokenRule]:
    """Pointers and references without an address space: a type cannot be multiplied."""
    types = declared_types(tokens)
    for place, token in enumerate(tokens):
        if token.text not in ("*", "&"):
            continue
        words = specifiers_before(tokens, place)
        if words and words[0] in types and not SPACES.intersection(words):
            yield BrokenRule(
                "a pointer or reference names its address space: device, constant, thread or "
                "threadgroup",
                token.line,
            )


def specifiers_before(tokens: Sequence[Token], place: int) -> list[str]:
    """The words before a `*` or `&`, the type first; none after the member of a class."""
    words: list[str] = []
    at = place - 1
    while at >= 0:
        text = tokens[at].text
        if text == ">" and not words:
            at = start_of_arguments(tokens, at)
        elif text == "::":
            if len(words) == 1 and tokens[at - 1].text != "metal":
                return []
        elif text not in ("*", "&"):
            if tokens[at].kind != "word":
                break
            words += [] if text == "const" else [text]
        at -= 1
    return words


def start_of_arguments(tokens: Sequence[Token], end: int) -> int:
    """Where the `<` is that a `>` belongs to, -1 where it is none."""
    depth = 0
    for at in range(end, -1, -1):
        if tokens[at].text == ">":
            depth += 1
        elif tokens[at].text == "<":
            depth -= 1
            if depth == 0:
                return at
        elif tokens[at].text in (";", "{", "}"):
            break
    return -1


def statements_at_file_scope(tokens: Sequence[Token]) -> Iterator[list[Token]]:
    """What stands outside of all braces, up to each `;` or `{`."""
    depth = 0
    current: list[Token] = []
    for token in tokens:
        if token.text == "}":
            depth -= 1
            if depth == 0:
                current = []
            continue
        if depth == 0:
            current.append(token)
            if token.text in (";", "{"):
                yield current
                current = []
        depth += token.text == "{"


def misplaced_variables(tokens: Sequence[Token]) -> Iterator[BrokenRule]:
    """Variables at file scope that are not in constant memory."""
    for statement in statements_at_file_scope(tokens):
        words = [token.text for token in statement]
        head = words[: words.index("=")] if "=" in words else words
        is_variable = "=" in words or words[-1] == ";"
        if not is_variable or len(words) < 3 or words[0] in NO_VARIABLE or "(" in plain(head):
            continue
        if "constant" not in head:
            yield BrokenRule("a variable at file scope lies in constant memory", statement[0].line)


def plain(words: Sequence[str]) -> list[str]:
    """Words without attributes."""
    made, depth = [], 0
    for word in words:
        depth += (word == "[[") - (word == "]]")
        if depth == 0:
            made.append(word)
    return made


def derived_classes(tokens: Sequence[Token]) -> Iterator[BrokenRule]:
    """Structures with a base."""
    for before, token, after in zip(tokens, tokens[1:], tokens[2:], strict=False):
        if before.text in ("struct", "class") and token.kind == "word" and after.text == ":":
            yield BrokenRule("Metal has no derived classes", token.line)
