"""Reads what a macOS wheel of pyobjc-framework-Metal says about selectors, constants, functions.

    python -m tests.device.read_pyobjc pyobjc_framework_metal-12.2.2-cp311-….whl

rewrites `pyobjc_facts.json` beside it with those facts that the runner needs. Nothing of the wheel
is run, so any machine will do. It has two sources: `Metal/_metadata.py`, which is parsed, holds
the annotations that PyObjC registers, and `Metal/_Metal….so` the Objective-C protocols as the
compiler wrote them from Apple's SDK; of its two architectures the one for Intel is read, whose
pointers need no fixing up.
"""

from __future__ import annotations

import ast
import json
import re
import struct
import sys
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

FACTS = Path(__file__).with_name("pyobjc_facts.json")

# From LLVM's BinaryFormat/MachO.def and the Objective-C runtime's objc-runtime-new.h
FAT_MAGIC = 0xCAFEBABE
CPU_X86_64 = 0x01000007
SEGMENT_64 = 0x19


@dataclass(frozen=True)
class Wheel:
    """What a wheel says.

    `metadata`: annotations by selector and class, `NSObject` for all protocols; `protocols`: type
    encodings by protocol and selector.
    """

    name: str
    version: str
    metadata: Mapping[str, dict[str, Any]]
    constants: Mapping[str, int]
    strings: frozenset[str]
    functions: Mapping[str, str]
    protocols: Mapping[str, Mapping[str, str]]


def read_wheel(path: Path) -> Wheel:
    """The facts of a wheel's two files."""
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
        module = archive.read("Metal/_metadata.py").decode("utf-8")
        (binary,) = [name for name in names if re.fullmatch(r"Metal/_Metal\..*\.so", name)]
        protocols = read_protocols(archive.read(binary))
    tree = ast.parse(module)
    values = assignments(tree)
    functions = {name: row[0].decode() for name, row in values["functions"].items()}
    return Wheel(
        name=path.name,
        version=path.name.split("-")[1],
        metadata=read_metadata(tree),
        constants=dict(read_enums(values["enums"])),
        strings=frozenset(
            item.partition("@")[0] for item in values["constants"].split("$") if item
        ),
        functions=functions,
        protocols=protocols,
    )


def assignments(tree: ast.Module) -> dict[str, Any]:
    """The literals that are assigned to names at the top of the metadata module."""
    return {
        node.targets[0].id: literal(node.value)
        for node in tree.body
        if isinstance(node, ast.Assign)
        and isinstance(node.targets[0], ast.Name)
        and node.targets[0].id in ("enums", "constants", "functions")
    }


class ChooseArchitecture(ast.NodeTransformer):
    """`sel32or64(a, b)` becomes b, `selAorI(a, b)` a: 64 bits, and Apple silicon."""

    def visit_Call(self, node: ast.Call) -> ast.AST:
        self.generic_visit(node)
        name = node.func.id if isinstance(node.func, ast.Name) else ""
        return node.args[1] if name == "sel32or64" else node.args[0] if name == "selAorI" else node


def literal(node: ast.expr) -> Any:
    """The value of an expression of literals."""
    return ast.literal_eval(ChooseArchitecture().visit(node))


def read_metadata(tree: ast.Module) -> dict[str, dict[str, Any]]:
    """The calls of `r(class, selector, annotation)`, by selector and class."""
    found: dict[str, dict[str, Any]] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "r":
            owner, selector, annotation = map(literal, node.args)
            found.setdefault(selector.decode(), {})[owner.decode()] = annotation
    return found


def read_enums(text: str) -> Iterator[tuple[str, int]]:
    """Names and values of `$MTLHeapTypePlacement@1$…`."""
    for item in filter(None, text.split("$")):
        name, _, value = item.partition("@")
        yield name, int(value)


@dataclass
class Image:
    """One architecture of a Mach-O file: its bytes, and where its segments are in memory."""

    data: bytes
    segments: list[tuple[int, int, int]] = field(default_factory=list)  # address, length, offset
    sections: dict[str, tuple[int, int]] = field(default_factory=dict)  # offset, length

    def offset(self, address: int) -> int:
        """Where in the file the byte at an address is."""
        for start, length, offset in self.segments:
            if start <= address < start + length:
                return address - start + offset
        raise ValueError(f"no segment holds address {address:#x}")

    def pointer(self, offset: int) -> int:
        """The pointer at a place in the file."""
        return int(struct.unpack_from("<Q", self.data, offset)[0])

    def text(self, address: int) -> str:
        """The C string at an address."""
        start = self.offset(address)
        return self.data[start : self.data.index(b"\0", start)].decode()


def read_protocols(data: bytes) -> dict[str, dict[str, str]]:
    """The methods of each protocol in the Intel half of a universal library, with encodings."""
    image = intel_image(data)
    start, length = image.sections["__objc_protolist"]
    found = {}
    for place in range(start, start + length, 8):
        _, name, _, required, static, optional, *_ = struct.unpack_from(
            "<8Q", image.data, image.offset(image.pointer(place))
        )
        lists = (methods_at(image, address) for address in (required, static, optional) if address)
        found[image.text(name)] = {selector: types for rows in lists for selector, types in rows}
    return found


def methods_at(image: Image, address: int) -> Iterator[tuple[str, str]]:
    """The selectors and type encodings of a `method_list_t`."""
    start = image.offset(address)
    size, count = struct.unpack_from("<II", image.data, start)
    assert size == 24, "the compiler wrote another kind of list"
    for number in range(count):
        name, types, _ = struct.unpack_from("<3Q", image.data, start + 8 + size * number)
        yield image.text(name), image.text(types)


def intel_image(data: bytes) -> Image:
    """The x86-64 image of a universal library, its segments and sections found."""
    magic, count = struct.unpack_from(">II", data)
    assert magic == FAT_MAGIC, "no universal library"
    rows = [struct.unpack_from(">5I", data, 8 + 20 * number) for number in range(count)]
    (start, size) = next((row[2], row[3]) for row in rows if row[0] == CPU_X86_64)
    image = Image(data[start : start + size])
    commands, place = struct.unpack_from("<I", image.data, 16)[0], 32
    for _ in range(commands):
        command, length = struct.unpack_from("<II", image.data, place)
        if command == SEGMENT_64:
            add_segment(image, place)
        place += length
    return image


def add_segment(image: Image, place: int) -> None:
    """Notes a `segment_command_64` and its sections."""
    address, length, offset = struct.unpack_from("<3Q", image.data, place + 24)
    image.segments.append((address, length, offset))
    (sections,) = struct.unpack_from("<I", image.data, place + 64)
    for number in range(sections):
        header = place + 72 + 80 * number
        (name,) = struct.unpack_from("<16s", image.data, header)
        size, offset = struct.unpack_from("<QI", image.data, header + 40)
        image.sections[name.rstrip(b"\0").decode()] = (offset, size)


def selector_fact(wheel: Wheel, selector: str) -> dict[str, Any] | None:
    """What the wheel says of a selector, None when it says nothing.

    `result` and `arguments` (by position) are annotations, `protocols` those that declare it.
    """
    fact: dict[str, Any] = {}
    if row := wheel.metadata.get(selector):
        annotation = row.get("NSObject") or next(iter(row.values()))
        fact["classes"] = sorted(row)
        if "retval" in annotation:
            fact["result"] = argument_fact(annotation["retval"])
        arguments = annotation.get("arguments", {})
        fact["arguments"] = {str(i - 2): argument_fact(arguments[i]) for i in sorted(arguments)}
    declaring = sorted(name for name, rows in wheel.protocols.items() if selector in rows)
    if declaring:
        fact["protocols"] = {name: wheel.protocols[name][selector] for name in declaring}
    return fact or None


def argument_fact(annotation: Mapping[str, Any]) -> dict[str, Any]:
    """An annotation as JSON: type, direction, how long an array is, a block's own types."""
    fact: dict[str, Any] = {}
    for key, value in annotation.items():
        if key == "callable":
            types = [value["retval"], *(value["arguments"][i] for i in sorted(value["arguments"]))]
            fact["block"] = [text_of(item["type"]) for item in types]
        elif key == "c_array_length_in_arg":
            fact[key] = value - 2
        elif key != "required":
            fact[key] = text_of(value)
    return fact


def text_of(value: Any) -> Any:
    """Bytes as text, the rest as it is."""
    return value.decode() if isinstance(value, bytes) else value


def facts_of(wheel: Wheel, selectors: set[str], names: set[str]) -> dict[str, Any]:
    """The table of what the wheel says about these selectors, constants and functions."""
    found = {name: selector_fact(wheel, name) for name in sorted(selectors)}
    return {
        "wheel": wheel.name,
        "version": wheel.version,
        "selectors": {name: fact for name, fact in found.items() if fact},
        "constants": {name: wheel.constants[name] for name in sorted(names & set(wheel.constants))},
        "strings": sorted(names & wheel.strings),
        "functions": {name: wheel.functions[name] for name in sorted(names & set(wheel.functions))},
    }


def facts_text(facts: Mapping[str, Any]) -> str:
    """The table as the file has it: an object a line, so that a difference reads well."""
    lines = []
    for key, value in facts.items():
        if not isinstance(value, dict):
            lines.append(f"  {json.dumps(key)}: {json.dumps(value)}")
            continue
        rows = [f"    {json.dumps(name)}: {json.dumps(row)}" for name, row in value.items()]
        lines.append(f"  {json.dumps(key)}: {{\n" + ",\n".join(rows) + "\n  }")
    return "{\n" + ",\n".join(lines) + "\n}\n"


def main(arguments: list[str]) -> int:
    """Rewrites the table; says which names the wheel does not know."""
    from tests.device.bindings import needed_names, needed_selectors

    facts = facts_of(read_wheel(Path(arguments[0])), needed_selectors(), needed_names())
    FACTS.write_text(facts_text(facts), "utf-8")
    silent = sorted(needed_selectors() - set(facts["selectors"]))
    print(f"{FACTS}: {len(facts['selectors'])} selectors, {len(facts['constants'])} constants")
    print("the wheel says nothing about:", " ".join(silent))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
