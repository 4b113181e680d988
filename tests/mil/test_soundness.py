"""Programs that do not hold together: the message says what, in which function and operation."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import metal4conv
from metal4conv.errors import DamagedFile, Metal4ConvError, UnsupportedModel
from metal4conv.inspection import inspect_package
from metal4conv.mil.package import read_package
from tests.layout.packages import PackageBuilder, set_type
from tests.mil.unsound import (
    HUGE,
    MODEL,
    WEIGHTS,
    change_type,
    hold_integers,
    hold_strings,
    later,
    literal_of,
    make_link_to,
    nest_blocks,
    nested,
    operation,
    rename_argument,
    replace_file_name,
    retype,
    small,
    weighted,
)

CASES: dict[str, tuple[Callable[[PackageBuilder], object], tuple[str, ...]]] = {
    "missing value": (
        lambda b: rename_argument(b, "a", "nobody"),
        ('input "x" of operation a (relu)', '"nobody"', "no operation gives", "function main"),
    ),
    "cycle": (later, ('reads the value "y"', "only y (add) after it")),
    "own output": (lambda b: rename_argument(b, "a", "a"), ("a (relu)", "its own output")),
    "name twice": (
        lambda b: b.operation("relu", "a", "float32", (4,), {"x": ["x"]}),
        ('two values have the name "a"', "function main"),
    ),
    "input named twice": (
        lambda b: set_type(b.function.inputs.add(name="x").type, "float32", (4,)),
        ('two values have the name "x"',),
    ),
    "missing output": (
        lambda b: b.block.outputs.append("z"),
        ('no operation gives the block\'s output "z"', "function main"),
    ),
    "bound to nothing": (
        lambda b: operation(b, "a").inputs["x"].ClearField("arguments"),
        ('input "x" of operation a (relu) is bound to nothing',),
    ),
    "missing value in a block": (
        lambda b: (nested(b, 2), later(b)),
        ("a (relu)", '"y"'),
    ),
    "size that is negative if cut to 64 bits": (
        lambda b: retype(b, "a", "float32", (2**64 - 4,)),
        ('value "a" is larger than memory can be',),
    ),
    "more bytes than there are": (
        lambda b: retype(b, "a", "float32", (2**62, 2**62)),
        ('value "a"', "larger than memory"),
    ),
    "rank": (
        lambda b: retype(b, "a", "float32", (1,) * 500),
        ('value "a" has 500', "dimensions"),
    ),
    "another rank": (
        lambda b: setattr(operation(b, "a").outputs[0].type.tensorType, "rank", 7),
        ('value "a" declares rank 7, but has 1 sizes',),
    ),
    "unknown dtype": (
        lambda b: setattr(operation(b, "a").outputs[0].type.tensorType, "dataType", 77),
        ('value "a" has element type 77',),
    ),
    "no type": (
        lambda b: operation(b, "a").outputs[0].ClearField("type"),
        ('value "a" has no type',),
    ),
    "constant without value": (
        lambda b: operation(b, "one").attributes["val"].ClearField("immediateValue"),
        ('constant "one" has no value',),
    ),
    "constant without anything": (
        lambda b: operation(b, "one").ClearField("attributes"),
        ("one (const) has no tensor as its value",),
    ),
    "constant of unknown size": (
        lambda b: change_type(b, "float32", ("?",)),
        ('constant "one" has a size that is not a number',),
    ),
    "huge constant": (
        lambda b: (change_type(b, "float32", (HUGE,)), literal_of(b).ClearField("immediateValue")),
        ('constant "one" has no value', str(HUGE)),
    ),
    "huge constant of few values": (
        lambda b: (
            change_type(b, "float32", (HUGE,)),
            literal_of(b).immediateValue.tensor.floats.values.append(2.0),
        ),
        ('constant "one"', f"needs {HUGE} values, found 2"),
    ),
    "another type than its value": (
        lambda b: retype(b, "one", "float32", (3,)),
        ("one (const) declares float32[3], its value is float32[]",),
    ),
    "integers in a float": (hold_integers, ('"one" is declared float32[]', "holds ints")),
    "text in a float": (hold_strings, ('"one" is declared float32[]', "holds strings")),
    "opset": (
        lambda b: (
            setattr(b.function, "opset", "Core"),
            b.function.block_specializations["Core"].CopyFrom(b.block),
        ),
        ('function "main" is written for "Core"',),
    ),
    "undeclared input": (
        lambda b: set_type(b.function.inputs.add(name="z").type, "float32", (4,)),
        ('function "main" has an input "z" that the package does not declare',),
    ),
    "declared input too many": (
        lambda b: setattr(
            b.spec.description.input.add(name="z").type.multiArrayType, "dataType", 65568
        ),
        ('the package declares input "z"',),
    ),
    "declared output too many": (
        lambda b: setattr(
            b.spec.description.output.add(name="z").type.multiArrayType, "dataType", 65568
        ),
        ('the package declares output "z"',),
    ),
    "another shape than declared": (
        lambda b: b.spec.description.input[0].type.multiArrayType.shape.append(3),
        ('input "x" is declared as float32[4, 3], but function "main" takes float32[4]',),
    ),
}
"""What is done to a sound program, and what the message says."""


@pytest.mark.parametrize("name", CASES)
def test_unsound_program(name: str, tmp_path: Path) -> None:
    change, words = CASES[name]
    build = small()
    change(build)
    path = tmp_path / "net.mlpackage"
    build.write(path)
    for use in (inspect_package, metal4conv.layout, metal4conv.load):
        with pytest.raises((DamagedFile, UnsupportedModel)) as caught:
            use(str(path))
        for word in words:
            assert word in str(caught.value)
        assert len(str(caught.value)) < 1000


def test_sound_program(tmp_path: Path) -> None:
    build = small()
    nested(build, 20)
    build.block.outputs[0] = "c0"
    build.spec.description.output[0].name = "c0"
    found = metal4conv.load(build.write(tmp_path / "net.mlpackage").path).predict(
        {"x": np.array([-1, 0, 1, 2], np.float32)}
    )
    np.testing.assert_array_equal(found["c0"], np.array([0, 0, 1, 2], np.float32))


def test_blocks_nested_ten_thousand_deep(tmp_path: Path) -> None:
    path = small().write(tmp_path / "net.mlpackage").path
    nest_blocks(path, 10_000)
    with pytest.raises(DamagedFile, match=r"model\.mlmodel is damaged.*nested deeper"):
        read_package(path)


@pytest.mark.parametrize(
    "name",
    [
        "@model_path/weights/../../../../../../../../etc/passwd",
        "/etc/passwd",
        "@model_path//etc/passwd",
        "@model_path/weights",
        "@model_path/weights/\0",
        "@model_path/" + "w" * 5000,
        "",
    ],
)
def test_weights_elsewhere(name: str, tmp_path: Path) -> None:
    path = weighted(tmp_path)
    np.testing.assert_array_equal(
        metal4conv.load(path).predict({"x": np.zeros(4, np.float16)})["y"], [0, 1, 2, 3]
    )
    replace_file_name(path, name)
    with pytest.raises(DamagedFile):
        metal4conv.load(path)


def make_pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def make_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


REPLACEMENTS = {
    "a pipe": make_pipe,
    "a folder": make_folder,
    "a device": make_link_to("/dev/zero"),
    "a file elsewhere": make_link_to("/etc/passwd"),
    "a link to itself": lambda path: make_link_to(path.name)(path),
}


@pytest.mark.parametrize("replacement", REPLACEMENTS)
@pytest.mark.parametrize(
    "file",
    [
        "Manifest.json",
        MODEL,
        WEIGHTS,
    ],
)
def test_file_that_is_something_else(file: str, replacement: str, tmp_path: Path) -> None:
    path = weighted(tmp_path)
    REPLACEMENTS[replacement](path / file)
    uses: list[Callable[[str], object]] = [metal4conv.load, inspect_package]
    for use in uses:
        with pytest.raises(Metal4ConvError, match=Path(file).name):
            use(str(path))


@pytest.mark.parametrize("file", ["Manifest.json", MODEL])
def test_file_of_a_terabyte(file: str, tmp_path: Path) -> None:
    path = weighted(tmp_path)
    with (path / file).open("r+b") as stream:
        stream.truncate(HUGE)  # takes no space on disk
    with pytest.raises(DamagedFile, match=r"1,099,511,627,776 bytes, at most"):
        read_package(path)
