"""Hostile packages given to the commands: exit code, one message that says where, no crash.

Each command runs in a process of its own that cannot allocate much. `tests/mil/test_soundness.py`
has more packages, for the library.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from tests.conftest import Done
from tests.layout.packages import PackageBuilder, set_type
from tests.mil.unsound import (
    MODEL,
    WEIGHTS,
    change_type,
    make_link_to,
    nest_blocks,
    nested,
    rename_argument,
    retype,
    small,
    weighted,
)

COMMANDS = ("inspect", "layout", "verify", "run", "reshape")
READING_WEIGHTS = ("verify", "run", "reshape")
EXABYTES = 2**60


@pytest.fixture(scope="module")
def limited() -> Iterator[Callable[..., Done]]:
    """Runs a command in a process with limits."""
    with subprocess.Popen(
        [sys.executable, "-m", "tests.fuzz.commands"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[1],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None

        def run(*arguments: object) -> Done:
            print(json.dumps([str(item) for item in arguments]), file=process.stdin, flush=True)
            return Done(**json.loads(process.stdout.readline()))

        yield run
        process.stdin.close()


def command_line(command: str, package: Path) -> list[object]:
    """A command with what it needs to get as far as it can."""
    match command:
        case "verify":
            inputs = package.with_name("inputs.npz")
            np.savez(inputs, x=np.ones(4, np.float32))
            return [command, package, "--input-npz", inputs]
        case "run":
            return [command, package, "--random"]
        case "reshape":
            return [command, package, "-i", "x:4", "-o", package.with_name("out")]
    return [command, package]


@dataclass(frozen=True)
class Hostile:
    """Who refuses a package, and the words of the message; the other commands succeed."""

    make: Callable[[Path], object]
    words: tuple[str, ...]
    refused_by: tuple[str, ...] = COMMANDS


def changed(change: Callable[[PackageBuilder], object]) -> Callable[[Path], object]:
    """What writes the small package with a change."""

    def make(path: Path) -> None:
        build = small()
        change(build)
        build.write(path)

    return make


def rewritten(file: str, change: Callable[[bytes], bytes]) -> Callable[[Path], object]:
    """What writes the package with weights, and one of its files changed."""

    def make(path: Path) -> None:
        weighted(path.parent)
        content = (path / file).read_bytes()
        (path / file).write_bytes(change(content))

    return make


def linked(file: str, target: str) -> Callable[[Path], object]:
    """What makes a file of the package a link."""

    def make(path: Path) -> None:
        weighted(path.parent)
        make_link_to(target)(path / file)

    return make


def with_number(at: int, number: int) -> Callable[[bytes], bytes]:
    """What writes a number of eight bytes into a file's content."""
    return lambda content: content[:at] + np.array([number], "<u8").tobytes() + content[at + 8 :]


def give(build: PackageBuilder, name: str) -> None:
    """Makes a value the package's output."""
    build.block.outputs[0] = name
    build.spec.description.output[0].name = name


def weight_elsewhere(build: PackageBuilder) -> None:
    build.weight("w", "float32", (4,), offset=1 << 40)
    build.operation("add", "z", "float32", (4,), {"x": ["y"], "y": ["w"]})
    give(build, "z")


def exabytes_in_the_file(path: Path) -> None:
    """Program and record agree on the size; the file is small."""
    build = small()
    build.weight("w", "float32", (EXABYTES // 4,), offset=64)
    build.operation("add", "z", "float32", (EXABYTES // 4,), {"x": ["y"], "y": ["w"]})
    give(build, "z")
    record = np.array([0xDEADBEEF, 2], "<u4").tobytes() + np.array([EXABYTES, 128], "<u8").tobytes()
    header = np.array([1, 2], "<u4").tobytes().ljust(64, b"\0")
    build.write(path, header + record.ljust(128, b"\0"))


def filled(build: PackageBuilder) -> None:
    """A constant of exabytes that the program computes."""
    build.literal("sizes", "int32", (2,), [2**30, 2**28])
    build.operation("fill", "f", "float32", (2**30, 2**28), {"shape": ["sizes"]})
    build.literal("axes", "int32", (2,), [0, 1])
    build.operation("reduce_sum", "s", "float32", (1, 1), {"x": ["f"], "axes": ["axes"]})
    build.operation("add", "z", "float32", (1, 4), {"x": ["s"], "y": ["y"]})
    give(build, "z")


def large_input(path: Path) -> None:
    build = PackageBuilder()
    build.input("x", "float32", (2**20, 2**30))
    build.operation("relu", "y", "float32", (2**20, 2**30), {"x": ["x"]})
    build.output("y", "float32")
    build.write(path)


def large_state(path: Path) -> None:
    build = small()
    item = build.spec.description.state.add(name="memory")
    array = item.type.stateType.arrayType
    array.dataType = 65552  # float16
    array.shape.extend([2**20, 2**30])
    value = build.function.inputs.add(name="memory")
    inner = value.type.stateType.wrappedType
    set_type(inner, "float16", (2**20, 2**30))
    build.write(path)


def range_upside_down(path: Path) -> None:
    build = PackageBuilder()
    build.input("x", "float32", ((9, 3),))
    build.operation("relu", "y", "float32", ("h",), {"x": ["x"]})
    build.output("y", "float32")
    build.write(path)


def pipelines(path: Path) -> None:
    build = small()
    spec = build.spec
    for _ in range(60):
        outer = type(spec)(specificationVersion=9)
        outer.description.CopyFrom(spec.description)
        outer.pipeline.models.add().CopyFrom(spec)
        spec = outer
    small().write(path)
    (path / MODEL).write_bytes(spec.SerializeToString())


def nest(path: Path) -> None:
    small().write(path)
    nest_blocks(path, 10_000)


CASES: Mapping[str, Hostile] = {
    "truncated program": Hostile(
        rewritten(MODEL, lambda content: content[: len(content) * 2 // 3]),
        ("model.mlmodel", "truncated"),
    ),
    "manifest of brackets": Hostile(
        rewritten("Manifest.json", lambda content: b"[" * 200_000), ("Manifest.json", "damaged")
    ),
    "offset behind the file": Hostile(
        changed(weight_elsewhere), ("weight.bin", '"w"', str(1 << 40)), READING_WEIGHTS
    ),
    "record behind the file": Hostile(
        rewritten(WEIGHTS, with_number(80, 1 << 62)),
        ("weight.bin", '"weight"', str(1 << 62)),
        READING_WEIGHTS,
    ),
    "record whose end overflows": Hostile(
        rewritten(WEIGHTS, with_number(80, 2**64 - 64)), ("weight.bin", '"weight"'), READING_WEIGHTS
    ),
    "record of exabytes": Hostile(
        rewritten(WEIGHTS, with_number(72, EXABYTES)),
        ("weight.bin", '"weight"', str(EXABYTES)),
        READING_WEIGHTS,
    ),
    "size that is negative if cut to 64 bits": Hostile(
        changed(lambda b: retype(b, "a", "float32", (2**64 - 4,))), ('"a"', "larger than memory")
    ),
    "sizes whose product overflows": Hostile(
        changed(lambda b: retype(b, "a", "float32", (2**32, 2**32, 2**32))), ('"a"', "larger")
    ),
    "cycle": Hostile(changed(lambda b: rename_argument(b, "a", "y")), ("a (relu)", '"y"')),
    "missing value": Hostile(
        changed(lambda b: rename_argument(b, "a", "nobody")), ("a (relu)", '"nobody"')
    ),
    "rank": Hostile(
        changed(lambda b: retype(b, "a", "float32", (1,) * 100_000)), ('"a"', "100000")
    ),
    "blocks in blocks": Hostile(nest, ("model.mlmodel", "nested deeper")),
    "pipelines in pipelines": Hostile(pipelines, ("model.mlmodel", "nested deeper")),
    "conditions in conditions": Hostile(
        lambda path: changed(lambda b: (nested(b, 20), give(b, "c0")))(path), ("c0",), ("reshape",)
    ),
    "weights linked elsewhere": Hostile(
        linked(WEIGHTS, "/etc/passwd"), ("weight.bin", "outside"), ("inspect", *READING_WEIGHTS)
    ),
    "program linked elsewhere": Hostile(linked(MODEL, "/etc/passwd"), ("model.mlmodel", "outside")),
    "weights of exabytes": Hostile(
        exabytes_in_the_file, ("weight.bin", '"w"', str(EXABYTES)), READING_WEIGHTS
    ),
    "exabytes of one number": Hostile(
        changed(lambda b: change_type(b, "float32", (2**50,))),
        ("y (add)", str(2**50)),
        READING_WEIGHTS,
    ),
    "exabytes that are computed": Hostile(
        changed(filled), ("1073741824, 268435456",), READING_WEIGHTS
    ),
    "exabytes of input": Hostile(large_input, ("x", "1048576, 1073741824"), READING_WEIGHTS),
    "exabytes of state": Hostile(large_state, ('"memory"',), READING_WEIGHTS),
    "range upside down": Hostile(range_upside_down, ('"x"', "9", "3")),
    "name of a megabyte": Hostile(
        changed(lambda b: rename_argument(b, "a", "n" * 2**20)), ("a (relu)", "nnn")
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_hostile_package(name: str, tmp_path: Path, limited: Callable[..., Done]) -> None:
    case = CASES[name]
    package = tmp_path / "net.mlpackage"
    case.make(package)
    for command in COMMANDS:
        done = limited(*command_line(command, package))
        assert "Traceback" not in done.stderr, done.stderr
        errors = [line for line in done.stderr.splitlines() if line.startswith("error:")]
        if command not in case.refused_by:
            assert (done.code in (0, 1), errors) == (True, []), (command, done)
            continue
        assert done.code in (2, 3), (command, done)
        assert len(errors) == 1, (command, done)
        assert (done.stdout, len(done.stderr) < 5000) == ("", True), (command, done)
        for word in case.words:
            assert word in done.stderr, (command, done)
    assert not (tmp_path / "out").exists() or "reshape" not in case.refused_by
