from __future__ import annotations

import pytest
import torch

from metal4conv.errors import UnsupportedModel
from metal4conv.execute.states import (
    State,
    coreml_update_state,
    read_state,
    write_state_operation,
)


def test_what_was_read_does_not_change() -> None:
    state = State(torch.zeros(3))
    before = read_state(state)
    value = torch.tensor([1.0, 2.0, 3.0])
    assert coreml_update_state(state, value).tolist() == [1, 2, 3]
    assert before.tolist() == [0, 0, 0]
    assert read_state(state).tolist() == [1, 2, 3]
    assert write_state_operation(state, value * 2) == ()
    assert read_state(state).tolist() == [2, 4, 6]


def test_a_state_keeps_its_shape() -> None:
    state = State(torch.zeros(3))
    with pytest.raises(UnsupportedModel, match=r"of shape \(3,\) was given \(1, 3\)"):
        coreml_update_state(state, torch.zeros(1, 3))


def test_a_tensor_in_place_of_a_state() -> None:
    with pytest.raises(UnsupportedModel, match="expected, found Tensor"):
        read_state(torch.zeros(3))
