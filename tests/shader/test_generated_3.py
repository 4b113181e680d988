"""Ten of the forty generated networks; four files, so that they run side by side."""

from __future__ import annotations

from pathlib import Path

import pytest

from metal4conv.shader.compiler import Compiler
from tests.shader.generated import COUNT, plan
from tests.shader.generated_checks import check


@pytest.mark.parametrize("number", range(3, COUNT, 4), ids=lambda number: str(plan(number)))
def test_agrees_with_its_source(number: int, compiler: Compiler, tmp_path: Path) -> None:
    check(number, tmp_path)
