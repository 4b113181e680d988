"""The C++ around a shader: what `host` calls in the compiled library.

The shader is included once for each choice of its function constants, in a namespace of its own, as
Metal compiles a pipeline for each choice.
"""

from __future__ import annotations

from collections.abc import Iterator

from metal4conv.errors import RejectedShader
from metal4conv.shader.document import EntryPoint, ShaderManifest

MOST_CONSTANTS = 3
"""Each one doubles what is compiled."""

HEAD = """\
// The driver of {name}.metal: written by metal4conv to run the shader on this computer.
#include <metal4conv_stand_in/driver.h>
#ifdef __HAVE_TENSOR__
#include <metal_cooperative_tensor>
#include <metal_tensor>
#include <MetalPerformancePrimitives/MetalPerformancePrimitives.h>
#endif
"""

VARIANT = """
namespace metal4conv_constants {{
// no constant expression, as the value of a function constant is none to Metal's compiler
const bool values_{number}[8] = {{{values}}};
}}
#define METAL4CONV_FUNCTION_CONSTANTS ::metal4conv_constants::values_{number}
namespace metal4conv_variant_{number} {{
#include "shader.metal"
}}
#undef METAL4CONV_FUNCTION_CONSTANTS
"""


def driver_source(manifest: ShaderManifest) -> str:
    """The driver's text for the entry points of a manifest."""
    count = constant_count(manifest)
    variants = range(2**count)
    parts = [HEAD.format(name=manifest.name)]
    for number in variants:
        values = ", ".join("true" if number >> bit & 1 else "false" for bit in range(8))
        parts.append(VARIANT.format(number=number, values=values))
    parts += [
        colours(number, entry)
        for number, entry in enumerate(manifest.entry_points)
        if entry.stage == "fragment"
    ]
    cases = [
        f"        case {number * len(variants) + variant}: return {call(number, entry, variant)};"
        for number, entry in enumerate(manifest.entry_points)
        for variant in variants
    ]
    parts.append(
        "\n".join(
            [
                '\nextern "C" __attribute__((visibility("default"))) int metal4conv_run(',
                "    const metal4conv_stand_in::dispatch *what) {",
                "    using namespace metal4conv_stand_in;",
                f"    switch (what->entry * {len(variants)} + what->constants) {{",
                *cases,
                "    }",
                "    return 2;",
                "}",
                "",
            ]
        )
    )
    return "".join(parts)


def constant_count(manifest: ShaderManifest) -> int:
    """How many function constants there are: their indices are 0, 1, 2 and so on."""
    indices = sorted(constant.index for constant in manifest.constants)
    if indices != list(range(len(indices))) or len(indices) > MOST_CONSTANTS:
        raise RejectedShader(
            f"the function constants of {manifest.name} have the indices {indices}; "
            f"the stand-in takes up to {MOST_CONSTANTS} boolean ones, counted from 0"
        )
    return len(indices)


def call(number: int, entry: EntryPoint, variant: int) -> str:
    """The expression that runs one entry point."""
    function = f"&metal4conv_variant_{variant}::{entry.name}"
    if entry.stage == "compute":
        return f"run_compute<{function}>(*what)"
    return f"run_fragment<{function}, colours_{number}>(*what)"


def colours(number: int, entry: EntryPoint) -> str:
    """A structure that takes a fragment function's result apart."""
    return "\n".join(["", f"struct colours_{number} {{", *colour_lines(entry), "};", ""])


def colour_lines(entry: EntryPoint) -> Iterator[str]:
    """What it consists of: a colour without a member is the result itself."""
    yield "    static metal::vec<float, 4> of(const auto &result, int attachment) {"
    yield "        switch (attachment) {"
    for place, attachment in enumerate(entry.attachments):
        member = f".{attachment.member}" if attachment.member else ""
        yield f"            case {place}: return metal4conv_stand_in::four(result{member});"
    yield "        }"
    yield "        return {};"
    yield "    }"
