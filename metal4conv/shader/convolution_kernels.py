"""The compute function of a pass: its parameters, where its pixels lie, and both paths."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from metal4conv.shader.convolution_body import EACH_INDENT, EachBody, PassBody
from metal4conv.shader.convolution_plan import (
    THREADS,
    PassPlan,
    has_weights,
    is_each,
    target_names,
)
from metal4conv.shader.document import Argument, EntryPoint
from metal4conv.shader.network import Assign
from metal4conv.shader.source_arguments import attributed, builtin
from metal4conv.shader.source_body import functions
from metal4conv.shader.source_text import INDENT, comment, function


def kernel(
    one: PassPlan, helpers: set[str], indices: dict[tuple[int, ...], str]
) -> tuple[str, EntryPoint]:
    """The compute function of a pass, and what the manifest says of it."""
    targets = target_names(one)
    body = PassBody(one.plan, False, helpers, indices, one=one, targets=targets)
    statements = body.statements()
    tables = dict(body.tables)
    each: list[str] = []
    if is_each(one):
        other = EachBody(one.plan, False, helpers, indices, one=one, targets=targets)
        each = other.each_statements()
        tables |= other.tables
    pointers = [
        f"const device float *{table} = (const device float *)(weights + "
        f"{one.prefix}_{table}_offset);"
        for table in tables
    ]
    arguments = pass_arguments(one, targets)
    if one.dispatch.convolution is None:
        lines = [*point_start(one, targets), *pointers, *statements]
    else:
        lines = [*tile_start(one), *pointers, *each_lines(one, each)]
        lines += [*sums_lines(one, bool(each)), *advance(one, targets), *statements]
    text = function(f"kernel void {one.name}", [attributed(item) for item in arguments], lines)
    width, height = one.tile_size
    is_tile = one.dispatch.convolution is not None
    entry = EntryPoint(
        name=one.name,
        stage="compute",
        arguments=tuple(arguments),
        threads_per_threadgroup=THREADS,
        points_per_threadgroup=width * height if is_tile else THREADS,
        tile=(width, height) if is_tile else None,
        threadgroup_memory_bytes=one.tile.bytes if one.tile else 0,
        simdgroup=one.tile is not None,
    )
    return "\n".join([*comment(describe_pass(one)), text]), entry


def describe_pass(one: PassPlan) -> str:
    """What a pass computes, from which image, and how it is dispatched."""
    convolution = one.dispatch.convolution
    written = ", ".join(name for _, name in one.writes)
    if convolution is None:
        return (
            f"Pass {one.number}: {written}, each pixel by itself: {THREADS} threads a threadgroup, "
            "in one dimension, one for each pixel."
        )
    outputs, inputs, height, width = convolution.weight.shape
    follower = one.dispatch.program.steps[0] if one.dispatch.program.steps else None
    made = functions(follower) if isinstance(follower, Assign) else []
    parts = [f"convolution {width} x {height}, {inputs} -> {outputs} channels", *made]
    tile = f"{one.tile_size[0]} x {one.tile_size[1]}"
    return (
        f"Pass {one.number}: {', '.join(parts)} ({convolution.label}), to {written}: {THREADS} "
        f"threads a threadgroup, each of which computes a tile of {tile} pixels."
    )


def pass_arguments(one: PassPlan, targets: Mapping[str, str]) -> list[Argument]:
    """The parameters: weights, buffers that are read, those that are written, the size."""
    buffers: list[Argument] = []
    convolution = one.dispatch.convolution
    read = [*([convolution.image] if convolution else []), *(name for _, name in one.reads)]
    for name in dict.fromkeys(read):
        role = "input" if name in one.inputs else "image"
        text = f"const device {one.buffer_type(name)} *{one.buffers[name]}"
        buffers.append(Argument(one.buffers[name], "buffer", None, text, role, name))
    for _, name in one.writes:
        role = "output" if name in one.outputs else "image"
        text = f"device {one.buffer_type(name)} *{targets[name]}"
        buffers.append(Argument(targets[name], "buffer", None, text, role, name))
    size = f"constant {one.prefix}_parameters &parameters"
    buffers.append(Argument("parameters", "buffer", None, size, "parameters"))
    if has_weights(one):
        text = "const device uchar *weights"
        buffers.insert(0, Argument("weights", "buffer", None, text, "weights"))
    arguments = [replace(item, index=index) for index, item in enumerate(buffers)]
    if convolution is None:
        return [*arguments, builtin("pixel", "thread_position_in_grid")]
    if one.tile:
        text = "threadgroup uchar *tile"
        arguments.append(Argument("tile", "threadgroup", 0, text, "tile"))
    group = Argument("group", "builtin", None, "uint2 group", "threadgroup_position_in_grid")
    return [*arguments, group, builtin("thread_index", "thread_index_in_threadgroup")]


def point_start(one: PassPlan, targets: Mapping[str, str]) -> list[str]:
    """The beginning of a pass without a convolution: one thread a pixel."""
    return [
        "if (pixel >= parameters.width * parameters.height) {",
        f"{INDENT}return;",
        "}",
        *advance(one, targets),
    ]


def tile_start(one: PassPlan) -> list[str]:
    """The beginning of a pass with a convolution: where the tile lies."""
    return [
        "const int2 size = int2(int(parameters.width), int(parameters.height));",
        f"const int2 origin = int2(int(group.x) * {one.block}::tile_width, "
        f"int(group.y) * {one.block}::tile_height);",
    ]


def each_lines(one: PassPlan, each: Sequence[str]) -> list[str]:
    """The matmul2d path where each sum is used by itself."""
    if not each:
        return []
    assert one.dispatch.convolution is not None
    assert one.sums is not None
    image = one.buffers[one.dispatch.convolution.image]
    block = one.block
    return [
        "",
        "// each sum is used by itself, by the thread that has it",
        f"#if {one.prefix.upper()}_HAS_MATMUL2D",
        f"if ({one.prefix}_use_matmul2d) {{",
        f"{INDENT}const int2 first = origin - int2({block}::left, {block}::above);",
        f"{INDENT}{one.prefix}_fill_window<{block}>({image}, size, first, tile, thread_index);",
        f"{INDENT}{one.prefix}_convolve_tile<{block}>(tile, weights + {block}_offset,",
        f"{INDENT * 2}[=](int i, int2 place, float sum) {{",
        f"{INDENT * 3}const int2 at = origin + place;",
        f"{INDENT * 3}if (i < {one.plan.names.width(one.sums)} && at.x < size.x && "
        "at.y < size.y) {",
        f"{EACH_INDENT}const uint pixel = uint(at.y * size.x + at.x);",
        *each,
        f"{INDENT * 3}}}",
        f"{INDENT * 2}}});",
        f"{INDENT}return;",
        "}",
        "#endif",
    ]


def sums_lines(one: PassPlan, has_each: bool) -> list[str]:
    """The sums of this thread's pixel, and where that is."""
    assert one.dispatch.convolution is not None
    image, block = one.buffers[one.dispatch.convolution.image], one.block
    at = f"{one.prefix}_pixel_of<{block}>(origin, thread_index)"
    outside = [
        f"if ({one.prefix}_is_outside<{block}>(at, size, thread_index)) {{",
        f"{INDENT}return;",
        "}",
    ]
    weight = f"weights + {block}_offset"
    if one.plan.options.inline_weights:
        weight = f"{block}_numbers"
    declaration = f"float sums[{block}::outputs];"
    remark = "// one thread a pixel"
    if one.tile is None or has_each:
        call = f"{one.prefix}_convolve_plain<{block}>({image}, size, at, {weight}, sums);"
        return ["", remark, f"const int2 at = {at};", *outside, declaration, call]
    call = f"{one.prefix}_convolve<{block}>("
    call += f"{image}, size, origin, {weight}, tile, thread_index, sums);"
    return ["", remark, declaration, call, f"const int2 at = {at};", *outside]


def advance(one: PassPlan, targets: Mapping[str, str]) -> list[str]:
    """The buffers' pointers move to the pixel's rows."""
    rows = {}
    for vector, name in one.reads:
        if name not in one.uniform:
            rows[one.buffers[name]] = vector
    for vector, name in one.writes:
        rows[targets[name]] = vector
    if not rows:
        return []
    start = []
    if one.dispatch.convolution is not None:
        start = ["const uint pixel = uint(at.y * size.x + at.x);"]
    return [
        *start,
        *(
            f"{buffer} += pixel * {one.plan.names.width(vector)};"
            for buffer, vector in rows.items()
        ),
    ]
