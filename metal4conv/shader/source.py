"""A network as Metal source: `NAME_evaluate` to call, and functions that are ready to dispatch.

All arithmetic is float32. In `float16` precision, weights and what they are multiplied with are
half; int8 weights are multiplied with half operands, and each sum with its scale.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from metal4conv.shader.convolution_source import write_passes
from metal4conv.shader.document import EntryPoint, SamplerLayout, TextureLayout
from metal4conv.shader.estimates import estimate
from metal4conv.shader.network import Network
from metal4conv.shader.options import MATMUL2D_SYSTEMS, ShaderOptions
from metal4conv.shader.packing import PackedWeights
from metal4conv.shader.source_arguments import named_textures
from metal4conv.shader.source_entries import (
    MOST_ATTACHMENTS,
    compute_entry,
    evaluation,
    fragment_entry,
    is_too_wide,
    widths_of,
)
from metal4conv.shader.source_functions import helper_text, with_needed
from metal4conv.shader.source_names import (
    constant,
    index_array,
    layer_constants,
    names_of,
    width_constants,
)
from metal4conv.shader.source_plan import (
    SIMDGROUP_THREADS,
    THREADGROUP_BYTES,
    Plan,
    plan_of,
    tile_bytes,
)
from metal4conv.shader.source_result import ShaderSource as ShaderSource
from metal4conv.shader.source_result import function_constants
from metal4conv.shader.source_rows import (
    Entries,
    input_rows,
    load_function,
    sample_function,
    store_function,
    structures,
    tensor_structure,
)
from metal4conv.shader.source_templates import (
    BOUND_TENSOR,
    FUNCTION_CONSTANT,
    HAS_MATMUL2D,
    VERTEX,
    filled,
    layer_helpers,
)
from metal4conv.shader.source_text import fitted, shown, wrapped


def write_source(
    network: Network,
    options: ShaderOptions,
    packed: PackedWeights,
    textures: tuple[TextureLayout, ...] = (),
    sampler: SamplerLayout | None = None,
    origin: str = "",
) -> ShaderSource:
    """The source of a network: of passes where it has convolutions, else of points.

    `textures` are those that inputs are sampled from, `origin` says where the network is from.
    """
    if not network.is_pointwise:
        return write_passes(network, options, packed, origin)
    ports = ([port.name for port in group] for group in (network.inputs, network.outputs))
    names = names_of(network.name, network.program, packed, *ports)
    plan = plan_of(network.program, names, packed, options)
    notes = list(matmul2d_notes(plan))
    uses_matmul2d = bool(plan.program.linears) and not notes
    tile = tile_bytes(plan) if uses_matmul2d else 0
    if tile > THREADGROUP_BYTES:
        notes.append(
            f"the compute functions evaluate each point in its own thread: {SIMDGROUP_THREADS} "
            f"points of the widest layer take {tile:,} bytes of threadgroup memory, and there are "
            f"{THREADGROUP_BYTES:,}"
        )
        tile = 0
    entries = Entries(
        plan, network, named_textures(plan, network.inputs, textures, sampler), uses_matmul2d, tile
    )
    parts, points, found = entry_parts(entries)
    notes += found
    helpers: set[str] = set()
    indices: dict[tuple[int, ...], str] = {}
    functions = evaluation(entries, helpers, indices)
    helper_texts = [helper_text(name, plan.names.prefix) + "\n" for name in with_needed(helpers)]
    sections = [
        header(entries, points, origin, helper_texts + functions),
        "#include <metal_stdlib>\n" + (filled(HAS_MATMUL2D, plan) if uses_matmul2d else ""),
        "using namespace metal;\n",
        *([filled(FUNCTION_CONSTANT, plan)] if uses_matmul2d else []),
        constants_text(entries, indices, packed, options, [*functions, *parts]),
        *([filled(BOUND_TENSOR, plan)] if has_bound(entries) else []),
        structures(entries),
        *([tensor_structure(entries)] if has_bound(entries) else []),
        *helper_texts,
        *layer_helpers(plan, uses_matmul2d, bool(tile)),
        *functions,
        *parts,
    ]
    return ShaderSource(
        text=fitted("\n".join(sections)),
        evaluate=f"{plan.names.prefix}_evaluate",
        entry_points=tuple(points),
        constants=function_constants(plan.names.prefix) if uses_matmul2d else (),
        estimates=estimate(network, options, tile * entries.simdgroups if tile else 0),
        notes=tuple(notes),
    )


def matmul2d_notes(plan: Plan) -> list[str]:
    """Why there is no matmul2d, if there is not."""
    if not plan.program.linears:
        return []
    options = plan.options
    if options.inline_weights:
        return ["weights that stand in the source are read by the plain path alone"]
    needed = MATMUL2D_SYSTEMS[options.precision]
    if options.system < needed:
        return [
            f"{options.precision} weights are read by the plain path alone: matmul2d takes them "
            f"beside half from system {needed[0]}.{needed[1]} on, and this source is for "
            f"{options.system[0]}.{options.system[1]}"
        ]
    return []


def has_bound(entries: Entries) -> bool:
    """Whether the host binds tensors."""
    return any(block.index is not None for block in entries.plan.packed.blocks)


def constants_text(
    entries: Entries,
    indices: dict[tuple[int, ...], str],
    packed: PackedWeights,
    options: ShaderOptions,
    texts: Sequence[str],
) -> str:
    """The named numbers of the source, as far as `texts` and structures name them."""
    plan, prefix = entries.plan, entries.prefix
    words = set(re.findall(r"\w+", "\n".join([*texts, structures(entries)])))
    lines = [
        "// features of the vectors, without padding",
        *width_constants(plan.names, plan.program, words),
        *layer_constants(plan.names, plan.program, packed, options),
    ]
    if entries.tile_bytes:
        lines += [
            "// points that a simdgroup evaluates together, and their threadgroup memory: operands",
            "// of the widest layer or, after them, its sums",
            constant(f"{prefix}_tile_points", SIMDGROUP_THREADS),
            constant(f"{prefix}_tile_bytes", entries.tile_bytes),
        ]
    for table, name in indices.items():
        lines += ["// which elements are read where no formula says it", *index_array(name, table)]
    return "\n".join([*lines, ""])


def entry_parts(entries: Entries) -> tuple[list[str], list[EntryPoint], list[str]]:
    """The texts of the functions around the network, what the manifest says of them, and notes."""
    sampled = bool(entries.textures.layouts)
    parts, notes = [], []
    whole = Entries(
        entries.plan,
        entries.network,
        named_textures(entries.plan, entries.network.inputs, ()),
        entries.uses_matmul2d,
        entries.tile_bytes,
    )
    if entries.network.inputs:
        parts.append(load_function(whole))
    if sampled and input_rows(entries):
        parts.append(load_function(entries))
    if sampled:
        parts.append(sample_function(entries))
    parts.append(store_function(entries))
    made = [compute_entry(whole, False)]
    if sampled:
        made.append(compute_entry(entries, True))
    if is_too_wide(entries):
        notes.append(
            f"there is no fragment function: the outputs {', '.join(widths_of(entries))} need more "
            f"than the {MOST_ATTACHMENTS} colour attachments of a render pass"
        )
    else:
        text, entry = fragment_entry(entries)
        made.append((filled(VERTEX, entries.plan) + "\n" + text, entry))
    return [*parts, *(text for text, _ in made)], [entry for _, entry in made], notes


def header(
    entries: Entries, points: Sequence[EntryPoint], origin: str, functions: Sequence[str]
) -> str:
    """The comment at the top: what this is and how it is used; `functions` are those below."""
    plan, prefix, network = entries.plan, entries.prefix, entries.network
    inputs = ", ".join(
        f"{name} ({vector.width})"
        for name, vector in zip(plan.names.inputs, plan.program.inputs, strict=True)
    )
    precision = precision_text(plan)
    arguments = ["inputs", *(["weights"] if plan.has_blob else [])]
    if has_bound(entries):
        arguments.append("tensors")
    paragraphs = [
        f"{network.name}: {', '.join(widths_of(entries))} of {inputs or 'nothing'}"
        + (f", made from {shown(origin)}." if origin else "."),
        f"In a shader of your own, call {prefix}_evaluate({', '.join(arguments)}); or use "
        + " and ".join(point.name for point in points)
        + ".",
        precision,
    ]
    if any("precise::" in text for text in functions):
        paragraphs.append(
            "Functions of `precise` keep digits that fast math, the compiler's default, would lose."
        )
    if plan.has_blob:
        paragraphs.append(
            f"`weights` is the file {network.name}.weights as it is, at an address that is a "
            "multiple of 128 bytes."
        )
    if entries.uses_matmul2d:
        paragraphs.append(
            f"{prefix}_use_matmul2d (function constant 0) picks matmul2d of Metal Performance "
            "Primitives, or arithmetic that every compiler of Metal has."
        )
    lines = [f"// {network.name}.metal (Metal Shading Language 4.0)"]
    for paragraph in paragraphs:
        lines += [line.strip() for line in wrapped(paragraph, "// ")]
    return "\n".join([*lines, ""])


def precision_text(plan: Plan) -> str:
    """The types of the numbers."""
    precision = plan.options.precision
    if precision == "float32" or not plan.program.linears:
        return "All numbers are float."
    if plan.options.inline_weights:
        what = {"float16": "half", "int8": "int8 and a scale for each output"}[precision]
        weights = f"Weights are rounded to what {what} can hold"
    elif precision == "int8":
        weights = "Weights are int8 with a float scale for each output"
    else:
        return "Weights and what they are multiplied with are half; all else is float."
    return f"{weights}, what they are multiplied with is half; all else is float."
