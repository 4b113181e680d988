"""Non-maximum suppression, beside onnxruntime."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

from tests.frontends.onnx.models import check, model, node


def suppression(count: int | str, centered: int, computed: bool) -> onnx.ModelProto:
    """A model whose thresholds are inputs, or constants."""
    limits = {
        "most": np.array(3, np.int64),
        "share": np.array(0.4, np.float32),
        "least": np.array(0.2, np.float32),
    }
    inputs = {"boxes": [2, count, 4], "scores": [2, 3, count]}
    declared = {name: (array.dtype.name, []) for name, array in limits.items()}
    made = node("NonMaxSuppression", [*inputs, *limits], ["Y"], center_point_box=centered)
    return model(
        [made],
        {**inputs, **(declared if computed else {})},
        {"Y": "int64"},
        {} if computed else limits,
    )


def drawn(count: int, seed: int) -> dict[str, np.ndarray]:
    generator = np.random.default_rng(seed)
    boxes = generator.random((2, count, 4)).astype(np.float32)
    boxes[:, :, 2:] = boxes[:, :, 2:] * 0.8 + 0.1
    scores = generator.permutation(6 * count).reshape(2, 3, count).astype(np.float32)
    return {"boxes": boxes, "scores": scores / (6 * count)}


@pytest.mark.parametrize("centered", [0, 1])
def test_dynamic_number_of_boxes(centered: int, tmp_path: Path) -> None:
    cases = [drawn(count, count) for count in (1, 5, 40)]
    check(suppression("n", centered, False), tmp_path, *cases, dims=["n=1..64@8"])


def test_computed_thresholds(tmp_path: Path) -> None:
    cases = [
        {
            **drawn(12, seed),
            "most": np.array(most),
            "share": np.array(share, np.float32),
            "least": np.array(least, np.float32),
        }
        for seed, most, share, least in ((1, 2, 0.5, 0.1), (2, 20, 0.0, 0.0), (3, 12, 1.0, 0.9))
    ]
    check(suppression(12, 0, True), tmp_path, *cases)


def test_equal_scores_keep_the_first_box(tmp_path: Path) -> None:
    feeds = drawn(6, 1)
    feeds["scores"][:] = 0.5
    check(suppression(6, 0, False), tmp_path, feeds)
