"""ONNX files that are damaged, do not hold together, or cannot be converted: what convert says."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from tests.conftest import Done
from tests.frontends.onnx.models import model, node
from tests.test_bad_input import check

WEIGHT = np.ones((4, 4), np.float32)


def chain(*nodes: onnx.NodeProto, **more: object) -> onnx.ModelProto:
    """A model from x (1×4) to y."""
    return model(nodes, {"x": [1, 4]}, ["y"], {"w": WEIGHT}, **more)  # type: ignore[arg-type]


def external(location: str, length: int = 64) -> onnx.ModelProto:
    """A model whose weight lies in another file."""
    made = chain(node("MatMul", ["x", "w"], ["y"]))
    tensor = made.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in (("location", location), ("length", str(length))):
        tensor.external_data.add(key=key, value=value)
    return made


def sequence_input() -> onnx.ModelProto:
    made = chain(node("Relu", ["x"], ["y"]))
    made.graph.input[0].type.CopyFrom(
        helper.make_sequence_type_proto(helper.make_tensor_type_proto(1, [1, 4]))
    )
    return made


def two_sizes() -> onnx.ModelProto:
    """A dimension that the graph needs to be two sizes at once."""
    return model(
        [node("MatMul", ["x", "w"], ["y"]), node("MatMul", ["x", "v"], ["z"])],
        {"x": [1, "n"]},
        ["y", "z"],
        {"w": np.ones((4, 2), np.float32), "v": np.ones((6, 2), np.float32)},
    )


MODELS: dict[str, tuple[Callable[[], onnx.ModelProto], int, tuple[str, ...]]] = {
    "cycle": (
        lambda: chain(node("Add", ["x", "y"], ["z"]), node("Relu", ["z"], ["y"])),
        3,
        ('input "y"', 'node "y" (Relu)', "cycle"),
    ),
    "undefined": (lambda: chain(node("Add", ["x", "ww"], ["y"])), 3, ('"ww"', 'mean "w"', "(Add)")),
    "no_output": (
        lambda: chain(node("Relu", ["x"], ["z"])),
        3,
        ('no node gives the output "y"',),
    ),
    "twice": (
        lambda: chain(node("Relu", ["x"], ["y"]), node("Abs", ["x"], ["y"])),
        3,
        ('"y" is the output of two nodes',),
    ),
    "operator": (
        lambda: chain(node("Rellu", ["x"], ["y"])),
        3,
        ("ONNX operator Rellu is not known here", 'node "y"'),
    ),
    "domain": (
        lambda: chain(node("Fancy", ["x"], ["y"], domain="my.own"), domains={"my.own": 1}),
        3,
        ("ONNX operator my.own.Fancy is not known here",),
    ),
    "both": (
        lambda: chain(
            node("Fancy", ["x"], ["a"], domain="my.own"),
            node("Other", ["x"], ["b"], domain="my.own"),
            node("Add", ["a", "b"], ["y"]),
            domains={"my.own": 1},
        ),
        3,
        ("2 nodes", "my.own.Fancy", "my.own.Other"),
    ),
    "attribute": (
        lambda: chain(node("Relu", ["x"], ["y"], slope=3.0)),
        3,
        ("Relu", "slope"),
    ),
    "types": (
        lambda: model(
            [node("Add", ["x", "i"], ["y"])],
            {"x": [1, 4], "i": ("int64", [1, 4])},
            ["y"],
        ),
        3,
        ('node "y" (Add', "float32", "int64"),
    ),
    "shapes": (
        lambda: model([node("Add", ["x", "z"], ["y"])], {"x": [1, 4], "z": [1, 5]}, ["y"]),
        3,
        ('node "y" (Add',),
    ),
    "sequence": (sequence_input, 3, ('input "x" is sequence',)),
    "text": (
        lambda: model(
            [node("StringNormalizer", ["x"], ["y"])], {"x": ("string", [4])}, {"y": "string"}
        ),
        3,
        ('input "x" is string',),
    ),
    "large": (
        lambda: model(
            [node("Add", ["x", "c"], ["y"])],
            {"x": ("int64", [4])},
            {"y": "int64"},
            {"c": np.array([1 << 40])},
        ),
        3,
        (str(1 << 40), "int64", "(Add"),
    ),
    "missing_data": (lambda: external("weights.bin"), 3, ('"w"', "weights.bin", "missing")),
    "leaves": (lambda: external("../secret.bin"), 3, ('"w"', "../secret.bin", "not in the folder")),
    "absolute": (lambda: external("/etc/hostname"), 3, ('"w"', "/etc/hostname")),
    "short_data": (lambda: external("short.bin"), 3, ('"w"', "64 bytes", "short.bin", "has 8")),
    "two_sizes": (two_sizes, 3, ('dimension "n"', "must be 4", "must be 6", "(MatMul")),
}


@pytest.mark.parametrize("name", MODELS)
def test_convert_says_what_is_wrong(
    name: str, tmp_path: Path, metal4conv: Callable[..., Done]
) -> None:
    make, code, words = MODELS[name]
    (tmp_path / "short.bin").write_bytes(bytes(8))
    (tmp_path.parent / "secret.bin").write_bytes(bytes(64))
    file = tmp_path / "net.onnx"
    onnx.save_model(make(), file)
    out = tmp_path / "out"
    dims = ["--dim", "n=2..8"] if name == "two_sizes" else []
    check(metal4conv("convert", str(file), *dims, "-o", str(out)), code, *words)
    assert not out.exists() or not list(out.iterdir()), "something was written"


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", ("is empty",)),
        (b"this is text, and no model at all", ("damaged",)),
        (chain(node("MatMul", ["x", "w"], ["y"])).SerializeToString()[:-40], ("damaged",)),
    ],
    ids=["empty", "text", "truncated"],
)
def test_damaged_file(
    content: bytes, words: tuple[str, ...], tmp_path: Path, metal4conv: Callable[..., Done]
) -> None:
    file = tmp_path / "net.onnx"
    file.write_bytes(content)
    check(metal4conv("convert", str(file), "-o", str(tmp_path / "out")), 3, *words)


def test_options_that_do_not_fit(tmp_path: Path, metal4conv: Callable[..., Done]) -> None:
    file = tmp_path / "net.onnx"
    onnx.save_model(model([node("Relu", ["x"], ["y"])], {"x": [1, "h"]}, ["y"]), file)
    check(metal4conv("convert", str(file)), 2, "no range", "--dim h=")
    check(metal4conv("convert", str(file), "--weights", "w.npz"), 2, "--weights")
    check(metal4conv("convert", str(file), "--signature", "f"), 2, "--signature")
    check(metal4conv("convert", str(file), "-i", "z:1x4"), 2, 'no input "z"', "x")
    check(metal4conv("convert", str(file), "-i", "x:2xh", "--dim", "h=1..4"), 2, "expected 1x")


def test_inspect_names_what_cannot_be_converted(
    tmp_path: Path, metal4conv: Callable[..., Done]
) -> None:
    file = tmp_path / "net.onnx"
    nodes = [node("Fancy", ["x"], ["a"], domain="my.own"), node("Relu", ["a"], ["y"])]
    onnx.save_model(chain(*nodes, domains={"my.own": 1}), file)
    done = metal4conv("inspect", str(file))
    assert done.code == 0
    assert "my.own.Fancy" in done.stdout + done.stderr
    assert "Relu" in done.stdout


def test_a_tensor_with_too_few_bytes(tmp_path: Path, metal4conv: Callable[..., Done]) -> None:
    made = chain(node("MatMul", ["x", "w"], ["y"]))
    made.graph.initializer[0].raw_data = numpy_helper.from_array(WEIGHT[:2]).raw_data
    onnx.save_model(made, tmp_path / "net.onnx")
    check(metal4conv("convert", str(tmp_path / "net.onnx")), 3, 'tensor "w"')
