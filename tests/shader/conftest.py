"""Running small pieces of Metal through the stand-in headers.

A test names a file of `msl/` or gives a text, the entry points in it and what they are given;
there is no manifest's file, and nothing of the generator in between.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from metal4conv.shader.compiler import Compiler, HostBuild
from metal4conv.shader.document import EntryPoint
from metal4conv.shader.host import HostShader
from tests.shader.pieces import MSL, Piece


@pytest.fixture(scope="session")
def shader_of(
    compiler: Compiler, tmp_path_factory: pytest.TempPathFactory
) -> Callable[..., HostShader]:
    """Makes a runner: `shader_of("file.metal", entries…, build=…, outputs=…)`.

    What stands before the first line break of a text is its name.
    """
    folder = tmp_path_factory.mktemp("shaders")

    # Any: the fields of Piece
    def make(source: str, *entries: EntryPoint, build: Any = None, **fields: Any) -> HostShader:
        path = MSL / source
        if "\n" in source:
            name, _, text = source.partition("\n")
            path = folder / f"{name}.metal"
            path.write_text(text)
        piece = Piece(path, entries, **fields)
        weights = b"" if piece.weights is None else piece.weights.tobytes()
        return HostShader(
            piece.manifest(), path, weights, folder=folder, build=build or HostBuild()
        )

    return make
