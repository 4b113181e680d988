"""The functions around a network: of one point, of a tile, for fragments and dispatches."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from metal4conv.layout.emit.identifiers import Identifiers
from metal4conv.shader.document import Argument, Attachment, EntryPoint
from metal4conv.shader.source_arguments import (
    Textures,
    attributed,
    builtin,
    input_arguments,
    numbered,
    output_arguments,
    parameters_argument,
    tensor_arguments,
    texture_arguments,
    weight_arguments,
)
from metal4conv.shader.source_body import Body
from metal4conv.shader.source_plan import SIMDGROUP_THREADS, Plan
from metal4conv.shader.source_rows import Entries, input_rows
from metal4conv.shader.source_text import INDENT, broken, function, structure, wrapped

MOST_ATTACHMENTS = 8
"""Colour attachments of a render pass (Metal feature set tables)."""


def evaluation(
    entries: Entries, helpers: set[str], indices: dict[tuple[int, ...], str]
) -> list[str]:
    """The function that evaluates one point, and the one for a simdgroup's points."""
    plan, prefix = entries.plan, entries.prefix
    made = []
    parameters = [f"{prefix}_inputs inputs", *constant_parameters(plan)]
    body = Body(plan, False, helpers, indices).write()
    text = function(f"inline {prefix}_outputs {prefix}_evaluate", parameters, body)
    made.append(f"// The network for one point. Call it from any function of your own.\n{text}")
    if entries.tile_bytes:
        parameters += ["threadgroup uchar *tile", "uint lane"]
        body = Body(plan, True, helpers, indices).write()
        text = function(f"inline {prefix}_outputs {prefix}_evaluate_tile", parameters, body)
        remark = (
            "// The network for the points of a simdgroup, one a lane: all lanes have to call it,\n"
            f"// with {prefix}_tile_bytes of threadgroup memory that no other simdgroup uses.\n"
        )
        made.append(f"{entries.guard}\n\n{remark}{text}\n#endif // {entries.guard[4:]}\n")
    return made


def constant_parameters(plan: Plan) -> list[str]:
    """What the network's functions take besides inputs: weights and tensors."""
    if not plan.has_blob:
        return []
    bound = list(tensor_arguments(plan))
    tensors = [f"{plan.names.prefix}_tensors tensors"] if bound else []
    return ["const device uchar *weights", *tensors]


def constant_arguments(plan: Plan) -> list[str]:
    """The same as arguments of a call."""
    return [parameter.split()[-1].lstrip("*") for parameter in constant_parameters(plan)]


def compute_entry(entries: Entries, sampled: bool) -> tuple[str, EntryPoint]:
    """The compute function whose inputs come from buffers, or from the textures."""
    plan, prefix = entries.plan, entries.prefix
    textures = entries.textures if sampled else Textures()
    source = Entries(plan, entries.network, textures, entries.uses_matmul2d, entries.tile_bytes)
    weights = weight_arguments(plan)
    buffers = [
        *input_arguments(plan, entries.network.inputs, textures),
        *output_arguments(plan, entries.network.outputs),
        parameters_argument(plan),
    ]
    arguments = [*weights, *numbered(buffers, len(weights)), *texture_arguments(textures)]
    if entries.tile_bytes:
        arguments.append(Argument("tile", "threadgroup", 0, "threadgroup uchar *tile", "tile"))
    arguments.append(builtin("point", "thread_position_in_grid"))
    if entries.tile_bytes:
        arguments += [
            builtin("lane", "thread_index_in_simdgroup"),
            builtin("simdgroup_index", "simdgroup_index_in_threadgroup"),
        ]
    name = f"{prefix}_texture_compute" if sampled else f"{prefix}_compute"
    point = "min(point, count - 1)" if entries.tile_bytes else "point"
    body = ["const uint count = parameters.width * parameters.height;"]
    if not entries.tile_bytes:
        body += ["if (point >= count) {", f"{INDENT}return;", "}"]
    else:
        body.append(
            "// Lanes beyond the last point repeat it, as matmul2d needs all of a simdgroup."
        )
        body.append(f"const uint shown = {point};")
        point = "shown"
    body += read_inputs(source, point, pixel_centre(point), "uv")
    body += [*tensors_made(entries), f"{prefix}_outputs outputs;"]
    call = ", ".join(["inputs", *constant_arguments(plan)])
    if entries.tile_bytes:
        body += [
            entries.guard,
            f"if ({prefix}_use_matmul2d) {{",
            f"{INDENT}threadgroup uchar *rows = tile + simdgroup_index * {prefix}_tile_bytes;",
            f"{INDENT}outputs = {prefix}_evaluate_tile({call}, rows, lane);",
            "} else",
            "#endif",
            "{",
            f"{INDENT}outputs = {prefix}_evaluate({call});",
            "}",
        ]
    else:
        body.append(f"outputs = {prefix}_evaluate({call});")
    store = f"{prefix}_store({', '.join(['outputs', 'point', *plan.names.outputs])});"
    body += ["if (point < count) {", f"{INDENT}{store}", "}"] if entries.tile_bytes else [store]
    threads = SIMDGROUP_THREADS * entries.simdgroups
    where = "sampled from the textures at pixel centres" if sampled else "read from buffers"
    remark = [
        *wrapped(f"Evaluates the network for a grid of points whose inputs are {where}:", "// "),
        f"// {threads} threads a threadgroup, in one dimension, one for each point.",
    ]
    text = function(f"kernel void {name}", guarded(entries, arguments), body)
    entry = EntryPoint(
        name=name,
        stage="compute",
        arguments=tuple(arguments),
        inputs="texture" if sampled else "buffer",
        threads_per_threadgroup=threads,
        points_per_threadgroup=threads,
        threadgroup_memory_bytes=entries.tile_bytes * entries.simdgroups,
        simdgroup=bool(entries.tile_bytes),
    )
    return "\n".join([*remark, text]), entry


def pixel_centre(point: str) -> list[str]:
    """Where a point of the grid samples textures."""
    return [
        f"const float2 pixel = float2(float({point} % parameters.width), "
        f"float({point} / parameters.width));",
        "const float2 uv = (pixel + 0.5f) / float2(float(parameters.width), "
        "float(parameters.height));",
    ]


def read_inputs(entries: Entries, point: str, before: Sequence[str], uv: str) -> list[str]:
    """The statements that fill the inputs, from buffers and textures; textures are sampled at
    `uv`, for which the statements `before` may be needed.
    """
    prefix = entries.prefix
    lines = [f"{prefix}_inputs inputs;"]
    rows = input_rows(entries)
    if rows:
        call = ", ".join(["inputs", point, *(name for _, name, _ in rows)])
        lines.append(f"{prefix}_load({call});")
    if entries.textures.layouts:
        call = ", ".join(["inputs", uv, *entries.textures.names, "latent_sampler"])
        lines += [*before, f"{prefix}_sample({call});"]
    return lines


def tensors_made(entries: Entries) -> list[str]:
    """The structure of bound tensors, where there are any."""
    names = [one.name for one in tensor_arguments(entries.plan)]
    if not names:
        return []
    made = f"{entries.prefix}_tensors tensors = "
    return [
        entries.guard,
        *broken(f"{made}{{{', '.join(names)}}};"),
        "#else",
        f"{made}{{}};",
        "#endif",
    ]


def guarded(entries: Entries, arguments: Sequence[Argument]) -> list[str]:
    """The parameters of an entry point, with a guard around those that only matmul2d has."""
    lines: list[str] = []
    for place, argument in enumerate(arguments):
        is_tensor = argument.kind == "tensor"
        if is_tensor and arguments[place - 1].kind != "tensor":
            lines.append(entries.guard)
        lines.append(attributed(argument))
        if is_tensor and arguments[place + 1].kind != "tensor":
            lines.append("#endif")
    return lines


def attachments(entries: Entries) -> tuple[Attachment, ...]:
    """The colour attachments of all outputs: four features each at most."""
    plan = entries.plan
    found = Identifiers(plan.names.outputs)
    made: list[Attachment] = []
    rows = zip(entries.network.outputs, plan.names.outputs, plan.program.outputs, strict=True)
    for port, name, vector in rows:
        for first in range(0, vector.width, 4):
            wide = vector.width > 4
            member = found.unique(f"{name}_{first}", lambda x: [x]) if wide else name
            channels = min(4, vector.width - first)
            made.append(Attachment(len(made), member, port.name, first, channels))
    return tuple(made)


def fragment_entry(entries: Entries) -> tuple[str, EntryPoint]:
    """The fragment function, with the vertex function's output and the targets' type."""
    plan, prefix = entries.plan, entries.prefix
    weights, textures = weight_arguments(plan), entries.textures
    buffers = input_arguments(plan, entries.network.inputs, textures)
    if buffers:
        buffers.append(parameters_argument(plan))
    arguments = [
        Argument("varyings", "stage_in", None, f"{prefix}_varyings varyings", "stage_in"),
        *weights,
        *numbered(buffers, len(weights)),
        *texture_arguments(textures),
    ]
    body: list[str] = []
    if buffers:
        body += [
            "const uint2 pixel = uint2(varyings.position.xy);",
            "const uint point = pixel.y * parameters.width + pixel.x;",
        ]
    reading = read_inputs(entries, "point", [], "varyings.uv")
    body += [*reading, *tensors_made(entries)]
    call = ", ".join(["inputs", *constant_arguments(plan)])
    body += [
        f"const {prefix}_outputs outputs = {prefix}_evaluate({call});",
        f"{prefix}_targets targets;",
    ]
    targets = attachments(entries)
    members = dict(zip((p.name for p in entries.network.outputs), plan.names.outputs, strict=True))
    widths = {p.name: p.width for p in entries.network.outputs}
    for target in targets:
        name = members[target.output]
        made = colour(name, target, widths[target.output])
        body += broken(f"targets.{target.member} = {made};")
    body.append("return targets;")
    lines = [f"float4 {target.member} [[color({target.index})]]" for target in targets]
    text = structure(f"{prefix}_targets", lines) + "\n"
    what = "the textures" if textures.layouts else "buffers"
    text += f"// Evaluates the network for each pixel; its inputs come from {what}.\n"
    text += function(
        f"fragment {prefix}_targets {prefix}_fragment", guarded(entries, arguments), body
    )
    entry = EntryPoint(
        name=f"{prefix}_fragment",
        stage="fragment",
        arguments=tuple(arguments),
        inputs="texture" if textures.layouts else "buffer",
        attachments=targets,
    )
    return text, entry


def colour(name: str, target: Attachment, width: int) -> str:
    """Four components: features, zeros for those that there are not, 1 for the alpha.

    >>> colour("normal", Attachment(0, "normal", "normal", 0, 3), 3)
    'float4(outputs.normal, 1.0f)'
    >>> colour("hidden", Attachment(1, "hidden_4", "hidden", 4, 1), 5)
    'float4(outputs.hidden[4], 0.0f, 0.0f, 1.0f)'
    """
    whole = f"outputs.{name}"
    if width == 4:
        return whole
    features = range(target.first, target.first + target.channels)
    parts = [whole] if width < 4 else [f"{whole}[{feature}]" for feature in features]
    missing = ["0.0f", "0.0f", "1.0f"][target.channels - 1 :] if target.channels < 4 else []
    return f"float4({', '.join([*parts, *missing])})"


def is_too_wide(entries: Entries) -> bool:
    """Whether the outputs need more attachments than a render pass has."""
    return len(attachments(entries)) > MOST_ATTACHMENTS


def widths_of(entries: Entries) -> Iterator[str]:
    """The outputs and their widths, for messages."""
    for name, vector in zip(entries.plan.names.outputs, entries.plan.program.outputs, strict=True):
        yield f"{name} ({vector.width})"
