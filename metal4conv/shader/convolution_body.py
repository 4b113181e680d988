"""The steps of a pass as statements: for one pixel, or for one sum of a convolution."""

from __future__ import annotations

from dataclasses import dataclass, field

from metal4conv.shader.convolution_plan import PassPlan, direct_outputs
from metal4conv.shader.network import Assign, Convolution, Linear, Vector, operands
from metal4conv.shader.source_body import Body
from metal4conv.shader.source_expressions import PRODUCT, Text, Writer
from metal4conv.shader.source_text import INDENT, comment

EACH_INDENT = 4 * INDENT
"""Of statements for one sum: in a condition, in a lambda, in an argument, in a choice of path."""


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
        if one.dispatch.convolution is not None:
            self.places[one.dispatch.convolution.result] = "sums"
            self.padded.add(one.dispatch.convolution.result)
            self.scale_sums(one.dispatch.convolution)
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
                shared = f"{self.names.local[step.result]}_value"
                self.statement(f"const float {shared} = {value}")
                value = shared
            for name in targets:
                self.assign(self.written(name), value, False)
        for vector, name in self.of.writes:
            if vector == self.of.sums:
                self.assign(self.written(name), self.one_element(vector, "i").text, False)
        return self.lines

    def statement(self, text: str, indent: str = "") -> None:
        """A statement, as far in as the function's braces are."""
        super().statement(text, EACH_INDENT + indent)

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
