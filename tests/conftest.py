"""Helpers of all tests: running a command in this process, the samples, and a tiny network."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from metal4conv import cli
from metal4conv.errors import MissingDependency
from metal4conv.shader.compiler import Compiler, find_compiler

# read when TensorFlow is first imported, which a test may do before metal4conv does
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

SAMPLES = Path(__file__).parents[1] / "sample_models"


@dataclass(frozen=True)
class Done:
    """What a command left behind."""

    code: int
    stdout: str
    stderr: str


@pytest.fixture
def metal4conv(capfd: pytest.CaptureFixture[str]) -> Callable[..., Done]:
    """Runs a command line in this process."""

    def run(*arguments: object) -> Done:
        capfd.readouterr()
        code = cli.run([str(argument) for argument in arguments])
        found = capfd.readouterr()
        return Done(code, found.out, found.err)

    return run


@pytest.fixture(scope="session")
def compiler() -> Compiler:
    """The compiler for shaders; the test is skipped where there is none."""
    try:
        return find_compiler()
    except MissingDependency as error:
        pytest.skip(error.message)


def tree_hash(folder: Path) -> str:
    """A hash of all files below a folder, by name and content."""
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            digest.update(f"{path.relative_to(folder)}\n".encode() + path.read_bytes())
    return digest.hexdigest()


def sample(name: str) -> list[str]:
    """The arguments of `convert` for a sample, without its sizes."""
    if name == "animation_blend":
        return [str(SAMPLES / name)]
    if name == "denoiser":
        return [str(SAMPLES / f"{name}.onnx")]
    weights = ["--weights", str(SAMPLES / f"{name}.safetensors")]
    return [f"{SAMPLES / name}.py:{name}", *weights]


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--rewrite-golden",
        action="store_true",
        help="write tests/golden/ anew from what is printed",
    )
