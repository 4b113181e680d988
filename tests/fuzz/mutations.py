"""Changes to the files of a package: bytes of any file, or fields of the program's messages.

Whatever is changed follows from the random generator, so that a seed names one package.
"""

from __future__ import annotations

import random
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from google.protobuf.descriptor import FieldDescriptor as Field
from google.protobuf.message import DecodeError

from metal4conv.execute import families
from metal4conv.execute.table import MIL_OPS
from metal4conv.mil.schema import deterministic_bytes, new_model

MODEL = "Data/com.apple.CoreML/model.mlmodel"
MANIFEST = "Manifest.json"

Files = dict[str, bytes]
"""The files of a package by their path in it."""

families.load_all()
OPERATIONS = sorted(MIL_OPS.handlers)

WHOLE = [0, 1, 2, 3, 7, 64, 255, 1 << 16, (1 << 31) - 1, 1 << 31, 1 << 32, 1 << 40, (1 << 63) - 1]
LIMITS = {
    Field.CPPTYPE_INT32: (-(1 << 31), (1 << 31) - 1),
    Field.CPPTYPE_INT64: (-(1 << 63), (1 << 63) - 1),
    Field.CPPTYPE_UINT32: (0, (1 << 32) - 1),
    Field.CPPTYPE_UINT64: (0, (1 << 64) - 1),
}
REAL = [0.0, -1.0, 0.5, 1e38, -1e38, float("nan"), float("inf"), float("-inf")]
TEXT = ["", "x", "main", "\0", "é" * 300, "valid", "fp16", "CoreML5", "../../../etc/passwd"]


@dataclass(frozen=True)
class Place:
    """A field that has a value in some message. (Any: protobuf classes carry no types.)"""

    message: Any
    field: Any

    @property
    def is_map(self) -> bool:
        kind = self.field.message_type
        return bool(kind is not None and kind.GetOptions().map_entry)

    @property
    def is_repeated(self) -> bool:
        return bool(self.field.is_repeated)

    @property
    def content(self) -> Any:
        return getattr(self.message, self.field.name)


def places(message: Any) -> Iterator[Place]:
    """All fields with a value, of a message and what is within it."""
    for field, content in message.ListFields():
        place = Place(message, field)
        yield place
        if field.message_type is None:
            continue
        if place.is_map:
            if field.message_type.fields_by_name["value"].message_type is not None:
                for key in sorted(content):  # protobuf's own order changes from process to process
                    yield from places(content[key])
        elif place.is_repeated:
            for item in content:
                yield from places(item)
        else:
            yield from places(content)


def mutated(files: Files, draw: random.Random) -> Files:
    """The package with one to three changes."""
    changed = dict(files)
    for _ in range(draw.choice([1, 1, 1, 2, 3])):
        if draw.random() < 0.3:
            weights = [name for name in sorted(files) if name.endswith(".bin")]
            # small weights stand in the program itself
            weights = weights or [MODEL]
            name = draw.choice([MODEL, draw.choice(weights), draw.choice(weights), MODEL, MANIFEST])
            changed[name] = changed_bytes(changed[name], draw)
            continue
        spec = new_model()
        try:
            spec.ParseFromString(changed[MODEL])
        except DecodeError:  # of an earlier change
            return changed
        change_message(spec, draw)
        changed[MODEL] = deterministic_bytes(spec)
    return changed


def changed_bytes(content: bytes, draw: random.Random) -> bytes:
    """Some bytes changed, removed, inserted, or repeated."""
    at = draw.randrange(len(content) + 1)
    end = min(len(content), at + draw.choice([1, 2, 8, 64, 1000]))
    kept = bytearray(content)
    match draw.choice(["flip", "flip", "cut", "remove", "insert", "repeat", "zero", "number"]):
        case "flip":
            for _ in range(draw.choice([1, 1, 2, 8])):
                if kept:
                    kept[draw.randrange(len(kept))] ^= 1 << draw.randrange(8)
        case "cut":
            del kept[at:]
        case "remove":
            del kept[at:end]
        case "insert":
            kept[at:at] = draw.randbytes(draw.choice([1, 4, 100]))
        case "repeat":
            kept[at:at] = kept[at:end]
        case "zero":
            kept[at:end] = bytes(end - at)
        case "number":
            start = at // 8 * 8
            kept[start : start + 8] = struct.pack("<Q", draw.choice(WHOLE))
    return bytes(kept)


def change_message(spec: Any, draw: random.Random) -> None:
    """One change to a `Model` message: to an operation, or to any field."""
    blocks = [
        place.content
        for place in places(spec)
        if place.field.name == "operations" and len(place.content)
    ]
    if blocks and draw.random() < 0.4:
        change_operation(draw.choice(blocks), draw)
        return
    is_program = spec.WhichOneof("Type") == "mlProgram"
    whole = spec.mlProgram if is_program and draw.random() < 0.7 else spec
    if blocks and draw.random() < 0.6:
        computing = [item for block in blocks for item in block if item.type != "const"]
        whole = draw.choice(computing or [whole])
    found = list(places(whole))
    if found:
        change_field(draw.choice(found), spec, draw)


def change_operation(block: Any, draw: random.Random) -> None:
    """One operation removed, doubled, moved, made another, or with its values exchanged."""
    at = draw.randrange(len(block))
    operation = block[at]
    keys = sorted(operation.inputs)
    match draw.choice(["remove", "double", "move", "type", "swap", "bind", "bind", "names"]):
        case "remove":
            del block[at]
        case "double":
            block.add().CopyFrom(operation)
        case "move":
            other = draw.randrange(len(block))
            kept = [type(item).FromString(item.SerializeToString()) for item in block]
            kept[at], kept[other] = kept[other], kept[at]
            del block[:]
            block.extend(kept)
        case "type":
            operation.type = draw.choice([*OPERATIONS, "no_such_operation", ""])
        case "swap" if len(keys) > 1:
            one, two = draw.sample(keys, 2)
            kept = type(operation.inputs[one]).FromString(operation.inputs[one].SerializeToString())
            operation.inputs[one].CopyFrom(operation.inputs[two])
            operation.inputs[two].CopyFrom(kept)
        case "bind" if keys:
            names = [value.name for item in block for value in item.outputs]
            arguments = operation.inputs[draw.choice(keys)].arguments
            if len(arguments):
                draw.choice(arguments).name = draw.choice(names)
        case "names" if len(operation.outputs):
            other = draw.choice([item for item in block if len(item.outputs)])
            operation.outputs[0].name = other.outputs[0].name


def change_field(place: Place, spec: Any, draw: random.Random) -> None:
    """A field cleared, set to an extreme, or with items removed, doubled, or from elsewhere."""
    content, field = place.content, place.field
    if draw.random() < 0.1:
        place.message.ClearField(field.name)
    elif place.is_map:
        key = draw.choice(sorted(content))
        is_message = field.message_type.fields_by_name["value"].message_type is not None
        if isinstance(key, str) and draw.random() < 0.5:
            other = draw.choice([*TEXT, *sorted(content)])
            if is_message:
                content[other].CopyFrom(content[key])
            else:
                content[other] = content[key]
        if len(content) > 1 or draw.random() < 0.5:
            del content[key]
    elif field.message_type is not None:
        like = [
            item
            for other in places(spec)
            if other.field.message_type is field.message_type and not other.is_map
            for item in (other.content if other.is_repeated else [other.content])
        ]
        replacement = draw.choice(like)
        if not place.is_repeated:
            content.CopyFrom(replacement)
        elif draw.random() < 0.3:
            del content[draw.randrange(len(content))]
        elif draw.random() < 0.5:
            content.add().CopyFrom(replacement)
        else:
            content[draw.randrange(len(content))].CopyFrom(replacement)
    elif place.is_repeated:
        at = draw.randrange(len(content))
        if draw.random() < 0.3:
            del content[at]
        elif draw.random() < 0.3:
            content.extend([content[at]] * draw.choice([1, 5, 70]))
        else:
            content[at] = extreme(content[at], field, draw)
    else:
        setattr(place.message, field.name, extreme(content, field, draw))


def extreme(found: Any, field: Any, draw: random.Random) -> Any:
    """Another value of a scalar field. (Any: a Python value of the field's type.)"""
    kinds: dict[int, Callable[[], Any]] = {
        Field.CPPTYPE_BOOL: lambda: not found,
        Field.CPPTYPE_FLOAT: lambda: draw.choice([*REAL, found * 2]),
        Field.CPPTYPE_DOUBLE: lambda: draw.choice([*REAL, found * 2]),
        Field.CPPTYPE_ENUM: lambda: draw.choice([*field.enum_type.values_by_number, 1000]),
    }
    if field.cpp_type in kinds:
        return kinds[field.cpp_type]()
    if field.cpp_type in LIMITS:
        low, high = LIMITS[field.cpp_type]
        sign = draw.choice([1, -1])
        return min(max(draw.choice([sign * draw.choice(WHOLE), found + sign]), low), high)
    if isinstance(found, bytes):
        return changed_bytes(found, draw)
    return draw.choice([*TEXT, found * 2])
