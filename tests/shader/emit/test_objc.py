"""The Objective-C header, checked by clang's front end against declarations of Metal 4.

The declarations in `tests/layout/objc` stand for Apple's headers, which are not at hand; nothing is
compiled to code, and nothing runs.
"""

from __future__ import annotations

import pytest

from metal4conv.layout.emit import emit
from metal4conv.shader.emit import emit_shader
from tests.layout.emit.test_objc import EACH_LANGUAGE, complaints
from tests.layout.manifests import classifier
from tests.shader.emit.test_cpp import any_names, strange_labels
from tests.shader.manifests import MANIFESTS, field, material

ALL = {**MANIFESTS, "any names": any_names(), "labels": strange_labels()}

USE = """
#import "net.h"
BOOL use(id<MTLDevice> device, id<MTL4Compiler> compiler, id<MTLLibrary> library, NSData *weights,
         NSData *latents, id<MTLBuffer> color, id<MTL4ComputeCommandEncoder> compute,
         id<MTL4RenderCommandEncoder> render, id<MTLRenderPipelineState> drawn,
         MTL4RenderPipelineDescriptor *descriptor);
BOOL use(id<MTLDevice> device, id<MTL4Compiler> compiler, id<MTLLibrary> library, NSData *weights,
         NSData *latents, id<MTLBuffer> color, id<MTL4ComputeCommandEncoder> compute,
         id<MTL4RenderCommandEncoder> render, id<MTLRenderPipelineState> drawn,
         MTL4RenderPipelineDescriptor *descriptor)
{
    NSError *error = nil;
    BOOL uses = NO;
    const metal4conv_shader_function function = material_texture_compute();
    id<MTLComputePipelineState> pipeline =
        material_make_pipeline(compiler, library, function, &uses, &error);
    id<MTLBuffer> buffer = material_make_weights(device, weights, &error);
    NSArray<id<MTLTexture>> *textures = material_make_textures(device, latents, &error);
    id<MTLSamplerState> sampler = material_make_sampler(device);
    id<MTLBuffer> parameters = metal4conv_shader_make_parameters(device, 8, 4, &error);
    id<MTL4ArgumentTable> table = metal4conv_shader_argument_table(device, function, &error);
    if (pipeline == nil || buffer == nil || textures == nil || parameters == nil || table == nil ||
        sampler == nil) {
        return NO;
    }
    if (!material_bind_texture_compute(table, 8, 4, buffer, color, parameters, textures, sampler,
                                       &error)) {
        return NO;
    }
    metal4conv_shader_dispatch(compute, pipeline, table, function, 8, 4);
    material_set_fragment(descriptor, library, uses);
    material_draw_fragment(render, drawn, table);
    return material_bind_fragment(table, buffer, textures, sampler, NULL);
}
"""


@EACH_LANGUAGE
def test_all_functions_are_used_as_an_app_does(language: str) -> None:
    assert complaints(language, {"net.h": emit_shader(material(), "objc"), "main": USE}) == []


@EACH_LANGUAGE
@pytest.mark.parametrize("name", ALL)
def test_header_is_accepted(language: str, name: str) -> None:
    files = {"net.h": emit_shader(ALL[name], "objc"), "main": '#import "net.h"\n'}
    assert complaints(language, files) == []


@EACH_LANGUAGE
def test_headers_of_shaders_and_of_a_package_go_together(language: str) -> None:
    files = {
        "net.h": emit_shader(material(), "objc"),
        "other.h": emit_shader(field("handle"), "objc"),
        "package.h": emit(classifier(), "objc"),
        "main": f'#import "other.h"\n#import "package.h"\n{USE}',
    }
    assert complaints(language, files) == []


@pytest.mark.parametrize(
    ("right", "wrong", "message"),
    [
        ("setAddress:color.gpuAddress", "setBuffer:color", "setBuffer:atIndex:"),
        ("requiredThreadsPerThreadgroup", "requiredThreads", "requiredThreads"),
        ("compilerTaskOptions:nil", "taskOptions:nil", "taskOptions"),
        ("atStages:MTLRenderStageFragment", "stages:MTLRenderStageFragment", "stages:"),
        ("[MTLTextureDescriptor texture2DD", "[MTLTextureDescriptor textureD", "textureDescriptor"),
    ],
)
def test_misspelt_selectors_are_found(right: str, wrong: str, message: str) -> None:
    text = emit_shader(material(), "objc")
    assert right in text
    found = complaints("objective-c++", {"net.h": text.replace(right, wrong), "main": USE})
    assert any(message in line for line in found)


def test_arc_is_asked_for() -> None:
    files = {"net.h": emit_shader(field(), "objc"), "main": '#import "net.h"\n'}
    found = complaints("objective-c", files, ("-fno-objc-arc",))
    assert any("needs ARC" in line for line in found)


def test_both_headers_begin_with_the_same_numbers() -> None:
    """So a file may include both, for Objective-C++ and metal-cpp side by side."""
    begin, end = "#ifndef FIELD_SHADER_H", "#endif // FIELD_SHADER_H"
    parts = [
        text[text.index(begin) : text.index(end)]
        for text in (emit_shader(field(), language) for language in ("objc", "cpp"))
    ]
    assert parts[0] == parts[1]
