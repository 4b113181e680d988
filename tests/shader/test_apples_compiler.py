"""The golden texts through Apple's own compiler, on machines that have it."""

from __future__ import annotations

from pathlib import Path

import pytest

from metal4conv.errors import MissingDevice
from metal4conv.shader.compiler import compile_with_metal

GOLDEN = Path(__file__).parents[1] / "golden/shader"


@pytest.mark.parametrize("path", sorted(GOLDEN.glob("*.metal")), ids=lambda path: path.stem)
def test_takes_what_the_generator_writes(path: Path, tmp_path: Path) -> None:
    try:
        done = compile_with_metal(path, tmp_path)
    except MissingDevice as error:
        pytest.skip(error.message)
    assert done.has_succeeded
    assert "warning:" not in done.messages
