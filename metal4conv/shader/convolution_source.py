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

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from metal4conv.layout.emit.identifiers import Identifiers, plain
from metal4conv.shader.convolution_templates import (
    CONVOLVE,
    CONVOLVE_INLINE,
    CONVOLVE_PLAIN,
    CONVOLVE_ROWS,
    CONVOLVE_TILE,
)
from metal4conv.shader.document import Argument, EntryPoint, IntermediateImage
from metal4conv.shader.estimates import estimate
from metal4conv.shader.network import (
    IDENTITY,
    Assign,
    Convolution,
    Element,
    Linear,
    Network,
    Pass,
    Step,
    Table,
    Vector,
    expressions,
    leaves,
    operands,
)
from metal4conv.shader.options import ShaderOptions
from metal4conv.shader.packing import PackedWeights
from metal4conv.shader.source_arguments import attributed, builtin
from metal4conv.shader.source_body import INDENT, Body, Plan, comment, functions, plan_of
from metal4conv.shader.source_entries import THREADGROUP_BYTES, function, structure
from metal4conv.shader.source_expressions import PRODUCT, Text, Writer
from metal4conv.shader.source_functions import helper_text, with_needed
from metal4conv.shader.source_names import (
    RESERVED,
    Names,
    constant,
    index_array,
    number_array,
    padding,
    wrapped,
)
from metal4conv.shader.source_result import ShaderSource, function_constants
from metal4conv.shader.source_templates import (
    FUNCTION_CONSTANT,
    HAS_MATMUL2D,
    filled,
    layer_helpers,
)

THREADS = 128
"""Of a threadgroup: four simdgroups, one thread for each pixel of the largest tile."""

TILES = ((16, 8), (8, 8), (8, 4), (4, 4))
"""Widths and heights of tiles, the best first: a larger one reads fewer pixels around it."""

OWN_WORDS = "size origin pixel group thread_index sums sum at place"
"""Names that the compute functions use for themselves."""

LAYER_WORDS = {"float16": "half", "float32": "float", "int8": "int8"}


@dataclass(frozen=True)
class Tile:
    """The pixels that a threadgroup computes at once, and those that their windows see."""

    width: int
    height: int
    window_width: int
    window_height: int
    bytes: int
    """Threadgroup memory for the window or, after it, for the sums of all pixels."""


@dataclass(frozen=True)
class PassPlan:
    """One pass: its number, the names of its buffers, and how it is computed.

    `tile` is None where there is no convolution2d for it. `halves` are images in the operands'
    type, `buffers` the identifiers of ports and images.
    """

    number: int
    one: Pass
    plan: Plan
    buffers: Mapping[str, str]
    halves: frozenset[str]
    inputs: frozenset[str]
    uniform: frozenset[str]
    outputs: frozenset[str]
    tile: Tile | None

    @property
    def name(self) -> str:
        """The compute function."""
        return f"{self.prefix}_pass_{self.number}"

    @property
    def prefix(self) -> str:
        """What begins all names."""
        return self.plan.names.prefix

    @property
    def sums(self) -> Vector | None:
        """The convolution's result."""
        return None if self.one.convolution is None else self.one.convolution.result

    @property
    def block(self) -> str:
        """The structure of the convolution's constants."""
        assert self.one.convolution is not None
        return f"{self.prefix}_{self.plan.packed.of[self.one.convolution].name}"

    @property
    def reads(self) -> list[tuple[Vector, str]]:
        """The vectors that come from buffers, with the ports or images."""
        given = [vector for vector in self.one.program.inputs if vector != self.sums]
        return list(zip(given, self.one.reads, strict=True))

    @property
    def writes(self) -> list[tuple[Vector, str]]:
        """The vectors that go to buffers, with the ports or images."""
        return list(zip(self.one.program.outputs, self.one.writes, strict=True))

    @property
    def tile_size(self) -> tuple[int, int]:
        """Width and height of the tiles of a pass with a convolution."""
        return (self.tile.width, self.tile.height) if self.tile else TILES[0]

    def buffer_type(self, name: str) -> str:
        """The type of what a buffer holds."""
        return "half" if name in self.halves else "float"


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
        *(traits(one) for one in plans if one.one.convolution is not None),
        grid_structure(first.names.prefix),
        *(helper_text(name, first.names.prefix) + "\n" for name in with_needed(helpers)),
        *linear_helpers(plans, uses_matmul2d),
        *convolution_helpers(plans, kernels),
        *kernels,
    ]
    return ShaderSource(
        text="\n".join(sections),
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
        convolution = one.one.convolution
        if convolution is not None and one.tile is None:
            yield (
                f"{one.name} ({convolution.label}) has the plain path alone: what the windows of "
                f"the smallest tile see takes more than {THREADGROUP_BYTES:,} bytes of threadgroup "
                "memory"
            )


def needs_matmul2d(plans: Sequence[PassPlan], options: ShaderOptions) -> bool:
    """Whether linear layers between convolutions have the choice of a path."""
    if options.inline_weights or (options.precision == "int8" and options.system < (26, 4)):
        return False
    return any(one.one.program.linears for one in plans)


def pass_plans(
    network: Network, options: ShaderOptions, packed: PackedWeights
) -> tuple[PassPlan, ...]:
    """The passes with names for everything in them."""
    found = Identifiers(block.name for block in packed.blocks)

    def unique(wanted: str) -> str:
        words = f"{RESERVED} {OWN_WORDS}"
        return found.unique(plain(wanted) or "value", lambda name: [name], words)

    ports = [port.name for port in (*network.inputs, *network.outputs)]
    written = [name for one in network.passes for name in one.writes]
    buffers = {name: unique(name) for name in dict.fromkeys([*ports, *written])}
    local: dict[Vector, str] = {}
    for one in network.passes:
        given = [vector for vector in one.program.inputs if not is_result(one, vector)]
        for vector, name in (
            *zip(given, one.reads, strict=True),
            *zip(one.program.outputs, one.writes, strict=True),
        ):
            local.setdefault(vector, buffers[name])
    for one in network.passes:
        made = (*one.program.inputs, *(step.result for step in one.program.steps))
        for vector in made:
            if vector not in local:
                local[vector] = unique(vector.name)
    names = Names(plain(network.name) or "network", local, (), ())
    halves = half_images(network, options)
    return tuple(
        PassPlan(
            number=number,
            one=one,
            plan=plan_of(one.program, names, packed, options),
            buffers=buffers,
            halves=halves,
            inputs=frozenset(port.name for port in network.inputs),
            uniform=frozenset(port.name for port in network.inputs if port.uniform),
            outputs=frozenset(port.name for port in network.outputs),
            tile=tile_of(one, packed, options),
        )
        for number, one in enumerate(network.passes, start=1)
    )


def is_result(one: Pass, vector: Vector) -> bool:
    """Whether a vector is what the pass's convolution gives."""
    return one.convolution is not None and vector == one.convolution.result


def half_images(network: Network, options: ShaderOptions) -> frozenset[str]:
    """Intermediate images that convolutions alone read: they round them to half anyway."""
    if options.precision == "float32":
        return frozenset()
    written = {
        name: (vector, one)
        for one in network.passes
        for vector, name in zip(one.program.outputs, one.writes, strict=True)
    }
    outputs = {port.name for port in network.outputs}
    read = {name for one in network.passes for name in one.reads}
    used_here = {
        name
        for name, (vector, one) in written.items()
        if any(vector in operands(step) for step in one.program.steps)
    }
    return frozenset(written) - outputs - read - used_here


def tile_of(one: Pass, packed: PackedWeights, options: ShaderOptions) -> Tile | None:
    """The largest tile that fits in threadgroup memory; None where convolution2d does not fit."""
    if one.convolution is None or options.inline_weights or options.precision == "int8":
        return None
    outputs, inputs, kernel_width, kernel_height = packed.of[one.convolution].dimensions
    operand_bytes = 4 if options.precision == "float32" else 2
    for width, height in TILES:
        window = (width + kernel_width - 1, height + kernel_height - 1)
        taken = max(window[0] * window[1] * inputs * operand_bytes, width * height * outputs * 4)
        if taken <= THREADGROUP_BYTES:
            return Tile(width, height, *window, taken)
    return None


def images_of(plans: Sequence[PassPlan]) -> tuple[IntermediateImage, ...]:
    """What lies between passes: all that is written and is no output."""
    return tuple(
        IntermediateImage(
            name, vector.width, "float16" if one.buffer_type(name) == "half" else "float32"
        )
        for one in plans
        for vector, name in one.writes
        if name not in one.outputs
    )


def traits(one: PassPlan) -> str:
    """The structure that holds the constants of a pass's convolution."""
    convolution = one.one.convolution
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
        rows.append(("columns4", (outputs + 3) // 4, "groups of four outputs that are used"))
    rows += [("tile_width", width, "pixels of a threadgroup"), ("tile_height", height, "")]
    if one.tile:
        rows += [
            ("window_width", one.tile.window_width, "what their kernels see"),
            ("window_height", one.tile.window_height, ""),
        ]
    kind = LAYER_WORDS[one.plan.options.precision]
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
    text = "\n".join(texts)
    widths = {
        names.width(vector): vector.width
        for one in plans
        for vector in (
            *one.one.program.inputs,
            *(step.result for step in one.one.program.steps),
        )
    }
    lines = ["// features of the vectors, without padding"]
    lines += [constant(name, width) for name, width in widths.items() if name in text]
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
                lines.append(f"// {block.role} of {block.layer}")
                lines += number_array(f"{names.prefix}_{block.name}", packed.stored(block))
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
    return [linear for one in plans for linear in one.one.program.linears]


def linear_helpers(plans: Sequence[PassPlan], uses_matmul2d: bool) -> list[str]:
    """The functions that multiply with the weights of linear layers, where there are any."""
    having = [one for one in plans if one.one.program.linears]
    if not having:
        return []
    options = having[0].plan.options
    has_choice = uses_matmul2d and needs_matmul2d(plans, options)
    return layer_helpers(having[0].plan, has_choice, False)


def convolution_helpers(plans: Sequence[PassPlan], kernels: Sequence[str]) -> list[str]:
    """The functions that convolve, as many as the compute functions call."""
    having = [one for one in plans if one.one.convolution is not None]
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


@dataclass
class PassBody(Body):
    """Writes the statements for one pixel of a pass, whose vectors lie in buffers and `sums`."""

    one: PassPlan | None = None
    targets: dict[str, str] = field(default_factory=dict)
    """The parameter that an output of the pass is written to, by port or image."""
    half_targets: set[str] = field(default_factory=set)

    @property
    def of(self) -> PassPlan:
        """The pass."""
        assert self.one is not None
        return self.one

    def place_ports(self) -> None:
        """Inputs and outputs lie in the pixel's rows of the buffers, sums in an array."""
        one = self.of
        for vector, name in one.reads:
            self.places[vector] = one.buffers[name]
            self.padded.add(vector)
        if one.one.convolution is not None:
            self.places[one.one.convolution.result] = "sums"
            self.padded.add(one.one.convolution.result)
            self.scale_sums(one.one.convolution)
        direct = direct_outputs(one)
        for vector, name in one.writes:
            target = self.targets[name]
            if vector in direct and vector not in self.places:
                self.places[vector] = target
                self.padded.add(vector)
            if one.buffer_type(name) == "half":
                self.half_targets.add(target)

    def scale_sums(self, convolution: Convolution) -> None:
        """An int8 convolution's sums are multiplied with scales where they are read."""
        scale = self.plan.packed.scales.get(convolution)
        if scale is not None and not self.plan.options.inline_weights:
            self.scaled[convolution.result] = self.table_name(scale.name)

    def assign(self, target: str, value: str, converts: bool, indent: str = "") -> None:
        """An assignment, rounded to half where an image holds such."""
        if target.split("[")[0] in self.half_targets:
            converts = True
        super().assign(target, value, converts, indent)

    def statements(self) -> list[str]:
        """All steps, from the buffers to the buffers."""
        self.place_ports()
        steps = self.plan.program.steps
        position = layer = 0
        while position < len(steps):
            step = steps[position]
            self.lines += ["", *comment(self.describe(position, layer))]
            if isinstance(step, Linear):
                self.linear(step)
                layer += 1
                follower = steps[position + 1] if position + 1 < len(steps) else None
                if isinstance(follower, Assign) and step.result in operands(follower):
                    self.element_step(follower)
                    position += 1
            else:
                self.element_step(step)
            position += 1
        self.copy_outputs()
        return self.lines

    def copy_outputs(self) -> None:
        """Outputs that were not computed where they go."""
        for vector, name in self.of.writes:
            target = self.targets[name]
            if self.places[vector] == target:
                continue
            self.lines += ["", f"// {name} is {self.places[vector]}"]
            self.lines.append(f"for (int i = 0; i < {self.names.width(vector)}; ++i) {{")
            self.assign(f"{target}[i]", self.element(vector, "i").text, False, INDENT)
            self.lines.append("}")


def direct_outputs(one: PassPlan) -> frozenset[Vector]:
    """Outputs that are computed right where they go, as nothing in the pass reads them."""
    read = {vector for step in one.one.program.steps for vector in operands(step)}
    made = {step.result for step in one.one.program.steps if not isinstance(step, Linear)}
    return frozenset(vector for vector, _ in one.writes if vector in made - read)


def target_names(one: PassPlan) -> dict[str, str]:
    """The parameters for what a pass writes: the buffer's name, or another one where a vector of
    that name is computed in a variable first.
    """
    direct = direct_outputs(one)
    variables = {
        one.plan.names.local[step.result]
        for step in one.one.program.steps
        if step.result not in direct
    }
    found = {}
    for _, name in one.writes:
        target = one.buffers[name]
        found[name] = f"{target}_out" if target in variables else target
    return found


def is_each(one: PassPlan) -> bool:
    """Whether each element that a pass writes depends on one sum alone, and on others' of its
    number: then it is computed where convolution2d leaves the sum.
    """
    if one.tile is None or one.sums is None:
        return False
    direct = direct_outputs(one) | {one.sums}
    width = one.sums.width
    return all(vector in direct for vector, _ in one.writes) and all(
        is_elementwise_step(step, width) for step in one.one.program.steps
    )


def is_elementwise_step(step: Step, width: int) -> bool:
    """Whether element i of a step is made of elements i of vectors as wide, and of tables."""
    if not isinstance(step, Assign) or len(step.pieces) != 1 or step.result.width != width:
        return False
    for expression in expressions(step):
        for leaf in leaves(expression):
            if isinstance(leaf, Element) and (leaf.index, leaf.vector.width) != (IDENTITY, width):
                return False
            if isinstance(leaf, Table) and leaf.index != IDENTITY:
                return False
    return True


@dataclass
class EachBody(PassBody):
    """Writes the statements for one sum: output `i` at a pixel."""

    def each_statements(self) -> list[str]:
        """All steps as values of one element, and what is written."""
        self.place_ports()
        writer = Writer(
            self.names.prefix, self.one_element, self.table, self.helpers, self.index_tables
        )
        for step in self.plan.program.steps:
            assert isinstance(step, Assign)
            value = writer.write(step.pieces[0].expression, "i")
            targets = [name for vector, name in self.of.writes if vector == step.result]
            if not targets:
                self.statement(f"const float {self.names.local[step.result]} = {value}")
                continue
            if len(targets) > 1:
                self.statement(f"const float value = {value}")
                value = "value"
            for name in targets:
                self.assign(self.written(name), value, False)
        for vector, name in self.of.writes:
            if vector == self.of.sums:
                self.assign(self.written(name), self.one_element(vector, "i").text, False)
        return self.lines

    def written(self, name: str) -> str:
        """The element of a buffer that is written."""
        target = self.targets[name]
        vector = next(vector for vector, other in self.of.writes if other == name)
        return f"{target}[pixel * {self.names.width(vector)} + i]"

    def one_element(self, vector: Vector, index: str) -> Text:
        """The text of an element: the sum, a value, or what a buffer holds at the pixel."""
        if vector == self.of.sums:
            scale = self.scaled.get(vector)
            return Text(f"{scale}[{index}] * sum", PRODUCT) if scale else Text("sum")
        for other, name in self.of.reads:
            if other == vector:
                buffer = self.of.buffers[name]
                if name in self.of.uniform:
                    return Text(f"{buffer}[{index}]")
                return Text(f"{buffer}[pixel * {self.names.width(vector)} + {index}]")
        return Text(self.names.local[vector])


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
    if one.one.convolution is None:
        lines = [*point_start(one, targets), *pointers, *statements]
    else:
        lines = [*tile_start(one), *pointers, *each_lines(one, each)]
        lines += [*sums_lines(one, bool(each)), *advance(one, targets), *statements]
    text = function(f"kernel void {one.name}", [attributed(item) for item in arguments], lines)
    width, height = one.tile_size
    is_tile = one.one.convolution is not None
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
    convolution = one.one.convolution
    written = ", ".join(name for _, name in one.writes)
    if convolution is None:
        return (
            f"Pass {one.number}: {written}, each pixel by itself: {THREADS} threads a threadgroup, "
            "in one dimension, one for each pixel."
        )
    outputs, inputs, height, width = convolution.weight.shape
    follower = one.one.program.steps[0] if one.one.program.steps else None
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
    convolution = one.one.convolution
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


def has_weights(one: PassPlan) -> bool:
    """Whether a pass reads the weights' buffer."""
    if one.plan.options.inline_weights:
        return False
    steps = one.one.program.steps
    tables = any(
        isinstance(leaf, Table)
        for step in steps
        for expression in expressions(step)
        for leaf in leaves(expression)
    )
    return tables or one.one.convolution is not None or bool(one.one.program.linears)


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
    assert one.one.convolution is not None
    assert one.sums is not None
    image = one.buffers[one.one.convolution.image]
    block = one.block
    return [
        "",
        f"#if {one.prefix.upper()}_HAS_MATMUL2D",
        f"if ({one.prefix}_use_matmul2d) {{",
        f"{INDENT}const int2 first = origin - int2({block}::left, {block}::above);",
        f"{INDENT}{one.prefix}_fill_window<{block}>({image}, size, first, tile, thread_index);",
        f"{INDENT}{one.prefix}_convolve_tile<{block}>(tile, weights + {block}_offset,",
        f"{INDENT * 2}[=](int i, int2 place, float sum) {{",
        f"{INDENT * 3}const int2 at = origin + place;",
        f"{INDENT * 3}if (i < {one.plan.names.width(one.sums)} && at.x < size.x && "
        "at.y < size.y) {",
        f"{INDENT * 4}const uint pixel = uint(at.y * size.x + at.x);",
        *(f"{INDENT * 4}{line}" for line in each),
        f"{INDENT * 3}}}",
        f"{INDENT * 2}}});",
        f"{INDENT}return;",
        "}",
        "#endif",
    ]


def sums_lines(one: PassPlan, has_each: bool) -> list[str]:
    """The sums of this thread's pixel, and where that is."""
    assert one.one.convolution is not None
    image, block = one.buffers[one.one.convolution.image], one.block
    tile = f"{block}::tile_width"
    at = f"origin + int2(int(thread_index) % {tile}, int(thread_index) / {tile})"
    outside = [
        f"if (int(thread_index) >= {tile} * {block}::tile_height || at.x >= size.x || "
        "at.y >= size.y) {",
        f"{INDENT}return;",
        "}",
    ]
    weight = f"weights + {block}_offset"
    if one.plan.options.inline_weights:
        weight = f"{block}_numbers"
    declaration = f"float sums[{block}::outputs];"
    if one.tile is None or has_each:
        call = f"{one.prefix}_convolve_plain<{block}>({image}, size, at, {weight}, sums);"
        return ["", f"const int2 at = {at};", *outside, declaration, call]
    call = f"{one.prefix}_convolve<{block}>("
    call += f"{image}, size, origin, {weight}, tile, thread_index, sums);"
    return ["", declaration, call, f"const int2 at = {at};", *outside]


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
    if one.one.convolution is not None:
        start = ["const uint pixel = uint(at.y * size.x + at.x);"]
    return [
        *start,
        *(
            f"{buffer} += pixel * {one.plan.names.width(vector)};"
            for buffer, vector in rows.items()
        ),
    ]


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
        "for each pixel; the weights' tensors and convolutions count channels first.",
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
