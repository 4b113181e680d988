"""What is emitted for a shader, compared with `tests/golden/emit/shader_*`."""

from __future__ import annotations

from pathlib import Path

import pytest

from metal4conv.shader.emit import EMITTERS, FILE_SUFFIXES, emit_shader
from tests.shader.manifests import MANIFESTS

GOLDEN = Path(__file__).parents[2] / "golden" / "emit"
SHOWN = ("handles", "material", "denoiser")
"""With tensors, with textures, with several passes."""


@pytest.mark.parametrize("language", EMITTERS)
@pytest.mark.parametrize("name", SHOWN)
def test_emitted_text(name: str, language: str, request: pytest.FixtureRequest) -> None:
    text = emit_shader(MANIFESTS[name], language)
    file = GOLDEN / f"shader_{name}{FILE_SUFFIXES[language]}"
    if request.config.getoption("--rewrite-golden"):
        file.write_text(text, "utf-8")
    assert text == file.read_text("utf-8")
    assert text == emit_shader(MANIFESTS[name], language)


@pytest.mark.parametrize("language", EMITTERS)
@pytest.mark.parametrize("name", MANIFESTS)
def test_lines_end_where_they_should(name: str, language: str) -> None:
    text = emit_shader(MANIFESTS[name], language)
    assert text.endswith("\n")
    assert not text.endswith("\n\n")
    assert "\n\n\n" not in text
    assert [line for line in text.splitlines() if line != line.rstrip()] == []
