"""A network of 400 operations, written message by message, and faults in the middle of it."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from metal4conv.mil.package import Package
from tests.layout.packages import PackageBuilder

BLOB_DTYPES = {"float16": 1, "float32": 2}
WIDTH = 16
ROWS = 4


class Network(PackageBuilder):
    """A builder that also writes weights; `names` are the results in order."""

    def __init__(self, dtype: str = "float32") -> None:
        super().__init__()
        self.dtype = dtype
        self.blobs: list[bytes] = []
        self.offset = 64
        self.names: list[str] = []

    def array(self, name: str, values: np.ndarray) -> str:
        """A constant in the weight file."""
        data = values.astype(self.dtype).tobytes()
        head = (0xDEADBEEF, BLOB_DTYPES[self.dtype], len(data), self.offset + 64)
        blob = struct.pack("<IIQQ40x", *head) + data
        blob += bytes(-len(blob) % 64)
        self.weight(name, self.dtype, values.shape, offset=self.offset)
        self.blobs.append(blob)
        self.offset += len(blob)
        return name

    def add(
        self,
        type: str,
        output: str,
        made: Sequence[int | str],
        dtype: str = "",
        /,
        **inputs: object,
    ) -> str:
        """An operation; texts are values, a list several, numbers become constants."""
        bound: dict[str, list[str]] = {}
        for key, value in inputs.items():
            if isinstance(value, str):
                bound[key] = [value]
            elif isinstance(value, list):
                bound[key] = value
            else:
                bound[key] = [self.small(f"{output}_{key}", np.asarray(value))]
        self.names.append(output)
        return self.operation(type, output, dtype or self.dtype, made, bound)

    def small(self, name: str, value: np.ndarray) -> str:
        """A constant in the program."""
        flat = value.reshape(-1).tolist()
        if value.dtype.kind == "U":
            return self.literal(name, "string", (), flat)
        if value.dtype.kind == "b":
            self.constant(name, "bool", value.shape).immediateValue.tensor.bools.values.extend(flat)
            return name
        if value.dtype.kind == "i":
            return self.literal(name, "int32", value.shape, flat)
        if self.dtype == "float32":
            return self.literal(name, "float32", value.shape, flat)
        made = self.constant(name, self.dtype, value.shape)
        made.immediateValue.tensor.bytes.values = value.astype(self.dtype).tobytes()
        return name

    def save(self, path: Path) -> Package:
        """The package with its weights."""
        header = struct.pack("<II56x", len(self.blobs), 2)
        return self.write(path, header + b"".join(self.blobs))


def block(net: Network, x: str, number: int, weight: np.ndarray, factor: float) -> str:
    """Eight operations around a residual."""
    name, shape, turned = f"b{number}", (ROWS, WIDTH), (WIDTH, ROWS)
    matrix, bias = net.array(f"{name}_w", weight), net.array(f"{name}_b", weight[0])
    a = net.add("linear", f"{name}_linear", shape, x=x, weight=matrix, bias=bias)
    b = net.add("tanh", f"{name}_tanh", shape, x=a)
    c = net.add("mul", f"{name}_mul", shape, x=b, y=factor)
    d = net.add("add", f"{name}_add", shape, x=c, y=x)
    e = net.add("transpose", f"{name}_turn", turned, x=d, perm=np.array([1, 0]))
    f = net.add("erf", f"{name}_erf", turned, x=e)
    g = net.add("transpose", f"{name}_back", shape, x=f, perm=np.array([1, 0]))
    return net.add("sin", f"{name}_sin", shape, x=g)


def network(
    path: Path,
    blocks: int = 50,
    *,
    dtype: str = "float32",
    fault: int | None = None,
    overflow: int | None = None,
) -> Package:
    """Blocks in a row, from `x` (4, 16) to the last block's sine.

    In block `fault` a factor is wrong; after block `overflow` come a square that float16 cannot
    hold, and what brings it back.
    """
    random = np.random.default_rng(7)
    net = Network(dtype)
    x = net.input("x", dtype, (ROWS, WIDTH))
    for number in range(blocks):
        weight = random.normal(0, WIDTH**-0.5, (WIDTH, WIDTH))
        x = block(net, x, number, weight, 1.5 if number == fault else 0.5)
        if number == overflow:
            shape = (ROWS, WIDTH)
            big = net.add("mul", "big", shape, x=x, y=400.0)
            square = net.add("square", "square", shape, x=big)
            small = net.add("mul", "small", shape, x=square, y=1e-5)
            x = net.add("tanh", "bent", shape, x=small)
    net.output(x, dtype)
    return net.save(path)


def drawn(dtype: str = "float32") -> dict[str, np.ndarray]:
    """An input for `network`."""
    return {"x": np.random.default_rng(3).normal(0, 1, (ROWS, WIDTH)).astype(dtype)}
