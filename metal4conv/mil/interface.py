"""What a package declares to apps: inputs, outputs, states, and the sizes that they take."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from metal4conv.errors import DamagedFile, UnsupportedModel
from metal4conv.mil.dtypes import DTYPES
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

# FeatureTypes.proto, ImageFeatureType.ColorSpace: channels of the tensor, and the dtype of a pixel
COLORS = {
    "GRAYSCALE": (1, "float32"),
    "RGB": (3, "float32"),
    "BGR": (3, "float32"),
    "GRAYSCALE_FLOAT16": (1, "float16"),
}

FeatureKind = Literal["tensor", "image", "dictionary", "string", "int64", "double"]


@dataclass(frozen=True)
class Feature:
    """An input, output or state as the package declares it to apps.

    `enumerated` lists the allowed shapes where the package enumerates them. `default` is the value
    of an optional input that is left out. `color` is a picture's layout, one of `COLORS`; its type
    is that of the tensor in the program: (1, channels, height, width).
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
    """The features of a function's description, as `read_features` gives them."""
    return read_features(description, function.output_types, metadata)


def read_features(
    description: Any, declared: Mapping[str, ValueType], metadata: Mapping[str, str]
) -> Interface:
    """The features of a description, with the sizes' names from our metadata where it has them.

    A package from elsewhere names no dimensions: each gets its input's name and position.
    `declared` are the types of the outputs in the program. A network that gives one value as two
    outputs declares it twice; it is one feature. (Any: a protobuf message.)
    """
    shapes, known = dimensions_from_metadata(metadata)
    inputs = []
    dimensions: dict[str, Dimension] = {}
    for item in description.input:
        feature, found = read_input(item)
        feature, found = renamed(feature, found, shapes.get(item.name), known)
        inputs.append(feature)
        dimensions |= found
    outputs = [read_output(item, declared.get(item.name)) for item in description.output]
    states = tuple(
        Feature(item.name, array_type(item.type.stateType.arrayType, item.name))
        for item in description.state
    )
    return Interface(tuple(inputs), tuple(dict.fromkeys(outputs)), states, dimensions)


def renamed(
    feature: Feature,
    found: Mapping[str, Dimension],
    named: Shape | None,
    known: Mapping[str, Dimension],
) -> tuple[Feature, dict[str, Dimension]]:
    """An input whose sizes have the names of the layout manifest, and its dimensions by them.

    A name that stands for other sizes than those the package declares is not taken over: what
    apps may give is what the package declares.
    """
    shape: list[int | str] = []
    dimensions: dict[str, Dimension] = {}
    for position, size in enumerate(feature.type.shape):
        if isinstance(size, int):
            shape.append(size)
            continue
        name = named[position] if named and len(named) == len(feature.type.shape) else None
        if isinstance(name, str) and name in known and agrees(known[name], found[size]):
            shape.append(name)
            dimensions[name] = known[name]
        else:
            shape.append(size)
            dimensions[size] = found[size]
    return replace(feature, type=TensorType(feature.type.dtype, tuple(shape))), dimensions


def agrees(named: Dimension, declared: Dimension) -> bool:
    """Whether a dimension of the manifest, which may have steps, has the declared limits.

    >>> agrees(Dimension(8, 64, 8, step=8), Dimension(8, 64, 8))
    True
    """
    limits = (declared.minimum, declared.maximum)
    return (named.minimum, named.maximum) == limits and sorted(named.values) == list(
        declared.values
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
    except (KeyError, ValueError, TypeError, AttributeError):
        return {}, {}


def dimension_from_json(row: Mapping[str, Any]) -> Dimension:
    """A dimension as the layout manifest writes it. (Any: a JSON object.)

    >>> dimension_from_json({"min": 8, "max": 64, "default": 8, "step": 8})
    Dimension(minimum=8, maximum=64, default=8, step=8, values=())
    """
    if "values" in row:
        values = tuple(int(value) for value in row["values"])
        return Dimension(min(values), max(values), int(row["default"]), values=values)
    maximum = None if row["max"] is None else int(row["max"])
    return Dimension(int(row["min"]), maximum, int(row["default"]), int(row.get("step", 1)))


def read_input(item: Any) -> tuple[Feature, dict[str, Dimension]]:
    """A `FeatureDescription` of an input, and the dimensions that it declares."""
    kind = item.type.WhichOneof("Type")
    match kind:
        case "imageType":
            return read_image(item)
        case "multiArrayType":
            return read_array(item)
        case "int64Type":
            return number(item, "int64", "int64"), {}
        case "doubleType":
            return number(item, "double", "float64"), {}
    raise UnsupportedModel(
        f'input "{item.name}" is a {kind or "feature without a type"}, which no ML Program takes'
    )


def number(item: Any, kind: FeatureKind, dtype: str) -> Feature:
    """A feature that is one number."""
    return Feature(item.name, TensorType(dtype, (1,)), kind, optional=bool(item.type.isOptional))


def read_array(item: Any) -> tuple[Feature, dict[str, Dimension]]:
    """A multiarray input, and the dimensions that it declares."""
    array = item.type.multiArrayType
    defaults = tuple(int(size) for size in array.shape)
    flexibility = array.WhichOneof("ShapeFlexibility")
    enumerated: tuple[tuple[int, ...], ...] = ()
    columns: list[Sizes] = [(size, size, ()) for size in defaults]
    if flexibility == "enumeratedShapes":
        enumerated = tuple(tuple(map(int, entry.shape)) for entry in array.enumeratedShapes.shapes)
        columns = enumerated_sizes(item.name, enumerated)
    elif flexibility == "shapeRange":
        columns = [size_range(entry) for entry in array.shapeRange.sizeRanges]
    shape, dimensions = named_sizes(item.name, columns, defaults)
    feature = Feature(
        item.name,
        TensorType(array_dtype(array, item.name), shape),
        optional=bool(item.type.isOptional),
        default=optional_default(array, item.name),
        enumerated=enumerated,
    )
    return feature, dimensions


Sizes = tuple[int, int, tuple[int, ...]]
"""What one size may be: the least, the largest (-1 for any), and all there are if enumerated."""


def size_range(entry: Any) -> Sizes:
    """A `SizeRange` message."""
    return int(entry.lowerBound), int(entry.upperBound), ()


def enumerated_sizes(name: str, shapes: Sequence[tuple[int, ...]]) -> list[Sizes]:
    """The sizes that enumerated shapes have at each position.

    >>> enumerated_sizes("x", [(1, 4), (1, 8)])
    [(1, 1, (1,)), (4, 8, (4, 8))]
    """
    ranks = sorted({len(shape) for shape in shapes})
    if not ranks:
        raise DamagedFile(f'input "{name}" enumerates its shapes, but has none', where=name)
    if len(ranks) > 1:
        raise UnsupportedModel(
            f'input "{name}" enumerates shapes of ranks {", ".join(map(str, ranks))}; an ML '
            "Program has inputs of one rank",
            where=name,
        )
    columns = [tuple(sorted(set(column))) for column in zip(*shapes, strict=True)]
    return [(column[0], column[-1], column) for column in columns]


def named_sizes(
    name: str, columns: Sequence[Sizes], defaults: Sequence[int]
) -> tuple[Shape, dict[str, Dimension]]:
    """A shape whose dynamic sizes are named after the input, and the dimensions by these names.

    >>> named_sizes("x", [(1, 1, ()), (2, -1, ())], (1, 4))
    ((1, 'x_1'), {'x_1': Dimension(minimum=2, maximum=None, default=4, step=1, values=())})
    """
    shape: list[int | str] = []
    dimensions: dict[str, Dimension] = {}
    for position, (low, high, values) in enumerate(columns):
        maximum = None if high < 0 else high
        if low < 0 or (maximum is not None and maximum < low):
            raise DamagedFile(
                f'input "{name}" declares sizes from {low} to {high} for dimension {position}',
                where=name,
            )
        if low == high:
            shape.append(low)
            continue
        size = f"{identifier(name)}_{position}"
        default = defaults[position] if position < len(defaults) else low
        dimensions[size] = Dimension(low, maximum, default, values=values)
        shape.append(size)
    return tuple(shape), dimensions


def optional_default(array: Any, name: str) -> float | None:
    """The default of an optional input, None when it has none. (Any: a protobuf message.)"""
    field = array.WhichOneof("defaultOptionalValue")
    if field is None:
        return None
    value = float(getattr(array, field))
    dtype = array_dtype(array, name)
    if dtype.startswith("int"):
        limit = 2 ** (DTYPES[dtype].bits - 1)
        if not (-limit <= value < limit and value.is_integer()):
            raise DamagedFile(
                f'the default of input "{name}" is {value}, which {dtype} cannot hold', where=name
            )
    return value


def read_image(item: Any) -> tuple[Feature, dict[str, Dimension]]:
    """An image input as the tensor that the program gets: (1, channels, height, width)."""
    image = item.type.imageType
    color = color_of(image, item.name)
    channels, dtype = COLORS[color]
    defaults = (1, channels, int(image.height), int(image.width))
    flexible = image.WhichOneof("SizeFlexibility")
    enumerated: tuple[tuple[int, ...], ...] = ()
    columns: list[Sizes] = [(size, size, ()) for size in defaults]
    if flexible == "enumeratedSizes":
        enumerated = tuple(
            (1, channels, int(entry.height), int(entry.width))
            for entry in image.enumeratedSizes.sizes
        )
        columns = enumerated_sizes(item.name, enumerated)
    elif flexible == "imageSizeRange":
        ranges = image.imageSizeRange
        columns[2:] = [size_range(ranges.heightRange), size_range(ranges.widthRange)]
    shape, dimensions = named_sizes(item.name, columns, defaults)
    feature = Feature(
        item.name,
        TensorType(dtype, shape),
        kind="image",
        optional=bool(item.type.isOptional),
        enumerated=enumerated,
        color=color,
    )
    return feature, dimensions


def color_of(image: Any, name: str) -> str:
    """A picture's layout, one of `COLORS`. (Any: a protobuf message.)"""
    spellings = {number: key for key, number in type(image).ColorSpace.items()}
    color = str(spellings.get(image.colorSpace, image.colorSpace))
    if color not in COLORS:
        raise UnsupportedModel(
            f'picture "{name}" has color space {color}, expected one of {", ".join(COLORS)}',
            where=name,
        )
    return color


def read_output(item: Any, declared: ValueType | None) -> Feature:
    """A `FeatureDescription` of an output; the program's own type knows more about its shape."""
    kind = item.type.WhichOneof("Type")
    shape = declared.shape if isinstance(declared, TensorType) else ()
    match kind:
        case "multiArrayType":
            dtype = array_dtype(item.type.multiArrayType, item.name)
            return Feature(item.name, TensorType(dtype, shape))
        case "imageType":
            color = color_of(item.type.imageType, item.name)
            return Feature(item.name, TensorType(COLORS[color][1], shape), "image", color=color)
        case "dictionaryType":
            return Feature(item.name, TensorType("float32", ()), kind="dictionary")
        case "stringType":
            return Feature(item.name, TensorType("string", ()), kind="string")
        case "int64Type":
            return Feature(item.name, TensorType("int64", ()), kind="int64")
        case "doubleType":
            return Feature(item.name, TensorType("float64", ()), kind="double")
    raise UnsupportedModel(f'output "{item.name}" is a {kind}, which is not known')


def array_dtype(array: Any, name: str) -> str:
    """The dtype of an `ArrayFeatureType`. (Any: a protobuf message.)"""
    if array.dataType not in ARRAY_DTYPES:
        raise UnsupportedModel(
            f'feature "{name}" has element type {array.dataType}, expected one of '
            f"{', '.join(ARRAY_DTYPES.values())}",
            where=name,
        )
    return ARRAY_DTYPES[array.dataType]


def array_type(array: Any, name: str) -> TensorType:
    """An `ArrayFeatureType` with plain sizes. (Any: a protobuf message.)"""
    return TensorType(array_dtype(array, name), tuple(map(int, array.shape)))


def identifier(name: str) -> str:
    """A name that can stand in a formula.

    >>> identifier("input.1")
    'input_1'
    """
    cleaned = "".join(letter if letter.isalnum() else "_" for letter in name)
    return cleaned if cleaned[:1].isalpha() else f"d_{cleaned}"
