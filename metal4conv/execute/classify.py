"""The classifier's outputs: a label, and the probability of each label."""

from __future__ import annotations

import math
from typing import Any

from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor

from metal4conv.execute.table import MIL_OPS
from metal4conv.mil.program import ConstantList


@MIL_OPS("classify")
def classify(probabilities: Tensor, classes: Any) -> tuple[Any, dict[Any, float]]:
    """The most likely class, and all classes with their probabilities.

    `classes` is a constant list, or plain labels. In a symbolic run, which has no numbers, all
    are NaN.
    """
    is_constant = isinstance(classes, ConstantList)
    labels = [item.value.item() for item in classes.items] if is_constant else list(classes)
    if isinstance(probabilities, FakeTensor):
        return labels[0], dict.fromkeys(labels, math.nan)
    numbers = probabilities.reshape(-1).tolist()
    if len(numbers) != len(labels):
        raise ValueError(f"{len(numbers)} probabilities do not fit {len(labels)} classes")
    by_label = dict(zip(labels, numbers, strict=True))
    return labels[numbers.index(max(numbers))], by_label
