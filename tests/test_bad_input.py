"""What users get wrong: exit code, one clear message, no traceback, earlier outputs untouched."""

from __future__ import annotations

import os
import pickle
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from metal4conv.frontends.toolkit import quiet
from tests.conftest import Done, tree_hash

NETS = """
import torch

class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = torch.nn.Conv2d(3, 4, 3, padding=1)

    def forward(self, color):
        return torch.relu(self.conv(color))

class Flat(Net):
    def forward(self, color):
        return self.conv(color).reshape(1, 4 * 16 * 16)

class Spectrum(Net):
    def forward(self, color):
        lines = torch.special.bessel_j0(self.conv(color))
        return torch.linalg.cholesky(lines[0, 0] @ lines[0, 0].T + torch.eye(16))

def net():
    torch.manual_seed(0)
    return Net(), (torch.rand(1, 3, 16, 16),)

def flat():
    return Flat(), (torch.rand(1, 3, 16, 16),)

def spectrum():
    return Spectrum(), (torch.rand(1, 3, 16, 16),)

def bare():
    return Net()

def nothing():
    return 3

def broken():
    raise RuntimeError("out of cheese")
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Good files of every kind that takes little time to make, and the outputs of a conversion."""
    from metal4conv.cli import run

    made = tmp_path_factory.mktemp("inputs")
    (made / "nets.py").write_text(NETS)
    (made / "syntax.py").write_text("def net(:\n")
    (made / "imports.py").write_text("import no_such_module\n")
    space: dict[str, Callable[[], tuple[torch.nn.Module, tuple[torch.Tensor, ...]]]] = {}
    exec(NETS, space)
    module, example = space["net"]()
    module.eval()
    with quiet():
        torch.export.save(torch.export.export(module, example), made / "net.pt2")
        torch.jit.trace(module, example).save(made / "net.pt")
    torch.save(module.state_dict(), made / "state.pt")
    torch.save({"other": torch.zeros(2)}, made / "other.pt")
    (made / "list.pt").write_bytes(pickle.dumps([1, 2, 3]))
    np.savez(made / "small.npz", color=np.zeros((1, 3, 8, 8), np.float32))
    np.save(made / "small.npy", np.zeros((1, 3, 8, 8), np.float32))
    for name in ("text.npy", "text.npz", "text.png", "text.safetensors"):
        (made / name).write_text("this is text, and no tensor at all")
    np.savez(made / "wrong.npz", picture=np.zeros((1, 3, 16, 16), np.float32))
    assert run(["convert", str(made / "net.pt2"), "-o", str(made / "out"), "-q"]) == 0
    other = ["convert", f"{made / 'nets.py'}:net", "--name", "other", "--precision", "float32"]
    assert run([*other, "-o", str(made / "out"), "-q"]) == 0
    return made


def check(done: Done, code: int, *words: str) -> None:
    """The exit code, and a single error that has all words."""
    assert done.code == code, done.stderr
    assert "Traceback" not in done.stderr
    errors = [line for line in done.stderr.splitlines() if line.lower().startswith("error:")]
    assert len(errors) == 1, done.stderr
    assert done.stdout == ""
    for word in words:
        assert word in done.stderr


COMMAND_LINES: list[tuple[str, int, tuple[str, ...]]] = [
    ("convert none.pt2", 2, ("no such file", "none.pt2")),
    ("convert none.py:net", 2, ("none.py",)),
    ("convert nets.py", 2, ("which function", "nets.py:factory")),
    ("convert nets.py:net --output state", 2, ('output "state"', "word of MIL")),
    ("convert nets.py:nat", 2, ('no function "nat"', 'did you mean "net"')),
    ("convert no_such_package.module:net", 2, ("no_such_package",)),
    ("convert syntax.py:net", 3, ("SyntaxError", "syntax.py:1")),
    ("convert imports.py:net", 2, ("no_such_module", "imports.py:1")),
    ("convert nets.py:broken", 3, ("out of cheese", "nets.py")),
    ("convert nets.py:nothing", 2, ("returned int",)),
    ("convert nets.py:bare", 2, ('shape of input "color"', "-i color:")),
    ("convert nets.py:net --weights other.pt", 2, ("does not fit", "conv.weight", "other")),
    ("convert nets.py:net --weights none.pt", 2, ("no such file", "none.pt")),
    ("convert nets.py:net --weights list.pt", 3, ("list.pt",)),
    ("convert state.pt", 3, ("state dict", "--weights")),
    ("convert list.pt", 3, ("pickle", "runs code")),
    ("convert net.pt", 2, ("shape", "color")),
    ("convert net.pt -i color:1x3x16", 2, ("color",)),
    ("convert net.pt2 -i colour:1x3x16x16", 2, ('no input "colour"', 'did you mean "color"')),
    ("convert net.pt2 -i color:1x3x16", 2, ("1x3x16x16", "1x3x16")),
    ("convert net.pt2 -i color:1x3x16x16:int32", 2, ("int32", "float32")),
    ("convert net.pt2 -i color:1x3x16x16:float", 2, ('dtype "float"',)),
    ("convert net.pt2 -i color:1x3xhx16 --dim h=8..64", 2, ("only 16", "8..64")),
    ("convert nets.py:net -i color:1x3xhx16", 2, ('"h" of input "color" has no range', "--dim h=")),
    ("convert nets.py:net -i color:1x3xhx16 --dim h=64..8", 2, ("minimum 64", "maximum 8")),
    ("convert nets.py:net -i color:1x3xhx16 --dim h=8..64@90", 2, ("default 90", "8..64")),
    ("convert nets.py:net -i color:1x3xhx16 --dim h=8..64/5", 2, ("no multiple", "5")),
    ("convert nets.py:net -i color:1x3xhx16 --dim h=8..64 --dim h=9", 2, ("twice",)),
    ("convert nets.py:net --dim q=8..64", 2, ('"q"',)),
    ("convert nets.py:flat -i color:1x3xhxw --dim h=8..64@16 --dim w=16", 3, ("vary", '"h"')),
    ("convert nets.py:flat -i color:1x3xhx16 --dim h=8..64", 3, ("with h=8", "nets.py:14")),
    ("convert nets.py:spectrum", 3, ("bessel_j0", "cholesky", "nets.py:18", "nets.py:19")),
    ("convert net.pt2 --target iOS12", 2, ("iOS12", "iOS18")),
    ("convert net.pt2 --precision float8", 2, ("float8",)),
    ("convert net.pt2 --output a --output b", 2, ("1 outputs", "2 names")),
    ("convert net.pt2 --output color", 2, ("color",)),
    ("convert net.pt2 --name a/b", 2, ("a/b",)),
    ("convert net.pt2 --golden-inputs none.npz", 2, ("none.npz",)),
    ("convert net.pt2 --golden-inputs wrong.npz", 2, ("picture", "color")),
    ("convert out/net.mlpackage", 2, ("net.mlpackage",)),
    ("convert out", 2, ("folder",)),
    ("inspect none.mlpackage", 2, ("none.mlpackage",)),
    ("layout none.mlpackage", 2, ("none.mlpackage",)),
    ("layout out/net.mlpackage --dim h=8", 2, ('no dynamic dimension "h"',)),
    ("layout out/net.mlpackage --dim h", 2, ("--dim",)),
    ("layout out/net.mlpackage --function other", 2, ('no function "other"', "main")),
    ("run none.mlpackage", 2, ("none.mlpackage",)),
    ("run out/net.mlpackage", 2, ('input "color" is missing', "16", "--random")),
    ("run out/net.mlpackage -i none.npz", 2, ("no such file", "none.npz")),
    ("run out/net.mlpackage -i list.npy", 2, ("no such file", "list.npy", ".npz")),
    ("run out/net.mlpackage -i nets.py", 2, ("no named arrays", ".safetensors")),
    ("run out/net.mlpackage -i wrong.npz", 2, ('"color" is missing',)),
    ("run out/net.mlpackage --random -i wrong.npz", 2, ('no input "picture"', "color")),
    ("run out/net.mlpackage -i colour=none.npy", 2, ('no input "colour"', 'mean "color"')),
    ("run out/net.mlpackage -i color=none.npy", 2, ("no such file", "none.npy")),
    ("run out/net.mlpackage -i color=list.pt", 2, ("list.pt", "no .npy file")),
    ("run out/net.mlpackage -i color=text.npy", 3, ("text.npy", "no readable .npy")),
    ("run out/net.mlpackage -i color=text.png", 3, ("text.png", "no readable picture")),
    ("run out/net.mlpackage -i text.npz", 3, ("text.npz", "no readable .npz")),
    ("run out/net.mlpackage -i text.safetensors", 3, ("text.safetensors", "no readable")),
    ("run out/net.mlpackage -i small.npz", 2, ("color", "dimension 2", "size 8", "expected 16")),
    ("run out/net.mlpackage -i small.npz -i color=small.npy", 2, ('"color" is given twice',)),
    ("run out/net.mlpackage -i out/net.golden.safetensors --case 9", 2, ("no case 9", "0 to")),
    ("run out/net.mlpackage --random --dim h=8", 2, ('no dynamic dimension "h"',)),
    ("run out/net.mlpackage --dim h=8", 2, ("--dim", "--random")),
    ("run out/net.mlpackage --random -o y.txt", 2, ("y.txt", ".npz")),
    ("run out/net.mlpackage --random --state small.npz", 2, ("has no states",)),
    ("run out/net.mlpackage --random --trace out", 2, ("out", "no trace", "left as it is")),
    ("run out/net.mlpackage --random --function other", 2, ('no function "other"', "main")),
    ("run out/net.mlpackage --random --device gpu", 4, ('no device "gpu"', "cpu")),
    ("verify out/net.mlpackage --golden none.safetensors", 2, ("none.safetensors",)),
    ("verify out/net.mlpackage --golden out/other.golden.safetensors", 2, ("other", "net")),
    ("verify out/net.mlpackage --against none.pt2", 2, ("none.pt2",)),
    ("reshape out/net.mlpackage --dim h=8", 2, ('"h"',)),
    ("reshape out/net.mlpackage -i color:1x3xhx16", 2, ('"h" has no range',)),
    ("covert net.pt2", 2, ('did you mean "convert"',)),
]


@pytest.mark.parametrize(
    ("line", "code", "words"), COMMAND_LINES, ids=[r[0] for r in COMMAND_LINES]
)
def test_command_line(
    line: str,
    code: int,
    words: tuple[str, ...],
    folder: Path,
    metal4conv: Callable[..., Done],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(folder)
    before = tree_hash(folder / "out")
    arguments = line.split()
    if arguments[0] in ("convert", "reshape"):
        arguments += ["-o", "out"]
    check(metal4conv(*arguments), code, *words)
    assert tree_hash(folder / "out") == before
    assert not list((folder / "out").glob(".metal4conv-*"))


@pytest.mark.parametrize("damage", ["empty", "truncated", "nearly whole", "random"])
@pytest.mark.parametrize("name", ["net.pt2", "net.pt", "state.pt", "wrong.npz"])
def test_damaged_file(
    name: str, damage: str, folder: Path, tmp_path: Path, metal4conv: Callable[..., Done]
) -> None:
    path = tmp_path / name
    path.write_bytes(damaged((folder / name).read_bytes(), damage))
    shape = ["-i", "color:1x3x16x16"]
    arguments: list[object] = ["convert", path, *shape]
    if name == "state.pt":
        arguments = ["convert", f"{folder / 'nets.py'}:net", "--weights", path]
    if name == "wrong.npz":
        arguments = ["convert", folder / "net.pt2", "--golden-inputs", path]
    done = metal4conv(*arguments, "-o", tmp_path / "out")
    check(done, 3, name)
    assert not (tmp_path / "out").exists()


def damaged(content: bytes, how: str) -> bytes:
    """A file's content after an accident."""
    match how:
        case "empty":
            return b""
        case "truncated":
            return content[: len(content) // 2]
        case "nearly whole":
            return content[:-8]
    return np.random.default_rng(0).bytes(len(content))


@pytest.mark.parametrize("command", ["inspect", "layout", "verify", "reshape"])
@pytest.mark.parametrize(
    ("file", "damage"),
    [
        ("Manifest.json", "empty"),
        ("Manifest.json", "truncated"),
        ("Manifest.json", "random"),
        ("Manifest.json", "missing"),
        ("Data/com.apple.CoreML/model.mlmodel", "empty"),
        ("Data/com.apple.CoreML/model.mlmodel", "truncated"),
        ("Data/com.apple.CoreML/model.mlmodel", "random"),
        ("Data/com.apple.CoreML/model.mlmodel", "missing"),
    ],
)
def test_damaged_package(
    command: str,
    file: str,
    damage: str,
    folder: Path,
    tmp_path: Path,
    metal4conv: Callable[..., Done],
) -> None:
    package = tmp_path / "net.mlpackage"
    shutil.copytree(folder / "out" / "net.mlpackage", package)
    spoil(package / file, damage)
    extra = ["-i", "color:1x3x8x8", "-o", tmp_path / "new"] if command == "reshape" else []
    check(metal4conv(command, package, *extra), 3, Path(file).name)
    assert not (tmp_path / "new").exists()


def spoil(path: Path, damage: str) -> None:
    """Damages a file in place, or deletes it."""
    if damage == "missing":
        path.unlink()
    else:
        path.write_bytes(damaged(path.read_bytes(), damage))


@pytest.mark.parametrize("damage", ["empty", "truncated", "nearly whole", "random", "missing"])
def test_damaged_weights(
    damage: str, folder: Path, tmp_path: Path, metal4conv: Callable[..., Done]
) -> None:
    shutil.copytree(folder / "out", tmp_path / "out")
    package = tmp_path / "out" / "other.mlpackage"
    spoil(package / "Data/com.apple.CoreML/weights/weight.bin", damage)
    check(metal4conv("verify", package), 3, "weight.bin")
    reshaped = ["-i", "color:1x3x8x8", "-o", tmp_path / "new"]
    check(metal4conv("reshape", package, *reshaped), 3, "weight.bin")
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("damage", ["empty", "truncated", "random"])
def test_damaged_golden_vectors(
    damage: str, folder: Path, tmp_path: Path, metal4conv: Callable[..., Done]
) -> None:
    golden = tmp_path / "net.golden.safetensors"
    golden.write_bytes(damaged((folder / "out" / golden.name).read_bytes(), damage))
    done = metal4conv("verify", folder / "out" / "net.mlpackage", "--golden", golden)
    check(done, 3, golden.name)


def test_output_folder_is_a_file(
    folder: Path, tmp_path: Path, metal4conv: Callable[..., Done]
) -> None:
    (tmp_path / "out").write_text("mine")
    check(metal4conv("convert", folder / "net.pt2", "-o", tmp_path / "out"), 4, "out")
    assert (tmp_path / "out").read_text() == "mine"


def test_full_disk(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder / "out", tmp_path / "out")
    before = tree_hash(tmp_path / "out")
    code = (
        "import resource, signal, sys\n"
        "from metal4conv.cli import run\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000))\n"
        f"sys.exit(run(['convert', {str(folder / 'net.pt2')!r}, '-o', {str(tmp_path / 'out')!r}]))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    check(Done(done.returncode, done.stdout, done.stderr), 4, "cannot write")
    assert tree_hash(tmp_path / "out") == before


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted(number: signal.Signals, folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder / "out", tmp_path / "out")
    before = tree_hash(tmp_path / "out")
    source = f"{folder / 'nets.py'}:net"
    command = [sys.executable, "-m", "metal4conv", "convert", source, "--name", "net", "-v"]
    child = subprocess.Popen(
        [*command, "-o", str(tmp_path / "out")],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )
    assert child.stderr is not None
    for line in child.stderr:
        if line.startswith("converting"):
            break
    time.sleep(0.3)
    child.send_signal(number)
    _, errors = child.communicate(timeout=60)
    assert child.returncode == (130 if number == signal.SIGINT else 143), errors
    assert "Traceback" not in errors
    assert tree_hash(tmp_path / "out") == before
    assert not list((tmp_path / "out").glob(".*"))
