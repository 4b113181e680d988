"""Core ML's place is taken by `enable_predict`: what is tested is our side of coremltools' call."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

import metal4conv
from metal4conv.errors import MissingDevice
from metal4conv.frontends import coreml
from metal4conv.frontends.coreml import CoreMLRunner
from tests.layout.packages import PackageBuilder


@pytest.fixture
def doubled(tmp_path):
    build = PackageBuilder()
    build.input("x", "float16", (1, 4))
    build.operation("add", "y", "float16", (1, 4), {"x": ["x"], "y": ["x"]})
    build.output("y", "float16")
    build.write(tmp_path / "net.mlpackage")
    return tmp_path / "net.mlpackage"


def test_without_core_ml_it_is_named(doubled):
    with pytest.raises(MissingDevice, match="needs macOS, this is linux"):
        CoreMLRunner(doubled)


def test_outputs_have_the_declared_dtype(doubled, monkeypatch):
    monkeypatch.setattr(coreml, "sys", SimpleNamespace(platform="darwin"))
    metal4conv.enable_predict()
    try:
        runner = CoreMLRunner(doubled)
        found = runner.predict({"x": np.float16([[1, 2, 3, 0.5]])})
    finally:
        metal4conv.disable_predict()
    assert list(runner.inputs) == ["x"]
    assert found["y"].dtype == np.float16
    np.testing.assert_array_equal(found["y"], [[2, 4, 6, 1]])
