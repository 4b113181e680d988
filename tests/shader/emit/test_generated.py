"""Host code for sources that the generator wrote: both have the same names at the same indexes."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

import pytest

from metal4conv.shader.document import SamplerLayout, ShaderManifest, TextureLayout
from metal4conv.shader.emit import emit_shader
from metal4conv.shader.manifest import check_shader_manifest, manifest_json
from metal4conv.shader.options import ShaderOptions
from metal4conv.shader.packing import pack_weights
from tests.layout.emit.test_objc import complaints
from tests.layout.emit.test_swift import faults
from tests.shader import handmade
from tests.shader.emit.test_cpp import compile_text
from tests.shader.emit.test_swift import bound

LATENTS = tuple(
    TextureLayout(
        name=f"latents_texture{number}",
        input="latents",
        channels=(4 * number, 4 * number + 1, 4 * number + 2, 4 * number + 3),
        pixel_format="rgba16Float",
        raw_pixel_format=115,
        width=4,
        height=2,
        offset=256 * number,
        bytes_per_row=32,
        byte_length=64,
    )
    for number in range(2)
)
CASES = {
    "material": (handmade.neural_material, ShaderOptions(), LATENTS),
    "handles": (handmade.radiance_cache, ShaderOptions(tensors="handle"), ()),
    "int8": (handmade.neural_material, ShaderOptions("int8", "handle", system=(26, 4)), LATENTS),
    "old int8": (handmade.radiance_cache, ShaderOptions("int8", "handle"), ()),
    "float32": (handmade.encoded_siren, ShaderOptions("float32"), ()),
    "in the source": (handmade.tiny, ShaderOptions(inline_weights=True), ()),
}
EACH = pytest.mark.parametrize("case", CASES)


@cache
def generated(case: str) -> tuple[ShaderManifest, str]:
    """The manifest and the Metal source of a case."""
    hand, options, textures = CASES[case]
    network = hand().network()
    sampler = SamplerLayout() if textures else None
    source = handmade.written(network, options, textures, sampler)
    weights = b"" if options.inline_weights else pack_weights(network, options).data
    manifest = handmade.manifest_of(network, options, source, weights, textures, sampler)
    return check_shader_manifest(manifest_json(manifest)), source.text


def parameters(source: str, function: str) -> dict[tuple[str, str], int]:
    """The indexes in a function's declaration in Metal, by kind and name."""
    found = re.search(rf"\b{function}\((.*?)\)\s*\{{", source, re.S)
    assert found, function
    pattern = r"(\w+) \[\[(buffer|texture|sampler|threadgroup)\((\d+)\)\]\]"
    return {(kind, name): int(index) for name, kind, index in re.findall(pattern, found[1])}


@EACH
def test_arguments_of_the_manifest_are_those_of_the_source(case: str) -> None:
    manifest, source = generated(case)
    for entry in manifest.entry_points:
        declared = {
            ("buffer" if row.kind == "tensor" else row.kind, row.name): row.index
            for row in entry.arguments
            if row.index is not None
        }
        assert declared == parameters(source, entry.name)


@EACH
def test_everything_that_the_source_declares_is_bound(case: str) -> None:
    manifest, source = generated(case)
    text = emit_shader(manifest, "swift")
    for entry in manifest.entry_points:
        words = entry.name.removeprefix(f"{manifest.name}_").split("_")
        filled = bound(text, "".join(word.capitalize() for word in words))
        declared = parameters(source, entry.name)
        kinds = [kind for kind, _ in declared if kind != "threadgroup"]
        assert len(filled) == len(kinds)
        indexes = sorted(index for (kind, _), index in declared.items() if kind != "threadgroup")
        assert sorted(filled.values()) == indexes


@EACH
def test_function_constants_and_vertex_functions_are_in_the_source(case: str) -> None:
    manifest, source = generated(case)
    for constant in manifest.constants:
        pattern = rf"\b{constant.name} \[\[function_constant\({constant.index}\)\]\]"
        assert re.search(pattern, source)
    if any(entry.stage == "fragment" for entry in manifest.entry_points):
        assert re.search(rf"\bvertex \w+ {manifest.name}_vertex\(", source)
        assert f'"{manifest.name}_vertex"' in emit_shader(manifest, "objc")


@EACH
def test_code_is_accepted_in_all_languages(case: str, tmp_path: Path) -> None:
    manifest, _ = generated(case)
    assert faults(emit_shader(manifest, "swift")) == []
    files = {"net.h": emit_shader(manifest, "objc"), "main": '#import "net.h"\n'}
    assert complaints("objective-c++", files) == []
    files = {"net.hpp": emit_shader(manifest, "cpp"), "main.cpp": '#include "net.hpp"\n'}
    files["main.cpp"] += "int main() { return 0; }\n"
    assert compile_text(tmp_path, files) == ""


def test_offsets_in_the_source_are_those_of_the_blocks() -> None:
    for case in ("material", "handles", "int8", "float32"):
        manifest, source = generated(case)
        for block in manifest.blocks:
            pattern = rf"\b{manifest.name}_{block.name}_offset = (\d+)"
            offsets = {int(found) for found in re.findall(pattern, source)}
            assert offsets == {block.offset}, block.name
