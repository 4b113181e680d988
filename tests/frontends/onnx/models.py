"""Small ONNX models for tests, and their packages beside onnxruntime or onnx's own evaluator."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.parser
from onnx import helper

from metal4conv import load
from metal4conv.frontends.onnx.source import OnnxSource
from metal4conv.frontends.source import SourceOptions, open_source
from metal4conv.frontends.spec import parse_dimension, parse_input
from metal4conv.mil.package import read_package
from tests.frontends.helpers import packaged

Shape = Sequence[int | str | None]
Node = onnx.NodeProto


def node(operator: str, inputs: Sequence[str], outputs: Sequence[str], **attributes: Any) -> Node:
    """A node named after its first output. (Any: attribute values.)"""
    return helper.make_node(operator, inputs, outputs, outputs[0], **attributes)


def model(
    nodes: Sequence[Node],
    inputs: Mapping[str, Shape | tuple[str, Shape]],
    outputs: Sequence[str] | Mapping[str, str],
    constants: Mapping[str, np.ndarray] | None = None,
    *,
    opset: int = 21,
    domains: Mapping[str, int] | None = None,
    functions: Sequence[onnx.FunctionProto] = (),
) -> onnx.ModelProto:
    """A model. Inputs have a shape (float32) or a dtype and a shape, outputs a dtype or none."""
    declared = []
    for name, given in inputs.items():
        dtype, shape = (
            given
            if len(given) == 2 and isinstance(given[1], (list, tuple))
            else (
                "float32",
                given,
            )
        )
        declared.append(helper.make_tensor_value_info(name, element_type(str(dtype)), shape))
    dtypes = outputs if isinstance(outputs, Mapping) else dict.fromkeys(outputs, "float32")
    results = [
        helper.make_tensor_value_info(name, element_type(dtype), None)
        for name, dtype in dtypes.items()
    ]
    initializers = [
        onnx.numpy_helper.from_array(np.asarray(array), name)
        for name, array in (constants or {}).items()
    ]
    graph = helper.make_graph(nodes, "graph", declared, results, initializers)
    opsets = [helper.make_opsetid("", opset)]
    opsets += [helper.make_opsetid(name, version) for name, version in (domains or {}).items()]
    return helper.make_model(graph, opset_imports=opsets, ir_version=10, functions=list(functions))


def parsed(text: str, opset: int = 18, domains: str = "") -> onnx.ModelProto:
    """A model from the text of its graph; `domains` are further opsets in ONNX's syntax."""
    return onnx.parser.parse_model(f'<ir_version: 8, opset_import: ["" : {opset}{domains}]> {text}')


def operations(package: Path) -> list[str]:
    """The types of a package's operations, without constants; those of nested blocks too."""
    block = read_package(package).function().block
    return [item.type for item in block.walk() if item.type != "const"]


def element_type(dtype: str) -> int:
    """ONNX's number for a dtype's name."""
    names = {"float32": "FLOAT", "float64": "DOUBLE"}
    return int(onnx.TensorProto.DataType.Value(names.get(dtype, dtype.upper())))


def opened(
    made: onnx.ModelProto, folder: Path, inputs: Sequence[str] = (), dims: Sequence[str] = ()
) -> OnnxSource:
    """The model as a source, from a file in `folder`."""
    file = folder / "net.onnx"
    onnx.save(made, file)
    options = SourceOptions(tuple(map(parse_input, inputs)), dict(map(parse_dimension, dims)))
    source = open_source(str(file), options)
    assert isinstance(source, OnnxSource)
    return source


def check(
    made: onnx.ModelProto,
    folder: Path,
    *cases: Mapping[str, np.ndarray],
    dims: Sequence[str] = (),
    precision: str = "float32",
    tolerance: float = 1e-5,
    target: str = "iOS18",
    is_free: bool = True,
) -> Path:
    """One package gives what the reference gives, for each case of inputs; its path.

    A dynamic package runs at five sizes at least, where so many are allowed; not so where the
    values of inputs hang on its sizes, which `is_free` denies.
    """
    source = opened(made, folder, dims=dims)
    package, _ = packaged(source, folder / "package", precision, target)
    executor = load(package)
    for feeds in (*cases, *(other_sizes(source, cases) if is_free else ())):
        held = {
            name: np.asarray(array)
            .reshape(np.shape(array) or (1,))
            .astype(executor.inputs[name].dtype)
            for name, array in feeds.items()
        }
        found = executor.predict(held)
        expected = source.predict(feeds)
        assert list(found) == list(expected)
        for name, array in expected.items():
            assert found[name].shape == (array.shape or (1,)), name
            np.testing.assert_allclose(
                found[name].reshape(array.shape), array, rtol=tolerance, atol=tolerance
            )
    return package


FEWEST_SIZES = 5
MOST_TRIES = 40


def other_sizes(
    source: OnnxSource, cases: Sequence[Mapping[str, np.ndarray]]
) -> list[dict[str, np.ndarray]]:
    """Inputs at further sizes, the smallest first, so that there are five with the given ones.

    Floats are drawn anew, integers repeat those of the first case: they may be indices. Sizes at
    which the reference does not run either are passed over.
    """
    names = list(source.dimensions)
    if not names or not cases:
        return []
    seen = {sizes_of(source, feeds) for feeds in cases}
    allowed = [
        item.values or range(item.minimum, (item.maximum or 16) + 1, item.step)
        for item in (source.dimensions[name] for name in names)
    ]
    smallest = tuple(min(values) for values in allowed)
    generator = np.random.default_rng(0)
    tries = [smallest] + [
        tuple(int(generator.choice(values)) for values in allowed) for _ in range(MOST_TRIES)
    ]
    found = []
    for sizes in dict.fromkeys(tries):
        if len(seen) >= FEWEST_SIZES:
            break
        known = dict(zip(names, sizes, strict=True))
        feeds = {
            item.name: resized(np.asarray(cases[0][item.name]), shape_at(item.type.shape, known))
            for item in source.inputs
        }
        if sizes not in seen and runs(source, feeds):
            seen.add(sizes)
            found.append(feeds)
    return found


def sizes_of(source: OnnxSource, feeds: Mapping[str, np.ndarray]) -> tuple[int, ...]:
    """The size of each dynamic dimension in a case of inputs."""
    known = {
        name: size
        for item in source.inputs
        for name, size in zip(item.type.shape, np.shape(feeds[item.name]), strict=False)
    }
    return tuple(known[name] for name in source.dimensions)


def shape_at(shape: Shape, sizes: Mapping[str, int]) -> tuple[int, ...]:
    """A shape with numbers for its names."""
    return tuple(sizes[size] if isinstance(size, str) else size for size in shape)


def resized(array: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """An array of another shape: floats around 0, or the same integers again and again."""
    if array.shape == shape or array.dtype.kind != "f":
        return np.resize(array, shape)
    return np.random.default_rng(len(shape)).standard_normal(shape).astype(array.dtype)


def runs(source: OnnxSource, feeds: Mapping[str, np.ndarray]) -> bool:
    """Whether the reference takes these inputs."""
    try:
        source.predict(feeds)
    except Exception:  # whatever onnxruntime or onnx raise
        return False
    return True


def draw(*shape: int, seed: int = 0) -> np.ndarray:
    """Seeded float32 numbers around 0."""
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)
