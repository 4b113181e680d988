import numpy as np
import pytest

from tests.execute.value_inference import assert_close, computed, inferred, random_array


def shaped(parameter, rank):
    return parameter.reshape(-1, *[1] * (rank - 2))


@pytest.mark.parametrize("shape", [(2, 3, 5), (2, 3, 4, 5), (1, 3, 2, 4, 5)])
def test_batch_norm(shape):
    x, rank = random_array(*shape), len(shape)
    mean, variance, gamma, beta = (random_array(3, seed=at) for at in range(1, 5))
    variance = np.abs(variance)
    scale = 1 / np.sqrt(shaped(variance, rank) + 1e-3)
    plain = (x - shaped(mean, rank)) * scale
    given = {"x": x, "mean": mean, "variance": variance, "epsilon": 1e-3}
    assert_close(computed("batch_norm", **given), plain)
    expected = plain * shaped(gamma, rank) + shaped(beta, rank)
    assert_close(computed("batch_norm", gamma=gamma, beta=beta, **given), expected)


@pytest.mark.parametrize("shape", [(2, 3, 5), (2, 3, 4, 5), (2, 3, 1, 1)])
def test_instance_norm(shape):
    x, rank = random_array(*shape), len(shape)
    gamma, beta = random_array(3, seed=1), random_array(3, seed=2)
    axes = tuple(range(2, rank))
    mean, variance = x.mean(axes, keepdims=True), x.var(axes, keepdims=True)
    expected = (x - mean) / np.sqrt(variance + 1e-5) * shaped(gamma, rank) + shaped(beta, rank)
    assert_close(computed("instance_norm", x=x, gamma=gamma, beta=beta), expected)


@pytest.mark.parametrize("axes", [(-1,), (2, 3), (1,), (0, -1), (-3, -1)])
def test_layer_norm(axes):
    x = random_array(2, 3, 4, 5)
    shape = [x.shape[axis] for axis in sorted(axis % 4 for axis in axes)]
    gamma, beta = random_array(*shape, seed=1), random_array(*shape, seed=2)
    given = {"x": x, "axes": axes, "gamma": gamma, "beta": beta}
    expected = inferred("layer_norm", **given | {"axes": list(axes)}, epsilon=np.float32(1e-4))
    assert_close(computed("layer_norm", **given, epsilon=1e-4), expected)


def test_layer_norm_of_everything():
    x = random_array(2, 3, 4)
    expected = (x - x.mean()) / np.sqrt(x.var() + 1e-5)
    assert_close(computed("layer_norm", x=x), expected)


@pytest.mark.parametrize("shape", [(3, 4, 5), (2, 3, 4, 5), (2, 2, 3, 4, 5)])
def test_l2_norm(shape):
    x = random_array(*shape)
    assert_close(computed("l2_norm", x=x), inferred("l2_norm", x=x))


@pytest.mark.parametrize("shape", [(2, 5, 4), (2, 5, 3, 4)])
def test_local_response_norm(shape):
    x = random_array(*shape)
    sums = np.stack([(x[:, max(0, at - 1) : at + 2] ** 2).sum(1) for at in range(5)], axis=1)
    expected = x / (2.0 + 0.5 / 3 * sums) ** 0.75
    assert_close(computed("local_response_norm", x=x, size=3, alpha=0.5, k=2.0), expected)
