"""Packages of a given size or number of operations, made once."""

from __future__ import annotations

import shutil
import struct
from pathlib import Path

import numpy as np

from metal4conv.mil.writer import write_package
from tests.layout.packages import PackageBuilder, set_type

WIDTH = 1024
BLOB_DTYPES = {"float16": 1, "float32": 2}


def sized_package(path: Path, dtype: str, megabytes: int) -> Path:
    """A chain of linear layers whose weights have that size together."""
    if path.exists():
        return path
    blob_bytes = WIDTH * WIDTH * np.dtype(dtype).itemsize
    count = max(1, round(megabytes * 1_000_000 / blob_bytes))
    build = PackageBuilder()
    name = build.input("x", dtype, (1, WIDTH))
    scratch = path.with_suffix(".weights")
    scratch.mkdir(parents=True, exist_ok=True)
    data = np.random.default_rng(0).normal(0, WIDTH**-0.5, (WIDTH, WIDTH)).astype(dtype).tobytes()
    with (scratch / "weight.bin").open("wb") as file:
        file.write(struct.pack("<II56x", count, 2))
        for number in range(count):
            offset = file.tell()
            head = (0xDEADBEEF, BLOB_DTYPES[dtype], blob_bytes, offset + 64)
            file.write(struct.pack("<IIQQ40x", *head) + data)
            weight = build.weight(f"w{number}", dtype, (WIDTH, WIDTH), offset=offset)
            output = "y" if number == count - 1 else f"v{number}"
            inputs = {"x": [name], "weight": [weight]}
            name = build.operation("linear", output, dtype, (1, WIDTH), inputs)
    build.output("y", dtype)
    write_package(path, build.spec, scratch)
    shutil.rmtree(scratch)
    return path


def long_program(path: Path, count: int, kind: str = "chain") -> Path:
    """A package of that many additions to `x` (4,), see `long_build`."""
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        write_package(path, long_build(count, kind).spec, None)
    return path


def long_build(count: int, kind: str = "chain") -> PackageBuilder:
    """`y` = `x` (4,) + `count`, one addition at a time.

    `chain` has all additions in a row; `loop` has them in the body of a `while_loop` that runs
    once; in `blocks` every tenth stands in the branches of a `cond`, which see all values around.
    """
    build = PackageBuilder()
    build.input("x", "float32", (4,))
    build.literal("one", "float32", (), [1.0])
    build.literal("yes", "bool", (), [])
    build.block.operations[-1].attributes["val"].immediateValue.tensor.bools.values.append(True)
    match kind:
        case "chain" | "blocks":
            additions(build, "x", "y", count, every=10 if kind == "blocks" else 0)
        case "loop":
            loop(build, count)
        case _:
            raise ValueError(kind)
    build.output("y", "float32")
    return build


def additions(build: PackageBuilder, first: str, last: str, count: int, every: int = 0) -> None:
    """Adds one `count` times; each `every`th addition stands in the branches of a `cond`."""
    name = first
    for number in range(count):
        output = last if number == count - 1 else f"v{number}"
        if every and number % every == every - 1:
            build.operation("cond", output, "float32", (4,), {"pred": ["yes"]})
            outer, message = build.block, build.block.operations[-1]
            for side in ("then", "else"):
                build.block = message.blocks.add()
                inner = f"{side}{number}"
                build.operation("add", inner, "float32", (4,), {"x": [name], "y": ["one"]})
                build.block.outputs.append(inner)
            build.block = outer
        else:
            build.operation("add", output, "float32", (4,), {"x": [name], "y": ["one"]})
        name = output


def loop(build: PackageBuilder, count: int) -> None:
    """A `while_loop` over (go on?, value) whose body makes the additions and stops."""
    build.operation("while_loop", "stopped", "bool", (), {"loop_vars": ["yes", "x"]})
    message = outer = build.block.operations[-1]
    set_type(message.outputs.add(name="y").type, "float32", (4,))
    outer = build.block
    for side in ("test", "body"):
        build.block = message.blocks.add()
        for name, dtype, shape in ((f"{side}_go", "bool", ()), (f"{side}_x", "float32", (4,))):
            set_type(build.block.inputs.add(name=name).type, dtype, shape)
        if side == "test":
            build.block.outputs.append("test_go")
        else:
            build.operation("logical_not", "stop", "bool", (), {"x": ["body_go"]})
            additions(build, "body_x", "sum", count)
            build.block.outputs.extend(["stop", "sum"])
    build.block = outer
