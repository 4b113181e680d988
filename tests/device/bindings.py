"""What the runner says to Metal through PyObjC, found in its source, and what is wrong with it.

Four things are looked for: calls of selectors (`newBufferWithLength_options_(n, 0)`, and getters
without arguments), names on PyObjC's modules (`api.metal.MTLTensorDescriptor`, `getattr` with a
name, names in strings), numbers whose docstring says that they are a constant of Metal, and
selectors in strings. Each is held against `pyobjc_facts.json`, which comes from PyObjC's wheel,
and `apple_headers.py`.
"""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from metal4conv import device
from metal4conv.device.api import Api
from tests.device.apple_headers import CLASSES, declared
from tests.device.read_pyobjc import FACTS

DEVICE = Path(device.__path__[0])

SPEAKERS = (
    "metal.py",
    "runner.py",
    "compute.py",
    "compute_resources.py",
    "session.py",
    "submission.py",
    "tensors.py",
    "bindings.py",
    "failures.py",
)
"""The files of `device/` that call Metal, as far as they exist."""

APPLE_NAME = re.compile(r"(?:MTL4?|NS)[A-Z]\w+|MTL_\w+")
SELECTOR = re.compile(r"[a-z]\w*:(?:[a-z]\w*:)*")
CONSTANT_OF_DOCSTRING = re.compile(r"`((?:MTL4?|NS)[A-Z]\w+)`")

MODULES = ("metal", "foundation", "Metal", "Foundation")
"""What PyObjC's modules are called in the runner."""


@dataclass(frozen=True)
class Said:
    """One thing that a source says: a call, a name, a number or a selector's text.

    `is_statement` says of a call that nobody looks at its result.
    """

    kind: str
    name: str
    line: int
    call: ast.Call | None = None
    is_statement: bool = False
    value: int | None = None


def speakers() -> list[Path]:
    """The files that call Metal."""
    return [path for name in SPEAKERS if (path := DEVICE / name).exists()]


def python_names(sources: Mapping[str, str]) -> set[str]:
    """Methods that are Python's own, or defined in these sources."""
    kinds = (str, bytes, list, dict, set, tuple, int, Path, re.Pattern)
    names = {name for kind in kinds for name in dir(kind)} - {"index", "name", "count"}
    names |= {"tobytes", "sum", "min", "max"}  # numpy's; not all of them, as `strides` is Metal's
    names |= {"flush", "close", "acquire", "release", "set", "is_set"}  # of files, locks and events
    names |= {item.name for item in fields(Api)}
    for text in sources.values():
        names |= {
            node.name for node in ast.walk(ast.parse(text)) if isinstance(node, ast.FunctionDef)
        }
    return names


def imported(tree: ast.Module) -> set[str]:
    """Names that imports bring into a module."""
    nodes = [node for node in ast.walk(tree) if isinstance(node, ast.Import | ast.ImportFrom)]
    return {(alias.asname or alias.name).partition(".")[0] for n in nodes for alias in n.names}


def said_in(text: str, python: set[str]) -> Iterator[Said]:
    """Everything that a source says to Metal."""
    tree = ast.parse(text)
    modules = imported(tree)
    statements = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        match node:
            case ast.Call(func=ast.Attribute(attr=name, value=receiver)):
                called_on = last_of(receiver)
                if called_on in MODULES or root_of(receiver) in modules:
                    continue
                if is_selector(node, name, python):
                    unused = id(node) in statements
                    yield Said("call", selector_of(name), node.lineno, node, unused)
            case ast.Attribute(attr=name, value=receiver) if last_of(receiver) in MODULES:
                yield Said("name", name, node.lineno)
        if isinstance(node, ast.Constant) and id(node) not in statements:
            yield from said_by_text(node)
    yield from documented_numbers(tree)


def root_of(node: ast.expr) -> str:
    """The name that a chain of attributes starts with."""
    while isinstance(node, ast.Attribute):
        node = node.value
    return node.id if isinstance(node, ast.Name) else ""


def last_of(node: ast.expr) -> str:
    """The last name of a chain of attributes."""
    match node:
        case ast.Name(id=name) | ast.Attribute(attr=name):
            return name
    return ""


def is_selector(call: ast.Call, name: str, python: set[str]) -> bool:
    """Whether a method call goes to Objective-C: a colon's underscore at the end, or a getter."""
    if name.startswith("_"):
        return False
    return name.endswith("_") or not (call.args or call.keywords or name in python)


def selector_of(name: str) -> str:
    """The selector of a PyObjC method.

    >>> selector_of("newBufferWithLength_options_")
    'newBufferWithLength:options:'
    """
    return name.replace("_", ":")


def said_by_text(node: ast.Constant) -> Iterator[Said]:
    """A class, constant or selector that is a whole string, or bytes as PyObjC wants them."""
    text = node.value.decode("latin-1") if isinstance(node.value, bytes) else node.value
    if not isinstance(text, str):
        return
    if APPLE_NAME.fullmatch(text):
        yield Said("name", text, node.lineno)
    elif SELECTOR.fullmatch(text):
        yield Said("text", text, node.lineno)


def documented_numbers(tree: ast.Module) -> Iterator[Said]:
    """`X = 4` with a docstring that names a constant of Metal first."""
    for node, following in zip(tree.body, tree.body[1:], strict=False):
        match node, following:
            case (
                ast.Assign(value=ast.Constant(value=int(value))),
                ast.Expr(value=ast.Constant(value=str(docstring))),
            ) if found := CONSTANT_OF_DOCSTRING.search(docstring.split(";")[0].split(".")[0]):
                yield Said("number", found[1], node.lineno, value=value)


def problems(sources: Mapping[str, str], facts: Mapping[str, Any]) -> list[str]:
    """What in these sources PyObjC or Apple's headers do not bear out, each with its line."""
    python = python_names(sources)
    return [
        f"{file}:{said.line}: {problem}"
        for file, text in sources.items()
        for said in said_in(text, python)
        for problem in problems_of(said, facts)
    ]


def problems_of(said: Said, facts: Mapping[str, Any]) -> Iterator[str]:
    """What is wrong with one thing."""
    match said.kind:
        case "call":
            assert said.call is not None
            yield from problems_of_call(said.name, said.call, facts)
            yield from problems_of_result(said, facts)
        case "text" if not is_known_selector(said.name, facts):
            yield f'nothing is known of the selector "{said.name}"'
        case "name" if not is_known_name(said.name, facts):
            yield f'nothing is known of the name "{said.name}"'
        case "number" if facts["constants"].get(said.name) != said.value:
            yield f"{said.name} is {facts['constants'].get(said.name)}, not {said.value}"


def is_known_selector(selector: str, facts: Mapping[str, Any]) -> bool:
    """Whether the wheel or a header has it."""
    return selector in facts["selectors"] or selector in declared()


def is_known_name(name: str, facts: Mapping[str, Any]) -> bool:
    """Whether it is a constant or function of the wheel, or a class of a header."""
    known = (facts["constants"], facts["strings"], facts["functions"], CLASSES)
    return any(name in names for names in known)


def problems_of_call(selector: str, call: ast.Call, facts: Mapping[str, Any]) -> Iterator[str]:
    """What is wrong with a call: the selector, the count of arguments, what goes in and out."""
    if not is_known_selector(selector, facts):
        yield f'nothing is known of the selector "{selector}"'
        return
    if any(isinstance(argument, ast.Starred) for argument in call.args) or call.keywords:
        yield f'"{selector}": its arguments cannot be counted'
        return
    if len(call.args) != selector.count(":"):
        yield f'"{selector}" takes {selector.count(":")} arguments, not {len(call.args)}'
        return
    arguments = facts["selectors"].get(selector, {}).get("arguments", {})
    for position, argument in enumerate(call.args):
        annotation = arguments.get(str(position), {})
        yield from problems_of_argument(selector, position, argument, annotation)


def problems_of_result(said: Said, facts: Mapping[str, Any]) -> Iterator[str]:
    """What is wrong with the use of a result: one that never comes, or an error that is dropped."""
    fact = facts["selectors"].get(said.name, {})
    if fact.get("result") == {"type": "v"} and not said.is_statement:
        yield f'"{said.name}" gives nothing back'
    if said.name.endswith("error:") and said.is_statement:
        yield f'"{said.name}": nobody looks at its result and error'


def problems_of_argument(
    selector: str, position: int, argument: ast.expr, annotation: Mapping[str, Any]
) -> Iterator[str]:
    """What is wrong with one argument.

    An `NSError **` is an out-parameter, for which PyObjC takes None and gives back a tuple. Memory
    of a length that it does not know is written to or read as it is: None and lists do not do.
    """
    is_none = isinstance(argument, ast.Constant) and argument.value is None
    is_object = annotation.get("type", "^@") == "^@"  # of classes' methods the runtime knows it
    is_error = is_object and annotation.get("type_modifier") == "o"
    part = selector.split(":")[position]
    if is_error and not is_none:
        yield f'"{selector}": argument {position + 1} is an out-parameter, for which None is given'
    if part == "error" and not is_error:
        yield f'"{selector}": PyObjC does not know that argument {position + 1} is an out-parameter'
    if annotation.get("c_array_of_variable_length") and (
        is_none or isinstance(argument, ast.List | ast.Tuple)
    ):
        yield f'"{selector}": argument {position + 1} must be memory'
    if "c_array_length_in_arg" in annotation and is_none:
        yield f'"{selector}": argument {position + 1} must be a sequence'


def sources_of_runner() -> dict[str, str]:
    """The text of the files that call Metal, by name."""
    return {path.name: path.read_text("utf-8") for path in speakers()}


def unlisted_speakers() -> list[str]:
    """Files of `device/` that call selectors or name Metal's classes, but are not in SPEAKERS."""
    return [
        path.name
        for path in sorted(DEVICE.glob("*.py"))
        if path.name not in SPEAKERS
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if (isinstance(node, ast.Attribute) and node.attr.endswith("_") and node.attr[0] != "_")
        or (isinstance(node, ast.Attribute) and APPLE_NAME.fullmatch(node.attr))
    ]


def read_facts() -> dict[str, Any]:
    """The table that was read from the wheel."""
    facts: dict[str, Any] = json.loads(FACTS.read_text("utf-8"))
    return facts


def everything_said() -> list[Said]:
    """All that the runner says to Metal."""
    sources = sources_of_runner()
    python = python_names(sources)
    return [said for text in sources.values() for said in said_in(text, python)]


def needed_selectors() -> set[str]:
    """The selectors that the table has to know."""
    return {said.name for said in everything_said() if said.kind in ("call", "text")}


def needed_names() -> set[str]:
    """The names that the table has to know: of the runner, the emulator, and element types."""
    from metal4conv.layout.rules import DATA_TYPES

    names = {said.name for said in everything_said() if said.kind in ("name", "number")}
    return (
        names
        | {row.constant for row in DATA_TYPES.values()}
        | {*OTHER_CONSTANTS, *emulated_constants()}
    )


def emulated_constants() -> dict[str, int]:
    """The constants of the emulator's `Metal`, with their values."""
    from metal4conv.device.emulator import open_api

    values = {name: value for name, value in vars(open_api().metal).items() if type(value) is int}
    return {name: value for name, value in values.items() if APPLE_NAME.fullmatch(name)}


OTHER_CONSTANTS = {
    "MTL_TENSOR_MAX_RANK": "layout.rules.MAXIMUM_RANK",
    "MTLBindingAccessReadOnly": "layout.rules.READ",
    "MTLBindingAccessWriteOnly": "layout.rules.WRITE",
    "MTLTensorUsageMachineLearning": "layout.rules.MACHINE_LEARNING",
}
"""Constants whose values other parts have as plain numbers."""
