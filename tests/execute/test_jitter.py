"""Constants a little off: by their part, by a step where they are small, and never beyond range."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from metal4conv.execute.jitter import JitteredExecutor
from metal4conv.mil.program import Constant, TensorType
from tests.layout.packages import classifier

PART, STEP = 2.0**-11, 2.0**-24


@pytest.fixture
def executor(tmp_path: Path) -> JitteredExecutor:
    build = classifier()
    build.block.operations[0].attributes["val"].ClearField("blobFileValue")
    build.block.operations[0].attributes["val"].immediateValue.tensor.floats.values.extend(
        [0.0] * 70
    )
    package = build.write(tmp_path / "net.mlpackage")
    return JitteredExecutor(package.function(), package.interface(), PART, STEP)


def changed(executor: JitteredExecutor, *numbers: float) -> torch.Tensor:
    held = torch.tensor(numbers)
    type = TensorType("float32", (len(numbers),))
    return executor.materialize(Constant(type, held.numpy)) - held


def test_a_part_of_each_number(executor: JitteredExecutor) -> None:
    change = changed(executor, *([3.0] * 50)).abs()
    assert 0 < change.max() <= 3 * PART
    assert len(set(change.tolist())) > 10


def test_small_numbers_move_by_a_step_and_zeros_stay(executor: JitteredExecutor) -> None:
    change = changed(executor, 1e-8, -6e-8, 0.0)
    assert change.abs().tolist() == pytest.approx([STEP, STEP, 0.0], rel=1e-3)


def test_masks_stay_in_range(executor: JitteredExecutor) -> None:
    lowest = torch.finfo(torch.float32).min
    held = torch.tensor([lowest] * 20 + [-torch.inf] * 20)
    found = executor.materialize(Constant(TensorType("float32", (40,)), held.numpy))
    assert found[:20].isfinite().all()
    assert (found[20:] == -torch.inf).all()
