"""The Swift file, parsed with a Swift grammar; its expressions are evaluated.

No Swift compiler is at hand: the grammar finds what is no Swift, but not a wrong type or name. The
spellings of Metal's members are those of Apple's documentation, listed once more below.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from metal4conv.layout.document import LayoutManifest
from metal4conv.layout.emit import emit
from metal4conv.layout.emit.expressions import Language, Statements, render
from metal4conv.layout.emit.swift import FUNCTIONS
from metal4conv.layout.expression import align, ceildiv, evaluate
from metal4conv.mil.program import Dimension
from tests.layout.emit.test_cpp import EDGES, NAMES, formulas
from tests.layout.manifests import classifier, manifest_with, upscaler

tree_sitter = pytest.importorskip("tree_sitter", reason="tree-sitter is not installed")
grammar = pytest.importorskip("tree_sitter_swift", reason="tree-sitter-swift is not installed")


def nodes(text: str) -> Iterator[Any]:
    """All nodes of the syntax tree of a Swift file."""
    parser = tree_sitter.Parser(tree_sitter.Language(grammar.language()))
    waiting = [parser.parse(text.encode()).root_node]
    while waiting:
        node = waiting.pop()
        yield node
        waiting += node.children


def faults(text: str) -> list[str]:
    """Where a text is no Swift."""
    found = [node for node in nodes(text) if node.is_error or node.is_missing]
    return [f"line {node.start_point[0] + 1}: {node.text[:80]!r}" for node in found]


def long_formulas() -> LayoutManifest:
    """Sizes that need several statements."""
    size = "max((h+3)//4*8+(w+1)//2*3, 7*h*w+5*h+3*w+1, align(h*w+9, 16)+ceildiv(h, 3)*w)"
    dims = {name: Dimension(1, 99, 8) for name in "hw"}
    return manifest_with([("x", "input", "int8", ("h", "w", size, size))], dims)


MANIFESTS = {
    "open": upscaler(),
    "fixed": classifier(),
    "sizes given": upscaler().at({"h": 64, "w": 64}),
    "any names": manifest_with(
        [(name, "input", "float16", ("class", "self", 4)) for name in NAMES],
        {"class": Dimension(1, 9, 1), "self": Dimension(1, 2, 1, values=(1, 2))},
        name="7 net-é",
    ),
    "long formulas": long_formulas(),
    "enumerated": manifest_with(
        [("x", "input", "float16", (1, "h", "w"))],
        {"h": Dimension(1, 9, 1), "w": Dimension(1, 9, 1)},
        enumerated={"x": ((1, 8, 8), (1, 9, 9))},
    ),
    "scalar": manifest_with([("x", "input", "float16", ())]),
    "function": manifest_with([("x", "input", "float16", (1,))], function="encode"),
}


@pytest.mark.parametrize("name", MANIFESTS)
def test_file_is_swift(name: str) -> None:
    assert faults(emit(MANIFESTS[name], "swift")) == []


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ("struct UpscalerLayout: Hashable", "struct UpscalerLayout Hashable"),
        ("let h: Int\n", "let h: \n"),
        ("guard w >= 16 else {", "guard w >= 16 {"),
        ("    ) throws {\n", "    throws {\n"),
    ],
)
def test_what_is_no_swift_is_found(right: str, wrong: str) -> None:
    text = emit(upscaler(), "swift")
    assert right in text
    assert faults(text.replace(right, wrong))


def test_members_are_unique() -> None:
    text = emit(MANIFESTS["any names"], "swift")
    members = re.findall(r"^    (?:var|let|static let|func|static func) (\w+)", text, re.M)
    assert len(set(members)) == len(members)
    assert "class" not in members
    assert "self" not in members
    assert len(re.findall(r"^            name: \"", text, re.M)) == len(NAMES)


LABELS = {
    "MTLTensorDescriptor": "dimensions strides dataType usage storageMode cpuCacheMode",
    "MTLTensor": "dimensions dataType usage gpuResourceID",
    "MTLTensorExtents": "extents",
    "MTLTensorBinding": "name index tensorDataType dimensions",
    "MTL4ArgumentTableDescriptor": "maxBufferBindCount initializeBindings",
}
"""Members that the file uses, as Apple's Swift documentation spells them."""

CALLS = [
    "MTLTensorExtents(numbers)",
    "device.makeTensor(descriptor: deviceDescriptor())",
    "device.makeBuffer(length: byteLength, options: .storageModeShared)",
    "buffer.makeTensor(descriptor: descriptor(buffer: buffer), offset: 0)",
    "device.makeArgumentTable(descriptor: descriptor)",
    "table.setResource(tensor.gpuResourceID, bufferIndex: found.index)",
    "Self.extents(tensor.dimensions), bufferIndex: binding.index)",
    "descriptor.usage = .machineLearning",
    "dataType: .float16",
    "$0 as? any MTLTensorBinding",
]
"""Calls with the labels of Apple's Swift documentation."""


def test_calls_have_the_labels_of_the_documentation() -> None:
    text = emit(upscaler(), "swift")
    assert [call for call in CALLS if call not in text] == []
    known = {word for words in LABELS.values() for word in words.split()}
    used = set(re.findall(r"\b(?:descriptor|tensor|found|binding|extents\?)\.(\w+)\b(?!\()", text))
    own = {"count"}
    assert used <= known | own


MEANING = {
    "floorDivide": int.__floordiv__,
    "ceilDivide": ceildiv,
    "align": align,
    "min": min,
    "max": max,
}


def value_of_swift(expression: str, parts: Statements, sizes: dict[str, int]) -> int:
    """The value of rendered Swift: Python reads it the same once calls have plain names."""
    scope: dict[str, Any] = {**MEANING, **sizes}
    for name, text in parts.lines:
        scope[name] = eval(re.sub(r"\b(Self|Swift)\.", "", text), scope)
    return int(eval(re.sub(r"\b(Self|Swift)\.", "", expression), scope))


SWIFT = Language(FUNCTIONS, {"h": "h", "w": "w"})


@settings(max_examples=300, deadline=None)
@given(formula=formulas() | st.sampled_from(EDGES), h=st.integers(1, 99), w=st.integers(1, 99))
def test_rendered_formulas_have_the_value_of_the_manifest(formula: str, h: int, w: int) -> None:
    parts = Statements()
    text = render(formula, SWIFT, parts)
    sizes = {"h": h, "w": w}
    assert value_of_swift(text, parts, sizes) == evaluate(formula, sizes)
    assert all(line.count(" ") <= 24 for line in (text, *(part for _, part in parts.lines)))


def test_sizes_in_the_file_are_those_of_the_manifest() -> None:
    manifest, sizes = long_formulas(), {"h": 13, "w": 98}
    text = emit(manifest, "swift")
    parts = Statements(re.findall(r"let (_part\d+): Int = (.*)", text))
    assert parts.lines
    tensor = manifest.at(sizes).tensors[0]
    assert tensor.buffer
    for label, expected in {
        "dimensions": tensor.dimensions,
        "strides": tensor.buffer.strides,
        "cpuStrides": tensor.cpu_strides,
    }.items():
        (row,) = re.findall(rf"^            {label}: \[(.*?)\],$", text, re.M | re.S)
        scope = f"({row},)"
        names = {name: value_of_swift(name, parts, sizes) for name, _ in parts.lines}
        clean = re.sub(r"\b(Self|Swift)\.", "", scope)
        assert eval(clean, {**MEANING, **sizes, **names}) == expected
