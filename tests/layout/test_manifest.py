"""Manifests of packages, static and dynamic, embedded and worked out."""

import json
import subprocess
import sys

import pytest

from metal4conv.errors import DamagedFile, UsageError
from metal4conv.layout.document import allowed_sizes, manifest_from_json
from metal4conv.layout.findings import layout_findings
from metal4conv.layout.manifest import content_sha256, layout, layout_manifest
from metal4conv.layout.schema import check_manifest
from metal4conv.layout.table import COLUMNS, layout_rows
from metal4conv.mil.interface import LAYOUT_KEY
from metal4conv.mil.package import read_package
from metal4conv.mil.program import Dimension
from tests.layout.packages import PackageBuilder, classifier, set_type, upscaler


def test_static_package(static_package):
    document = layout_manifest(static_package).to_json()
    check_manifest(document)
    assert document["package"] == {
        "name": "classifier",
        "file": "classifier.mlpackage",
        "sha256": None,
        "function": "main",
        "opset": "CoreML8",
        "specification_version": 9,
        "least_os": {
            "core_ml": {"iOS": "18.0", "macOS": "15.0"},
            "metal_4": {"iOS": "26.0", "macOS": "26.0"},
        },
    }
    assert document["dimensions"] == {}
    assert document["requires_input_dimensions"] == []
    assert document["max_buffer_bind_count"] == 2
    assert document["intermediates"] == {"estimated_bytes": 112, "total_bytes": 112}
    assert document["flops"] == 2 * 4 * 7 * 10
    x, y = document["tensors"]
    assert x == {
        "name": "x",
        "role": "input",
        "access": {"name": "read", "raw": 0},
        "expected_buffer_index": 0,
        "coreml": {"dtype": "float32", "shape": [4, 10]},
        "data_type": {
            "name": "float32",
            "constant": "MTLTensorDataTypeFloat32",
            "raw": 3,
            "bytes": 4,
        },
        "dimensions": [10, 4],
        "usage": ["machineLearning"],
        "device": {"strides": None},
        "buffer": {"strides": [1, 16], "row_alignment": 64, "offset": 0, "byte_length": 256},
        "cpu": {"strides": [1, 10]},
    }
    assert y["role"] == "output"
    assert y["access"] == {"name": "write", "raw": 2}
    assert y["expected_buffer_index"] == 1
    assert y["dimensions"] == [7, 4]


def test_dynamic_package(dynamic_package):
    document = layout_manifest(dynamic_package).to_json()
    check_manifest(document)
    assert document["dimensions"] == {
        "x_2": {"min": 64, "max": 2160, "default": 720, "step": 1},
        "x_3": {"min": 64, "max": 3840, "default": 1280, "step": 1},
    }
    assert document["requires_input_dimensions"] == [0]
    x, y = document["tensors"]
    assert x["coreml"]["shape"] == [1, 3, "x_2", "x_3"]
    assert y["coreml"]["shape"] == [1, 3, "2*x_2", "2*x_3"]
    assert y["dimensions"] == ["2*x_3", "2*x_2", 3, 1]
    assert y["buffer"]["strides"] == [
        1,
        "align(2*x_3, 32)",
        "2*x_2*align(2*x_3, 32)",
        "6*x_2*align(2*x_3, 32)",
    ]
    assert y["buffer"]["byte_length"] == "12*x_2*align(2*x_3, 32)"
    assert y["cpu"]["strides"] == [1, "2*x_3", "4*x_2*x_3", "12*x_2*x_3"]
    assert document["intermediates"] == {
        "estimated_bytes": "48*x_2*x_3",
        "total_bytes": "48*x_2*x_3",
    }
    assert document["flops"] == "648*x_2*x_3"


def test_numbers_in_place_of_dimensions(dynamic_package):
    manifest = layout_manifest(dynamic_package)
    numbers = manifest.at({"x_2": 100, "x_3": 259})
    check_manifest(numbers.to_json())
    (y,) = numbers.outputs
    assert y.coreml.shape == (1, 3, 200, 518)
    assert y.buffer.strides == (1, 544, 544 * 200, 544 * 600)
    assert y.buffer.byte_length == 2 * 544 * 600
    assert y.cpu_strides == (1, 518, 518 * 200, 518 * 600)
    assert numbers.estimated_bytes == 48 * 25900
    assert numbers.requires_input_dimensions == (0,)
    assert numbers.to_json()["sizes"] == {"x_2": 100, "x_3": 259}
    assert manifest.at({"x_2": 100}).at({"x_3": 259}) == numbers
    half = manifest.at({"x_2": 100})
    assert half.outputs[0].buffer.byte_length == "1200*align(2*x_3, 32)"
    check_manifest(half.to_json())


def test_sizes_that_are_not_allowed(dynamic_package):
    manifest = layout_manifest(dynamic_package)
    with pytest.raises(UsageError) as raised:
        manifest.at({"x_2": 4000})
    assert raised.value.message == "dimension x_2 cannot be 4000, allowed is 64 to 2160"
    with pytest.raises(UsageError) as raised:
        manifest.at({"x2": 100})
    assert raised.value.message == 'the package has no dynamic dimension "x2"'
    assert raised.value.hint == 'did you mean "x_2"? (known: x_2, x_3)'
    assert allowed_sizes(Dimension(1, 9, 4, values=(1, 4, 9))) == "1 or 4 or 9"


def test_json_round_trip(dynamic_package, static_package):
    for package in (dynamic_package, static_package):
        manifest = layout_manifest(package, sha256="0" * 64)
        document = json.loads(json.dumps(manifest.to_json()))
        assert manifest_from_json(document) == manifest
        assert manifest_from_json(document).to_json() == document
    for broken in ({}, [], {"format": "metal4conv.layout/2"}, {"format": "metal4conv.layout/1"}):
        with pytest.raises(DamagedFile):
            manifest_from_json(broken)


def embed(builder, package, folder):
    """The same package with its manifest in the metadata, the sizes named h and w."""
    text = json.dumps(layout_manifest(package, sha256=content_sha256(package)).to_json())
    builder.metadata(LAYOUT_KEY, text.replace("x_2", "h").replace("x_3", "w"))
    return builder.write(folder)


def test_embedded_manifest_is_read_without_torch(dynamic_package, tmp_path):
    package = embed(upscaler(), dynamic_package, tmp_path / "named.mlpackage")
    script = (
        "import sys; from metal4conv.layout.manifest import layout\n"
        "manifest = layout(sys.argv[1], {'h': 100, 'w': 259})\n"
        "print(manifest.outputs[0].buffer.strides, manifest.package.sha256[:4])\n"
        "print(sorted({'torch', 'numpy', 'jsonschema', 'coremltools'} & sys.modules.keys()))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, package.path], capture_output=True, text=True, check=True
    )
    sha256 = content_sha256(dynamic_package)
    assert done.stdout == f"(1, 544, 108800, 326400) {sha256[:4]}\n[]\n"


def test_content_hash_ignores_the_metadata_and_nothing_else(static_package, tmp_path):
    builder = classifier()
    package = embed(builder, static_package, tmp_path / "embedded.mlpackage")
    sha256 = content_sha256(static_package)
    assert content_sha256(package) == sha256
    other_weights = classifier().write(tmp_path / "weights.mlpackage", b"\0" * 64)
    assert content_sha256(other_weights) != sha256
    builder.block.operations[-1].type = "relu"
    assert content_sha256(builder.write(tmp_path / "relu.mlpackage")) != sha256


def test_a_manifest_that_no_longer_fits_is_not_used(static_package, tmp_path):
    builder = classifier()
    embed(builder, static_package, tmp_path / "embedded.mlpackage")
    builder.spec.description.input[0].name = "image"
    builder.function.inputs[0].name = "image"
    for operation in builder.block.operations:
        for binding in operation.inputs["x"].arguments if "x" in operation.inputs else ():
            binding.name = "image" if binding.name == "x" else binding.name
    changed = builder.write(tmp_path / "changed.mlpackage")
    manifest = layout(changed.path)
    assert [tensor.name for tensor in manifest.tensors] == ["image", "y"]
    builder.metadata(LAYOUT_KEY, "{not json")
    assert layout(builder.write(tmp_path / "damaged.mlpackage").path).package.sha256 is None


def test_unknown_function(static_package):
    with pytest.raises(UsageError, match='no function "decode"'):
        layout(static_package.path, function="decode")


def odd_package(folder, *, dtype="float32", shape=(4,), kind="tensor"):
    """A package whose output has this type."""
    build = PackageBuilder()
    build.input("x", "float32", (4,))
    build.operation("cast", "y", dtype, shape, {"x": ["x"]})
    build.output("y", dtype)
    if kind == "image":
        image = build.spec.description.output[0].type.imageType
        image.width, image.height, image.colorSpace = 8, 8, 20  # RGB
    if kind == "dictionary":
        build.spec.description.output[0].type.dictionaryType.stringKeyType.SetInParent()
    return build.write(folder)


@pytest.mark.parametrize(
    ("options", "severity", "code"),
    [
        ({"dtype": "float64"}, "failure", "no-tensor-data-type"),
        ({"shape": ()}, "warning", "rank"),
        ({"shape": (1,) * 6}, "warning", "rank"),
        ({"shape": (1,) * 17}, "failure", "rank"),
        ({"shape": (1, 3, 8, 8), "kind": "image"}, "warning", "image-feature"),
        ({"kind": "dictionary"}, "failure", "no-tensor"),
        ({"shape": ("h", 4)}, "failure", "unknown-size"),
    ],
)
def test_what_no_tensor_can_hold_is_a_finding(tmp_path, options, severity, code):
    manifest = layout_manifest(odd_package(tmp_path / "odd.mlpackage", **options))
    check_manifest(manifest.to_json())
    (finding,) = layout_findings(manifest)
    assert (finding.severity, finding.code) == (severity, code)
    assert finding.where == 'output "y"'
    bindable = manifest.outputs[0].buffer is not None
    assert bindable == (severity == "warning")
    assert len(layout_rows(manifest)) == 2


def test_states_are_a_finding(tmp_path):
    build = classifier()
    state = build.spec.description.state.add(name="cache")
    state.type.stateType.arrayType.dataType = 65552
    value = build.function.inputs.add(name="cache")
    set_type(value.type.stateType.wrappedType, "float16", ())
    manifest = layout_manifest(build.write(tmp_path / "stateful.mlpackage"))
    assert manifest.states == ("cache",)
    assert [finding.code for finding in layout_findings(manifest)] == ["states"]


def test_enumerated_shapes_are_checked_as_a_whole(tmp_path, monkeypatch, dynamic_package):
    build = upscaler()
    array = build.spec.description.input[0].type.multiArrayType
    array.ClearField("shapeRange")
    for shape in ((1, 3, 360, 640), (1, 3, 720, 1280)):
        array.enumeratedShapes.shapes.add(shape=shape)
    manifest = layout(build.write(tmp_path / "enumerated.mlpackage").path)
    check_manifest(manifest.to_json())
    assert manifest.to_json()["dimensions"]["x_2"] == {"values": [360, 720], "default": 720}
    assert manifest.at({"x_2": 360, "x_3": 640}).outputs[0].coreml.shape == (1, 3, 720, 1280)
    with pytest.raises(UsageError) as raised:
        manifest.at({"x_2": 360, "x_3": 1280})
    assert raised.value.message == 'input "x" cannot have shape (1, 3, 360, 1280)'
    with pytest.raises(UsageError, match="allowed is 360 or 720"):
        manifest.at({"x_2": 400})


def test_rows_for_people(dynamic_package):
    manifest = layout(dynamic_package.path, {"x_2": 100, "x_3": 259})
    rows = [dict(zip(COLUMNS, row, strict=True)) for row in layout_rows(manifest)]
    assert rows[1] == {
        "name": "y",
        "role": "output",
        "index": "1",
        "type": "float16",
        "dimensions, innermost first": "[518, 200, 3, 1]",
        "strides": "[1, 544, 108800, 326400]",
        "bytes": "652,800",
    }
    assert len(layout_rows(layout_manifest(read_package(dynamic_package.path)))) == 2
