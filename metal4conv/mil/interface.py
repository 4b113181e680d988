"""What a package declares to apps: inputs, outputs, states, and the sizes that they take."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from metal4conv.errors import UnsupportedModel
from metal4conv.mil.program import Dimension, Function, Shape, TensorType, ValueType

LAYOUT_KEY = "metal4conv.layout"
"""User-defined metadata that holds the layout manifest, and with it the dimensions' names."""

# FeatureTypes.proto, ArrayFeatureType.ArrayDataType
ARRAY_DTYPES = {
    65568: "float32",
    65600: "float64",
    131104: "int32",
    65552: "float16",
    131080: "int8",
}

FeatureKind = Literal["tensor", "image", "dictionary", "string", "int64", "double"]


@dataclass(frozen=True)
class Feature:
    """An input, output or state as the package declares it to apps.

    `enumerated` lists the allowed shapes where the package enumerates them. `default` is the value
    of an optional input that is left out.
    """

    name: str
    type: TensorType
    kind: FeatureKind = "tensor"
    optional: bool = False
    default: float | None = None
    enumerated: tuple[tuple[int, ...], ...] = ()
    color: str | None = None


@dataclass(frozen=True)
class Interface:
    """The features of one function, and the sizes that their named dimensions may take."""

    inputs: tuple[Feature, ...]
    outputs: tuple[Feature, ...]
    states: tuple[Feature, ...]
    dimensions: Mapping[str, Dimension]


def read_interface(description: Any, function: Function, metadata: Mapping[str, str]) -> Interface:
    """The features of a description, with the sizes' names from our metadata where it has them.

    A package from elsewhere names no dimensions: each gets its input's name and position.
    """
    named, dimensions = dimensions_from_metadata(metadata)
    inputs = []
    for item in description.input:
        feature, found = read_input(item, named.get(item.name))
        inputs.append(feature)
        dimensions = found | dimensions
    declared = function.output_types
    outputs = tuple(read_output(item, declared.get(item.name)) for item in description.output)
    states = tuple(
        Feature(item.name, array_type(item.type.stateType.arrayType)) for item in description.state
    )
    used = {size for feature in inputs for size in feature.type.shape if isinstance(size, str)}
    return Interface(
        tuple(inputs), outputs, states, {key: dimensions[key] for key in dimensions if key in used}
    )


def dimensions_from_metadata(
    metadata: Mapping[str, str],
) -> tuple[dict[str, Shape], dict[str, Dimension]]:
    """Shapes of the inputs with named sizes, and the dimensions, from the layout manifest."""
    try:
        manifest = json.loads(metadata[LAYOUT_KEY])
        shapes = {
            tensor["name"]: tuple(tensor["coreml"]["shape"])
            for tensor in manifest["tensors"]
            if tensor["role"] == "input"
        }
        return shapes, {
            name: dimension_from_json(row) for name, row in manifest["dimensions"].items()
        }
    except (KeyError, ValueError, TypeError):
        return {}, {}


def dimension_from_json(row: Mapping[str, Any]) -> Dimension:
    """A dimension as the layout manifest writes it. (Any: a JSON object.)

    >>> dimension_from_json({"min": 8, "max": 64, "default": 8, "step": 8})
    Dimension(minimum=8, maximum=64, default=8, step=8, values=())
    """
    if "values" in row:
        values = tuple(int(value) for value in row["values"])
        return Dimension(min(values), max(values), int(row["default"]), values=values)
    return Dimension(row["min"], row["max"], row["default"], row.get("step", 1))


def read_input(item: Any, named: Shape | None) -> tuple[Feature, dict[str, Dimension]]:
    """A `FeatureDescription` of an input, and the dimensions that it declares."""
    kind = item.type.WhichOneof("Type")
    if kind == "imageType":
        return read_image(item)
    if kind != "multiArrayType":
        raise UnsupportedModel(f'input "{item.name}" is a {kind}, which no ML Program takes')
    array = item.type.multiArrayType
    dtype = ARRAY_DTYPES.get(array.dataType, "float32")
    defaults = tuple(int(size) for size in array.shape)
    flexibility = array.WhichOneof("ShapeFlexibility")
    enumerated: tuple[tuple[int, ...], ...] = ()
    ranges = [(size, size) for size in defaults]
    if flexibility == "enumeratedShapes":
        enumerated = tuple(tuple(map(int, entry.shape)) for entry in array.enumeratedShapes.shapes)
        ranges = [(min(column), max(column)) for column in zip(*enumerated, strict=True)]
    elif flexibility == "shapeRange":
        ranges = [
            (int(entry.lowerBound), int(entry.upperBound)) for entry in array.shapeRange.sizeRanges
        ]
    shape: list[int | str] = []
    dimensions: dict[str, Dimension] = {}
    for position, (low, high) in enumerate(ranges):
        if low == high:
            shape.append(low)
            continue
        known = named[position] if named and len(named) == len(ranges) else None
        size = known if isinstance(known, str) else f"{identifier(item.name)}_{position}"
        values = tuple(sorted({entry[position] for entry in enumerated}))
        default = defaults[position] if position < len(defaults) else low
        maximum = None if high < 0 else high
        dimensions[size] = Dimension(low, maximum, default, values=values)
        shape.append(size)
    default_value = optional_default(array)
    feature = Feature(
        item.name,
        TensorType(dtype, tuple(shape)),
        optional=bool(item.type.isOptional),
        default=default_value,
        enumerated=enumerated,
    )
    return feature, dimensions


def optional_default(array: Any) -> float | None:
    """The default of an optional input, None when it has none. (Any: a protobuf message.)"""
    field = array.WhichOneof("defaultOptionalValue")
    if field is None:
        return None
    value = float(getattr(array, field))
    return value if math.isfinite(value) else None


def read_image(item: Any) -> tuple[Feature, dict[str, Dimension]]:
    """An image input as the tensor that the program gets: (1, channels, height, width)."""
    image = item.type.imageType
    color = type(image).ColorSpace.Name(image.colorSpace)
    channels = 1 if color.startswith("GRAYSCALE") else 3
    dtype = "float16" if color == "GRAYSCALE_FLOAT16" else "float32"
    shape: list[int | str] = [1, channels]
    dimensions: dict[str, Dimension] = {}
    flexible = image.WhichOneof("SizeFlexibility")
    sizes = image.enumeratedSizes.sizes if flexible == "enumeratedSizes" else ()
    for position, axis in ((2, "height"), (3, "width")):
        size = int(getattr(image, axis))
        if flexible == "imageSizeRange":
            entry = getattr(image.imageSizeRange, f"{axis}Range")
            low, high = int(entry.lowerBound), int(entry.upperBound)
            values: tuple[int, ...] = ()
        elif flexible == "enumeratedSizes":
            values = tuple(sorted({int(getattr(entry, axis)) for entry in sizes}))
            low, high = values[0], values[-1]
        else:
            low = high = size
            values = ()
        if low == high:
            shape.append(low)
            continue
        name = f"{identifier(item.name)}_{position}"
        dimensions[name] = Dimension(low, None if high < 0 else high, size, values=values)
        shape.append(name)
    feature = Feature(
        item.name,
        TensorType(dtype, tuple(shape)),
        kind="image",
        optional=bool(item.type.isOptional),
        enumerated=tuple((1, channels, int(entry.height), int(entry.width)) for entry in sizes),
        color=color,
    )
    return feature, dimensions


def read_output(item: Any, declared: ValueType | None) -> Feature:
    """A `FeatureDescription` of an output; the program's own type knows more about its shape."""
    kind = item.type.WhichOneof("Type")
    shape = declared.shape if isinstance(declared, TensorType) else ()
    match kind:
        case "multiArrayType":
            dtype = ARRAY_DTYPES.get(item.type.multiArrayType.dataType, "float32")
            return Feature(item.name, TensorType(dtype, shape))
        case "imageType":
            return Feature(item.name, TensorType("float32", shape), kind="image")
        case "dictionaryType":
            return Feature(item.name, TensorType("float32", ()), kind="dictionary")
        case "stringType":
            return Feature(item.name, TensorType("string", ()), kind="string")
        case "int64Type":
            return Feature(item.name, TensorType("int64", ()), kind="int64")
        case "doubleType":
            return Feature(item.name, TensorType("float64", ()), kind="double")
    raise UnsupportedModel(f'output "{item.name}" is a {kind}, which is not known')


def array_type(array: Any) -> TensorType:
    """An `ArrayFeatureType` with plain sizes. (Any: a protobuf message.)"""
    return TensorType(ARRAY_DTYPES.get(array.dataType, "float32"), tuple(map(int, array.shape)))


def identifier(name: str) -> str:
    """A name that can stand in a formula.

    >>> identifier("input.1")
    'input_1'
    """
    cleaned = "".join(letter if letter.isalnum() else "_" for letter in name)
    return cleaned if cleaned[:1].isalpha() else f"d_{cleaned}"
