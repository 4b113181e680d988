import numpy as np
import pytest

from tests.execute.value_inference import assert_close, computed, inferred, random_array

X = random_array(2, 3, 4, 5) * 4
CHANNELS = np.array([0.1, -0.5, 2.0], np.float32)
A, B = 0.25, 0.75

CASES = [
    ("clamped_relu", {"alpha": A, "beta": B}),
    ("elu", {"alpha": A}),
    ("gelu", {"mode": "EXACT"}),
    ("gelu", {"mode": "TANH_APPROXIMATION"}),
    ("gelu", {"mode": "SIGMOID_APPROXIMATION"}),
    ("leaky_relu", {"alpha": A}),
    ("linear_activation", {"alpha": A, "beta": B}),
    ("prelu", {"alpha": CHANNELS}),
    ("relu", {}),
    ("relu6", {}),
    ("scaled_tanh", {"alpha": A, "beta": B}),
    ("sigmoid", {}),
    ("sigmoid_hard", {"alpha": A, "beta": B}),
    ("softmax", {}),
    ("softmax", {"axis": 1}),
    ("softplus", {}),
    ("softplus_parametric", {"alpha": CHANNELS, "beta": CHANNELS[::-1].copy()}),
    ("softsign", {}),
    ("thresholded_relu", {"alpha": B}),
]


@pytest.mark.parametrize(
    ("operation", "options"), CASES, ids=[f"{name}-{at}" for at, (name, _) in enumerate(CASES)]
)
def test_activation(operation, options):
    given = {
        name: np.float32(value) if isinstance(value, float) else value
        for name, value in options.items()
    }
    assert_close(computed(operation, x=X, **options), inferred(operation, x=X.copy(), **given))


def test_silu():
    assert_close(computed("silu", x=X), X / (1 + np.exp(-X)))


def test_softplus_does_not_overflow():
    x = np.array([[[200.0], [-200.0]]], np.float32)
    one = np.ones(2, np.float32)
    assert_close(computed("softplus", x=x), [[[200], [0]]])
    assert_close(computed("softplus_parametric", x=x, alpha=one, beta=one), [[[200], [0]]])
