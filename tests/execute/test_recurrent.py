"""Against loops over steps in numpy, written like those of coremltools' own tests."""

import itertools

import numpy as np
import pytest

from metal4conv.errors import UnsupportedModel
from metal4conv.execute.recurrent import plain_lstm
from tests.execute.value_inference import (
    as_tensor,
    assert_close,
    computed,
    random_array,
    symbolic_shapes,
)

STEPS, BATCH, INPUTS, HIDDEN = 5, 2, 3, 4

ACTIVATIONS = {
    "tanh": np.tanh,
    "scaled_tanh": np.tanh,
    "sigmoid": lambda x: 1 / (1 + np.exp(-x)),
    "hard_sigmoid": lambda x: np.clip(0.2 * x + 0.5, 0, 1),
    "relu": lambda x: np.maximum(x, 0),
    "linear": lambda x: x,
}
X = random_array(STEPS, BATCH, INPUTS)
H = random_array(BATCH, HIDDEN, seed=1)
C = random_array(BATCH, HIDDEN, seed=2)


def weights(gates, seed=3):
    return {
        "weight_ih": random_array(gates * HIDDEN, INPUTS, seed=seed),
        "weight_hh": random_array(gates * HIDDEN, HIDDEN, seed=seed + 1),
        "bias": random_array(gates * HIDDEN, seed=seed + 2),
    }


def slow_lstm(x, h, c, weight_ih, weight_hh, bias, peephole=None, clip=np.inf, names=None):
    gate, cell, act = (ACTIVATIONS[name] for name in names or ("sigmoid", "tanh", "tanh"))
    p_i, p_f, p_o = np.split(peephole if peephole is not None else np.zeros(3 * HIDDEN), 3)
    outputs = []
    for step in x:
        i, f, o, z = np.split(step @ weight_ih.T + h @ weight_hh.T + bias, 4, axis=1)
        c = np.clip(gate(f + c * p_f) * c + gate(i + c * p_i) * cell(z), -clip, clip)
        h = gate(o + c * p_o) * act(c)
        outputs.append(h)
    return np.stack(outputs), h, c


def assert_all_close(found, expected):
    for one, other in zip(found, expected, strict=True):
        assert_close(one, other)


@pytest.mark.parametrize("direction", ["forward", "reverse"])
@pytest.mark.parametrize("output_sequence", [True, False])
def test_lstm(direction, output_sequence):
    given = weights(4)
    options = {"direction": direction, "output_sequence": output_sequence}
    found = computed("lstm", x=X, initial_h=H, initial_c=C, **given, **options)
    sequence, h, c = slow_lstm(X if direction == "forward" else X[::-1], H, C, **given)
    assert_all_close(found, (sequence if output_sequence else sequence[-1:], h, c))


@pytest.mark.parametrize(
    "names",
    [("hard_sigmoid", "relu", "linear"), ("sigmoid", "scaled_tanh", "tanh")],
)
def test_lstm_with_peephole_and_clip(names):
    given = weights(4) | {"peephole": random_array(3 * HIDDEN, seed=9), "clip": 0.3}
    options = dict(
        zip(("recurrent_activation", "cell_activation", "activation"), names, strict=True)
    )
    found = computed(
        "lstm", x=X, initial_h=H, initial_c=C, output_sequence=True, **given, **options
    )
    assert_all_close(found, slow_lstm(X, H, C, **given, names=names))


@pytest.mark.parametrize("output_sequence", [True, False])
def test_bidirectional_lstm(output_sequence):
    forward, back = weights(4), weights(4, seed=20)
    found = computed(
        "lstm",
        x=X,
        initial_h=np.concatenate([H, H + 1], axis=1),
        initial_c=np.concatenate([C, C - 1], axis=1),
        direction="bidirectional",
        output_sequence=output_sequence,
        **forward,
        **{f"{name}_back": value for name, value in back.items()},
    )
    left, right = slow_lstm(X, H, C, **forward), slow_lstm(X[::-1], H + 1, C - 1, **back)
    sequences = (left[0], right[0][::-1]) if output_sequence else (left[0][-1:], right[0][-1:])
    expected = [sequences, *zip(left[1:], right[1:], strict=True)]
    assert_all_close(found, [np.concatenate(pair, axis=-1) for pair in expected])


@pytest.mark.parametrize("direction", ["forward", "reverse"])
@pytest.mark.parametrize("reset_after", [False, True])
def test_gru(direction, reset_after):
    given, input_bias = weights(3), random_array(3 * HIDDEN, seed=9)
    found = computed(
        "gru",
        x=X,
        initial_h=H,
        direction=direction,
        output_sequence=True,
        reset_after=reset_after,
        input_bias=input_bias,
        **given,
    )
    sigmoid, h, outputs = ACTIVATIONS["sigmoid"], H, []
    w_r, w_o, w_z = np.split(given["weight_hh"], 3)
    b_r, b_o, b_z = np.split(given["bias"], 3)
    for step in X if direction == "forward" else X[::-1]:
        p_r, p_o, p_z = np.split(step @ given["weight_ih"].T + input_bias, 3, axis=1)
        r, z = sigmoid(p_r + h @ w_r.T + b_r), sigmoid(p_z + h @ w_z.T + b_z)
        hidden = r * (h @ w_o.T + b_o) if reset_after else (r * h) @ w_o.T + b_o
        h = (1 - z) * np.tanh(p_o + hidden) + z * h
        outputs.append(h)
    assert_all_close(found, (np.stack(outputs), h))


def test_gru_before_ios18():
    given = {"x": X, "initial_h": H, **weights(3)}
    assert_all_close(computed("gru", 15, **given), computed("gru", 18, **given))


@pytest.mark.parametrize("activation", ["tanh", "relu", "sigmoid"])
def test_rnn(activation):
    given = weights(1)
    found = computed("rnn", x=X, initial_h=H, output_sequence=True, activation=activation, **given)
    h, outputs = H, []
    for step in X:
        h = step @ given["weight_ih"].T + h @ given["weight_hh"].T + given["bias"]
        h = ACTIVATIONS[activation](h)
        outputs.append(h)
    assert_all_close(found, (np.stack(outputs), h))


def test_a_symbolic_number_of_steps_keeps_shapes():
    given = {"x": X, "initial_h": H, "initial_c": C, "output_sequence": True, **weights(4)}
    symbolic, shapes = symbolic_shapes("lstm", {"x": (0,)}, **given)
    assert symbolic
    assert shapes == [(STEPS, BATCH, HIDDEN), (BATCH, HIDDEN), (BATCH, HIDDEN)]


@pytest.mark.parametrize("direction", ["forward", "reverse"])
@pytest.mark.parametrize("output_sequence", [True, False])
@pytest.mark.parametrize("activation", [*ACTIVATIONS, "sigmoid_hard"])
def test_rnn_of_every_kind(activation, output_sequence, direction):
    given = weights(1)
    options = {"output_sequence": output_sequence, "direction": direction}
    found = computed("rnn", x=X, initial_h=H, activation=activation, **options, **given)
    act = ACTIVATIONS.get(activation, ACTIVATIONS["hard_sigmoid"])
    h, outputs = H, []
    for step in X if direction == "forward" else X[::-1]:
        h = act(step @ given["weight_ih"].T + h @ given["weight_hh"].T + given["bias"])
        outputs.append(h)
    outputs = outputs if output_sequence else outputs[-1:]
    assert_all_close(found, (np.stack(outputs), h))


@pytest.mark.parametrize("gate", ACTIVATIONS)
@pytest.mark.parametrize("act", ACTIVATIONS)
def test_gru_of_every_activation(gate, act):
    given = weights(3)
    gates, acts = ACTIVATIONS[gate], ACTIVATIONS[act]
    found = computed(
        "gru", 17, x=X[:2], initial_h=H, recurrent_activation=gate, activation=act, **given
    )
    h = H
    w_r, w_o, w_z = np.split(given["weight_hh"], 3)
    b_r, b_o, b_z = np.split(given["bias"], 3)
    for step in X[:2]:
        p_r, p_o, p_z = np.split(step @ given["weight_ih"].T, 3, axis=1)
        r, z = gates(p_r + h @ w_r.T + b_r), gates(p_z + h @ w_z.T + b_z)
        h = (1 - z) * acts(p_o + (r * h) @ w_o.T + b_o) + z * h
    assert_all_close(found, (h[None], h))


@pytest.mark.parametrize("names", [*itertools.product(ACTIVATIONS, repeat=2)])
def test_lstm_of_every_activation(names):
    given = weights(4)
    gate, cell = names
    found = computed(
        "lstm",
        x=X[:2],
        initial_h=H,
        initial_c=C,
        recurrent_activation=gate,
        cell_activation=cell,
        activation="tanh",
        **given,
    )
    sequence, h, c = slow_lstm(X[:2], H, C, **given, names=(gate, cell, "tanh"))
    assert_all_close(found, (sequence[-1:], h, c))


def test_bidirectional_lstm_with_peepholes_and_clip():
    forward = weights(4) | {"peephole": random_array(3 * HIDDEN, seed=9)}
    back = weights(4, seed=20) | {"peephole": random_array(3 * HIDDEN, seed=10)}
    found = computed(
        "lstm",
        x=X,
        initial_h=np.concatenate([H, H + 1], axis=1),
        initial_c=np.concatenate([C, C - 1], axis=1),
        direction="bidirectional",
        output_sequence=True,
        clip=0.4,
        **forward,
        **{f"{name}_back": value for name, value in back.items()},
    )
    left = slow_lstm(X, H, C, **forward, clip=0.4)
    right = slow_lstm(X[::-1], H + 1, C - 1, **back, clip=0.4)
    expected = [(left[0], right[0][::-1]), *zip(left[1:], right[1:], strict=True)]
    assert_all_close(found, [np.concatenate(pair, axis=-1) for pair in expected])


@pytest.mark.parametrize("output_sequence", [True, False])
def test_a_sequence_without_steps(output_sequence):
    sequence, h = computed(
        "rnn", x=X[:0], initial_h=H, output_sequence=output_sequence, **weights(1)
    )
    assert_close(h, H)
    assert sequence.shape == ((0, BATCH, HIDDEN) if output_sequence else (1, BATCH, HIDDEN))


def test_unknown_directions_and_activations():
    given = {"x": X, "initial_h": H, **weights(1)}
    with pytest.raises(UnsupportedModel, match="bidirectional"):
        computed("rnn", **given, direction="bidirectional")
    with pytest.raises(UnsupportedModel, match="swish"):
        computed("rnn", **given, activation="swish")


def prepared_lstm(**fixed):
    """The function that stands in for an lstm once its weights are known; None where none does."""
    tensors = {name: as_tensor(value) for name, value in fixed.items()}
    special = plain_lstm(tensors, {"x", "initial_h", "initial_c"})
    if special is None:
        return None
    function, kept = special

    def run(x, h, c):
        given = dict(zip(("x", "initial_h", "initial_c"), map(as_tensor, (x, h, c)), strict=True))
        return tuple(item.numpy() for item in function(**given, **kept))

    return run


@pytest.mark.parametrize("direction", ["forward", "reverse"])
@pytest.mark.parametrize("output_sequence", [True, False])
@pytest.mark.parametrize("steps", [0, 1, STEPS])
def test_a_plain_lstm_at_once(direction, output_sequence, steps):
    given = weights(4)
    run = prepared_lstm(**given, direction=direction, output_sequence=output_sequence)
    if not steps:
        sequence, h, c = run(X[:0], H, C)
        assert_all_close((h, c), (H, C))
        assert sequence.shape == ((0, BATCH, HIDDEN) if output_sequence else (1, BATCH, HIDDEN))
        return
    x = X[:steps] if direction == "forward" else X[:steps][::-1]
    sequence, h, c = slow_lstm(x, H, C, **given)
    expected = (sequence if output_sequence else sequence[-1:], h, c)
    assert_all_close(run(X[:steps], H, C), expected)


@pytest.mark.parametrize("output_sequence", [True, False])
def test_a_bidirectional_lstm_at_once(output_sequence):
    forward, back = weights(4), weights(4, seed=7)
    del forward["bias"], back["bias"]
    given = {**forward, **{f"{name}_back": value for name, value in back.items()}}
    run = prepared_lstm(**given, direction="bidirectional", output_sequence=output_sequence)
    left = slow_lstm(X, H, C, **forward, bias=0)
    right = slow_lstm(X[::-1], H + 1, C - 1, **back, bias=0)
    sequences = (left[0], right[0][::-1])
    if not output_sequence:
        sequences = (left[0][-1:], right[0][-1:])
    pairs = [sequences, *zip(left[1:], right[1:], strict=True)]
    states = (np.concatenate((H, H + 1), -1), np.concatenate((C, C - 1), -1))
    assert_all_close(run(X, *states), [np.concatenate(pair, axis=-1) for pair in pairs])


def test_arrays_that_do_not_fit_an_lstm_are_refused_before_torch_reads_them():
    run = prepared_lstm(**weights(4))
    with pytest.raises(UnsupportedModel, match=r"\(2, 4\).*initial_h \(3, 4\)"):
        run(X, np.zeros((3, HIDDEN), np.float32), C)
    with pytest.raises(UnsupportedModel, match=r"\(2, 4\).*initial_c \(2, 2\)"):
        run(X, H, C[:, :2].copy())
    with pytest.raises(UnsupportedModel, match="for 3 features"):
        run(X[..., :2].copy(), H, C)


@pytest.mark.parametrize(
    "other",
    [
        {"activation": "relu"},
        {"recurrent_activation": "hard_sigmoid"},
        {"clip": 0.5},
        {"peephole": np.zeros(3 * HIDDEN, np.float32)},
        {"direction": "sideways"},
        {"direction": "bidirectional"},
        {"weight_hh": np.zeros((4 * HIDDEN, HIDDEN + 1), np.float32)},
        {"weight_ih": np.zeros((3 * HIDDEN, INPUTS), np.float32)},
        {"bias": np.zeros(HIDDEN, np.float32)},
    ],
    ids=lambda other: "-".join(other),
)
def test_only_a_plain_lstm_with_fitting_weights_is_computed_at_once(other):
    assert prepared_lstm(**{**weights(4), **other}) is None
