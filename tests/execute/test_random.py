import numpy as np
import pytest

from metal4conv.errors import UnsupportedModel
from tests.execute.value_inference import assert_close, computed, random_array


@pytest.mark.parametrize(
    ("operation", "options", "mean", "deviation"),
    [
        ("random_bernoulli", {"prob": 0.25}, 0.25, 0.433),
        ("random_normal", {"mean": 3.0, "stddev": 2.0}, 3, 2),
        ("random_uniform", {"low": -1.0, "high": 3.0}, 1, 4 / np.sqrt(12)),
    ],
)
def test_distribution(operation, options, mean, deviation):
    found = computed(operation, shape=(100, 200), seed=7, **options)
    assert found.shape == (100, 200)
    assert abs(found.mean() - mean) < 0.05
    assert abs(found.std() - deviation) < 0.05


@pytest.mark.parametrize("mode", ["probs", "logits"])
def test_categorical(mode):
    chances = np.array([[0.5, 0.25, 0.25], [0, 0.125, 0.875]], np.float32)
    x = chances if mode == "probs" else np.log(chances + 1e-12)
    found = computed("random_categorical", x=x, mode=mode, size=20000, seed=1)
    assert found.shape == (2, 20000)
    counted = [np.bincount(row.astype(int), minlength=3) / 20000 for row in found]
    assert_close(np.array(counted), chances, tolerance=0.02)


def test_a_seed_repeats():
    draws = [computed("random_normal", shape=(4,), seed=seed) for seed in (3, 3, 4)]
    assert (draws[0] == draws[1]).all()
    assert (draws[0] != draws[2]).any()


def test_uniform_excludes_the_upper_end():
    """Near 1000 a float32 has 14 bits for the fraction, so that many draws round to 1001."""
    found = computed("random_uniform", shape=(300000,), low=1000.0, high=1001.0, seed=3)
    assert found.min() == 1000
    assert found.max() < 1001


def test_uniform_of_one_value():
    assert (computed("random_uniform", shape=(9,), low=2.0, high=2.0) == 2).all()


@pytest.mark.parametrize("shape", [(), (0,), (2, 0, 3), (1,), (2, 3, 4)])
@pytest.mark.parametrize("operation", ["random_bernoulli", "random_normal", "random_uniform"])
def test_shapes(operation, shape):
    found = computed(operation, shape=shape)
    assert (found.shape, found.dtype) == (shape, np.float32)


@pytest.mark.parametrize("chance", [0.0, 1.0])
def test_certain_events(chance):
    assert (computed("random_bernoulli", shape=(1000,), prob=chance, seed=1) == chance).all()
    x = np.array([[1 - chance, chance]], np.float32)
    found = computed("random_categorical", x=x, mode="probs", size=1000)
    assert (found == chance).all()


def test_categorical_of_more_dimensions():
    x = random_array(2, 3, 4)
    assert computed("random_categorical", x=x).shape == (2, 3, 1)
    assert computed("random_categorical", x=x, size=5).shape == (2, 3, 5)
    with pytest.raises(UnsupportedModel, match="odds"):
        computed("random_categorical", x=x, mode="odds")


def test_without_a_seed_draws_differ():
    draws = [computed("random_uniform", shape=(16,)) for _ in range(2)]
    assert (draws[0] != draws[1]).any()
