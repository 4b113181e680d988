"""Programs drawn from a seed: what the reader takes, it takes right."""

from __future__ import annotations

import random
from dataclasses import dataclass, field

import numpy as np
import pytest

from metal4conv.errors import Metal4ConvError, UnsupportedModel
from metal4conv.mil.program import Shape, TensorType
from metal4conv.shader.reading import read_network
from tests.shader.networks import evaluated
from tests.shader.programs import Program, assert_same, drawn, executed

SEEDS = 24
FEWEST_READ = 12
"""Many of the drawn programs mix points, and are refused."""

UNARY = ("relu", "sin", "sigmoid", "tanh", "abs", "softplus", "gelu")
REDUCTIONS = ("reduce_sum", "reduce_max", "reduce_mean", "reduce_l2_norm")
WIDEST = 40


@dataclass
class Drawn:
    """A program that grows by random operations; shapes by the names of its values."""

    random: random.Random
    program: Program
    shapes: dict[str, Shape]
    numbers: np.random.Generator = field(default_factory=lambda: np.random.default_rng(0))

    def step(self, name: str) -> None:
        """One more operation; none where the drawn one does not fit its operand."""
        before = len(self.program.operations)
        source = self.random.choice(list(self.shapes))
        axes = [axis for axis, size in enumerate(self.shapes[source]) if size in range(1, 7)]
        try:
            if not axes:
                return
            self.add(name, source, self.random.choice(axes))
            (*_, last) = self.program.function().block.operations
        except (Metal4ConvError, ValueError, IndexError):
            del self.program.operations[before:]
            return
        for value in last.outputs:
            assert isinstance(value.type, TensorType)
            if all(isinstance(size, str) or size <= WIDEST for size in value.type.shape):
                self.shapes[value.name] = value.type.shape

    def add(self, name: str, x: str, axis: int) -> None:
        """An operation on `x`, along an axis that may hold features."""
        program, draw, shape = self.program, self.random, self.shapes[x]
        rank, size = len(shape), int(shape[axis])
        other = draw.choice(list(self.shapes))
        match draw.randrange(14):
            case 0:
                program.add(draw.choice(UNARY), x=x, name=name)
            case 1:
                program.add(draw.choice(("add", "mul", "sub", "maximum")), x=x, y=other, name=name)
            case 2:
                sizes = [size if k == axis else 1 for k in range(rank)]
                y = self.numbers.uniform(-1, 1, sizes)
                program.add(draw.choice(("add", "mul", "sub")), x=x, y=y, name=name)
            case 3:
                weight = self.numbers.uniform(-1, 1, (draw.choice((1, 3, 5)), int(shape[-1])))
                program.add("linear", x=x, weight=weight, name=name)
            case 4:
                keep = draw.random() < 0.6
                axes = np.array([axis])
                program.add(draw.choice(REDUCTIONS), x=x, axes=axes, keep_dims=keep, name=name)
            case 5:
                order = draw.sample(range(rank), rank)
                program.add("transpose", x=x, perm=np.array(order), name=name)
            case 6 if rank < 5:
                program.add("expand_dims", x=x, axes=np.array([draw.randint(0, rank)]), name=name)
            case 7:
                first = draw.randrange(size)
                program.add(
                    "slice_by_index", x=x, name=name,
                    begin=np.where(np.arange(rank) == axis, first, 0),
                    end=np.where(np.arange(rank) == axis, draw.randint(first + 1, size), 0),
                    begin_mask=np.arange(rank) != axis, end_mask=np.arange(rank) != axis,
                )  # fmt: skip
            case 8:
                program.add("concat", values=[x, other], axis=axis, name=name)
            case 9:
                program.add("stack", values=[x, other], axis=draw.randint(0, rank), name=name)
            case 10:
                program.add("softmax", x=x, axis=axis, name=name)
            case 11:
                axes = np.array([axis])
                program.add("layer_norm", x=x, axes=axes, epsilon=1e-2, name=name)
            case 12:
                reps = np.where(np.arange(rank) == axis, 2, 1)
                program.add("tile", x=x, reps=reps, name=name)
            case 13:
                indices = self.numbers.integers(0, size, 3)
                program.add("gather", x=x, indices=indices, axis=axis, name=name)
            case _:
                raise ValueError("too many axes")


SHAPES: dict[str, list[Shape]] = {
    "rows": [("n", 3), ("n", 4), (1, 2)],
    "pixels": [(1, 3, "h", "w"), (1, 2, "h", "w"), (1, 3, 1, 1)],
    "last": [(1, "h", "w", 3), (1, "h", "w", 6), (1, 1, 1, 3)],
    "fixed": [(7, 3), (7, 6), (1, 3)],
}


def random_program(seed: int) -> Drawn:
    """A program of up to nine operations."""
    draw = random.Random(seed)
    shapes = SHAPES[draw.choice(list(SHAPES))]
    inputs = {f"x{k}": shape for k, shape in enumerate(shapes[: draw.choice((1, 1, 2, 3))])}
    made = Drawn(draw, Program(**inputs), dict(inputs), np.random.default_rng(seed))
    for number in range(draw.randint(3, 9)):
        made.step(f"value_{number}")
    return made


def test_what_is_read_is_right() -> None:
    read = 0
    for seed in range(SEEDS):
        program = random_program(seed).program
        if not program.operations:
            continue
        function = program.function()
        try:
            network = read_network(function, "net")
        except UnsupportedModel:
            continue
        inputs = drawn(function, {"n": 5, "h": 3, "w": 4})
        try:
            assert_same(evaluated(network, inputs), executed(function, inputs), 2e-5)
        except AssertionError:
            pytest.fail(f"seed {seed}: {[str(operation) for operation in program.operations]}")
        read += 1
    assert read >= FEWEST_READ
