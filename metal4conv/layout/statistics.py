"""What a package is made of, in numbers: operations, weights, arithmetic, memory.

No weight is read for it, and a package with fixed sizes, or one that carries its layout manifest,
needs no torch.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any

from metal4conv.layout.flops import COUNTED
from metal4conv.layout.manifest import manifest_of
from metal4conv.layout.memory import is_constant
from metal4conv.mil.package import Package
from metal4conv.mil.program import Constant, Operation, Program, TensorType

FLOATS = ("float16", "float32", "float64", "bfloat16")


def program_statistics(package: Package) -> dict[str, Any]:  # Any: a JSON document
    """The statistics as JSON: of all functions, and at default sizes those of the default one.

    `flops` and `activations` are None where a size is only known when the program runs.
    """
    operations = [
        operation
        for function in package.program.functions.values()
        for operation in function.block.walk()
    ]
    counts = Counter(operation.type for operation in operations if operation.type != "const")
    manifest = manifest_of(package)
    costs = manifest.at(manifest.defaults)
    return {
        "functions": {
            name: {"opset": package.program.functions[name].opset}
            for name in sorted(package.program.functions)  # a protobuf map has no order
        },
        "operations": dict(sorted(counts.items(), key=lambda item: (-item[1], item[0]))),
        "operation_count": counts.total(),
        **weight_statistics(operations),
        "weight_file_bytes": sum(file.stat().st_size for file in package.weight_files()),
        "parameters": parameter_count(package.program),
        "sizes": manifest.defaults,
        "flops": costs.flops,
        "flops_counted": sorted(COUNTED.keys() & counts.keys()),
        "activations": {
            "peak_bytes": costs.estimated_bytes,
            "total_bytes": costs.activation_bytes,
        },
    }


def weight_statistics(operations: Iterable[Operation]) -> dict[str, Any]:  # Any: a JSON document
    """Constants in weight files by dtype, one that several operations share once; and the others.

    `bytes` are those of the data, which a weight file pads to multiples of 64.
    """
    constants = [item for operation in operations for item in constants_of(operation)]
    blobs = {(item.file, item.offset): item for item in constants if item.file is not None}
    weights: dict[str, dict[str, int]] = {}
    for constant in blobs.values():
        row = weights.setdefault(constant.type.dtype, {"count": 0, "elements": 0, "bytes": 0})
        row["count"] += 1
        row["elements"] += constant.element_count
        row["bytes"] += (constant.element_count * constant.type.element_bits + 7) // 8
    immediate = [item for item in constants if item.file is None]
    return {
        "weights": dict(sorted(weights.items(), key=lambda item: -item[1]["bytes"])),
        "immediate_constants": {
            "count": len(immediate),
            "elements": sum(item.element_count for item in immediate),
        },
    }


def constants_of(operation: Operation) -> Iterator[Constant]:
    """The constants that an operation holds itself."""
    yield from operation.attributes.values()
    for arguments in operation.inputs.values():
        yield from (argument for argument in arguments if isinstance(argument, Constant))


def parameter_count(program: Program) -> int:
    """Elements of the floating point constants that have dimensions, those compressed unpacked.

    Functions share weights through the weight file, so what has the same place counts once. Single
    numbers are no parameters, nor are integers such as shapes and permutations.
    """
    places: dict[object, int] = {}
    for function in program.functions.values():
        operations = list(function.block.walk())
        packed = {
            name
            for operation in operations
            if operation.type.startswith("constexpr_")
            for arguments in operation.inputs.values()
            for name in arguments
            if isinstance(name, str)
        }
        for operation in operations:
            if is_constant(operation) and operation.outputs[0].name not in packed:
                places[place_of(operation)] = parameter_elements(operation)
    return sum(places.values())


def place_of(operation: Operation) -> object:
    """What is the same for the same constant in two functions."""
    for constant in operation.attributes.values():
        if constant.file is not None:
            return constant.file, constant.offset
    return operation.outputs[0].name


def parameter_elements(operation: Operation) -> int:
    """Elements of a constant, 0 for what is no parameter."""
    type = operation.outputs[0].type
    if not isinstance(type, TensorType) or type.dtype not in FLOATS or not type.shape:
        return 0
    count = 1
    for size in type.shape:
        count *= int(size)
    return count
