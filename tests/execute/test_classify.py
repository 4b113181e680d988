from __future__ import annotations

from functools import partial

import numpy as np
import pytest
import torch

from metal4conv.execute.classify import classify
from metal4conv.mil.program import Constant, ConstantList, TensorType
from tests.execute.symbols import symbolic


def test_most_likely_label() -> None:
    label, by_label = classify(torch.tensor([[0.25, 0.5, 0.25]]), ["cat", "dog", "fox"])
    assert label == "dog"
    assert by_label == {"cat": 0.25, "dog": 0.5, "fox": 0.25}


def test_labels_of_a_package() -> None:
    items = [np.array(label, dtype=object) for label in ("cat", "dog")]
    constants = [Constant(TensorType("string", ()), partial(np.copy, item)) for item in items]
    label, by_label = classify(torch.tensor([0.75, 0.25]), ConstantList(tuple(constants)))
    assert (label, by_label) == ("cat", {"cat": 0.75, "dog": 0.25})


def test_labels_that_do_not_fit() -> None:
    with pytest.raises(ValueError, match="2 probabilities do not fit 1 classes"):
        classify(torch.zeros(2), ["cat"])


def test_symbolic_run_has_the_labels() -> None:
    with symbolic():
        _, by_label = classify(torch.empty(2), ["cat", "dog"])
    assert list(by_label) == ["cat", "dog"]
