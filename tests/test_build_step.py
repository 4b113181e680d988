"""The README's Makefile and its ninja twin, run as a user would run them."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import tree_hash

EXAMPLES = Path(__file__).parent / "examples"
NET = """
import torch
from layers import smooth

def denoise():
    torch.manual_seed(0)
    return smooth(), (torch.rand(1, 3, 16, 16),)
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A folder with a network in two files, and the two build files."""
    for name in ("Makefile", "build.ninja"):
        shutil.copy(EXAMPLES / name, tmp_path)
    (tmp_path / "net.py").write_text(NET)
    (tmp_path / "layers.py").write_text(layers("ReLU"))
    return tmp_path


def layers(activation: str) -> str:
    """A network whose input is called color."""
    return f"""
import torch

class Smooth(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = torch.nn.Conv2d(3, 4, 3, padding=1)

    def forward(self, color):
        return torch.nn.functional.{activation.lower()}(self.conv(color))

def smooth():
    return Smooth()
"""


def build(tool: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Runs make or ninja with metal4conv on the path."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path}
    return subprocess.run([tool], cwd=folder, env=environment, capture_output=True, text=True)


def rewrite(path: Path, text: str) -> None:
    """Changes a file, with a time stamp that is later for sure."""
    path.write_text(text)
    now = path.stat().st_mtime + 2
    os.utime(path, (now, now))


@pytest.mark.parametrize("tool", ["make", "ninja"])
def test_build_does_what_is_needed_and_no_more(tool: str, project: Path) -> None:
    if shutil.which(tool) is None:
        pytest.skip(f"{tool} is not installed")
    first = build(tool, project)
    assert first.returncode == 0, first.stdout + first.stderr
    outputs = project / "build"
    assert {path.name for path in outputs.iterdir()} >= {
        "denoise.mlpackage",
        "denoise.layout.json",
        "denoise.golden.safetensors",
    }
    before = tree_hash(outputs / "denoise.mlpackage")

    second = build(tool, project)
    assert second.returncode == 0
    assert "metal4conv" not in second.stdout

    rewrite(project / "layers.py", layers("SiLU"))
    third = build(tool, project)
    assert third.returncode == 0, third.stdout + third.stderr
    changed = tree_hash(outputs / "denoise.mlpackage")
    assert changed != before

    rewrite(project / "layers.py", layers("No_Such_Activation"))
    failed = build(tool, project)
    assert failed.returncode != 0
    assert "no_such_activation" in failed.stdout + failed.stderr
    assert tree_hash(outputs / "denoise.mlpackage") == changed
