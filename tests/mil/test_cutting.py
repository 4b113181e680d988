"""Parts of packages compute what they computed in the whole, and other readers take them."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

from metal4conv.errors import DamagedFile, UnsupportedModel
from metal4conv.execute.interpreter import Executor
from metal4conv.frontends.toolkit import quiet
from metal4conv.mil.blobs import copy_blobs
from metal4conv.mil.correspondence import KEY as CORRESPONDENCE_KEY
from metal4conv.mil.cutting import Cut, Part, add_outputs, border_values, cut_package
from metal4conv.mil.dataflow import dataflow
from metal4conv.mil.interface import LAYOUT_KEY
from metal4conv.mil.messages import set_type
from metal4conv.mil.package import Package, read_package
from metal4conv.mil.program import StateType, TensorType
from tests.bench.programs import long_build
from tests.conftest import tree_hash
from tests.debug.chains import Network, drawn, network
from tests.layout.packages import PackageBuilder
from tests.mil.foreign import toolkit

Arrays = Mapping[str, np.ndarray]


def values_of(package: Package, inputs: Arrays) -> dict[str, np.ndarray]:
    """All values of a run by name, those of nested blocks left out."""
    found: dict[str, np.ndarray] = dict(inputs)
    Executor.from_package(package).predict_arrays(
        inputs, see=lambda seen: None if seen.place else found.update(seen.outputs)
    )
    return found


def cut_to(
    package: Package, folder: Path, operations: list[str], outputs: list[str], values: Arrays
) -> Part:
    """The part with the operations that make these values."""
    flow = dataflow(package.function())
    cut = Cut(frozenset(flow.makers[name] for name in operations), tuple(outputs))
    fed = {name: values[name] for name in border_values(flow, cut)}
    shapes = {name: array.shape for name, array in values.items()}
    return cut_package(package, cut, fed, folder, shapes=shapes)


def run_part(part: Part, values: Arrays) -> dict[str, np.ndarray]:
    """What a part gives, by the names of the whole."""
    feed = {feature: values[value] for feature, value in part.inputs.items()}
    found = Executor.from_package(part.package).predict_arrays(feed)
    return {part.outputs[feature]: array for feature, array in found.items()}


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_a_part_computes_what_it_computed_in_the_whole(dtype: str, tmp_path: Path) -> None:
    package = network(tmp_path / "net.mlpackage", 4, dtype=dtype)
    values = values_of(package, drawn(dtype))
    names = ["b1_mul", "b1_add", "b1_turn", "b1_erf", "b1_back", "b1_sin", "b2_linear"]
    part = cut_to(package, tmp_path / "part.mlpackage", names, ["b2_linear", "b1_sin"], values)
    assert part.inputs == {"b0_sin": "b0_sin", "b1_tanh": "b1_tanh"}
    found = run_part(part, values)
    assert list(found) == ["b2_linear", "b1_sin"]
    for name, array in found.items():
        assert array.dtype == dtype
        np.testing.assert_array_equal(array, values[name])


def test_only_the_weights_of_the_part_are_copied(tmp_path: Path) -> None:
    package = network(tmp_path / "net.mlpackage", 4)
    values = values_of(package, drawn())
    part = cut_to(package, tmp_path / "part.mlpackage", ["b2_linear"], ["b2_linear"], values)
    (file,) = part.package.weight_files()
    assert struct.unpack("<II", file.read_bytes()[:8]) == (2, 2)
    assert file.stat().st_size == 64 + 64 + 16 * 16 * 4 + 64 + 16 * 4
    constants = {
        operation.outputs[0].name: operation.attributes["val"].value
        for operation in part.package.function().block.operations
        if operation.type == "const"
    }
    whole = dataflow(package.function())
    for name in ("b2_w", "b2_b"):
        expected = whole.operations[whole.makers[name]].attributes["val"].value
        np.testing.assert_array_equal(constants[name], expected)


def test_a_part_without_weights_has_no_weight_file(tmp_path: Path) -> None:
    package = network(tmp_path / "net.mlpackage", 1)
    values = values_of(package, drawn())
    part = cut_to(package, tmp_path / "part.mlpackage", ["b0_tanh"], ["b0_tanh"], values)
    assert part.package.weight_files() == ()


def test_the_same_cut_gives_the_same_bytes(tmp_path: Path) -> None:
    package = network(tmp_path / "net.mlpackage", 2)
    values = values_of(package, drawn())
    for name in ("first", "second"):
        cut_to(package, tmp_path / name, ["b1_linear", "b1_tanh"], ["b1_tanh"], values)
    assert tree_hash(tmp_path / "first") == tree_hash(tmp_path / "second")


def test_coremltools_reads_a_part(tmp_path: Path) -> None:
    package = network(tmp_path / "net.mlpackage", 2, dtype="float16")
    values = values_of(package, drawn("float16"))
    names = ["b0_sin", "b1_linear", "b1_tanh"]
    part = cut_to(package, tmp_path / "part.mlpackage", names, ["b1_tanh"], values)
    ct, _, _ = toolkit()
    from coremltools.converters.mil.frontend.milproto.load import load

    with quiet():
        read = ct.models.MLModel(str(part.package.path), skip_model_load=True)
        program = load(
            read.get_spec(), part.package.specification_version, file_weights_dir=read.weights_dir
        )
    operations = program.functions["main"].operations
    kinds = [operation.op_type for operation in operations if operation.op_type != "const"]
    assert kinds == ["sin", "linear", "tanh"]


def comparing(path: Path, dtype: str = "float32") -> Package:
    """y = select(x > 0.5, x, x * x): a bool between operations."""
    net = Network(dtype)
    x = net.input("x", dtype, (2, 3))
    net.add("greater", "c", (2, 3), "bool", x=x, y=0.5)
    net.add("mul", "s", (2, 3), x=x, y=x)
    net.add("select", "y", (2, 3), cond="c", a=x, b="s")
    net.output("y", dtype)
    return net.save(path)


X = np.array([[0.25, 0.75, -1.0], [2.0, 0.5, 1.5]], np.float32)


def test_a_bool_is_an_int32_outside(tmp_path: Path) -> None:
    package = comparing(tmp_path / "net.mlpackage")
    values = values_of(package, {"x": X})
    behind = cut_to(package, tmp_path / "behind.mlpackage", ["y"], ["y"], values)
    assert behind.inputs == {"x": "x", "c_as_int32": "c", "s": "s"}
    np.testing.assert_array_equal(run_part(behind, values)["y"], values["y"])
    before = cut_to(package, tmp_path / "before.mlpackage", ["c"], ["c"], values)
    assert before.outputs == {"c_as_int32": "c"}
    found = run_part(before, values)["c"]
    assert found.dtype == np.int32
    np.testing.assert_array_equal(found, [[0, 1, 0], [1, 0, 1]])


def test_before_specification_version_7_float16_is_float32_outside(tmp_path: Path) -> None:
    net = Network("float16")
    net.spec.specificationVersion = 6
    net.function.opset = "CoreML5"
    net.block = net.function.block_specializations["CoreML5"]
    del net.function.block_specializations["CoreML8"]
    x = net.input("x", "float32", (2, 3))
    half = net.add("cast", "h", (2, 3), x=x, dtype=np.array("fp16"))
    net.add("relu", "r", (2, 3), x=half)
    net.add("square", "q", (2, 3), x="r")
    net.add("cast", "y", (2, 3), "float32", x="q", dtype=np.array("fp32"))
    net.output("y", "float32")
    package = net.save(tmp_path / "net.mlpackage")
    values = values_of(package, {"x": X})
    part = cut_to(package, tmp_path / "part.mlpackage", ["r", "q"], ["q"], values)
    assert part.inputs == {"h_as_float32": "h"}
    assert part.outputs == {"q_as_float32": "q"}
    interface = part.package.interface()
    assert [item.type.dtype for item in (*interface.inputs, *interface.outputs)] == ["float32"] * 2
    found = run_part(part, values)["q"]
    np.testing.assert_array_equal(found, values["q"].astype(np.float32))


def scaled_by_its_size(path: Path) -> Package:
    """y = x * rows, with sizes that the program leaves open."""
    net = Network()
    x = net.input("x", "float32", ((1, 8), 3))
    net.add("shape", "sizes", (2,), "int32", x=x)
    net.add("gather", "rows", (), "int32", x="sizes", indices=np.array(0), axis=np.array(0))
    net.add("cast", "number", (), x="rows", dtype=np.array("fp32"))
    net.add("mul", "m", ("h", 3), x=x, y="number")
    net.add("relu", "y", ("h", 3), x="m")
    net.output("y", "float32")
    return net.save(path)


def test_a_single_number_becomes_a_constant_and_sizes_become_numbers(tmp_path: Path) -> None:
    package = scaled_by_its_size(tmp_path / "net.mlpackage")
    values = values_of(package, {"x": X})
    part = cut_to(package, tmp_path / "part.mlpackage", ["m", "y"], ["y"], values)
    assert part.inputs == {"x": "x"}
    types = [
        value.type
        for operation in part.package.function().block.operations
        for value in operation.outputs
    ]
    assert not any(isinstance(type, TensorType) and type.is_dynamic for type in types)
    assert part.package.interface().dimensions == {}
    np.testing.assert_array_equal(run_part(part, values)["y"], np.maximum(X * 2, 0))


def test_a_bypassed_operation_is_left_out(tmp_path: Path) -> None:
    package = comparing(tmp_path / "net.mlpackage")
    flow = dataflow(package.function())
    kept = frozenset(flow.makers[name] for name in ("c", "y"))
    cut = Cut(kept, ("y",), {"s": "x"})
    assert border_values(flow, cut) == ("x",)
    part = cut_package(package, cut, {"x": X}, tmp_path / "part.mlpackage")
    np.testing.assert_array_equal(run_part(part, {"x": X})["y"], X)


def test_blocks_read_what_stands_in_for_a_bypassed_value(tmp_path: Path) -> None:
    build = long_build(20, "blocks")
    package = build.write(tmp_path / "net.mlpackage")
    x = {"x": np.zeros(4, np.float32)}
    values = values_of(package, x)
    flow = dataflow(package.function())
    whole = flow.ancestors(["y"])
    bypassed = {"v8": "x"}  # the ninth addition, which only the branches of the tenth read
    assert [flow.operations[place].type for place in flow.readers["v8"]] == ["cond"]
    kept = whole - flow.ancestors(["v8"])
    part = cut_package(package, Cut(kept, ("y",), bypassed), x, tmp_path / "part.mlpackage")
    np.testing.assert_array_equal(values["y"], np.full(4, 20))
    np.testing.assert_array_equal(run_part(part, x)["y"], np.full(4, 11))


def test_a_loop_is_cut_out_with_what_its_body_reads(tmp_path: Path) -> None:
    package = long_build(6, "loop").write(tmp_path / "net.mlpackage")
    x = {"x": np.arange(4, dtype=np.float32)}
    flow = dataflow(package.function())
    loops = [place for place in flow.working if flow.operations[place].type == "while_loop"]
    names = [value.name for value in flow.operations[loops[0]].outputs]
    values = values_of(package, x)
    shown = [name for name in names if values[name].dtype == np.float32]
    cut = Cut(frozenset(loops), tuple(shown))
    fed = {name: values[name] for name in border_values(flow, cut)}
    part = cut_package(package, cut, fed, tmp_path / "part.mlpackage")
    for name, array in run_part(part, values).items():
        np.testing.assert_array_equal(array, values[name])


def test_outputs_are_added_to_a_package_with_open_sizes(tmp_path: Path) -> None:
    package = scaled_by_its_size(tmp_path / "net.mlpackage")
    part = add_outputs(package, ["m", "sizes"], tmp_path / "more.mlpackage")
    assert list(part.outputs) == ["y", "m", "sizes"]
    assert part.package.interface().dimensions == package.interface().dimensions
    found = Executor.from_package(part.package).predict_arrays({"x": X})
    np.testing.assert_array_equal(found["m"], X * 2)
    np.testing.assert_array_equal(found["sizes"], [2, 3])


def test_what_is_only_true_of_the_whole_is_left_out_of_the_metadata(tmp_path: Path) -> None:
    net = Network()
    net.output(net.add("tanh", "y", (2, 3), x=net.input("x", "float32", (2, 3))), "float32")
    for key in (LAYOUT_KEY, CORRESPONDENCE_KEY, "metal4conv.source"):
        net.metadata(key, "text")
    package = net.save(tmp_path / "net.mlpackage")
    part = cut_to(package, tmp_path / "part.mlpackage", ["y"], ["y"], {"x": X, "y": X})
    assert part.package.metadata == {"metal4conv.source": "text"}


def test_another_function_is_cut(tmp_path: Path) -> None:
    build = PackageBuilder()
    build.output(
        build.operation(
            "relu", "y", "float32", (2, 3), {"x": [build.input("x", "float32", (2, 3))]}
        ),
        "float32",
    )
    build.spec.mlProgram.functions["second"].CopyFrom(build.function)
    second = build.spec.mlProgram.functions["second"].block_specializations["CoreML8"]
    second.operations[0].type = "tanh"
    row = build.spec.description.functions.add(name="second")
    row.input.add().CopyFrom(build.spec.description.input[0])
    row.output.add().CopyFrom(build.spec.description.output[0])
    package = build.write(tmp_path / "net.mlpackage")
    flow = dataflow(package.function("second"))
    cut = Cut(frozenset(flow.working), ("y",))
    part = cut_package(package, cut, {"x": X}, tmp_path / "part.mlpackage", function="second")
    assert list(part.package.program.functions) == ["main"]
    np.testing.assert_allclose(run_part(part, {"x": X})["y"], np.tanh(X), rtol=1e-6)


def test_what_reads_a_state_is_not_cut(tmp_path: Path) -> None:
    build = PackageBuilder()
    value = build.function.inputs.add(name="s")
    set_type_of_state(value.type)
    message = build.block.operations.add(type="read_state")
    message.inputs["input"].arguments.add(name="s")
    set_type(message.outputs.add(name="r").type, TensorType("float16", (2, 3)))
    state = build.spec.description.state.add(name="s").type.stateType.arrayType
    state.dataType = 65552
    state.shape.extend((2, 3))
    build.output("r", "float16")
    package = build.write(tmp_path / "net.mlpackage")
    flow = dataflow(package.function())
    assert isinstance(flow.types["s"], StateType)
    with pytest.raises(UnsupportedModel, match='"s" is no tensor'):
        cut_package(
            package, Cut(frozenset(flow.working), ("r",)), {"s": X}, tmp_path / "part.mlpackage"
        )


def set_type_of_state(message: object) -> None:
    """A state of (2, 3) float16."""
    wrapped = message.stateType.wrappedType  # type: ignore[attr-defined]
    set_type(wrapped, TensorType("float16", (2, 3)))


def test_a_list_is_no_output(tmp_path: Path) -> None:
    package = comparing(tmp_path / "net.mlpackage")
    flow = dataflow(package.function())
    broken = Cut(frozenset([flow.makers["c"]]), ("no such value",))
    with pytest.raises(UnsupportedModel, match='"no such value" can be no output'):
        cut_package(package, broken, {"x": X}, tmp_path / "part.mlpackage")


@pytest.mark.parametrize("offset", [32, 1 << 20, 128])
def test_an_offset_without_a_blob_is_damage(offset: int, tmp_path: Path) -> None:
    package = network(tmp_path / "net.mlpackage", 1)
    with pytest.raises(DamagedFile, match=f"the blob at offset {offset}"):
        copy_blobs(
            package.model_folder, [("@model_path/weights/weight.bin", offset)], tmp_path / "w.bin"
        )


def test_weights_outside_the_package_are_not_copied(tmp_path: Path) -> None:
    package = network(tmp_path / "net.mlpackage", 1)
    with pytest.raises(DamagedFile, match="outside the package"):
        copy_blobs(package.model_folder, [("@model_path/../../../x.bin", 64)], tmp_path / "w.bin")


def test_constants_are_what_needs_no_input(tmp_path: Path) -> None:
    net = Network()
    x = net.input("x", "float32", (2, 3))
    net.add("fill", "ones", (2, 3), shape=np.array([2, 3]), value=1.0)
    net.add("mul", "twos", (2, 3), x="ones", y=2.0)
    net.add("add", "y", (2, 3), x=x, y="twos")
    net.output("y", "float32")
    package = net.save(tmp_path / "net.mlpackage")
    flow = dataflow(package.function())
    assert [flow.operations[place].type for place in flow.working] == ["add"]
    assert flow.data_reads(flow.makers["y"]) == ("x",)
    part = cut_to(package, tmp_path / "part.mlpackage", ["y"], ["y"], {"x": X})
    np.testing.assert_array_equal(run_part(part, {"x": X})["y"], X + 2)
    assert read_package(part.package.path).function().block.outputs == ("y",)
