"""Equal inputs give equal bytes: in another process, folder, and hash seed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import sample, tree_hash

SIZES = {
    "upscaler": ["-i", "color:1x3xhxw", "--dim", "h=16..64", "--dim", "w=16..64"],
    "animation_blend": ["--dim", "batch=1..8"],
}


@pytest.mark.parametrize("name", SIZES)
def test_outputs_do_not_depend_on_process_folder_or_hash_seed(name: str, tmp_path: Path) -> None:
    trees = []
    for seed in ("1", "2"):
        folder = tmp_path / f"run{seed}"
        folder.mkdir()
        command = [sys.executable, "-m", "metal4conv", "convert", *sample(name), *SIZES[name], "-q"]
        environment = {**os.environ, "PYTHONHASHSEED": seed}
        subprocess.run([*command, "-o", "out"], cwd=folder, env=environment, check=True)
        trees.append(tree_hash(folder / "out"))
    assert trees[0] == trees[1]
    for path in (tmp_path / "run1").rglob("*"):
        if path.is_file():
            assert str(tmp_path).encode() not in path.read_bytes()
            assert str(Path.cwd()).encode() not in path.read_bytes()


def test_shaders_do_not_depend_on_process_folder_or_hash_seed(tmp_path: Path) -> None:
    trees = []
    for seed in ("1", "2"):
        folder = tmp_path / f"run{seed}"
        folder.mkdir()
        words = ["shader", *sample("neural_material"), "--emit", "swift", "-o", "out", "-q"]
        command = [sys.executable, "-m", "metal4conv", *words]
        environment = {**os.environ, "PYTHONHASHSEED": seed}
        subprocess.run(command, cwd=folder, env=environment, check=True)
        trees.append(tree_hash(folder / "out"))
    assert trees[0] == trees[1]
