"""Networks with convolutions as Metal source: a compute function for each pass.

A threadgroup computes a tile of pixels. On the matmul2d path it copies the pixels that the tile's
windows see into its memory, in the operands' type and zero outside of the image, and convolves them
with convolution2d (`MPPTensorOpsConvolution2d.h`). That way all sizes are constants, as the
descriptor wants them, whatever the image's size, and no window reaches outside of its tensor, which
no document of Apple speaks about. The plain path sums the window of each pixel in its own thread.

What follows the convolution is done to each sum where it lies, if each element of what the pass
writes depends on that one alone; else each thread has all features of one pixel.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace

from metal4conv.shader.convolution_kernels import kernel
from metal4conv.shader.convolution_plan import (
    THREADS,
    PassPlan,
    has_weights,
    images_of,
    pass_plans,
)
from metal4conv.shader.convolution_templates import (
    CONVOLVE,
    CONVOLVE_INLINE,
    CONVOLVE_PLAIN,
    CONVOLVE_ROWS,
    CONVOLVE_TILE,
    IS_OUTSIDE,
)
from metal4conv.shader.estimates import estimate
from metal4conv.shader.network import Linear, Network
from metal4conv.shader.options import ShaderOptions
from metal4conv.shader.packing import PackedWeights
from metal4conv.shader.source_functions import helper_text, with_needed
from metal4conv.shader.source_names import (
    constant,
    index_array,
    number_array,
    padding,
)
from metal4conv.shader.source_plan import THREADGROUP_BYTES
from metal4conv.shader.source_result import ShaderSource, function_constants
from metal4conv.shader.source_templates import (
    FUNCTION_CONSTANT,
    HAS_MATMUL2D,
    filled,
    layer_helpers,
)
from metal4conv.shader.source_text import INDENT, comment, fitted, shown, structure, wrapped

TYPE_WORDS = {"float16": "half", "float32": "float", "int8": "int8"}
"""Types of weights as comments name them."""


def write_passes(
    network: Network, options: ShaderOptions, packed: PackedWeights, origin: str = ""
) -> ShaderSource:
    """The source of a network with convolutions: the passes to dispatch one after the other.

    Each computes all pixels of the image before the next one begins; images between them are
    buffers of rows, one a pixel. The weights' tensors are made in their buffer.
    """
    notes = list(kind_notes(options))
    options = replace(options, tensors="inline")
    plans = pass_plans(network, options, packed)
    notes += tile_notes(plans, options)
    helpers: set[str] = set()
    indices: dict[tuple[int, ...], str] = {}
    kernels, entries = [], []
    for one in plans:
        text, entry = kernel(one, helpers, indices)
        kernels.append(text)
        entries.append(entry)
    first = plans[0].plan
    uses_matmul2d = any(entry.simdgroup for entry in entries) or needs_matmul2d(plans, options)
    sections = [
        header(network, plans, origin, uses_matmul2d),
        "#include <metal_stdlib>\n" + (filled(HAS_MATMUL2D, first) if uses_matmul2d else ""),
        "using namespace metal;\n",
        *([filled(FUNCTION_CONSTANT, first)] if uses_matmul2d else []),
        constants_text(plans, indices, kernels),
        *(traits(one) for one in plans if one.dispatch.convolution is not None),
        grid_structure(first.names.prefix),
        *(helper_text(name, first.names.prefix) + "\n" for name in with_needed(helpers)),
        *linear_helpers(plans, uses_matmul2d),
        filled(IS_OUTSIDE, first),
        *convolution_helpers(plans, kernels),
        *kernels,
    ]
    return ShaderSource(
        text=fitted("\n".join(sections)),
        evaluate=None,
        entry_points=tuple(entries),
        constants=function_constants(first.names.prefix) if uses_matmul2d else (),
        estimates=estimate(network, options, max(e.threadgroup_memory_bytes for e in entries)),
        passes=tuple(entry.name for entry in entries),
        images=images_of(plans),
        notes=tuple(notes),
    )


def kind_notes(options: ShaderOptions) -> Iterator[str]:
    """What a network of passes does otherwise than the options say."""
    if options.tensors == "handle" and not options.inline_weights:
        yield (
            "the weights' tensors are made in their buffer: a network with convolutions binds no "
            "MTLTensor"
        )
    if options.inline_weights:
        yield "weights that stand in the source are read by the plain path alone"


def tile_notes(plans: Sequence[PassPlan], options: ShaderOptions) -> Iterator[str]:
    """Why a pass has no convolution2d, if it has none."""
    if options.inline_weights:
        return
    if options.precision == "int8":
        yield (
            "convolutions are computed by the plain path alone: convolution2d multiplies int8 "
            "weights with int8 images only"
        )
        return
    for one in plans:
        convolution = one.dispatch.convolution
        if convolution is not None and one.tile is None:
            yield (
                f"{one.name} ({convolution.label}) has the plain path alone: what the windows of "
                f"the smallest tile see takes more than {THREADGROUP_BYTES:,} bytes of threadgroup "
                "memory"
            )


def needs_matmul2d(plans: Sequence[PassPlan], options: ShaderOptions) -> bool:
    """Whether linear layers between convolutions have the choice of a path."""
    return options.has_matmul2d and any(one.dispatch.program.linears for one in plans)


def traits(one: PassPlan) -> str:
    """The structure that holds the constants of a pass's convolution."""
    convolution = one.dispatch.convolution
    assert convolution is not None
    block = one.plan.packed.of[convolution]
    outputs, channels, kernel_width, kernel_height = block.used
    inline = one.plan.options.inline_weights
    padded_outputs, padded_inputs = (outputs, channels) if inline else block.dimensions[:2]
    above, left = convolution.padding
    width, height = one.tile_size
    rows = [
        ("kernel_width", kernel_width, ""),
        ("kernel_height", kernel_height, ""),
        ("left", left, "columns of the kernel before its pixel"),
        ("above", above, "rows of the kernel above it"),
        ("channels", channels, "of the image"),
        ("inputs", padded_inputs, padding(padded_inputs, channels)),
        ("outputs", padded_outputs, padding(padded_outputs, outputs)),
    ]
    if not inline:
        rows.append(("quads", (outputs + 3) // 4, "groups of four outputs that are used"))
    rows += [("tile_width", width, "pixels of a threadgroup"), ("tile_height", height, "")]
    if one.tile:
        rows += [
            ("window_width", one.tile.window_width, "what their kernels see"),
            ("window_height", one.tile.window_height, ""),
        ]
    kind = TYPE_WORDS[one.plan.options.precision]
    lines = [
        *comment(
            f"pass {one.number}, {convolution.label}: {kind} weight [row][column][input][output]"
        ),
        f"struct {one.block} {{",
    ]
    for name, value, remark in rows:
        text = f"{INDENT}static constexpr constant int {name} = {value};"
        lines.append(f"{text} // {remark}" if remark else text)
    return "\n".join([*lines, "};", ""])


def grid_structure(prefix: str) -> str:
    """The type of the image's size."""
    remark = (
        "// The size of all images: the pixel at (x, y) has row y * width + x in the buffers.\n"
    )
    return remark + structure(f"{prefix}_parameters", ["uint width", "uint height"])


def constants_text(
    plans: Sequence[PassPlan], indices: Mapping[tuple[int, ...], str], texts: Sequence[str]
) -> str:
    """The named numbers of the source, or the weights where they stand in it."""
    plan = plans[0].plan
    names, packed = plan.names, plan.packed
    words = set(re.findall(r"\w+", "\n".join(texts)))
    widths = {
        names.width(vector): vector.width
        for one in plans
        for vector in (
            *one.dispatch.program.inputs,
            *(step.result for step in one.dispatch.program.steps),
        )
    }
    lines = ["// features of the vectors, without padding"]
    lines += [constant(name, width) for name, width in widths.items() if name in words]
    for linear in all_linears(plans):
        block = packed.of[linear]
        inputs, outputs = block.used if plan.options.inline_weights else block.dimensions
        prefix = f"{names.prefix}_{block.name}"
        lines += [
            *comment(f"{linear.label}: {block.dtype} weight [output][input]"),
            constant(f"{prefix}_inputs", inputs, padding(inputs, block.used[0])),
            constant(f"{prefix}_outputs", outputs, padding(outputs, block.used[1])),
        ]
    if plan.options.inline_weights:
        for block in packed.blocks:
            if block.role != "scale":
                lines.append(f"// {block.role} of {shown(block.layer)}")
                name = f"{names.prefix}_{block.name}"
                is_kernel = len(block.dimensions) == 4
                lines += number_array(
                    f"{name}_numbers" if is_kernel else name, packed.stored(block)
                )
    else:
        lines.append("// where the arrays begin in the weights, in bytes")
        lines += [
            constant(f"{names.prefix}_{block.name}_offset", block.offset, block.layer)
            for block in packed.blocks
        ]
    if any(one.tile for one in plans):
        lines += [
            "// threads of a threadgroup that computes a tile of pixels, and its simdgroups",
            constant(f"{names.prefix}_threads", THREADS),
            constant(f"{names.prefix}_simdgroups", THREADS // 32),
        ]
    for table, name in indices.items():
        lines += ["// which elements are read where no formula says it", *index_array(name, table)]
    return "\n".join([*lines, ""])


def all_linears(plans: Iterable[PassPlan]) -> list[Linear]:
    """The linear layers of all passes."""
    return [linear for one in plans for linear in one.dispatch.program.linears]


def linear_helpers(plans: Sequence[PassPlan], uses_matmul2d: bool) -> list[str]:
    """The functions that multiply with the weights of linear layers, where there are any."""
    having = [one for one in plans if one.dispatch.program.linears]
    if not having:
        return []
    options = having[0].plan.options
    has_choice = uses_matmul2d and needs_matmul2d(plans, options)
    return layer_helpers(having[0].plan, has_choice, False)


def convolution_helpers(plans: Sequence[PassPlan], kernels: Sequence[str]) -> list[str]:
    """The functions that convolve, as many as the compute functions call."""
    having = [one for one in plans if one.dispatch.convolution is not None]
    plan = having[0].plan
    if plan.options.inline_weights:
        return [filled(CONVOLVE_INLINE, plan)]
    parts = [CONVOLVE_PLAIN]
    if any(one.tile for one in having):
        calls_rows = any(f"{plan.names.prefix}_convolve<" in text for text in kernels)
        cooperative = [CONVOLVE_TILE, *([CONVOLVE_ROWS] if calls_rows else [])]
        guarded = ["#if UPPER_HAS_MATMUL2D\n", *cooperative, "#endif // UPPER_HAS_MATMUL2D\n"]
        parts += ["\n".join(guarded), *([CONVOLVE] if calls_rows else [])]
    return [filled(part, plan) for part in parts]


def header(network: Network, plans: Sequence[PassPlan], origin: str, uses_matmul2d: bool) -> str:
    """The comment at the top: what this is and how it is used."""
    prefix = plans[0].prefix
    inputs = ", ".join(f"{port.name} ({port.width})" for port in network.inputs)
    outputs = ", ".join(f"{port.name} ({port.width})" for port in network.outputs)
    operand = {
        "float16": "Weights and what they are multiplied with are half; all else is float.",
        "float32": "All numbers are float.",
        "int8": "Weights are int8 with a float scale for each output, what they are multiplied "
        "with is half; all else is float.",
    }[plans[0].plan.options.precision]
    paragraphs = [
        f"{network.name}: {outputs} of {inputs}" + (f", made from {origin}." if origin else "."),
        f"Dispatch {', '.join(one.name for one in plans)} in this order, each after the one before "
        "has written its images (a barrier between dispatches). Images are buffers of rows, one "
        "for each pixel.",
        operand,
    ]
    if any(has_weights(one) for one in plans):
        paragraphs.append(
            f"`weights` is the file {network.name}.weights as it is, at an address that is a "
            "multiple of 128 bytes."
        )
    if uses_matmul2d:
        paragraphs.append(
            f"{prefix}_use_matmul2d (function constant 0) picks convolution2d and matmul2d of "
            "Metal Performance Primitives, or arithmetic that every compiler of Metal has."
        )
    lines = [f"// {network.name}.metal (Metal Shading Language 4.0)"]
    for paragraph in paragraphs:
        lines += [line.strip() for line in wrapped(paragraph, "// ")]
    return "\n".join([*lines, ""])
