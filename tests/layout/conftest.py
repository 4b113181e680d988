"""Packages that the tests of layouts share."""

import sys
import types

import pytest

from tests.layout.packages import classifier, upscaler, upscaler_types


@pytest.fixture
def static_package(tmp_path):
    return classifier().write(tmp_path / "classifier.mlpackage")


@pytest.fixture
def dynamic_package(tmp_path, monkeypatch):
    """An upscaler of any size; the shapes of its values are worked out by hand."""
    module = types.ModuleType("metal4conv.execute.symbolic")
    module.infer_types = upscaler_types
    monkeypatch.setitem(sys.modules, "metal4conv.execute.symbolic", module)
    return upscaler().write(tmp_path / "upscaler.mlpackage")
