"""The JSON Schema, and that no field of a manifest can be wrong unnoticed."""

import copy
import json

import pytest
from jsonschema import Draft202012Validator

from metal4conv.errors import DamagedFile
from metal4conv.layout.manifest import layout_manifest
from metal4conv.layout.schema import SCHEMA_FILE, check_manifest

FREE = ("name", "file", "sha256", "opset", "function")
"""Any text of the right form is as good as another."""


def fields(value, path=()):
    """The paths of all fields and list items of a document."""
    items = (
        value.items()
        if isinstance(value, dict)
        else enumerate(value)
        if isinstance(value, list)
        else ()
    )
    for key, inner in items:
        yield (*path, key)
        yield from fields(inner, (*path, key))


def changed(document, path, change):
    """A copy of the document with one field changed."""
    copied = copy.deepcopy(document)
    place = copied
    for key in path[:-1]:
        place = place[key]
    change(place, path[-1])
    return copied


def test_schema_is_a_schema():
    schema = json.loads(SCHEMA_FILE.read_text("utf-8"))
    Draft202012Validator.check_schema(schema)


@pytest.mark.parametrize("package", ["static_package", "dynamic_package"])
def test_every_wrong_type_and_missing_field_is_refused(package, request):
    document = layout_manifest(request.getfixturevalue(package), sha256="a" * 64).to_json()
    check_manifest(document)
    for path in fields(document):
        with pytest.raises(DamagedFile):
            check_manifest(
                changed(
                    document,
                    path,
                    lambda place, key: (
                        place.update({key: 1.5})
                        if isinstance(place, dict)
                        else place.__setitem__(key, 1.5)
                    ),
                )
            )
        is_field = isinstance(path[-1], str) and path[:-1] not in SYSTEMS and path[0] != "x"
        if is_field and path[:1] != ("dimensions",):
            with pytest.raises(DamagedFile):
                check_manifest(changed(document, path, lambda place, key: place.pop(key)))
        if isinstance(path[-1], str) and path[-1] in ("package", "intermediates", "buffer", "cpu"):
            with pytest.raises(DamagedFile):
                check_manifest(changed(document, path, lambda place, key: place[key].update(x=1)))


SYSTEMS = (("package", "least_os", "core_ml"), ("package", "least_os", "metal_4"))


@pytest.mark.parametrize(
    ("path", "value", "place"),
    [
        (("format",), "metal4conv.layout/2", "$.format"),
        (("package", "sha256"), "abc", "$.package.sha256"),
        (("package", "opset"), "iOS18", "$.package.opset"),
        (("tensors", 0, "role"), "state", "$.tensors[0].role"),
        (("tensors", 0, "access", "raw"), 1, "$.tensors[0].access"),
        (("tensors", 0, "device", "strides"), [1, 10], "$.tensors[0].device.strides"),
        (("tensors", 0, "usage"), ["compute"], "$.tensors[0].usage"),
        (("tensors", 0, "buffer", "strides", 1), "align(x_3, 16)", "x.buffer"),
        (("tensors", 0, "buffer", "strides", 1), "align(q, 32)", "x.buffer.strides"),
        (("tensors", 0, "buffer", "strides", 1), "align(x_3", "x.buffer.strides"),
        (("tensors", 0, "buffer", "byte_length"), 1024, "x.buffer"),
        (("tensors", 1, "expected_buffer_index"), 0, "y.expected_buffer_index"),
        (("tensors", 1, "dimensions", 0), "2*x_2", "y.dimensions"),
        (("tensors", 1, "data_type", "raw"), 3, "y.data_type"),
        (("tensors", 1, "data_type"), None, "y.data_type"),
        (("tensors", 1, "coreml", "shape", 3), "x_3", "y.dimensions"),
        (("tensors", 1, "cpu", "strides", 1), 7, "y.cpu"),
        (("dimensions", "x_2"), {"min": 1, "max": 2}, "$.dimensions.x_2"),
        (("requires_input_dimensions",), [], "requires_input_dimensions"),
        (("max_buffer_bind_count",), 3, "max_buffer_bind_count"),
        (("intermediates", "estimated_bytes"), "3*q", "estimated_bytes"),
        (("flops",), "3*", "flops"),
    ],
)
def test_wrong_values_are_refused_by_name(dynamic_package, path, value, place):
    document = layout_manifest(dynamic_package).to_json()
    wrong = changed(document, path, lambda holder, key: holder.__setitem__(key, value))
    with pytest.raises(DamagedFile) as raised:
        check_manifest(wrong)
    assert raised.value.where == (place,)
