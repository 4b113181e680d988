"""`shader` as a user meets it: sources, options, files, refusals; and `verify` of what it wrote."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from metal4conv.frontends.toolkit import quiet
from metal4conv.shader.compiler import Compiler
from metal4conv.verify.golden import read_golden
from tests.conftest import SAMPLES, Done, sample

Run = Callable[..., Done]
GOLDEN = Path(__file__).parents[1] / "golden"
MATERIAL = [*sample("neural_material"), "--output", "base_color", "--output", "normal"]
LATENTS = ["--latents", f"latents={SAMPLES / 'neural_material_latents.safetensors'}"]
FILES = (".metal", ".weights", ".shader.json", ".shader.golden.safetensors")

NETS = """
import torch
from torch import nn

def mlp():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 24), nn.SiLU(), nn.Linear(24, 3)), (torch.rand(40, 6),)

def wide():
    return nn.Sequential(nn.Linear(8, 1024), nn.ReLU(), nn.Linear(1024, 3)), (torch.rand(4, 8),)

class Attention(nn.Module):
    def __init__(self):
        super().__init__()
        self.attend = nn.MultiheadAttention(32, 4, batch_first=True)

    def forward(self, x):
        return self.attend(x, x, x)[0]

def attention():
    return Attention().eval(), (torch.rand(1, 16, 32),)

class Recurrent(nn.Module):
    def __init__(self, kind):
        super().__init__()
        self.cells = kind(8, 16, batch_first=True)

    def forward(self, x):
        return self.cells(x)[0]

def lstm():
    return Recurrent(nn.LSTM).eval(), (torch.rand(1, 12, 8),)

def gru():
    return Recurrent(nn.GRU).eval(), (torch.rand(1, 12, 8),)

class Shares(nn.Module):
    def forward(self, x):
        return x / x.sum(1, keepdim=True)

def shares():
    return Shares().eval(), (torch.rand(40, 6),)

def loud():
    layer = nn.Linear(4, 4)
    nn.init.constant_(layer.weight, 1e5)
    return nn.Sequential(layer, nn.ReLU(), nn.Linear(4, 1)), (torch.rand(8, 4),)
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with `nets.py`."""
    (tmp_path / "nets.py").write_text(NETS)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_what_is_shown(folder: Path, metal4conv: Run, request: pytest.FixtureRequest) -> None:
    done = metal4conv("shader", *MATERIAL, *LATENTS, "-o", "out")
    assert (done.code, done.stderr) == (0, "")
    file = GOLDEN / "shader_command.txt"
    if request.config.getoption("--rewrite-golden"):
        file.write_text(done.stdout, "utf-8")
    assert done.stdout == file.read_text("utf-8")


def test_files_and_document(folder: Path, metal4conv: Run) -> None:
    languages = [word for name in ("swift", "objc", "cpp") for word in ("--emit", name)]
    done = metal4conv(
        "shader", *MATERIAL, *LATENTS, *languages, "-o", "out", "--json", "--depfile", "out.d"
    )
    document = json.loads(done.stdout)
    names = {path.name for path in (folder / "out").iterdir()}
    code = (".shader.swift", ".shader.h", ".shader.hpp")
    assert names == {f"neural_material{suffix}" for suffix in (*FILES, ".latents", *code)}
    assert {Path(file).name for file in document["files"]} == names
    manifest = json.loads((folder / "out/neural_material.shader.json").read_text())
    assert document["shader"] == manifest
    assert [row["operation"] for row in document["layers"]] == ["linear_0", "linear_1", "linear_2"]
    dependencies = (folder / "out.d").read_text()
    for name in ("neural_material.py", "neural_material.safetensors", "_latents.safetensors"):
        assert name in dependencies
    for path in (folder / "out").iterdir():
        assert str(folder).encode() not in path.read_bytes()


def test_a_second_run_changes_nothing(folder: Path, metal4conv: Run) -> None:
    metal4conv("shader", "nets.py:mlp", "-o", "out", "-q")
    before = {path: path.stat().st_mtime_ns for path in (folder / "out").iterdir()}
    done = metal4conv("shader", "nets.py:mlp", "-o", "out")
    assert done.stdout.count("(unchanged)") == len(FILES)
    assert {path: path.stat().st_mtime_ns for path in (folder / "out").iterdir()} == before


def test_a_package_of_the_same_name_keeps_its_golden_vectors(
    folder: Path, metal4conv: Run, compiler: Compiler
) -> None:
    assert metal4conv("convert", "nets.py:mlp", "-o", "out", "-q").code == 0
    assert metal4conv("shader", "nets.py:mlp", "-o", "out", "-q").code == 0
    assert metal4conv("verify", "out/mlp.mlpackage", "-q").code == 0
    assert metal4conv("verify", "out/mlp.shader.json", "-q").code == 0


@pytest.mark.parametrize(
    "options",
    [
        ["--precision", "float32", "--tensors", "handle"],
        ["--precision", "int8"],
        ["--precision", "int8", "--system", "26.4"],
        ["--inline-weights"],
        ["--tensors", "handle", *LATENTS, "--filter", "nearest", "--address", "clamp_to_edge"],
    ],
    ids=" ".join,
)
def test_options_agree_with_the_source(
    options: list[str], folder: Path, metal4conv: Run, compiler: Compiler
) -> None:
    assert metal4conv("shader", *MATERIAL, *options, "-o", "out", "-q").code == 0
    done = metal4conv("verify", "out/neural_material.shader.json", "--on", "host")
    assert done.code == 0, done.stderr
    assert "C++ stand-in for Metal, not Apple's compiler" in done.stdout


def write_keras(folder: Path) -> str:
    keras = pytest.importorskip("keras")
    keras.utils.set_random_seed(1)
    layers = [keras.layers.Dense(16, activation="gelu"), keras.layers.Dense(3, activation="tanh")]
    with quiet():
        keras.Sequential([keras.Input((6,), name="position"), *layers]).save(folder / "net.keras")
    return "net.keras"


def write_onnx(folder: Path) -> str:
    torch.manual_seed(0)
    module = nn.Sequential(nn.Conv2d(4, 16, 1), nn.LeakyReLU(), nn.Conv2d(16, 2, 1)).eval()
    with quiet():
        torch.onnx.export(
            module,
            (torch.rand(1, 4, 6, 5),),
            str(folder / "net.onnx"),
            input_names=["picture"],
            output_names=["colors"],
            dynamo=False,
        )
    return "net.onnx"


def write_package(folder: Path) -> str:
    from metal4conv import convert

    convert("nets.py:mlp", output=folder, name="net", precision="float16")
    return "net.mlpackage"


@pytest.mark.parametrize("write", [write_keras, write_onnx, write_package])
def test_sources(
    write: Callable[[Path], str], folder: Path, metal4conv: Run, compiler: Compiler
) -> None:
    done = metal4conv("shader", write(folder), "-o", "out", "-q")
    assert (done.code, done.stdout) == (0, "")
    done = metal4conv("verify", "out/net.shader.json")
    assert done.code == 0, done.stderr


def test_a_package_without_golden_vectors_is_its_own_source(
    folder: Path, metal4conv: Run, compiler: Compiler
) -> None:
    write_package(folder)
    (folder / "net.golden.safetensors").unlink()
    assert metal4conv("shader", "net.mlpackage", "-o", "out", "-q").code == 0
    done = metal4conv("verify", "out/net.shader.json")
    assert done.code == 0
    assert "MIL executor" in done.stdout


def test_a_dynamic_number_of_points(folder: Path, metal4conv: Run, compiler: Compiler) -> None:
    sizes = ["-i", "input:nx6", "--dim", "n=1..500"]
    assert metal4conv("shader", "nets.py:mlp", *sizes, "-o", "out", "-q").code == 0
    done = metal4conv("verify", "out/mlp.shader.json")
    assert done.code == 0
    assert "n=500" in done.stdout


def test_golden_inputs(folder: Path, metal4conv: Run) -> None:
    given = np.linspace(-1, 1, 240, dtype=np.float32).reshape(40, 6)
    np.savez(folder / "given.npz", input=given)
    arguments = ["--golden-inputs", "given.npz", "-o", "out", "-q"]
    assert metal4conv("shader", "nets.py:mlp", *arguments).code == 0
    (case,) = read_golden(folder / "out/mlp.shader.golden.safetensors").cases
    assert np.array_equal(case.inputs["input"], given)


REFUSED = {
    "attention": ("nets.py:attention", ("attention", "metal4conv convert")),
    "lstm": ("nets.py:lstm", ("recurrent layer", "metal4conv convert")),
    "gru": ("nets.py:gru", ("loop", "metal4conv convert")),
    "wide": ("nets.py:wide", ("1024", "at most 256", "4 KB", "metal4conv convert")),
    "loud": ("nets.py:loud", ("65504", "--precision float32")),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refusals_say_why_and_what_to_do(name: str, folder: Path, metal4conv: Run) -> None:
    source, words = REFUSED[name]
    (folder / "out").mkdir()
    done = metal4conv("shader", source, "-o", "out")
    assert done.code == 3
    assert "Traceback" not in done.stderr
    for word in words:
        assert word in done.stderr
    assert not list((folder / "out").iterdir())


def test_a_dynamic_number_of_features_is_refused(folder: Path, metal4conv: Run) -> None:
    sizes = ["-i", "x:40xc", "--dim", "c=2..8"]
    done = metal4conv("shader", "nets.py:shares", *sizes, "-o", "out")
    assert done.code == 3
    assert "c features a point" in done.stderr
    assert "--dim c=" in done.stderr
    assert not (folder / "out").exists()


USAGE = {
    "--filter is for textures": ["nets.py:mlp", "--filter", "nearest"],
    "no Metal 4": ["nets.py:mlp", "--system", "25.0"],
    '"new" is no version': ["nets.py:mlp", "--system", "new"],
    'the network has no input "colour"': [*MATERIAL, "--latents", "colour=x.npy"],
    "only a package has functions": ["nets.py:mlp", "--function", "main"],
    "--dim does not go with a package": ["net.mlpackage", "--dim", "n=3"],
}


@pytest.mark.parametrize("message", USAGE)
def test_usage(message: str, folder: Path, metal4conv: Run) -> None:
    done = metal4conv("shader", *USAGE[message], "-o", "out")
    assert done.code == 2
    assert message in done.stderr
    assert not (folder / "out").exists()


def test_compile_needs_apples_compiler(
    folder: Path, metal4conv: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(folder))
    done = metal4conv("shader", "nets.py:mlp", "--compile", "-o", "out")
    assert done.code == 4
    assert "xcrun" in done.stderr
    assert not (folder / "out").exists()
