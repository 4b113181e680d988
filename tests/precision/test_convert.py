"""`convert --precision`: what is written, read, refused, and printed."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from metal4conv import convert
from metal4conv.mil.package import read_package
from metal4conv.precision.document import count_operations, read_names
from tests.conftest import Done, tree_hash

NETWORK = '''
import torch

class Network(torch.nn.Module):
    """Deviations from a large mean, and a layer."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(1)
        self.layers = torch.nn.ModuleList(torch.nn.Linear(16, 16) for _ in range(4))

    def forward(self, x):
        for layer in self.layers:
            x = torch.tanh(layer(x))
        lifted = x + 1000
        centred = lifted - lifted.mean(dim=-1, keepdim=True)
        for layer in self.layers:
            centred = torch.tanh(layer(centred))
        return centred

def network():
    return Network().eval()

class Ends(torch.nn.Module):
    """A product that only inputs at the end of their range bring beyond float16."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(2)
        self.layers = torch.nn.ModuleList(torch.nn.Linear(64, 64) for _ in range(3))

    def forward(self, x):
        total = (40 * x).sum(dim=-1, keepdim=True)
        square = total * total / 1e4
        for layer in self.layers:
            x = torch.tanh(layer(x))
        return x + torch.tanh(square / 1e3)

def ends():
    return Ends().eval()

def picky():
    class Picky(torch.nn.Module):
        def forward(self, x):
            if not torch.compiler.is_compiling() and bool((x == 2).any()):
                raise ValueError("2 is too much")
            return torch.tanh(x)
    return Picky()

def large():
    class Large(torch.nn.Module):
        def forward(self, x):
            return 1e6 * torch.tanh(x)
    return Large()
'''


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the networks are, and the package that `auto` made."""
    folder = tmp_path_factory.mktemp("precision")
    (folder / "net.py").write_text(NETWORK, "utf-8")
    convert(f"{folder / 'net.py'}:network", inputs=["x:1x4x16"], precision="auto", output=folder)
    return folder


def test_the_file_says_what_and_why(folder: Path) -> None:
    document = json.loads((folder / "network.precision.json").read_text("utf-8"))
    assert document["format"] == "metal4conv.precision/1"
    assert document["tolerance"] == {"min_psnr": 50.0, "atol": None, "rtol": None}
    rows = {row["type"]: row for row in document["operations"]}
    assert set(rows) == {"add", "sub"}
    assert "it cancels numbers up to 1000 to at most" in rows["sub"]["reason"]
    assert "aten.sub.Tensor" in rows["sub"]["source"]
    line = next(n for n, text in enumerate(NETWORK.splitlines(), 1) if "centred = lifted" in text)
    assert rows["sub"]["source"].endswith(f"net.py:{line}")
    counts = count_operations(read_package(folder / "network.mlpackage"))
    figures = document["figures"]
    assert (figures["float16"], figures["float32"]) == (counts.float16, counts.float32) == (17, 2)
    assert figures["casts"] == counts.casts == 4
    # x + 1000 and the difference have 64 elements, each takes 2 bytes more
    assert figures["more_activation_bytes"] == 2 * (64 + 64)
    assert figures["more_weight_bytes"] == 0
    package = folder / "network.mlpackage"
    weights = package.rglob("weight.bin")
    assert figures["weight_bytes"] == sum(file.stat().st_size for file in weights)


def test_names_may_be_written_by_hand(folder: Path, tmp_path: Path) -> None:
    names = read_names(folder / "network.precision.json")
    given = {
        "list": json.dumps([*names, names[0]]),
        "lines": "# by hand\n\n" + "\n".join(f" {name}  # why" for name in names),
    }
    for form, text in given.items():
        (tmp_path / form).write_text(text, "utf-8")
        assert read_names(tmp_path / form) == names


@pytest.mark.parametrize("form", ["as it is", "names of the float16 package"])
def test_the_file_gives_the_same_package(folder: Path, tmp_path: Path, form: str) -> None:
    file = folder / "network.precision.json"
    if form != "as it is":
        names = reversed(read_names(file))
        file = tmp_path / "names"
        file.write_text("\n".join(f"{name}_cast_fp16" for name in names), "utf-8")
    done = convert(
        f"{folder / 'net.py'}:network",
        inputs=["x:1x4x16"],
        precision=f"mixed:{file}",
        output=tmp_path / "out",
        depfile=tmp_path / "out.d",
    )
    assert tree_hash(done.package) == tree_hash(folder / "network.mlpackage")
    golden = folder / "network.golden.safetensors"
    assert done.golden is not None
    assert done.golden.read_bytes() == golden.read_bytes()
    assert str(file) in (tmp_path / "out.d").read_text("utf-8")


def test_again_is_unchanged(folder: Path, metal4conv: Callable[..., Done]) -> None:
    source = f"{folder / 'net.py'}:network"
    options = ["-i", "x:1x4x16", "--precision", "auto", "--json", "-o", folder]
    shown = json.loads(metal4conv("convert", source, *options).stdout)
    assert set(shown["unchanged"]) == set(shown["files"])
    file = folder / "network.precision.json"
    assert shown["precision"]["file"] == str(file)
    document = {key: value for key, value in shown["precision"].items() if key != "file"}
    assert document == json.loads(file.read_text("utf-8"))


def test_what_is_printed(folder: Path, tmp_path: Path, metal4conv: Callable[..., Done]) -> None:
    source = f"{folder / 'net.py'}:network"
    options = ["-i", "x:1x4x16", "--precision", "auto", "--min-psnr", "45", "-o", tmp_path]
    done = metal4conv("convert", source, *options)
    assert done.code == 0, done.stderr
    assert f"{tmp_path}/network.precision.json" in done.stdout
    assert "with 2 of 19 operations in float32 (89.5% in float16), 4 casts" in done.stdout
    assert "more than in float16: 0 B of weights, 256 B of activations" in done.stdout


def test_nothing_is_kept_where_float16_will_do(folder: Path, tmp_path: Path) -> None:
    done = convert(
        f"{folder / 'net.py'}:network",
        inputs=["x:1x4x16"],
        precision="auto",
        min_psnr=5,
        output=tmp_path,
    )
    assert done.mixed is not None
    assert done.mixed["operations"] == []
    counts = count_operations(read_package(done.package))
    assert (counts.float32, counts.casts) == (0, 0)


def test_the_ends_of_a_range_are_tried(folder: Path, tmp_path: Path) -> None:
    """Drawn inputs sum to 40 * 64 * 0.5 at most, about 0; all at 1 to 2560, whose square is 6.5e6.

    tanh hides the infinity, so that only the difference of the numbers shows.
    """
    source = f"{folder / 'net.py'}:ends"
    whole = convert(
        source, inputs=["x:1x64:float16:-1..1"], precision="auto", output=tmp_path / "a"
    )
    assert whole.mixed is not None
    assert {row["type"] for row in whole.mixed["operations"]} >= {"mul"}
    assert any("beyond float16" in row["reason"] for row in whole.mixed["operations"])
    small = convert(
        source, inputs=["x:1x64:float16:-0.01..0.01"], precision="auto", output=tmp_path / "b"
    )
    assert small.mixed is not None
    assert not any("beyond" in row["reason"] for row in small.mixed["operations"])


def test_a_source_that_fails_at_the_ends(folder: Path, tmp_path: Path) -> None:
    source = f"{folder / 'net.py'}:picky"
    done = convert(source, inputs=["x:1x64:float16:1..2"], precision="auto", output=tmp_path)
    (warning,) = [item for item in done.findings if item.code == "precision-extreme"]
    assert warning.message.endswith("with its own sizes: 2 is too much")


REFUSED = {
    "unknown precision": (
        ["--precision", "bf16"],
        2,
        'there is no precision "bf16"',
        "one of: float16, float32, auto, mixed:FILE",
    ),
    "no file name": (["--precision", "mixed:"], 2, 'there is no precision "mixed:"', "mixed:FILE"),
    "no file": (["--precision", "mixed:none.json"], 2, "no such file: none.json", "--precision"),
    "a tolerance for nothing": (
        ["--precision", "float32", "--min-psnr", "50"],
        2,
        "--min-psnr means nothing with --precision float32",
        "--precision auto looks for what holds a tolerance",
    ),
    "a tolerance below 0": (["--precision", "auto", "--rtol", "-1"], 2, "--rtol -1", "at least 0"),
    "out of reach": (
        ["--precision", "auto", "--min-psnr", "100"],
        3,
        "with all operations in float32 the package reaches PSNR",
        "the outputs themselves are float16 (output): try --io-precision float32",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused(name: str, folder: Path, tmp_path: Path, metal4conv: Callable[..., Done]) -> None:
    options, code, message, hint = REFUSED[name]
    source = f"{folder / 'net.py'}:network"
    done = metal4conv("convert", source, "-i", "x:1x4x16", *options, "-o", tmp_path / "out")
    assert done.code == code
    assert message in done.stderr
    assert hint in done.stderr
    assert not (tmp_path / "out").exists()


def test_outputs_that_float16_cannot_hold(
    folder: Path, tmp_path: Path, metal4conv: Callable[..., Done]
) -> None:
    source = f"{folder / 'net.py'}:large"
    options = ["-i", "x:1x4", "--precision", "auto", "-o", tmp_path]
    done = metal4conv("convert", source, *options)
    assert done.code == 3
    assert 'NaN or infinities in "output"' in done.stderr
    assert "--io-precision float32" in done.stderr
    done = metal4conv("convert", source, *options, "--io-precision", "float32")
    assert done.code == 0
    assert "beyond float16" in done.stdout


BROKEN = {
    "misspelt": ("centerd\nsub\n", 2, 'no operation "centerd" to keep in float32', "known: "),
    "other format": ('{"format": "x/1"}', 3, 'its format is "x/1"', "metal4conv.precision/1"),
    "no operations": ('{"format": "metal4conv.precision/1"}', 3, "no entry 'operations'", "list"),
    "no name": ("[1]", 3, "no name of an operation", "--precision"),
    "no JSON": ("{", 3, "names no operations", "expected a file of format"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_files_that_do_not_fit(
    name: str, folder: Path, tmp_path: Path, metal4conv: Callable[..., Done]
) -> None:
    text, code, message, hint = BROKEN[name]
    file = tmp_path / "mixed.txt"
    file.write_text(text, "utf-8")
    source = f"{folder / 'net.py'}:network"
    options = ["-i", "x:1x4x16", "--precision", f"mixed:{file}", "-o", tmp_path / "out"]
    done = metal4conv("convert", source, *options)
    assert done.code == code
    assert message in done.stderr
    assert hint in done.stderr
