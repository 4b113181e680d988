"""What `debug --against` says of a source that cannot stand beside the package."""

from __future__ import annotations

from pathlib import Path

import pytest

from metal4conv.debug.debugging import open_beside
from metal4conv.errors import UsageError
from metal4conv.frontends.source import SourceOptions, parse_options
from tests.conftest import SAMPLES
from tests.debug.test_origins import package_of


def test_a_package_is_no_source(tmp_path: Path) -> None:
    package = package_of(tmp_path / "net.mlpackage", 2.0)
    with pytest.raises(UsageError, match="is a package, not a source model"):
        open_beside(package, str(package.path), SourceOptions())


def test_inputs_of_the_package_that_the_source_has_not(tmp_path: Path) -> None:
    """The user said nothing of inputs, so the error says where they come from."""
    package = package_of(tmp_path / "net.mlpackage", 2.0)
    other = str(SAMPLES / "denoiser.onnx")
    with pytest.raises(UsageError) as caught:
        open_beside(package, other, SourceOptions())
    assert "net.mlpackage, since -i says no others" in str(caught.value)
    with pytest.raises(UsageError) as caught:
        open_beside(package, other, parse_options(["x:1x3xhxw"], []))
    assert "since" not in str(caught.value)
