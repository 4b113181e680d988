"""Packages from elsewhere: written by coremltools, read and run here, against known numbers."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import metal4conv
from metal4conv.errors import DamagedFile, Metal4ConvError, UnsupportedModel, UsageError
from metal4conv.frontends.toolkit import quiet, without_bars
from metal4conv.mil.package import Package, read_package
from metal4conv.mil.program import Constant, Dimension, StateType, TensorType
from tests.mil.foreign import save, tensor, toolkit

SIDE = 16
RANDOM = np.random.default_rng(0)
X = RANDOM.integers(-4, 5, (1, SIDE)).astype(np.float32)
"""Whole numbers, so that float32 arithmetic on them is exact."""


def constants(package: Package) -> list[Constant]:
    """All constants: of `const` operations, and of parameters given directly."""
    return [
        item
        for operation in package.function().block.walk()
        for items in (operation.attributes.values(), *operation.inputs.values())
        for item in items
        if isinstance(item, Constant)
    ]


def assert_stored(package: Package, dtype: str, expected: np.ndarray) -> None:
    """The package has one constant of that type and shape in its file, with these values."""
    type = TensorType(dtype, expected.shape)
    found = [
        constant
        for constant in constants(package)
        if constant.type == type and constant.file is not None
    ]
    assert len(found) == 1
    assert found[0].offset is not None
    value = found[0].value
    assert value.dtype == expected.dtype
    assert not value.flags.writeable
    np.testing.assert_array_equal(value, expected)


@pytest.mark.parametrize("target", ["iOS17", "iOS18"])
@pytest.mark.parametrize("dtype", ["float16", "float32", "int8", "uint8", "int32", "bool"])
def test_plain_constants(dtype: str, target: str, tmp_path: Path) -> None:
    lowest = -100 if np.dtype(dtype).kind in "if" else 0
    weight = RANDOM.integers(lowest, 100, (SIDE, SIDE)).astype(dtype)

    def body(x: Any) -> Any:
        _, mb, _ = toolkit()
        return mb.matmul(x=x, y=mb.cast(x=mb.const(val=weight), dtype="fp32"), name="y")

    path = save(tmp_path, body, [tensor(X.shape)], target)
    package = read_package(path)
    if dtype not in ("bool", "int32"):  # those two stand in the program itself
        assert_stored(package, dtype, weight)
    else:
        held = [
            constant.value
            for constant in constants(package)
            if constant.type == TensorType(dtype, weight.shape)
        ]
        assert len(held) == 1
        np.testing.assert_array_equal(held[0], weight)
    (found,) = metal4conv.load(path).predict({"x": X}).values()
    np.testing.assert_array_equal(found, X @ weight.astype(np.float32))


@dataclass(frozen=True)
class Compressed:
    """How a weight is stored, and what it stands for."""

    id: str
    target: str
    operation: str
    stored: dict[str, tuple[str, np.ndarray]]
    """Parameters that lie in the weight file, with their types in the file."""
    others: dict[str, Any]
    dense: np.ndarray


SUB_BYTE = {
    "int4": "np_int4_dtype",
    "uint1": "np_uint1_dtype",
    "uint2": "np_uint2_dtype",
    "uint3": "np_uint3_dtype",
    "uint4": "np_uint4_dtype",
    "uint6": "np_uint6_dtype",
}


def blockwise(dtype: str, *, with_offset: bool) -> Compressed:
    """Blocks of 4 rows and 8 columns; scales are powers of two, so that nothing is rounded."""
    low, high = {"int4": (-8, 8), "uint4": (0, 16), "int8": (-128, 128), "uint8": (0, 256)}[dtype]
    held = np.int8 if dtype.startswith("int") else np.uint8
    data = RANDOM.integers(low, high, (SIDE, SIDE)).astype(held)
    scale = 2.0 ** RANDOM.integers(-3, 3, (SIDE // 4, 2)).astype(np.float32)
    offset = RANDOM.integers(low, high, scale.shape).astype(held)
    wide_scale, wide_offset = (
        item.repeat(4, 0).repeat(8, 1).astype(np.float32) for item in (scale, offset)
    )
    plain = data.astype(np.float32)
    return Compressed(
        f"blockwise-{dtype}{'-offset' if with_offset else ''}",
        "iOS18",
        "constexpr_blockwise_shift_scale",
        {"data": (dtype, data)} | ({"offset": (dtype, offset)} if with_offset else {}),
        {"scale": scale},
        (plain - wide_offset if with_offset else plain) * wide_scale,
    )


def table(bits: int) -> Compressed:
    """Two tables, for the upper and the lower rows."""
    indices = RANDOM.integers(0, 2**bits, (SIDE, SIDE)).astype(np.uint8)
    lut = RANDOM.integers(-50, 50, (2, 1, 2**bits, 1)).astype(np.float32)
    half = SIDE // 2
    dense = np.concatenate([lut[0, 0, indices[:half], 0], lut[1, 0, indices[half:], 0]])
    return Compressed(
        f"table-uint{bits}",
        "iOS18",
        "constexpr_lut_to_dense",
        {"indices": (f"uint{bits}", indices)},
        {"lut": lut},
        dense,
    )


def sparse(dtype: str) -> Compressed:
    """A mask of bits, and the values where it is set."""
    mask = (RANDOM.random((SIDE, SIDE)) < 0.4).astype(np.uint8)
    nonzero = RANDOM.integers(1, 100, int(mask.sum())).astype(dtype)
    dense = np.zeros(mask.shape, dtype)
    dense[mask == 1] = nonzero
    return Compressed(
        f"sparse-{dtype}",
        "iOS18",
        "constexpr_sparse_to_dense",
        {"mask": ("uint1", mask), "nonzero_data": (dtype, nonzero)},
        {},
        dense,
    )


def packed(digits: np.ndarray, bits: int) -> np.ndarray:
    """Whole numbers of some bits in bytes, lowest bits first, with plain arithmetic."""
    number = sum(int(digit) << (bits * at) for at, digit in enumerate(digits.reshape(-1)))
    return np.frombuffer(number.to_bytes((digits.size * bits + 7) // 8, "little"), np.uint8)


def packed_table(bits: int) -> Compressed:
    """One table; indices of a few bits in bytes."""
    indices = RANDOM.integers(0, 2**bits, (SIDE, SIDE)).astype(np.uint8)
    lut = RANDOM.integers(-50, 50, 2**bits).astype(np.float32)
    return Compressed(
        f"table-{bits}-bits-packed",
        "iOS16",
        "constexpr_lut_to_dense",
        {"indices": ("uint8", packed(indices, bits))},
        {"lut": lut, "shape": np.array([SIDE, SIDE], np.uint32)},
        lut[indices],
    )


def packed_sparse(dtype: str) -> Compressed:
    """The mask as bytes."""
    mask = (RANDOM.random((SIDE, SIDE)) < 0.4).astype(np.uint8)
    nonzero = RANDOM.integers(1, 100, int(mask.sum())).astype(dtype)
    dense = np.zeros(mask.shape, dtype)
    dense[mask == 1] = nonzero
    return Compressed(
        f"sparse-{dtype}-packed",
        "iOS16",
        "constexpr_sparse_to_dense",
        {"mask": ("uint8", packed(mask, 1)), "nonzero_data": (dtype, nonzero)},
        {"shape": np.array([SIDE, SIDE], np.uint32)},
        dense,
    )


def affine(dtype: str, target: str) -> Compressed:
    """A scale and a zero point for each column."""
    limits = np.iinfo(dtype)
    data = RANDOM.integers(limits.min, limits.max + 1, (SIDE, SIDE)).astype(dtype)
    zero_point = RANDOM.integers(limits.min, limits.max + 1, SIDE).astype(dtype)
    scale = 2.0 ** RANDOM.integers(-3, 3, SIDE).astype(np.float32)
    dense = (data.astype(np.float32) - zero_point.astype(np.float32)) * scale
    return Compressed(
        f"affine-{dtype}-{target}",
        target,
        "constexpr_affine_dequantize",
        {"quantized_data": (dtype, data)},
        {"zero_point": zero_point, "scale": scale, "axis": np.int32(1)},
        dense,
    )


COMPRESSED = [
    *(
        blockwise(dtype, with_offset=with_offset)
        for dtype in ("int4", "uint4", "int8", "uint8")
        for with_offset in (False, True)
    ),
    *map(table, (1, 2, 3, 4, 6, 8)),
    *map(sparse, ("float32", "float16", "int8")),
    *map(packed_table, (1, 2, 4, 6, 8)),
    *map(packed_sparse, ("float32", "float16")),
    *(affine(dtype, target) for dtype in ("int8", "uint8") for target in ("iOS16", "iOS17")),
]


@pytest.mark.parametrize("case", COMPRESSED, ids=lambda case: case.id)
def test_compressed_weights(case: Compressed, tmp_path: Path) -> None:
    def body(x: Any) -> Any:
        _, mb, types = toolkit()
        stored = {
            key: array.astype(getattr(types, SUB_BYTE[dtype])) if dtype in SUB_BYTE else array
            for key, (dtype, array) in case.stored.items()
        }
        weight = getattr(mb, case.operation)(**stored, **case.others)
        if case.dense.dtype != np.float32:
            weight = mb.cast(x=weight, dtype="fp32")
        return mb.matmul(x=x, y=weight, name="y")

    path = save(tmp_path, body, [tensor(X.shape)], case.target)
    package = read_package(path)
    for dtype, array in case.stored.values():
        if array.size > 16:  # coremltools keeps the few numbers of a small one in the program
            assert_stored(package, dtype, array)
    (found,) = metal4conv.load(path).predict({"x": X}).values()
    np.testing.assert_array_equal(found, X @ case.dense.astype(np.float32))


def scaled(factor: float) -> Callable[..., Any]:
    """A program: the sum of the 16 numbers, times a factor, four times."""
    weight = np.full((SIDE, 4), factor, np.float32)

    def body(x: Any) -> Any:
        _, mb, _ = toolkit()
        return mb.matmul(x=x, y=mb.const(val=weight), name="y")

    return body


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A package with one weight of 64 ones."""
    return save(tmp_path_factory.mktemp("plain"), scaled(1), [tensor(X.shape)])


@pytest.fixture
def copied(plain: Path, tmp_path: Path) -> Path:
    """A copy to damage."""
    return Path(shutil.copytree(plain, tmp_path / "copied.mlpackage"))


def test_several_functions(tmp_path: Path) -> None:
    ct, _, _ = toolkit()
    several = ct.utils.MultiFunctionDescriptor()
    for name, factor in (("half", 0.5), ("double", 2.0)):
        (tmp_path / name).mkdir()
        path = save(tmp_path / name, scaled(factor), [tensor(X.shape)])
        several.add_function(str(path), src_function_name="main", target_function_name=name)
    several.default_function_name = "double"
    path = tmp_path / "several.mlpackage"
    with quiet(), without_bars():
        ct.utils.save_multifunction(several, str(path))

    package = read_package(path)
    assert set(package.program.functions) == {"half", "double"}
    assert package.default_function == "double"
    assert package.interface("half").outputs[0].type == TensorType("float32", (1, 4))
    for function, factor in ((None, 2), ("double", 2), ("half", 0.5)):
        (found,) = metal4conv.load(path, function=function).predict({"x": X}).values()
        np.testing.assert_array_equal(found, np.full((1, 4), X.sum() * factor, np.float32))
    with pytest.raises(UsageError, match='no function "hafl"') as caught:
        metal4conv.load(path, function="hafl")
    assert 'did you mean "half"' in str(caught.value)


def test_states(tmp_path: Path) -> None:
    _, mb, types = toolkit()

    def body(x: Any, total: Any) -> Any:
        added = mb.add(x=mb.read_state(input=total), y=x)
        updated = mb.coreml_update_state(state=total, value=added)
        return mb.mul(x=updated, y=np.float16(2), name="y")

    state = mb.StateTensorSpec((4,), types.fp16)
    path = save(tmp_path, body, [tensor((4,), "fp16"), state])
    package = read_package(path)
    type = TensorType("float16", (4,))
    assert [(item.name, item.type) for item in package.interface().states] == [("total", type)]
    assert [item.name for item in package.interface().inputs] == ["x"]
    assert {item.name: item.type for item in package.function().inputs}["total"] == StateType(type)

    executor = metal4conv.load(path)
    x = np.array([0, 1, 2, -3], np.float16)
    kept = executor.make_state()
    np.testing.assert_array_equal(executor.predict({"x": x}, kept)["y"], 2 * x)
    np.testing.assert_array_equal(executor.predict({"x": x}, kept)["y"], 4 * x)
    np.testing.assert_array_equal(kept["total"], 2 * x)
    np.testing.assert_array_equal(executor.predict({"x": x})["y"], 2 * x)  # starts at zeros
    for wrong in ({}, {"total": np.zeros(3, np.float16)}):
        with pytest.raises(UsageError, match=r'state "total" must be an array of shape \(4,\)'):
            executor.predict({"x": x}, wrong)


@pytest.mark.parametrize(("color", "channels"), [("RGB", 3), ("BGR", 3), ("GRAYSCALE", 1)])
def test_image_input(color: str, channels: int, tmp_path: Path) -> None:
    ct, mb, _ = toolkit()
    shape = (1, channels, 4, 6)
    image = ct.ImageType(
        "x",
        shape=shape,
        color_layout=ct.colorlayout[color],
        scale=0.5,
        bias=1 if channels == 1 else [1, 2, 3],
    )
    path = save(
        tmp_path,
        lambda x: mb.reduce_sum(x=x, axes=[2, 3], keep_dims=False, name="y"),
        [tensor(shape)],
        inputs=[image],
        pass_pipeline=ct.PassPipeline.DEFAULT,  # which puts scale and bias into the program
    )
    (feature,) = read_package(path).interface().inputs
    assert (feature.kind, feature.color) == ("image", color)
    assert feature.type == TensorType("float32", shape)
    picture = np.arange(np.prod(shape), dtype=np.float32).reshape(shape)
    expected = picture.sum((2, 3)) * 0.5 + 24 * np.arange(1, channels + 1)
    found = metal4conv.load(path).predict({"x": picture})["y"]
    np.testing.assert_array_equal(found, expected.astype(np.float32))


def unknown_sizes(*shape: int | None) -> Any:
    """The specification of an input, None for a size that is not known."""
    _, mb, types = toolkit()
    from coremltools.converters.mil.mil import get_new_symbol

    sizes = tuple(get_new_symbol() if size is None else size for size in shape)
    return mb.TensorSpec(sizes, types.fp32)


def row_sums(x: Any) -> Any:
    """A program for any matrix."""
    _, mb, _ = toolkit()
    return mb.reduce_sum(x=x, axes=[1], keep_dims=False, name="y")


def assert_row_sums(
    path: Path, good: list[tuple[int, int]], bad: dict[tuple[int, int], str]
) -> None:
    """Good shapes give the sums, bad ones are refused with a message."""
    executor = metal4conv.load(path)
    for shape in good:
        x = RANDOM.integers(-9, 9, shape).astype(np.float32)
        np.testing.assert_array_equal(executor.predict({"x": x})["y"], x.sum(1))
    for shape, message in bad.items():
        with pytest.raises(UsageError, match=message):
            executor.predict({"x": np.zeros(shape, np.float32)})


def test_ranges_of_sizes(tmp_path: Path) -> None:
    ct, _, _ = toolkit()
    shape = (ct.RangeDim(1, 8, default=2), ct.RangeDim(2, 9, default=3))
    inputs = [ct.TensorType("x", shape=shape)]
    path = save(tmp_path, row_sums, [unknown_sizes(None, None)], inputs=inputs)
    interface = read_package(path).interface()
    assert interface.inputs[0].type == TensorType("float32", ("x_0", "x_1"))
    assert interface.dimensions == {"x_0": Dimension(1, 8, 2), "x_1": Dimension(2, 9, 3)}
    bad = {
        (9, 3): r'input "x", dimension 0: size 9 for "x_0", allowed is 1\.\.8@2',
        (8, 1): r'input "x", dimension 1: size 1 for "x_1", allowed is 2\.\.9@3',
    }
    assert_row_sums(path, [(1, 2), (8, 9), (3, 4)], bad)


def test_a_range_without_an_upper_bound(tmp_path: Path) -> None:
    ct, _, _ = toolkit()
    inputs = [ct.TensorType("x", shape=(ct.RangeDim(1, 8, default=2), 3))]
    path = save(tmp_path, row_sums, [unknown_sizes(None, 3)], inputs=inputs)
    file = path / "Data/com.apple.CoreML/model.mlmodel"
    spec = read_package(path).spec
    spec.description.input[0].type.multiArrayType.shapeRange.sizeRanges[0].upperBound = -1
    file.write_bytes(spec.SerializeToString())
    interface = read_package(path).interface()
    assert interface.dimensions == {"x_0": Dimension(1, None, 2)}
    bad = {(0, 3): r'size 0 for "x_0", allowed is 1\.\.@2', (2, 4): "size 4, expected 3"}
    assert_row_sums(path, [(1, 3), (500, 3)], bad)


def test_enumerated_shapes(tmp_path: Path) -> None:
    ct, _, _ = toolkit()
    shapes = ct.EnumeratedShapes([(2, 3), (4, 8)], default=(4, 8))
    inputs = [ct.TensorType("x", shape=shapes)]
    path = save(tmp_path, row_sums, [unknown_sizes(None, None)], inputs=inputs)
    interface = read_package(path).interface()
    assert set(interface.inputs[0].enumerated) == {(2, 3), (4, 8)}
    assert interface.dimensions == {
        "x_0": Dimension(2, 4, 4, values=(2, 4)),
        "x_1": Dimension(3, 8, 8, values=(3, 8)),
    }
    message = r'input "x" has shape \(\d, \d\), expected one of \(\d, \d\), \(\d, \d\)'
    assert_row_sums(path, [(2, 3), (4, 8)], {(2, 8): message, (4, 3): message, (3, 3): message})


def test_sizes_of_an_image_are_enumerated_together(tmp_path: Path) -> None:
    ct, mb, _ = toolkit()
    shapes = ct.EnumeratedShapes([(1, 3, 2, 3), (1, 3, 4, 8)], default=(1, 3, 4, 8))
    path = save(
        tmp_path,
        lambda x: mb.reduce_sum(x=x, axes=[2, 3], keep_dims=False, name="y"),
        [unknown_sizes(1, 3, None, None)],
        inputs=[ct.ImageType("x", shape=shapes)],
    )
    (feature,) = read_package(path).interface().inputs
    assert set(feature.enumerated) == {(1, 3, 2, 3), (1, 3, 4, 8)}
    executor = metal4conv.load(path)
    found = executor.predict({"x": np.ones((1, 3, 2, 3), np.float32)})["y"]
    np.testing.assert_array_equal(found, np.full((1, 3), 6, np.float32))
    with pytest.raises(UsageError, match="expected one of"):
        executor.predict({"x": np.ones((1, 3, 2, 8), np.float32)})


def changed(plain: Path, copied: Path, change: Callable[[Any], object]) -> Path:
    """A package whose description a function has changed."""
    spec = read_package(plain).spec
    change(spec.description)
    (copied / "Data/com.apple.CoreML/model.mlmodel").write_bytes(spec.SerializeToString())
    return copied


def picture_without_color(description: Any) -> None:
    image = description.output[0].type.imageType
    image.width = image.height = 2


def int_default(value: float) -> Callable[[Any], None]:
    """The input becomes an optional one of int32 with this default."""

    def change(description: Any) -> None:
        array = description.input[0].type.multiArrayType
        array.dataType = 131104
        array.doubleDefaultValue = value

    return change


def turned_range(description: Any) -> None:
    array = description.input[0].type.multiArrayType
    for low, high in ((1, 1), (16, 3)):
        array.shapeRange.sizeRanges.add(lowerBound=low, upperBound=high)


def negative_size(description: Any) -> None:
    description.input[0].type.multiArrayType.shape[1] = -16


def no_shape_at_all(description: Any) -> None:
    description.input[0].type.multiArrayType.enumeratedShapes.SetInParent()


def two_ranks(description: Any) -> None:
    shapes = description.input[0].type.multiArrayType.enumeratedShapes.shapes
    shapes.add(shape=[1, 16])
    shapes.add(shape=[16])


def unknown_elements(description: Any) -> None:
    description.output[0].type.multiArrayType.dataType = 0


def a_text(description: Any) -> None:
    description.input[0].type.stringType.SetInParent()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (picture_without_color, '"y" has color space INVALID_COLOR_SPACE, expected one of GRAYSC'),
        (int_default(0.5), r'default of input "x" is 0\.5, which int32 cannot hold'),
        (int_default(2.0**31), r'default of input "x" is 2147483648\.0, which int32 cannot hold'),
        (int_default(float("nan")), 'default of input "x" is nan, which int32 cannot hold'),
        (turned_range, 'input "x" declares sizes from 16 to 3 for dimension 1'),
        (negative_size, 'input "x" declares sizes from -16 to -16 for dimension 1'),
        (no_shape_at_all, 'input "x" enumerates its shapes, but has none'),
        (two_ranks, "enumerates shapes of ranks 1, 2"),
        (unknown_elements, 'feature "y" has element type 0, expected one of float32, float64'),
        (a_text, 'input "x" is a stringType, which no ML Program takes'),
    ],
)
def test_declarations_that_cannot_be(
    change: Callable[[Any], object], message: str, plain: Path, copied: Path
) -> None:
    package = read_package(changed(plain, copied, change))
    with pytest.raises((DamagedFile, UnsupportedModel), match=message):
        package.interface()


def neural_network(path: Path) -> Path:
    """A model of the older kind, as a file or a package by its name."""
    ct, _, _ = toolkit()
    from coremltools.models import datatypes
    from coremltools.models.neural_network import NeuralNetworkBuilder

    with quiet():
        features = [("x", datatypes.Array(3))], [("y", datatypes.Array(3))]
        builder = NeuralNetworkBuilder(*features)
        builder.add_activation("r", "RELU", "x", "y")
        ct.models.MLModel(builder.spec, skip_model_load=True).save(str(path))
    return path


def test_a_neural_network_is_refused(tmp_path: Path) -> None:
    package = neural_network(tmp_path / "old.mlpackage")
    with pytest.raises(UnsupportedModel, match="holds a neuralNetwork, not an ML Program"):
        metal4conv.load(package)


def test_a_single_file_is_refused(tmp_path: Path) -> None:
    file = neural_network(tmp_path / "old.mlmodel")
    with pytest.raises(DamagedFile, match="is not a package") as caught:
        metal4conv.load(file)
    assert "a single .mlmodel file is not supported" in str(caught.value)


WEIGHTS = "Data/com.apple.CoreML/weights/weight.bin"


def test_the_weights_are_missing(copied: Path) -> None:
    (copied / WEIGHTS).unlink()
    package = read_package(copied)  # which reads no weights
    assert package.weight_files() == ()
    with pytest.raises(DamagedFile, match=r"has no file weights/weight\.bin") as caught:
        metal4conv.load(copied)
    assert "in operation y (matmul)" in str(caught.value)


def test_a_folder_in_the_place_of_the_weights(copied: Path) -> None:
    (copied / WEIGHTS).unlink()
    (copied / WEIGHTS).mkdir()
    with pytest.raises(DamagedFile, match=r"weights/weight\.bin"):
        metal4conv.load(copied)


@pytest.mark.parametrize("length", [0, 10, 63, 64, 100, 128, 383])
def test_truncated_weights(length: int, copied: Path) -> None:
    content = (copied / WEIGHTS).read_bytes()
    assert len(content) == 384  # header, record, 64 numbers
    (copied / WEIGHTS).write_bytes(content[:length])
    with pytest.raises(DamagedFile, match="truncated"):
        metal4conv.load(copied)


@pytest.mark.parametrize(
    ("at", "content", "message"),
    [
        (4, b"\x01", "version 1, expected 2"),
        (64, b"\0\0\0\0", "no weight record at offset 64"),
        (68, b"\x01", "the program declares float32, the file has float16"),
        (68, b"\x63", "the program declares float32, the file has None"),
        (72, b"\xfc", r"needs 256 bytes, found 252"),
        (80, b"\xc0", "its 256 bytes at 192 end after the file's 384 bytes"),
    ],
)
def test_overwritten_weights(at: int, content: bytes, message: str, copied: Path) -> None:
    old = (copied / WEIGHTS).read_bytes()
    new = old[:at] + content + old[at + len(content) :]
    if at == 72:  # 256 is written in the second byte
        new = new[:73] + b"\0" + new[74:]
    (copied / WEIGHTS).write_bytes(new)
    with pytest.raises(DamagedFile, match=message):
        metal4conv.load(copied)


def test_weights_outside_the_package(plain: Path, copied: Path) -> None:
    (copied / WEIGHTS).unlink()
    (copied / WEIGHTS).symlink_to(plain / WEIGHTS)
    with pytest.raises(DamagedFile, match="reads a file outside the package"):
        metal4conv.load(copied)


def manifest(path: object) -> str:
    """A manifest that names a file."""
    return json.dumps({"itemInfoEntries": {"A": {"path": path}}, "rootModelIdentifier": "A"})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is damaged"),
        ("{", "is damaged"),
        ("null", "is damaged"),
        ("[]", "is damaged"),
        ("[" * 100_000, "is damaged"),
        ("{}", "it has no entry 'itemInfoEntries'"),
        ('{"itemInfoEntries": {}, "rootModelIdentifier": "A"}', "it has no entry 'A'"),
        ('{"itemInfoEntries": {"A": 3}, "rootModelIdentifier": "A"}', "is damaged"),
        ('{"itemInfoEntries": {}, "rootModelIdentifier": []}', "is damaged"),
        (manifest("no.mlmodel"), r"has no file Data/no\.mlmodel"),
        (manifest("com.apple.CoreML"), r"has no file Data/com\.apple\.CoreML"),
        (manifest("a\0b"), "is damaged"),
        (manifest("a" * 5000), "is damaged"),
        (manifest("/etc/passwd"), "names a file outside the package: /etc/passwd"),
        (
            manifest("../../plain.mlpackage/Data/com.apple.CoreML/model.mlmodel"),
            r"names a file outside the package: \.\./",
        ),
    ],
    ids=lambda value: value[:40] if isinstance(value, str) else None,
)
def test_damaged_manifest(text: str, message: str, plain: Path, copied: Path) -> None:
    shutil.copytree(plain, copied.with_name("plain.mlpackage"))
    (copied / "Manifest.json").write_text(text)
    with pytest.raises(DamagedFile, match=message) as caught:
        read_package(copied)
    assert len(str(caught.value)) < 500


def test_a_manifest_of_other_bytes(copied: Path) -> None:
    (copied / "Manifest.json").write_bytes(b"\xff\xfe\0")
    with pytest.raises(DamagedFile, match=r"Manifest\.json is damaged"):
        read_package(copied)


def test_no_manifest(copied: Path) -> None:
    (copied / "Manifest.json").unlink()
    with pytest.raises(DamagedFile, match=r"has no Manifest\.json"):
        read_package(copied)


@pytest.mark.parametrize("content", [b"", b"\x08", b"not a model at all"])
def test_damaged_model(content: bytes, copied: Path) -> None:
    (copied / "Data/com.apple.CoreML/model.mlmodel").write_bytes(content)
    with pytest.raises(DamagedFile, match=r"model\.mlmodel"):
        read_package(copied)


@pytest.mark.parametrize("length", range(5, 400, 40))
def test_truncated_model(length: int, copied: Path) -> None:
    file = copied / "Data/com.apple.CoreML/model.mlmodel"
    file.write_bytes(file.read_bytes()[:length])
    with pytest.raises(Metal4ConvError):
        metal4conv.load(copied)
