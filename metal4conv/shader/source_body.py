"""The steps of a network as statements: one point in a thread, or a simdgroup's points together."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from metal4conv.shader.network import (
    Assign,
    Call,
    Expression,
    Linear,
    Piece,
    Reduce,
    Table,
    Vector,
    expressions,
    operands,
)
from metal4conv.shader.source_expressions import PRODUCT, Text, Writer
from metal4conv.shader.source_names import Names, declared
from metal4conv.shader.source_plan import Plan
from metal4conv.shader.source_text import INDENT, broken, comment, shown

NEUTRAL: Mapping[str, str] = {
    "sum": "0.0f",
    "product": "1.0f",
    "minimum": "INFINITY",
    "maximum": "-INFINITY",
}
"""What a reduction begins with."""

SHOWN = frozenset({"add", "subtract", "multiply", "divide", "negate", "reciprocal"})
"""Arithmetic that a layer's comment does not name: the line below shows it."""


@dataclass
class Body:
    """Writes the statements of a function, for one point or for a tile of a simdgroup's points.

    `helpers` and `index_tables` collect what the functions need at file scope.
    """

    plan: Plan
    in_tile: bool
    helpers: set[str]
    index_tables: dict[tuple[int, ...], str]
    tables: dict[str, None] = field(default_factory=dict)
    operands: dict[Vector, str] = field(default_factory=dict)
    places: dict[Vector, str] = field(default_factory=dict)
    """Where each vector is found: a name, without an index."""
    padded: set[Vector] = field(default_factory=set)
    """Vectors in arrays, whatever their width."""
    scaled: dict[Vector, str] = field(default_factory=dict)
    """Sums of int8 layers, which have to be multiplied with these scales."""
    tile_holds: Vector | None = None
    """The operand that the tile's rows hold already."""
    lines: list[str] = field(default_factory=list)

    @property
    def names(self) -> Names:
        """What things are called."""
        return self.plan.names

    def write(self) -> list[str]:
        """All statements, from the pointers to the tables to the outputs' return."""
        self.place_ports()
        steps = self.plan.program.steps
        position = layer = 0
        while position < len(steps):
            step = steps[position]
            self.lines += ["", *comment(self.describe(position, layer))]
            if not isinstance(step, Linear):
                self.element_step(step)
            elif self.in_tile and position in self.plan.fused:
                self.fused_layer(position)
                position += 1
            else:
                self.linear(step)
                follower = steps[position + 1] if position + 1 < len(steps) else None
                if isinstance(follower, Assign) and step.result in operands(follower):
                    self.element_step(follower)
                    position += 1
            layer += isinstance(step, Linear)
            position += 1
        self.copy_outputs()
        pointers = [
            f"const device float *{table} = (const device float *)(weights + "
            f"{self.names.prefix}_{table}_offset);"
            for table in self.tables
        ]
        outputs = f"{self.names.prefix}_outputs outputs;"
        return [*pointers, outputs, *self.lines, "return outputs;"]

    def place_ports(self) -> None:
        """Inputs and outputs are members of their structures."""
        program = self.plan.program
        for vector, name in zip(program.inputs, self.names.inputs, strict=True):
            self.places[vector] = f"inputs.{name}"
        results = {step.result for step in program.steps if not isinstance(step, Linear)}
        for vector, name in zip(program.outputs, self.names.outputs, strict=True):
            if vector in results:
                self.places.setdefault(vector, f"outputs.{name}")

    def describe(self, position: int, layer: int) -> str:
        """What a layer or another step computes, and what it is called in the model."""
        step = self.plan.program.steps[position]
        if isinstance(step, Linear):
            return self.describe_layer(position, layer)
        name = self.names.local[step.result]
        if isinstance(step, Reduce):
            return f"{name}: {step.operation} of {step.count} ({shown(step.label)})"
        made = ", ".join(functions(step))
        pieces = f"concatenation of {len(step.pieces)}" if len(step.pieces) > 1 else ""
        what = ", ".join(part for part in (pieces, made) if part) or "arithmetic"
        return f"{name}: {what} ({shown(step.label)})"

    def describe_layer(self, position: int, layer: int) -> str:
        """The widths of a linear layer, and what is done to its sums."""
        steps = self.plan.program.steps
        step = steps[position]
        assert isinstance(step, Linear)
        parts = [f"linear {step.operand.width} -> {step.result.width}"]
        follower = steps[position + 1] if position + 1 < len(steps) else None
        if isinstance(follower, Assign) and step.result in operands(follower):
            parts += functions(follower)
        return f"layer {layer}: {', '.join(parts)} ({shown(step.label)})"

    def element(self, vector: Vector, index: str) -> Text:
        """The text of an element of a vector."""
        place = self.places[vector]
        whole = vector not in self.padded and vector.width == 1
        text = place if whole else f"{place}[{index}]"
        if vector in self.scaled:
            return Text(f"{self.scaled[vector]}[{index}] * {text}", PRODUCT)
        return Text(text)

    def table(self, table: Table, index: str) -> Text:
        """The text of an element of a table."""
        block = self.plan.packed.of[table]
        return Text(f"{self.table_name(block.name)}[{index}]")

    def table_name(self, block: str) -> str:
        """The pointer to a table in the weights, or the array that holds it."""
        if self.plan.options.inline_weights:
            return f"{self.names.prefix}_{block}"
        self.tables[block] = None
        return block

    def writer(self) -> Writer:
        """Writes expressions of this function."""
        prefix = self.names.prefix
        return Writer(prefix, self.element, self.table, self.helpers, self.index_tables)

    def element_step(self, step: Assign | Reduce) -> None:
        """The statements of what is computed element by element."""
        result = step.result
        converts = result in self.plan.operand_only
        if converts:
            self.declare_operand(result, self.names.local[result])
        elif result not in self.places:
            self.places[result] = self.names.local[result]
            if not (isinstance(step, Reduce) and result.width == 1):
                self.statement(
                    declared(self.places[result], result.width, self.names.width(result))
                )
        if isinstance(step, Reduce):
            self.reduce(step, converts)
            return
        for piece in step.pieces:
            if len(step.pieces) > 1:
                self.lines += comment(elements(piece.offset, piece.width))
            self.piece(result, piece, converts)

    def declare_operand(self, vector: Vector, name: str) -> None:
        """An array for what is multiplied with weights; its padding is zero."""
        size = self.plan.block(self.reader(vector))
        self.operands[vector] = name
        self.places[vector] = self.places.get(vector, name)
        self.statement(f"{self.plan.operand_type} {name}[{size}_inputs] = {{}}")
        if self.places[vector] == name:
            self.padded.add(vector)

    def reader(self, vector: Vector) -> Linear:
        """The first layer that multiplies a vector."""
        return next(step for step in self.plan.program.linears if step.operand == vector)

    def piece(self, result: Vector, piece: Piece, converts: bool) -> None:
        """One piece of an assignment, as a loop where it has several elements."""
        if piece.width == 1:
            value = self.writer().write(piece.expression, "0")
            self.assign(self.target(result, str(piece.offset)), value, converts)
            return
        whole = piece.width == result.width
        size = self.names.width(result) if whole else str(piece.width)
        self.lines.append(f"for (int i = 0; i < {size}; ++i) {{")
        index = f"{piece.offset} + i" if piece.offset else "i"
        value = self.writer().write(piece.expression, "i")
        self.assign(self.target(result, index), value, converts, INDENT)
        self.lines.append("}")

    def target(self, vector: Vector, index: str) -> str:
        """An element to assign to."""
        whole = vector not in self.padded and vector.width == 1
        return self.places[vector] if whole else f"{self.places[vector]}[{index}]"

    def assign(self, target: str, value: str, converts: bool, indent: str = "") -> None:
        """An assignment, rounded to the operands' type where it is one."""
        if converts and self.plan.operand_type == "half":
            value = f"half({value})"
        self.statement(f"{target} = {value}", indent)

    def statement(self, text: str, indent: str = "") -> None:
        """A statement, broken where it is too long for a line."""
        self.lines += broken(f"{text};", indent)

    def reduce(self, step: Reduce, converts: bool) -> None:
        """A reduction of neighbouring elements."""
        result, writer = step.result, self.writer()
        outer = INDENT if result.width > 1 else ""
        if outer:
            self.lines.append(f"for (int i = 0; i < {self.names.width(result)}; ++i) {{")
        index = f"i * {step.count} + j" if outer else "j"
        place = self.target(result, "0")
        own = bool(outer) or converts
        total = "total" if own else place
        first = f"{total} = {NEUTRAL[step.operation]}"
        is_new = own or place.isidentifier()
        self.statement(f"float {first}" if is_new else first, outer)
        self.lines.append(f"{outer}for (int j = 0; j < {step.count}; ++j) {{")
        value = writer.text(step.expression, index)
        self.statement(accumulation(step.operation, total, value), outer + INDENT)
        self.lines.append(f"{outer}}}")
        if own:
            self.assign(self.target(result, "i" if outer else "0"), total, converts, outer)
        if outer:
            self.lines.append("}")

    def operand(self, vector: Vector) -> str:
        """The name of an array that holds a vector in the operands' type, padded."""
        if vector not in self.operands:
            name = f"{self.names.local[vector]}_operand"
            self.declare_operand(vector, name)
            self.lines.append(f"for (int i = 0; i < {self.names.width(vector)}; ++i) {{")
            self.assign(f"{name}[i]", self.element(vector, "i").text, True, INDENT)
            self.lines.append("}")
        return self.operands[vector]

    def linear(self, step: Linear) -> None:
        """A matrix product whose sums this thread gets."""
        name = self.names.local[step.result]
        if self.in_tile:
            self.fill_tile(step)
        else:
            self.operand(step.operand)
        block = self.plan.block(step)
        self.places[step.result] = name
        self.padded.add(step.result)
        self.statement(f"float {name}[{block}_outputs]")
        self.note_scale(step)
        if self.in_tile:
            sizes = f"<{block}_inputs, {block}_outputs>"
            weight = self.tile_weight(step)
            prefix = self.names.prefix
            self.statement(f"{prefix}_multiply_rows{sizes}(tile, lane, {weight}, {name})")
        elif self.plan.options.inline_weights:
            self.inline_product(step, self.operand(step.operand), name)
        else:
            self.point_product(step, self.operand(step.operand), name)

    def note_scale(self, step: Linear) -> None:
        """An int8 layer's sums are multiplied with scales where they are read."""
        scale = self.plan.packed.scales.get(step)
        if scale is not None and not self.plan.options.inline_weights:
            self.scaled[step.result] = self.table_name(scale.name)

    def inline_product(self, step: Linear, operand: str, name: str) -> None:
        """The product with numbers that stand in the source."""
        block = self.plan.block(step)
        self.lines += [
            f"for (int i = 0; i < {block}_outputs; ++i) {{",
            f"{INDENT}{name}[i] = 0.0f;",
            f"{INDENT}for (int j = 0; j < {block}_inputs; ++j) {{",
            f"{INDENT * 2}{name}[i] += {block}[i * {block}_inputs + j] * float({operand}[j]);",
            f"{INDENT}}}",
            "}",
        ]

    def point_product(self, step: Linear, operand: str, name: str) -> None:
        """The product of one point with the weights in the buffer."""
        prefix, block = self.names.prefix, self.plan.block(step)
        arguments = [operand, f"weights + {block}_offset", *self.bound(step), name]
        sizes = f"<{block}_inputs, {block}_outputs>"
        self.statement(f"{prefix}_multiply{sizes}({', '.join(arguments)})")

    def bound(self, step: Linear) -> list[str]:
        """The tensor that the host bound for a layer, if it did."""
        found = self.plan.packed.of[step]
        return [] if found.index is None else [f"tensors.{found.name}"]

    def fill_tile(self, step: Linear) -> None:
        """This lane's operand goes into the tile, if the layer before did not write it there."""
        if self.tile_holds == step.operand:
            return
        operand, block = self.operand(step.operand), self.plan.block(step)
        self.statement(f"{self.names.prefix}_set_row<{block}_inputs>(tile, lane, {operand})")

    def tile_weight(self, step: Linear) -> str:
        """A layer's weights for the functions of tiles: the bound tensor, or where they lie."""
        bound = self.bound(step)
        return bound[0] if bound else f"weights + {self.plan.block(step)}_offset"

    def fused_layer(self, position: int) -> None:
        """A layer whose sums become the next one's operand where they are, in all lanes."""
        first, middle, second = self.plan.program.steps[position : position + 3]
        assert isinstance(first, Linear)
        assert isinstance(middle, Assign)
        assert isinstance(second, Linear)
        self.fill_tile(first)
        self.tile_holds = second.operand
        block, after = self.plan.block(first), self.plan.block(second)
        self.places[first.result] = "sum"
        self.note_scale(first)
        value = self.sum_writer(first.result).write(middle.pieces[0].expression, "i")
        kind = self.plan.operand_type
        width = self.names.width(middle.result)
        sizes = f"<{block}_inputs, {block}_outputs>"
        self.lines += [
            f"{self.names.prefix}_multiply_tile{sizes}(",
            f"{INDENT}tile, {self.tile_weight(first)}, [=](int i, int point, float sum) {{",
            *broken(f"const {kind} value = i < {width} ? {kind}({value}) : {kind}(0);", INDENT * 2),
            f"{INDENT * 2}((threadgroup {kind} *)tile)[point * {after}_inputs + i] = value;",
            f"{INDENT}}});",
        ]
        padded = self.plan.packed.of[second].dimensions[0]
        if padded > self.plan.packed.of[first].dimensions[1]:
            self.lines += [
                f"for (int i = {block}_outputs; i < {after}_inputs; ++i) {{",
                f"{INDENT}((threadgroup {kind} *)tile)[lane * {after}_inputs + i] = 0;",
                "}",
            ]

    def sum_writer(self, sums: Vector) -> Writer:
        """Writes expressions of one sum, which is a number of its own."""

        def element(vector: Vector, index: str) -> Text:
            if vector != sums:
                return self.element(vector, index)
            scale = self.scaled.get(sums)
            return Text(f"{scale}[{index}] * sum", PRODUCT) if scale else Text("sum")

        prefix = self.names.prefix
        return Writer(prefix, element, self.table, self.helpers, self.index_tables)

    def copy_outputs(self) -> None:
        """Outputs that are inputs, sums without anything, or the same as another output."""
        program = self.plan.program
        for vector, name in zip(program.outputs, self.names.outputs, strict=True):
            place = f"outputs.{name}"
            if self.places[vector] == place:
                continue
            self.lines += ["", f"// {name} is {self.places[vector]}"]
            if vector.width == 1:
                self.statement(f"{place} = {self.element(vector, '0').text}")
                continue
            self.lines.append(f"for (int i = 0; i < {self.names.width(vector)}; ++i) {{")
            self.statement(f"{place}[i] = {self.element(vector, 'i').text}", INDENT)
            self.lines.append("}")


def functions(step: Assign) -> list[str]:
    """The functions that an assignment applies, without arithmetic, each once."""
    found: dict[str, None] = {}

    def visit(expression: Expression) -> None:
        if isinstance(expression, Call):
            for argument in expression.arguments:
                visit(argument)
            if expression.function not in SHOWN:
                found[expression.function] = None

    for expression in expressions(step):
        visit(expression)
    return list(found)


def elements(offset: int, width: int) -> str:
    """Which elements a piece makes.

    >>> elements(3, 12), elements(0, 1)
    ('elements 3 to 14', 'element 0')
    """
    last = offset + width - 1
    return f"element {last}" if width == 1 else f"elements {offset} to {last}"


def accumulation(operation: str, total: str, value: Text) -> str:
    """The statement that adds one element to a reduction."""
    match operation:
        case "sum":
            return f"{total} += {value.text}"
        case "product":
            return f"{total} *= {value.text}"
        case "minimum":
            return f"{total} = min({total}, {value.text})"
        case "maximum":
            return f"{total} = max({total}, {value.text})"
    raise NotImplementedError(f"no Metal for the reduction {operation}")
