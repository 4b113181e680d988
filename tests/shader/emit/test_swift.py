"""The Swift file, parsed with a Swift grammar; its numbers are read out of the text.

No Swift compiler is at hand: the grammar finds what is no Swift, but not a wrong type or name. The
spellings of Metal's members are those of Apple's documentation, listed once more below.
"""

from __future__ import annotations

import re

import pytest

from metal4conv.layout.emit.identifiers import SWIFT_WORDS
from metal4conv.shader.document import ShaderManifest
from metal4conv.shader.emit import emit_shader
from tests.layout.emit.test_swift import faults
from tests.shader.emit.test_cpp import any_names, strange_labels
from tests.shader.manifests import MANIFESTS, denoiser, field, material

ALL = {**MANIFESTS, "any names": any_names(), "labels": strange_labels()}
EACH = pytest.mark.parametrize("name", ALL)


@EACH
def test_file_is_swift(name: str) -> None:
    assert faults(emit_shader(ALL[name], "swift")) == []


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ("enum FieldShader {", "enum FieldShader"),
        ("static let compute = Function(", "static let compute Function("),
        ("    ) throws {\n        let points", "    throws {\n        let points"),
    ],
)
def test_what_is_no_swift_is_found(right: str, wrong: str) -> None:
    text = emit_shader(field(), "swift")
    assert right in text
    assert faults(text.replace(right, wrong))


def literal(text: str, name: str, kind: str) -> dict[str, str]:
    """The arguments of a static constant of that type."""
    found = re.search(rf"static let {name} = {kind}\(\n(.*?)\n    \)", text, re.S)
    assert found, name
    rows = (line.strip().rstrip(",") for line in found[1].splitlines())
    return dict(row.split(": ", 1) for row in rows)


@pytest.mark.parametrize("name", MANIFESTS)
def test_numbers_are_those_of_the_manifest(name: str) -> None:
    manifest = MANIFESTS[name]
    text = emit_shader(manifest, "swift")
    for block in manifest.blocks:
        assert literal(text, f"{block.name}Block", "Block") == {
            "offset": str(block.offset),
            "byteLength": str(block.byte_length),
            "dataType": f".{block.dtype}",
            "dimensions": str(list(block.dimensions)),
            "strides": str(list(block.strides)),
            "index": "nil" if block.index is None else str(block.index),
        }
    for entry in manifest.entry_points:
        words = entry.name.removeprefix(f"{manifest.name}_").split("_")
        member = words[0] + "".join(word.capitalize() for word in words[1:])
        found = literal(text, member, "Function")
        assert found["name"] == f'"{entry.name}"'
        assert found["threadsPerThreadgroup"] == str(entry.threads_per_threadgroup)
        assert found["pointsPerThreadgroup"] == str(entry.points_per_threadgroup)
        indexes = [row.index for row in entry.arguments if row.kind in ("buffer", "tensor")]
        assert found["bufferCount"] == str(max((int(i or 0) for i in indexes), default=-1) + 1)
        tile = entry.tile and f"(width: {entry.tile[0]}, height: {entry.tile[1]})"
        assert found["tile"] == (tile or "nil")
    for texture in manifest.textures:
        found = literal(text, texture.name.replace("_t", "T"), "Texture")
        assert found["offset"] == str(texture.offset)
        assert found["bytesPerRow"] == str(texture.bytes_per_row)
        assert found["pixelFormat"] == f".{texture.pixel_format}"
    if manifest.weights_bytes:
        assert f"static let weightsByteLength = {manifest.weights_bytes}\n" in text


def bound(text: str, member: str) -> dict[str, int]:
    """Which parameter goes to which index, in the function that fills an argument table."""
    body = text[text.index(f"static func bind{member}(") :]
    body = body[: body.index("\n    }\n")]
    pattern = r"table\.set\w+\((\S+?)\.(?:gpuAddress|gpuResourceID), \w+: (\d+)\)"
    return {name: int(index) for name, index in re.findall(pattern, body)}


def test_arguments_are_bound_at_their_indexes() -> None:
    assert bound(emit_shader(field("handle"), "swift"), "Compute") == {
        "weights": 0,
        "tensors[0]": 1,
        "tensors[1]": 2,
        "position": 3,
        "light": 4,
        "color": 5,
        "features": 6,
        "parameters": 7,
    }
    assert bound(emit_shader(material(), "swift"), "Fragment") == {
        "weights": 0,
        "textures[0]": 0,
        "textures[1]": 1,
        "sampler": 0,
    }


CALLS = [
    "MTLTensorExtents(dimensions)",
    "device.makeArgumentTable(descriptor: descriptor)",
    "bytes: start, length: bytes.count, options: .storageModeShared)",
    "weights.makeTensor(descriptor: descriptor, offset: offset)",
    "constants.setConstantValue(&value, type: .bool, index: 0)",
    "compiler.makeComputePipelineState(descriptor: descriptor)",
    "table.setAddress(weights.gpuAddress, index: 0)",
    "table.setResource(tensors[0].gpuResourceID, bufferIndex: 1)",
    "encoder.setComputePipelineState(pipeline)",
    "encoder.setArgumentTable(table)",
    "encoder.setThreadgroupMemoryLength(memory.byteLength, index: memory.index)",
    "threadgroupsPerGrid: threadgroups(width: width, height: height),",
    "encoder.setRenderPipelineState(pipeline)",
    "encoder.setArgumentTable(table, stages: .fragment)",
    "encoder.drawPrimitives(primitiveType: .triangle, vertexStart: 0, vertexCount: 3)",
]
"""Calls with the labels of Apple's Swift documentation."""

OF_TEXTURES = [
    "table.setTexture(textures[0].gpuResourceID, index: 0)",
    "table.setSamplerState(sampler.gpuResourceID, index: 0)",
    "device.makeSamplerState(descriptor: descriptor)",
    "device.makeTexture(descriptor: descriptor)",
    "pixelFormat: pixelFormat, width: width, height: height, mipmapped: false)",
    "region: MTLRegionMake2D(0, 0, width, height), mipmapLevel: 0,",
    "withBytes: start + offset, bytesPerRow: bytesPerRow)",
]

MEMBERS = {
    "MTLTensorDescriptor": "dimensions strides dataType usage storageMode cpuCacheMode",
    "MTL4ArgumentTableDescriptor": (
        "maxBufferBindCount maxTextureBindCount maxSamplerStateBindCount initializeBindings"
    ),
    "MTL4ComputePipelineDescriptor": "computeFunctionDescriptor requiredThreadsPerThreadgroup",
    "MTL4RenderPipelineDescriptor": "vertexFunctionDescriptor fragmentFunctionDescriptor",
    "MTLSamplerDescriptor": (
        "minFilter magFilter sAddressMode tAddressMode supportArgumentBuffers"
    ),
    "MTLTextureDescriptor": "usage storageMode",
}
"""Properties of descriptors that the file sets, as Apple's documentation spells them."""


def test_calls_have_the_labels_of_the_documentation() -> None:
    texts = {"handle": emit_shader(field("handle"), "swift"), "t": emit_shader(material(), "swift")}
    assert [call for call in CALLS if call not in texts["handle"]] == []
    assert [call for call in OF_TEXTURES if call not in texts["t"]] == []
    barrier = "afterEncoderStages: .dispatch, beforeEncoderStages: .dispatch,"
    assert barrier in emit_shader(denoiser(), "swift")
    known = {word for words in MEMBERS.values() for word in words.split()}
    for text in texts.values():
        assert set(re.findall(r"\bdescriptor\.(\w+) =", text)) <= known


def members_of(manifest: ShaderManifest) -> list[str]:
    """Names of the enum's members; functions that differ in their labels count once."""
    text = emit_shader(manifest, "swift")
    lets = re.findall(r"^    static let (\w+)", text, re.M)
    return [*lets, *sorted(set(re.findall(r"^    static func (\w+)", text, re.M)))]


@EACH
def test_members_are_unique(name: str) -> None:
    members = members_of(ALL[name])
    assert len(set(members)) == len(members)
    assert not set(members) & set(SWIFT_WORDS.split())
