import numpy as np
import pytest

from tests.execute.value_inference import assert_close, computed, inferred, random_array


@pytest.mark.parametrize("shape", [(4,), (3, 4), (2, 3, 4)])
def test_linear(shape):
    x, weight, bias = random_array(*shape), random_array(5, 4, seed=1), random_array(5, seed=2)
    expected = inferred("linear", x=x, weight=weight, bias=bias)
    assert_close(computed("linear", x=x, weight=weight, bias=bias), expected)
    assert_close(computed("linear", x=x, weight=weight), x @ weight.T)


def test_linear_of_integers():
    x = np.arange(6, dtype=np.int32).reshape(2, 3)
    weight = np.arange(12, dtype=np.int32).reshape(4, 3)
    bias = np.arange(4, dtype=np.int32)
    found = computed("linear", x=x, weight=weight, bias=bias)
    assert found.dtype == np.int32
    assert_close(found, x @ weight.T + bias)


@pytest.mark.parametrize(
    ("left", "right"), [((2, 3), (3, 4)), ((5, 2, 3), (1, 3, 4)), ((10, 4, 3), (5, 10, 3, 2))]
)
@pytest.mark.parametrize("transposed", [(False, False), (True, False), (False, True), (True, True)])
def test_matmul(left, right, transposed):
    x, y = random_array(*left), random_array(*right, seed=1)
    x = np.ascontiguousarray(np.swapaxes(x, -1, -2)) if transposed[0] else x
    y = np.ascontiguousarray(np.swapaxes(y, -1, -2)) if transposed[1] else y
    options = {"transpose_x": transposed[0], "transpose_y": transposed[1]}
    assert_close(computed("matmul", x=x, y=y, **options), inferred("matmul", x=x, y=y, **options))


def test_matmul_of_vectors():
    x, y = random_array(3), random_array(2, 3, 4)
    assert_close(computed("matmul", x=x, y=y), np.matmul(x, y))
    assert_close(computed("matmul", x=x, y=x, transpose_y=True), np.dot(x, x))


def test_matmul_of_integers():
    x = np.arange(6, dtype=np.int32).reshape(2, 3)
    assert_close(computed("matmul", x=x, y=x, transpose_y=True), x @ x.T)


@pytest.mark.parametrize(
    ("equation", "left", "right"),
    [
        ("nchw,nwhu->nchu", (2, 3, 4, 5), (2, 5, 4, 6)),
        ("abcd,adce->abce", (2, 3, 4, 5), (1, 5, 4, 6)),
        ("chw,whr->chr", (3, 4, 5), (5, 4, 6)),
    ],
)
def test_einsum(equation, left, right):
    x, y = random_array(*left), random_array(*right, seed=1)
    assert_close(
        computed("einsum", values=[x, y], equation=equation),
        inferred("einsum", values=(x, y), equation=equation),
    )
