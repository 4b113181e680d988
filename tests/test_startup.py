"""What each command loads: heavy modules only where they are needed."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from metal4conv.frontends.toolkit import quiet
from metal4conv.shader.compiler import Compiler
from tests.conftest import sample

FRAMEWORKS = {"torch", "tensorflow", "keras", "coremltools", "onnx", "onnxruntime"}
REPORT = """
import atexit, sys
atexit.register(lambda: print("loaded", *{name.partition(".")[0] for name in sys.modules}))
from metal4conv.cli import main
main()
"""


def loaded(*arguments: object) -> set[str]:
    """The top-level modules that a command line has loaded when it ends."""
    command = [sys.executable, "-c", REPORT, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    mark, *names = done.stdout.splitlines()[-1].split()
    assert mark == "loaded"
    return set(names)


@pytest.fixture(scope="module")
def converted(tmp_path_factory: pytest.TempPathFactory) -> tuple[set[str], Path]:
    """What converting a `.pt2` file loaded, and the folder of the package `net`."""
    folder = tmp_path_factory.mktemp("startup")
    module = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.ReLU())
    with quiet():
        program = torch.export.export(module, (torch.rand(1, 3, 8, 8),))
        torch.export.save(program, folder / "net.pt2")
    return loaded("convert", folder / "net.pt2", "-o", folder, "-q"), folder


def test_help_loads_nothing_heavy() -> None:
    names = loaded("--help")
    assert not names & {*FRAMEWORKS, "numpy", "rich", "google", "safetensors", "jsonschema"}


def test_pytorch_is_converted_without_tensorflow(converted: tuple[set[str], Path]) -> None:
    assert converted[0] & FRAMEWORKS == {"torch", "coremltools"}


def test_onnx_is_converted_without_tensorflow(tmp_path: Path) -> None:
    """torch is there for the executor, which finds the formulas of the layout."""
    import onnx

    from tests.frontends.onnx.models import model, node

    made = model([node("Relu", ["x"], ["y"])], {"x": [1, "h"]}, ["y"])
    onnx.save_model(made, tmp_path / "net.onnx")
    names = loaded("convert", tmp_path / "net.onnx", "--dim", "h=2..8", "-o", tmp_path, "-q")
    assert names & FRAMEWORKS == {"torch", "coremltools", "onnx", "onnxruntime"}


@pytest.mark.parametrize("command", ["inspect", "layout"])
def test_packages_are_read_without_frameworks(
    command: str, converted: tuple[set[str], Path]
) -> None:
    names = loaded(command, converted[1] / "net.mlpackage", "--json")
    assert not names & {*FRAMEWORKS, "jsonschema", "sympy"}


def test_golden_vectors_verify_with_torch_alone(converted: tuple[set[str], Path]) -> None:
    names = loaded("verify", converted[1] / "net.mlpackage", "-q")
    assert names & FRAMEWORKS == {"torch"}


def test_package_can_be_used_from_anywhere(converted: tuple[set[str], Path]) -> None:
    """The package and its companions verify after they were moved."""
    moved = converted[1] / "moved"
    moved.mkdir()
    for path in converted[1].glob("net.*"):
        if path.is_dir():
            shutil.copytree(path, moved / path.name)
        elif path.suffix != ".pt2":
            shutil.copy(path, moved)
    loaded("verify", moved / "net.mlpackage", "-q")


def test_running_takes_torch_alone(converted: tuple[set[str], Path]) -> None:
    names = loaded("run", converted[1] / "net.mlpackage", "--random", "-q")
    assert names & FRAMEWORKS == {"torch"}


WITHOUT_TORCH = """
import sys
sys.modules["torch"] = None
from pathlib import Path
from metal4conv.device.protocol import Failure, Outcome
from metal4conv.verify import device
from metal4conv.verify.device import DeviceOptions
from metal4conv.verify.verification import verify
device.require_metal = lambda: None
device.read_metal_package = lambda path: path
device.check_against = lambda manifest, package: ()
device.supervise = lambda request, inputs, strict: Outcome((), Failure("timeout", "too slow"))
package = Path(sys.argv[1])
import metal4conv.device.child, metal4conv.device.metal, metal4conv.verify.host
print(verify(package, on="metal", device=DeviceOptions(metal_package=package)).data["verdict"])
"""
"""A Mac that runs Metal packages; Metal itself, and what reads its packages, are replaced."""


def test_a_device_is_asked_without_torch(converted: tuple[set[str], Path]) -> None:
    command = [sys.executable, "-c", WITHOUT_TORCH, str(converted[1] / "net.mlpackage")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "failed\n"), done.stderr


def test_results_show_where_only_ascii_can_be_printed(converted: tuple[set[str], Path]) -> None:
    _, folder = converted
    done = subprocess.run(
        [sys.executable, "-m", "metal4conv", "run", str(folder / "net.mlpackage"), "--random"],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONIOENCODING": "ascii"},
    )
    assert done.returncode == 0, done.stderr
    assert " ? " in done.stdout


def test_shaders_verify_and_are_laid_out_without_frameworks(
    compiler: Compiler, tmp_path: Path
) -> None:
    loaded("shader", *sample("neural_material"), "-o", tmp_path, "-q")
    manifest = tmp_path / "neural_material.shader.json"
    assert not loaded("verify", manifest, "--on", "host", "-q") & FRAMEWORKS
    assert not loaded("layout", manifest, "-q") & FRAMEWORKS
