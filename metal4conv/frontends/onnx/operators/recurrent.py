"""Recurrent layers: MIL's `lstm`, `gru` and `rnn` where they say the same, else step by step.

Within this file `x` is `[steps, batch, features]` and a state `[batch, hidden]`, whatever the
node's layout; results get the node's shape at the end.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from metal4conv.frontends.onnx.blocks import Step, loop
from metal4conv.frontends.onnx.context import Context
from metal4conv.frontends.onnx.table import ONNX_OPS
from metal4conv.frontends.onnx.value import Value, is_static

MOST_UNROLLED = 16
"""Steps up to which a layer that MIL has no operation for is written out."""

ALPHA = {
    "affine": 1.0,
    "elu": 1.0,
    "hardsigmoid": 0.2,
    "leakyrelu": 0.01,
    "scaledtanh": 1.0,
    "thresholdedrelu": 1.0,
}
BETA = {"affine": 0.0, "hardsigmoid": 0.5, "scaledtanh": 1.0}
"""The parameters of activations, by lower-case name, where the node gives none."""

OPERATIONS = {
    "elu": "elu",
    "hardsigmoid": "sigmoid_hard",
    "leakyrelu": "leaky_relu",
    "relu": "relu",
    "scaledtanh": "scaled_tanh",
    "sigmoid": "sigmoid",
    "softplus": "softplus",
    "softsign": "softsign",
    "tanh": "tanh",
    "thresholdedrelu": "thresholded_relu",
}
"""MIL's operations for activations."""

NATIVE = {
    ("hardsigmoid", 0.2, 0.5): "hard_sigmoid",
    ("relu", None, None): "relu",
    ("sigmoid", None, None): "sigmoid",
    ("tanh", None, None): "tanh",
}
"""Activations that MIL's recurrent operations know, which take no parameters for them."""


@dataclass(frozen=True)
class Activation:
    """A function by lower-case name, with the parameters that it has."""

    name: str
    alpha: float | None
    beta: float | None
    clip: float | None = None
    """The largest distance from 0 that the function sees."""

    @property
    def native(self) -> str | None:
        """The name that MIL's recurrent operations have for it; None if they cannot say it."""
        return None if self.clip else NATIVE.get((self.name, self.alpha, self.beta))

    def of(self, ctx: Context, x: Value) -> Value:
        """The function of a tensor."""
        if self.clip:
            x = ctx.maximum(ctx.minimum(x, self.clip), -self.clip)
        if self.name == "affine":
            return ctx.add(ctx.mul(x, float(self.alpha or 0.0)), float(self.beta or 0.0))
        parameters = {
            name: np.float32(number)
            for name, number in (("alpha", self.alpha), ("beta", self.beta))
            if number is not None
        }
        return ctx.unary(OPERATIONS[self.name], x, **parameters)


@dataclass(frozen=True)
class Direction:
    """What one direction of a layer computes with."""

    w: Value
    r: Value
    input_bias: Value | None
    hidden_bias: Value | None
    peephole: Value | None
    states: tuple[Value, ...]
    """The initial states, the hidden one first."""
    activations: tuple[Activation, ...]
    is_reverse: bool

    @property
    def parameters(self) -> list[Value]:
        """The weights, biases and peepholes."""
        items = (self.w, self.r, self.input_bias, self.hidden_bias, self.peephole)
        return [item for item in items if item is not None]

    @property
    def is_native(self) -> bool:
        """Whether MIL's operations, which take constants, may hold it."""
        is_known = all(item.native for item in self.activations)
        return is_known and all(item.is_constant for item in self.parameters)


@dataclass(frozen=True)
class Passed:
    """What one direction gives: the hidden states of all steps, and the last states."""

    sequence: Value
    states: tuple[Value, ...]


Advance = Callable[[Context, Direction, Value, Sequence[Value]], tuple[Value, ...]]
"""From a step's projected input and the states before to those after, the hidden one first."""


@dataclass(frozen=True)
class Layer:
    """A recurrent node, its inputs in the shapes of this file."""

    x: Value
    directions: tuple[Direction, ...]
    lengths: Value | None
    layout: int
    advance: Advance
    is_bias_joined: bool
    """Whether the hidden bias is added to the projected input, outside of the steps."""


# the operators -------------------------------------------------------------------------------


@ONNX_OPS("LSTM", since=7)
def lstm(
    ctx: Context,
    X: Value,
    W: Value,
    R: Value,
    B: Value | None = None,
    sequence_lens: Value | None = None,
    initial_h: Value | None = None,
    initial_c: Value | None = None,
    P: Value | None = None,
    *,
    activation_alpha: list[float] | None = None,
    activation_beta: list[float] | None = None,
    activations: list[str] | None = None,
    clip: float | None = None,
    direction: str = "forward",
    hidden_size: int | None = None,
    input_forget: int = 0,
    layout: int = 0,
) -> tuple[Value, ...]:
    """Long short-term memory; MIL's operation unless the forget gate is that of the input."""
    names = activations or ["Sigmoid", "Tanh", "Tanh"] * int(W.shape[0])
    functions = activations_of(ctx, names, activation_alpha, activation_beta, clip)
    advance = partial(lstm_step, is_coupled=bool(input_forget))
    layer = layer_of(
        ctx,
        (X, W, R, B, sequence_lens, P),
        (initial_h, initial_c),
        functions,
        direction,
        layout,
        advance,
    )
    is_native = not input_forget and all(item.is_native for item in layer.directions)
    if not is_native or layer.lengths is not None:
        return results(ctx, layer, [stepped(ctx, layer, item) for item in layer.directions])
    first, last = layer.directions[0].activations, layer.directions[-1].activations
    if len(layer.directions) == 2 and first == last:
        return bidirectional_lstm(ctx, layer)
    passes = [native_lstm(ctx, layer, item) for item in layer.directions]
    return results(ctx, layer, passes)


@ONNX_OPS("GRU", since=7)
def gru(
    ctx: Context,
    X: Value,
    W: Value,
    R: Value,
    B: Value | None = None,
    sequence_lens: Value | None = None,
    initial_h: Value | None = None,
    *,
    activation_alpha: list[float] | None = None,
    activation_beta: list[float] | None = None,
    activations: list[str] | None = None,
    clip: float | None = None,
    direction: str = "forward",
    hidden_size: int | None = None,
    layout: int = 0,
    linear_before_reset: int = 0,
) -> tuple[Value, ...]:
    """Gated recurrent unit; with `linear_before_reset` MIL has it from iOS18 on."""
    names = activations or ["Sigmoid", "Tanh"] * int(W.shape[0])
    functions = activations_of(ctx, names, activation_alpha, activation_beta, clip)
    after = bool(linear_before_reset)
    layer = layer_of(
        ctx,
        (X, W, R, B, sequence_lens, None),
        (initial_h,),
        functions,
        direction,
        layout,
        partial(gru_step, is_reset_after=after),
        is_bias_joined=False,
    )
    is_known = ctx.target >= 18 or not after
    native = partial(native_gru, is_reset_after=after) if is_known else None
    return results(ctx, layer, [passed(ctx, layer, item, native) for item in layer.directions])


@ONNX_OPS("RNN", since=7)
def rnn(
    ctx: Context,
    X: Value,
    W: Value,
    R: Value,
    B: Value | None = None,
    sequence_lens: Value | None = None,
    initial_h: Value | None = None,
    *,
    activation_alpha: list[float] | None = None,
    activation_beta: list[float] | None = None,
    activations: Sequence[str] = ("Tanh", "Tanh"),
    clip: float | None = None,
    direction: str = "forward",
    hidden_size: int | None = None,
    layout: int = 0,
) -> tuple[Value, ...]:
    """Plain recurrence: f(W x + R h + biases)."""
    # the default names two functions; a layer of one direction has one
    names = list(activations)[: 2 if direction == "bidirectional" else 1]
    functions = activations_of(ctx, names, activation_alpha, activation_beta, clip)
    layer = layer_of(
        ctx,
        (X, W, R, B, sequence_lens, None),
        (initial_h,),
        functions,
        direction,
        layout,
        rnn_step,
    )
    return results(ctx, layer, [passed(ctx, layer, item, native_rnn) for item in layer.directions])


# reading the node ----------------------------------------------------------------------------


def activations_of(
    ctx: Context,
    names: Sequence[str],
    alphas: Sequence[float] | None,
    betas: Sequence[float] | None,
    clip: float | None,
) -> list[Activation]:
    """The functions of all directions; parameters go in turn to those that take one."""
    given = {"alpha": list(alphas or []), "beta": list(betas or [])}
    found = []
    for name in (item.lower() for item in names):
        if name not in OPERATIONS and name != "affine":
            raise ctx.unsupported(f'recurrent layers have no activation "{name}"')
        values = [
            (given[kind].pop(0) if given[kind] else table[name]) if name in table else None
            for kind, table in (("alpha", ALPHA), ("beta", BETA))
        ]
        values = [None if item is None else float(np.float32(item)) for item in values]
        near = NATIVE.get((name, 0.2, 0.5)) and np.allclose([v or 0 for v in values], [0.2, 0.5])
        alpha, beta = (0.2, 0.5) if near else values
        found.append(Activation(name, alpha, beta, clip))
    return found


def layer_of(
    ctx: Context,
    tensors: tuple[Value, Value, Value, Value | None, Value | None, Value | None],
    initial: Sequence[Value | None],
    functions: Sequence[Activation],
    direction: str,
    layout: int,
    advance: Advance,
    is_bias_joined: bool = True,
) -> Layer:
    """The node, taken apart into directions."""
    x, w, r, bias, lengths, peephole = tensors
    ways = {"forward": [False], "reverse": [True], "bidirectional": [False, True]}.get(direction)
    if ways is None:
        raise ctx.unsupported(f'there is no direction "{direction}"')
    if w.shape[0] != len(ways):
        raise ctx.unsupported(f"the weights are those of {w.shape[0]} directions, not {len(ways)}")
    x = ctx.transpose(x, [1, 0, 2]) if layout else x
    hidden = int(r.shape[-1])
    count = len(functions) // len(ways)
    directions = []
    for place, is_reverse in enumerate(ways):
        biases: list[Value | None] = [None, None]
        if bias is not None:
            whole = row_of(ctx, bias, place)
            half = int(bias.shape[1]) // 2
            biases = [part(ctx, whole, 0, half), part(ctx, whole, half, 2 * half)]
        states = [
            ctx.filled([ctx.size(x, 1), hidden], 0.0, x.dtype)
            if item is None
            else row_of(ctx, item, place, 1 if layout else 0)
            for item in initial
        ]
        directions.append(
            Direction(
                row_of(ctx, w, place),
                row_of(ctx, r, place),
                biases[0],
                biases[1],
                None if peephole is None else row_of(ctx, peephole, place),
                tuple(states),
                tuple(functions[place * count :][:count]),
                is_reverse,
            )
        )
    return Layer(x, tuple(directions), shorter(x, lengths), layout, advance, is_bias_joined)


def shorter(x: Value, lengths: Value | None) -> Value | None:
    """The lengths of the sequences; None where all are as long as the input."""
    if lengths is None or lengths.array is None:
        return lengths
    steps = x.shape[0]
    return None if is_static((steps,)) and (lengths.array >= steps).all() else lengths


def row_of(ctx: Context, value: Value, index: int, axis: int = 0) -> Value:
    """A value at a place of an axis, without the axis."""
    if value.array is not None:
        return Value(value.dtype, known=np.take(value.array, index, axis))
    if value.shape[axis] == 1:
        return ctx.squeeze(value, [axis])
    return ctx.squeeze(ctx.slice_axis(value, axis, index, index + 1), [axis])


def part(ctx: Context, value: Value, begin: int, end: int) -> Value:
    """Rows of a matrix, or elements of a vector."""
    if value.array is not None:
        return Value(value.dtype, known=value.array[begin:end])
    return ctx.slice_axis(value, 0, begin, end)


# results -------------------------------------------------------------------------------------


def is_wanted(ctx: Context, place: int) -> bool:
    """Whether the node has an output at this place."""
    return len(ctx.place.outputs) > place and bool(ctx.place.outputs[place])


def results(ctx: Context, layer: Layer, passes: Sequence[Passed]) -> tuple[Value, ...]:
    """The node's outputs: the directions side by side, in the node's layout."""
    axis = 2 if layer.layout else 1
    sequences = (
        [
            ctx.expand_dims(
                ctx.transpose(item.sequence, [1, 0, 2]) if layer.layout else item.sequence, [axis]
            )
            for item in passes
        ]
        if is_wanted(ctx, 0)
        else []
    )
    states = [
        ctx.concat(
            [ctx.expand_dims(item.states[place], [1 if layer.layout else 0]) for item in passes],
            1 if layer.layout else 0,
        )
        for place in range(len(passes[0].states))
    ]
    return (ctx.concat(sequences, axis) if sequences else states[0], *states)


def passed(
    ctx: Context,
    layer: Layer,
    direction: Direction,
    native: Callable[[Context, Value, Direction, bool], Passed] | None,
) -> Passed:
    """One direction of a layer with one state: MIL's operation, or step by step."""
    if native is None or not direction.is_native:
        return stepped(ctx, layer, direction)
    if layer.lengths is None:
        found = native(ctx, layer.x, direction, direction.is_reverse)
        return Passed(turned(ctx, found.sequence, direction), found.states)
    # each sequence is turned around within its own length
    x = turned_within(ctx, layer, layer.x, direction)
    found = native(ctx, x, direction, False)
    steps = ctx.expand_dims(ctx.range(0, ctx.size(layer.x, 0)), [1, 2])
    lengths = ctx.expand_dims(layer.lengths.with_dtype("int64"), [0, 2])
    is_within = ctx.less(steps, lengths)
    is_last = ctx.equal(steps, ctx.sub(lengths, 1))
    sequence = ctx.where(is_within, found.sequence, 0.0)
    last = ctx.where(is_last, found.sequence, 0.0)
    state: Value = ctx.emit("reduce_sum", x=last, axes=[0], keep_dims=False, dtype=last.dtype)
    return Passed(turned_within(ctx, layer, sequence, direction), (state,))


def turned(ctx: Context, sequence: Value, direction: Direction) -> Value:
    """A sequence in the order of the input; MIL gives it in that of the computation."""
    if not direction.is_reverse or not is_wanted(ctx, 0):
        return sequence
    return ctx.unary("reverse", sequence, axes=[0])


def turned_within(ctx: Context, layer: Layer, x: Value, direction: Direction) -> Value:
    """Sequences of a reverse direction, each turned around within its length."""
    if not direction.is_reverse:
        return x
    return ctx.unary("reverse_sequence", x, lengths=layer.lengths, seq_axis=0, batch_axis=1)


# MIL's operations ----------------------------------------------------------------------------


def reordered(array: np.ndarray, order: Sequence[int]) -> np.ndarray:
    """Rows of gates, which are of equal height, in another order."""
    gates = np.split(array, max(order) + 1)
    return np.concatenate([gates[place] for place in order])


def constant(value: Value | None, order: Sequence[int]) -> np.ndarray | None:
    """A parameter's rows in the order of MIL's gates."""
    if value is None or value.array is None:
        return None
    return reordered(value.array, order).astype(np.float32)


def joined_bias(direction: Direction, order: Sequence[int]) -> np.ndarray | None:
    """The sum of both biases in the order of MIL's gates."""
    first, second = (
        constant(item, order) for item in (direction.input_bias, direction.hidden_bias)
    )
    return None if first is None or second is None else first + second


LSTM_ORDER = (0, 2, 1, 3)
"""MIL's input, forget, output, cell among ONNX's input, output, forget, cell."""
GRU_ORDER = (1, 2, 0)
"""MIL's reset, output, update among ONNX's update, reset, output."""


def lstm_parameters(direction: Direction, suffix: str = "") -> dict[str, Any]:  # Any: arrays
    """The inputs of MIL's `lstm` for a direction; those of the second end with `_back`."""
    return {
        f"weight_ih{suffix}": constant(direction.w, LSTM_ORDER),
        f"weight_hh{suffix}": constant(direction.r, LSTM_ORDER),
        f"bias{suffix}": joined_bias(direction, LSTM_ORDER),
        f"peephole{suffix}": constant(direction.peephole, LSTM_ORDER[:3]),
    }


def native_lstm(ctx: Context, layer: Layer, direction: Direction) -> Passed:
    """MIL's operation for one direction."""
    gate, cell, hidden = (item.native for item in direction.activations)
    found = ctx.emit(
        "lstm",
        x=layer.x,
        initial_h=direction.states[0],
        initial_c=direction.states[1],
        **lstm_parameters(direction),
        direction="reverse" if direction.is_reverse else "forward",
        output_sequence=is_wanted(ctx, 0),
        recurrent_activation=gate,
        cell_activation=cell,
        activation=hidden,
    )
    return Passed(turned(ctx, found[0], direction), found[1:])


def bidirectional_lstm(ctx: Context, layer: Layer) -> tuple[Value, ...]:
    """MIL's operation for both directions, whose results it gives side by side."""
    first, second = layer.directions
    gate, cell, function = (item.native for item in first.activations)
    initial = [ctx.concat(pair, 1) for pair in zip(first.states, second.states, strict=True)]
    sequence, *states = ctx.emit(
        "lstm",
        x=layer.x,
        initial_h=initial[0],
        initial_c=initial[1],
        **lstm_parameters(first),
        **lstm_parameters(second, "_back"),
        direction="bidirectional",
        output_sequence=is_wanted(ctx, 0),
        recurrent_activation=gate,
        cell_activation=cell,
        activation=function,
    )
    steps, batch = ctx.size(layer.x, 0), ctx.size(layer.x, 1)
    hidden = int(first.r.shape[-1])
    found = [
        ctx.transpose(
            ctx.reshape(item, [batch, 2, hidden]), [0, 1, 2] if layer.layout else [1, 0, 2]
        )
        for item in states
    ]
    if not is_wanted(ctx, 0):
        return (found[0], *found)
    rows = ctx.reshape(sequence, [steps, batch, 2, hidden])
    return (ctx.transpose(rows, [1, 0, 2, 3] if layer.layout else [0, 2, 1, 3]), *found)


def native_gru(
    ctx: Context, x: Value, direction: Direction, is_reverse: bool, *, is_reset_after: bool
) -> Passed:
    """MIL's operation; where the reset gate comes first, both biases are added alike."""
    biases: dict[str, Any] = {"bias": joined_bias(direction, GRU_ORDER)}  # Any: arrays
    if is_reset_after:
        biases = {
            "bias": constant(direction.hidden_bias, GRU_ORDER),
            "input_bias": constant(direction.input_bias, GRU_ORDER),
        }
    sequence, state = ctx.emit(
        "gru",
        x=x,
        initial_h=direction.states[0],
        weight_ih=constant(direction.w, GRU_ORDER),
        weight_hh=constant(direction.r, GRU_ORDER),
        **biases,
        direction="reverse" if is_reverse else "forward",
        output_sequence=True,
        recurrent_activation=direction.activations[0].native,
        activation=direction.activations[1].native,
        reset_after=True if is_reset_after else None,
    )
    return Passed(sequence, (state,))


def native_rnn(ctx: Context, x: Value, direction: Direction, is_reverse: bool) -> Passed:
    """MIL's operation."""
    sequence, state = ctx.emit(
        "rnn",
        x=x,
        initial_h=direction.states[0],
        weight_ih=constant(direction.w, (0,)),
        weight_hh=constant(direction.r, (0,)),
        bias=joined_bias(direction, (0,)),
        direction="reverse" if is_reverse else "forward",
        output_sequence=True,
        activation=direction.activations[0].native,
    )
    return Passed(sequence, (state,))


# step by step --------------------------------------------------------------------------------


def product(ctx: Context, x: Value, weight: Value, bias: Value | None = None) -> Value:
    """x times the transposed weight, and a bias."""
    if weight.is_constant and (bias is None or bias.is_constant):
        result: Value = ctx.emit("linear", x=x, weight=weight, bias=bias, dtype=x.dtype)
        return result
    result = ctx.emit("matmul", x=x, y=weight, transpose_y=True, dtype=x.dtype)
    return result if bias is None else ctx.add(result, bias)


def parts(ctx: Context, x: Value, count: int) -> list[Value]:
    """Equal parts along the last axis."""
    return list(ctx.emit("split", x=x, num_splits=count, axis=-1))


def stepped(ctx: Context, layer: Layer, direction: Direction) -> Passed:
    """One direction, step by step: written out when there are few steps, else a loop.

    A state stays as it is behind the end of its sequence, and the hidden states there are 0.
    """
    projected = product(ctx, layer.x, direction.w, direction.input_bias)
    if layer.is_bias_joined and direction.hidden_bias is not None:
        projected = ctx.add(projected, direction.hidden_bias)
    length = ctx.size(layer.x, 0)
    lengths = layer.lengths
    if lengths is not None:
        lengths = ctx.expand_dims(lengths.with_dtype("int64"), [1])

    def iteration(number: Value, before: Sequence[Value]) -> Step:
        place = ctx.sub(ctx.sub(length, 1), number) if direction.is_reverse else number
        inputs: Value = ctx.emit("gather", x=projected, indices=place, axis=0)
        after = layer.advance(ctx, direction, inputs, before)
        row = after[0]
        if lengths is not None:
            is_within = ctx.less(place, lengths)
            row = ctx.where(is_within, row, 0.0)
            after = tuple(
                ctx.where(is_within, new, old) for new, old in zip(after, before, strict=True)
            )
        return Step(after, [row] if is_wanted(ctx, 0) else [])

    if length.array is None or not 0 < int(length.array) <= MOST_UNROLLED:
        states, rows = loop(ctx, length, None, direction.states, iteration)
        sequence = turned(ctx, rows[0], direction) if rows else states[0]
        return Passed(sequence, tuple(states))
    states, taken = list(direction.states), []
    for number in range(int(length.array)):
        step = iteration(ctx.value(np.int64(number)), states)
        states = list(step.values)
        taken += [ctx.expand_dims(row, [0]) for row in step.rows]
    if not taken:
        return Passed(states[0], tuple(states))
    return Passed(ctx.concat(taken[::-1] if direction.is_reverse else taken, 0), tuple(states))


def lstm_step(
    ctx: Context,
    direction: Direction,
    inputs: Value,
    before: Sequence[Value],
    *,
    is_coupled: bool,
) -> tuple[Value, ...]:
    """The hidden state and the cell after a step; `is_coupled` forgets what the input replaces."""
    h, c = before
    gate, cell, hidden = direction.activations
    i, o, f, z = parts(ctx, ctx.add(inputs, product(ctx, h, direction.r)), 4)
    peepholes: list[Value] = []
    if direction.peephole is not None:
        size = int(direction.r.shape[-1])
        peepholes = [part(ctx, direction.peephole, k * size, (k + 1) * size) for k in range(3)]
        i = ctx.add(i, ctx.mul(c, peepholes[0]))
        f = ctx.add(f, ctx.mul(c, peepholes[2]))
    i = gate.of(ctx, i)
    f = ctx.sub(1.0, i) if is_coupled else gate.of(ctx, f)
    c = ctx.add(ctx.mul(f, c), ctx.mul(i, cell.of(ctx, z)))
    if peepholes:
        o = ctx.add(o, ctx.mul(c, peepholes[1]))
    # the cell is no sum of products; onnxruntime does not clip it either
    return ctx.mul(gate.of(ctx, o), replace(hidden, clip=None).of(ctx, c)), c


def gru_step(
    ctx: Context,
    direction: Direction,
    inputs: Value,
    before: Sequence[Value],
    *,
    is_reset_after: bool,
) -> tuple[Value, ...]:
    """The hidden state after a step; the reset gate acts on it, or after the product with R."""
    (h,) = before
    gate, act = direction.activations
    size = int(direction.r.shape[-1])
    in_z, in_r, in_o = parts(ctx, inputs, 3)
    gates, rest = (part(ctx, direction.r, *ends) for ends in ((0, 2 * size), (2 * size, 3 * size)))
    bias = direction.hidden_bias
    gate_bias, rest_bias = (
        None if bias is None else part(ctx, bias, *ends)
        for ends in ((0, 2 * size), (2 * size, 3 * size))
    )
    h_z, h_r = parts(ctx, product(ctx, h, gates, gate_bias), 2)
    z = gate.of(ctx, ctx.add(in_z, h_z))
    r = gate.of(ctx, ctx.add(in_r, h_r))
    if is_reset_after:
        hidden = ctx.mul(r, product(ctx, h, rest, rest_bias))
    else:
        hidden = product(ctx, ctx.mul(r, h), rest, rest_bias)
    new = act.of(ctx, ctx.add(in_o, hidden))
    return (ctx.add(ctx.mul(ctx.sub(1.0, z), new), ctx.mul(z, h)),)


def rnn_step(
    ctx: Context, direction: Direction, inputs: Value, before: Sequence[Value]
) -> tuple[Value, ...]:
    """The hidden state after a step."""
    summed = ctx.add(inputs, product(ctx, before[0], direction.r))
    return (direction.activations[0].of(ctx, summed),)
