"""The Objective-C header, checked by clang's front end against declarations of Metal 4.

The declarations in `tests/layout/objc` stand for Apple's headers, which are not at hand; nothing is
compiled to code, and nothing runs.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from metal4conv.layout.document import LayoutManifest
from metal4conv.layout.emit import emit
from tests.layout.emit.test_cpp import NAMES
from tests.layout.manifests import classifier, manifest_with, upscaler

cindex = pytest.importorskip("clang.cindex", reason="libclang is not installed")

HEADERS = Path(__file__).parents[1] / "objc"
ARGUMENTS = [
    *("-target", "arm64-apple-macosx26.0.0", "-fobjc-arc", "-nostdinc", "-I", str(HEADERS)),
    *("-Wall", "-Wextra", "-Wpedantic", "-Wnullable-to-nonnull-conversion", "-Wconversion"),
    "-Wno-extra-semi",
]
LANGUAGES = {"objective-c": "c11", "objective-c++": "c++14"}
EACH_LANGUAGE = pytest.mark.parametrize("language", LANGUAGES)

USE = """
#import "net.h"
BOOL use(id<MTLDevice> device, id<MTL4ArgumentTable> table, NSArray<id<MTLBinding>> *bindings,
         MTL4MachineLearningPipelineDescriptor *descriptor);
BOOL use(id<MTLDevice> device, id<MTL4ArgumentTable> table, NSArray<id<MTLBinding>> *bindings,
         MTL4MachineLearningPipelineDescriptor *descriptor)
{
    NSError *error = nil;
    const upscaler_dims dims = upscaler_default_dims();
    if (!upscaler_set_input_dimensions(descriptor, bindings, dims, &error)) {
        return NO;
    }
    const metal4conv_tensor color = upscaler_color(dims);
    id<MTLTensor> first = metal4conv_device_tensor(device, color, &error);
    id<MTLBuffer> buffer = metal4conv_buffer(device, upscaler_upscaled(dims));
    id<MTLTensor> second = metal4conv_buffer_tensor(buffer, upscaler_upscaled(dims), NULL);
    char bytes[UPSCALER_COLOR_ELEMENT_BYTES] = {0};
    metal4conv_write(first, color, bytes);
    metal4conv_read(second, color, bytes);
    return metal4conv_argument_table(device, bindings, &error) != nil &&
           upscaler_bind(table, bindings, dims, first, second, &error);
}
"""


def complaints(language: str, files: dict[str, str], arguments: tuple[str, ...] = ()) -> list[str]:
    """What clang says about the file `main`."""
    options = ["-x", language, f"-std={LANGUAGES[language]}", *ARGUMENTS, *arguments]
    texts = [(f"/emitted/{name}", text) for name, text in files.items()]  # read from memory
    unit = cindex.Index.create().parse("/emitted/main", options, texts)
    return [str(item) for item in unit.diagnostics]


def including(manifest: LayoutManifest, body: str = "") -> dict[str, str]:
    """A program that includes the header of a manifest."""
    return {"net.h": emit(manifest, "objc"), "main": f'#import "net.h"\n{body}\n'}


@EACH_LANGUAGE
def test_all_functions_are_used_as_an_app_does(language: str) -> None:
    assert complaints(language, {"net.h": emit(upscaler(), "objc"), "main": USE}) == []


@EACH_LANGUAGE
@pytest.mark.parametrize(
    "manifest",
    [
        classifier(),
        upscaler().at({"h": 64, "w": 64}),
        manifest_with([(name, "input", "float32", (4, 4)) for name in NAMES]),
        manifest_with([("x", "input", "float32", ()), ("y", "output", "int32", (1,) * 16)]),
    ],
    ids=["fixed", "sizes given", "any names", "ranks"],
)
def test_header_is_accepted(language: str, manifest: LayoutManifest) -> None:
    assert complaints(language, including(manifest)) == []


@EACH_LANGUAGE
def test_headers_of_two_networks_and_of_c_go_together(language: str) -> None:
    files = {
        "first.h": emit(upscaler(), "cpp"),
        "net.h": emit(upscaler(), "objc"),
        "other.h": emit(classifier(), "objc"),
        "main": f'#include "first.h"\n#import "other.h"\n{USE}',
    }
    assert complaints(language, files) == []


@pytest.mark.parametrize(
    ("right", "wrong", "message"),
    [
        ("descriptor.dataType =", "descriptor.datatype =", "datatype"),
        ("newTensorWithDescriptor:metal4conv_buffer", "newTensor:metal4conv_buffer", "newTensor"),
        ("atBufferIndex:binding.index];", "atIndex:binding.index];", "setResource:atIndex:"),
    ],
)
def test_misspelt_selectors_are_found(right: str, wrong: str, message: str) -> None:
    text = emit(upscaler(), "objc")
    assert right in text
    found = complaints("objective-c++", {"net.h": text.replace(right, wrong), "main": USE})
    assert any(message in line for line in found)


def test_arc_is_asked_for() -> None:
    found = complaints("objective-c", including(classifier()), ("-fno-objc-arc",))
    assert any("needs ARC" in line for line in found)


def test_steps_for_open_sizes_only() -> None:
    assert "set_input_dimensions(\n    MTL4" in emit(upscaler(), "objc")
    assert "classifier_set_input_dimensions" not in emit(classifier(), "objc")
    given = emit(upscaler().at({"h": 64, "w": 64}), "objc")
    assert "upscaler_set_input_dimensions" in given  # the package still leaves them open
    assert "upscaler_dims" not in given
