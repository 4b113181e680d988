import numpy as np
import pytest

from tests.execute.value_inference import assert_close, computed


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
