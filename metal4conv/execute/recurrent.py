"""Recurrent layers: `gru`, `lstm` and `rnn` over `x` of `[steps, batch, features]`.

A result in reverse direction stands in the order in which it was computed, only the backward half
of a bidirectional `lstm` in the order of its input. Without `output_sequence` the last step is
given, with a first dimension of 1.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor

from metal4conv.errors import UnsupportedModel
from metal4conv.execute.table import MIL_OPS, SPECIALIZED, Operator

# Core ML takes no parameters here and uses its standard ones
ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "hard_sigmoid": lambda x: (x * 0.2 + 0.5).clamp(0, 1),
    "linear": lambda x: x,
    "relu": torch.relu,
    "scaled_tanh": torch.tanh,
    "sigmoid": torch.sigmoid,
    "sigmoid_hard": lambda x: (x * 0.2 + 0.5).clamp(0, 1),
    "tanh": torch.tanh,
}

State = tuple[Tensor, ...]
Advance = Callable[[Tensor, State], State]
"""From a step's projected input and the state before to the state after, `h` first."""


@MIL_OPS("gru")
def gru_before(
    x: Tensor,
    initial_h: Tensor,
    weight_ih: Tensor,
    weight_hh: Tensor,
    bias: Tensor | None = None,
    direction: str = "forward",
    output_sequence: bool = False,
    recurrent_activation: str = "sigmoid",
    activation: str = "tanh",
) -> State:
    """Gated recurrent unit; the reset gate acts on the hidden state before the matrix product.

    Weights and bias hold the reset, output and update gate, in this order.
    """
    results: State = gru(
        x,
        initial_h,
        weight_ih,
        weight_hh,
        bias,
        direction,
        output_sequence,
        recurrent_activation,
        activation,
    )
    return results


@MIL_OPS("gru", since=18)
def gru(
    x: Tensor,
    initial_h: Tensor,
    weight_ih: Tensor,
    weight_hh: Tensor,
    bias: Tensor | None = None,
    direction: str = "forward",
    output_sequence: bool = False,
    recurrent_activation: str = "sigmoid",
    activation: str = "tanh",
    reset_after: bool = False,
    input_bias: Tensor | None = None,
) -> State:
    """Gated recurrent unit; `reset_after` the matrix product, as in PyTorch, or before it."""
    gate, act = find_activation(recurrent_activation), find_activation(activation)
    w_r, w_o, w_z = weight_hh.chunk(3)
    hidden_bias = bias if bias is not None else x.new_zeros(weight_hh.shape[0])
    b_r, b_o, b_z = hidden_bias.chunk(3)

    def advance(projected: Tensor, state: State) -> State:
        (h,) = state
        p_r, p_o, p_z = projected.chunk(3, dim=-1)
        r = gate(p_r + F.linear(h, w_r, b_r))
        z = gate(p_z + F.linear(h, w_z, b_z))
        hidden = r * F.linear(h, w_o, b_o) if reset_after else F.linear(r * h, w_o, b_o)
        return ((1 - z) * act(p_o + hidden) + z * h,)

    projected = F.linear(x, weight_ih, input_bias)
    return run(projected, (initial_h,), advance, direction, output_sequence)


@MIL_OPS("lstm")
def lstm(
    x: Tensor,
    initial_h: Tensor,
    initial_c: Tensor,
    weight_ih: Tensor,
    weight_hh: Tensor,
    bias: Tensor | None = None,
    peephole: Tensor | None = None,
    weight_ih_back: Tensor | None = None,
    weight_hh_back: Tensor | None = None,
    bias_back: Tensor | None = None,
    peephole_back: Tensor | None = None,
    direction: str = "forward",
    output_sequence: bool = False,
    recurrent_activation: str = "sigmoid",
    cell_activation: str = "tanh",
    activation: str = "tanh",
    clip: float | None = None,
) -> State:
    """Long short-term memory; `clip` limits the memory cell.

    Weights and bias hold the input, forget, output and cell gate, peepholes the first three.
    """
    names = (recurrent_activation, cell_activation, activation)
    if direction != "bidirectional":
        projected = F.linear(x, weight_ih, bias)
        advance = lstm_step(weight_hh, peephole, names, clip)
        return run(projected, (initial_h, initial_c), advance, direction, output_sequence)
    if weight_ih_back is None or weight_hh_back is None:
        raise UnsupportedModel("a bidirectional lstm needs weight_ih_back and weight_hh_back")
    h_forward, h_back = initial_h.chunk(2, dim=-1)
    c_forward, c_back = initial_c.chunk(2, dim=-1)
    forward = run(
        F.linear(x, weight_ih, bias),
        (h_forward, c_forward),
        lstm_step(weight_hh, peephole, names, clip),
        "forward",
        output_sequence,
    )
    back_sequence, *back = run(
        F.linear(x, weight_ih_back, bias_back),
        (h_back, c_back),
        lstm_step(weight_hh_back, peephole_back, names, clip),
        "reverse",
        output_sequence,
    )
    pairs = zip(forward, (back_sequence.flip(0), *back), strict=True)
    return tuple(torch.cat(pair, dim=-1) for pair in pairs)


@MIL_OPS("rnn")
def rnn(
    x: Tensor,
    initial_h: Tensor,
    weight_ih: Tensor,
    weight_hh: Tensor,
    bias: Tensor | None = None,
    direction: str = "forward",
    output_sequence: bool = False,
    activation: str = "tanh",
) -> State:
    """Plain recurrence: `h = activation(W_ih x + W_hh h + bias)`."""
    act = find_activation(activation)

    def advance(projected: Tensor, state: State) -> State:
        return (act(projected + F.linear(state[0], weight_hh)),)

    projected = F.linear(x, weight_ih, bias)
    return run(projected, (initial_h,), advance, direction, output_sequence)


GIVEN = ("x", "initial_h", "initial_c", "output_sequence")
"""Parameters of an lstm that `lstm_at_once` has too."""


USUAL = {"recurrent_activation": "sigmoid", "cell_activation": "tanh", "activation": "tanh"}
"""Activations of torch's kernel, which are MIL's defaults too."""


def plain_lstm(fixed: dict[str, Any], varying: set[str]) -> tuple[Operator, dict[str, Any]] | None:
    """`lstm_at_once` with its weights, where torch's kernel computes what is asked for.

    On a GPU the kernel would round as it likes, and wants its weights in one piece.
    (Any: constant arguments.)
    """
    fits = all(str(fixed.get(name, usual)).lower() == usual for name, usual in USUAL.items())
    unusual = {"peephole", "peephole_back", "clip"}.intersection(fixed)
    if not fits or unusual or not varying.issubset(GIVEN):
        return None
    direction = fixed.get("direction", "forward")
    suffixes = {"forward": [""], "reverse": [""], "bidirectional": ["", "_back"]}.get(direction, [])
    weights = [kernel_weights(fixed, suffix) for suffix in suffixes]
    if len({tuple(item.shape for item in given) for given in weights}) != 1 or not weights[0]:
        return None
    kept = {name: fixed[name] for name in GIVEN if name in fixed}
    return lstm_at_once, kept | {"weights": weights, "direction": direction}


def kernel_weights(fixed: dict[str, Any], suffix: str) -> list[Tensor]:
    """The weights of one direction with the gates in torch's order: input, forget, cell, output.

    Empty for weights that are not known, not on the CPU, or do not fit each other: the kernel
    reads them unchecked.
    """

    def reordered(rows: Tensor) -> Tensor:
        i, f, o, z = rows.chunk(4)
        return torch.cat((i, f, z, o))

    given = [fixed.get(f"{name}{suffix}") for name in ("weight_ih", "weight_hh", "bias")]
    if given[2] is None and isinstance(given[0], Tensor):
        given[2] = given[0].new_zeros(len(given[0]))
    known = [item for item in given if isinstance(item, Tensor) and is_readable(item)]
    if len(known) < 3:
        return []
    input_side, hidden_side, bias = known
    rows = len(hidden_side)
    dims = (input_side.dim(), hidden_side.dim(), bias.dim())
    if dims != (2, 2, 1) or hidden_side.shape[1] * 4 != rows:
        return []
    if len(input_side) != rows or len(bias) != rows:
        return []
    return [*map(reordered, known), torch.zeros_like(bias)]


def is_readable(weight: Tensor) -> bool:
    """Whether a weight is a real one on the CPU, in the dtype that the kernel takes here."""
    if isinstance(weight, FakeTensor) or weight.device.type != "cpu":
        return False
    return weight.dtype == torch.float32 and weight.numel() > 0


SPECIALIZED[lstm] = plain_lstm


def lstm_at_once(
    x: Tensor,
    initial_h: Tensor,
    initial_c: Tensor,
    weights: list[list[Tensor]],
    direction: str,
    output_sequence: bool = False,
) -> State:
    """All steps by torch's own kernel; weights of `kernel_weights`, one list a direction."""
    hidden = weights[0][1].shape[1]
    check_lstm(x, (initial_h, initial_c), weights[0][0].shape[1], hidden * len(weights))
    steps, batch, _ = x.shape
    results = []
    for index, given in enumerate(weights):
        backwards = direction == "reverse" or index == 1
        before = [
            state.expand(batch, -1).chunk(len(weights), dim=-1)[index].unsqueeze(0).contiguous()
            for state in (initial_h, initial_c)
        ]
        if steps and batch:
            inputs = x.flip(0) if backwards else x
            sequence, h, c = torch.lstm(inputs, before, given, True, 1, 0.0, False, False, False)
        else:
            (h, c), sequence = before, x.new_empty((steps, batch, hidden))
        if not output_sequence:
            sequence = sequence[-1:] if steps else h
        results.append((sequence.flip(0) if index == 1 else sequence, h[0], c[0]))
    if len(results) == 1:
        return results[0]
    return tuple(torch.cat(parts, dim=-1) for parts in zip(*results, strict=True))


def check_lstm(x: Tensor, states: State, features: int, hidden: int) -> None:
    """What torch's kernel leaves unchecked: it reads beyond an array that is too small."""
    if x.dim() != 3 or x.shape[2] != features:
        raise UnsupportedModel(
            f"the weights of an lstm are for {features} features, found x {tuple(x.shape)}"
        )
    batch = x.shape[1]
    for name, state in zip(("initial_h", "initial_c"), states, strict=True):
        if tuple(state.shape) not in {(batch, hidden), (1, hidden)}:
            raise UnsupportedModel(
                f"an lstm takes states ({batch}, {hidden}) here, found {name} {tuple(state.shape)}"
            )


def lstm_step(
    weight_hh: Tensor, peephole: Tensor | None, names: tuple[str, str, str], clip: float | None
) -> Advance:
    """One step of an lstm, with its gate, cell and output activation by name."""
    gate, cell, act = (find_activation(name) for name in names)
    peepholes = peephole.chunk(3) if peephole is not None else None

    def advance(projected: Tensor, state: State) -> State:
        h, c = state
        i, f, o, z = (projected + F.linear(h, weight_hh)).chunk(4, dim=-1)
        if peepholes is not None:
            i, f = i + c * peepholes[0], f + c * peepholes[1]
        c = gate(f) * c + gate(i) * cell(z)
        if clip is not None:
            c = c.clamp(-clip, clip)
        if peepholes is not None:
            o = o + c * peepholes[2]
        return gate(o) * act(c), c

    return advance


def run(
    projected: Tensor, state: State, advance: Advance, direction: str, output_sequence: bool
) -> State:
    """The sequence of hidden states, or the last one, and the final state.

    A symbolic number of steps cannot be walked: then only the shapes of the results are right.
    """
    if direction not in ("forward", "reverse"):
        raise UnsupportedModel(f'there is no direction "{direction}" here')
    steps = projected.shape[0]
    if isinstance(steps, torch.SymInt):
        sequence = state[0].new_empty((steps if output_sequence else 1, *state[0].shape))
        return (sequence, *state)
    inputs = projected.unbind(0)
    outputs = []
    for step in inputs if direction == "forward" else reversed(inputs):
        state = advance(step, state)
        if output_sequence:
            outputs.append(state[0])
    if output_sequence and not outputs:
        return (state[0].new_empty((0, *state[0].shape)), *state)
    sequence = torch.stack(outputs) if outputs else state[0].unsqueeze(0)
    return (sequence, *state)


def find_activation(name: str) -> Callable[[Tensor], Tensor]:
    """The activation function of a recurrent layer."""
    if name.lower() not in ACTIVATIONS:
        raise UnsupportedModel(f'recurrent layers have no activation "{name}"')
    return ACTIVATIONS[name.lower()]
