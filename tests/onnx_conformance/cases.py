"""onnx's own backend cases, each through a package on disk and the executor."""

from __future__ import annotations

import contextlib
import io
import re
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, numpy_helper

import metal4conv
from metal4conv.errors import Metal4ConvError
from metal4conv.frontends.names import feature_names
from metal4conv.frontends.source import LoweringRequest, SourceOptions, open_source
from metal4conv.mil.schema import new_model
from metal4conv.mil.writer import write_package

KINDS = ("node", "simple", "pytorch-operator", "pytorch-converted")

MISSING_TYPES = ("FLOAT8", "FLOAT4", "INT4", "INT2", "STRING", "sequence", "optional")
"""Types that MIL lacks, as parts of the names of a case's types."""


@dataclass(frozen=True)
class Case:
    """A model, and arrays that go in and must come out."""

    name: str
    kind: str
    model: onnx.ModelProto
    data_sets: Sequence[tuple[Sequence[Any], Sequence[Any]]]
    rtol: float
    atol: float

    @property
    def operator(self) -> str:
        """What the case is about: the operator of a node case, else the kind of case."""
        if self.kind != "node":
            return self.kind
        return self.model.graph.node[0].op_type if self.is_plain else expanded(self.name)

    @property
    def is_plain(self) -> bool:
        """Whether the model is one node, and not the body of the operator's function."""
        return "_expanded" not in self.name or len(self.model.graph.node) == 1

    @property
    def types(self) -> set[str]:
        """The types of the inputs and outputs, and of what the model holds."""
        found = set()
        graph = self.model.graph
        for item in (*graph.input, *graph.output):
            kind = item.type.WhichOneof("value") or "optional_type"
            element = item.type.tensor_type.elem_type
            found.add(TensorProto.DataType.Name(element) if kind == "tensor_type" else kind)
        for node in graph.node:
            for attribute in node.attribute:
                if attribute.name in ("to", "dtype", "output_dtype"):
                    found.add(TensorProto.DataType.Name(attribute.i))
                if attribute.type == onnx.AttributeProto.TENSOR:
                    found.add(TensorProto.DataType.Name(attribute.t.data_type))
        return found

    @property
    def uses_missing_type(self) -> bool:
        """Whether the case needs a type that MIL lacks: float8, strings, sequences, training."""
        if any("training" in item.domain for item in self.model.opset_import):
            return True
        return any(word in name for name in self.types for word in MISSING_TYPES)


def expanded(name: str) -> str:
    """The operator whose function body a case holds: that of the case without expansion."""
    plain_name = re.sub(r"_expanded(_ver\d+)?$", "", name)
    return all_cases()[plain_name].operator if plain_name in all_cases() else plain_name


@cache
def all_cases() -> dict[str, Case]:
    """Every case by name, in a stable order."""
    from onnx.backend.test.loader import load_model_tests

    found = {}
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        for kind in KINDS:
            for item in load_model_tests(kind=kind):
                case = read_case(kind, item)
                found[case.name] = case
    return dict(sorted(found.items()))


def read_case(kind: str, item: Any) -> Case:
    """A case of onnx's, with its model and data in memory. (Any: its class has no types.)"""
    if item.model is not None:
        return Case(item.name, kind, item.model, item.data_sets, item.rtol, item.atol)
    folder = Path(item.model_dir)
    model = onnx.load(folder / "model.onnx")
    sets = [
        (
            read_arrays(place, "input", model.graph.input),
            read_arrays(place, "output", model.graph.output),
        )
        for place in sorted(folder.glob("test_data_set*"))
    ]
    return Case(f"{kind}/{item.name}", kind, model, sets, item.rtol, item.atol)


def read_arrays(folder: Path, role: str, declared: Sequence[onnx.ValueInfoProto]) -> list[Any]:
    """The arrays of one data set in their order; None for what is no tensor."""
    arrays: list[Any] = []
    for number in range(len(list(folder.glob(f"{role}_*.pb")))):
        data = (folder / f"{role}_{number}.pb").read_bytes()
        if declared[number].type.WhichOneof("value") != "tensor_type":
            arrays.append(None)
            continue
        tensor = TensorProto()
        tensor.ParseFromString(data)
        arrays.append(numpy_helper.to_array(tensor))
    return arrays


@dataclass(frozen=True)
class Outcome:
    """What became of a case: `passed`, `failed`, or `refused` with the reason."""

    outcome: str
    why: str = ""


def run_case(case: Case, folder: Path) -> Outcome:
    """Converts a case at float32, writes its package, runs it and compares."""
    try:
        package = convert(case, folder)
    except Metal4ConvError as error:
        return Outcome("refused", str(error))
    executor = metal4conv.load(package)
    names = list(executor.outputs)
    for given, expected in case.data_sets:
        feeds = feeds_of(case, executor, given)
        found = executor.predict(feeds)
        try:
            compare([found[name] for name in names], expected, case)
        except AssertionError as error:
            return Outcome("failed", " ".join(str(error).split())[:400])
    return Outcome("passed")


def convert(case: Case, folder: Path) -> Path:
    """The package of a case."""
    file = folder / "model.onnx"
    onnx.save(case.model, file)
    source = open_source(str(file), SourceOptions())
    lowered = source.lower(LoweringRequest(precision="float32"), folder / "work")
    spec = new_model()
    spec.ParseFromString(lowered.spec)
    write_package(folder / "model.mlpackage", spec, lowered.weights_folder)
    return folder / "model.mlpackage"


def feeds_of(case: Case, executor: Any, given: Sequence[Any]) -> dict[str, Any]:
    """A case's inputs under the package's names, in the dtypes that it declares."""
    constants = {tensor.name for tensor in case.model.graph.initializer}
    declared_names = [item.name for item in case.model.graph.input if item.name not in constants]
    pairs = [
        (name, array)
        for name, array in zip(declared_names, given, strict=True)
        if plain(array).size
    ]
    names = [name for name, _ in pairs]
    outputs = [item.name for item in case.model.graph.output]
    declared = executor.inputs
    feeds = {}
    for name, (_, array) in zip(feature_names(names, outputs)[0], pairs, strict=True):
        if name in declared:
            feeds[name] = held(np.asarray(plain(array)), declared[name].dtype)
    return feeds


def plain(array: Any) -> Any:
    """An array of numpy's, bfloat16 as float32; TensorProto as its array."""
    if isinstance(array, TensorProto):
        array = numpy_helper.to_array(array)
    return array.astype(np.float32) if array.dtype.name == "bfloat16" else array


def is_bfloat16(array: Any) -> bool:
    """Whether an expected output is bfloat16, as an array or a TensorProto."""
    if isinstance(array, TensorProto):
        return bool(array.data_type == TensorProto.BFLOAT16)
    return bool(array.dtype.name == "bfloat16")


def held(array: np.ndarray, dtype: str) -> np.ndarray:
    """An array as the package takes it; a number that does not fit is an error of the test."""
    if dtype == "int32" and array.dtype.kind in "iu":
        limits = np.iinfo(np.int32)
        if array.size and (int(array.min()) < limits.min or int(array.max()) > limits.max):
            raise OverflowError(f"the case's {array.dtype} input does not fit into int32")
    return array.reshape(array.shape or (1,)).astype(dtype)


def compare(found: Sequence[np.ndarray], expected: Sequence[Any], case: Case) -> None:
    """Shapes and values as onnx's own runner compares them; dtypes are those of the package."""
    assert len(found) == len(expected), f"{len(found)} outputs, expected {len(expected)}"
    for array, reference in zip(found, expected, strict=True):
        wanted = plain(reference)
        shape = wanted.shape or (1,)
        assert array.shape == shape, f"shape {array.shape}, expected {wanted.shape}"
        as_declared = array.astype(wanted.dtype).reshape(wanted.shape)
        rtol = case.rtol
        if is_bfloat16(reference):
            rtol = max(rtol, 2**-6)  # as onnx's own runner
        np.testing.assert_allclose(
            as_declared.astype(np.float64) if as_declared.dtype == np.float16 else as_declared,
            wanted.astype(np.float64) if wanted.dtype == np.float16 else wanted,
            rtol=rtol,
            atol=case.atol,
        )


def sampled(one_in: int, shard: int = 0, shards: int = 1) -> Iterator[Case]:
    """The cases of a shard; one in so many, by their place in the sorted list."""
    for number, case in enumerate(all_cases().values()):
        if number % one_in == 0 and (number // one_in) % shards == shard:
            yield case
