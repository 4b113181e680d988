from __future__ import annotations

from pathlib import Path

import pytest

from metal4conv.device.suitability import metal_findings, require_suitable
from metal4conv.errors import UnsupportedModel
from metal4conv.layout.document import LayoutManifest
from metal4conv.layout.manifest import layout_manifest
from metal4conv.layout.rules import DATA_TYPES
from metal4conv.mil.package import Package
from tests.layout.manifests import manifest_with
from tests.layout.packages import PackageBuilder


def package_with(tmp_path: Path, *operations: str) -> Package:
    """`x` (4, 10) through operations of these types, whose parameters are left out."""
    build = PackageBuilder()
    last = build.input("x", "float32", (4, 10))
    for number, type in enumerate([*operations, "identity"]):
        last = build.operation(type, f"v{number}", "float32", (4, 10), {"x": [last]})
    build.output(last, "float32")
    return build.write(tmp_path / "net.mlpackage")


def codes(package: Package, manifest: LayoutManifest | None = None) -> list[tuple[str, str]]:
    manifest = manifest or layout_manifest(package)
    return [(item.severity, item.code) for item in metal_findings(package, manifest)]


def test_a_plain_network_has_no_findings(tmp_path: Path) -> None:
    assert codes(package_with(tmp_path, "relu", "exp")) == []


@pytest.mark.parametrize(
    ("operations", "code"),
    [
        (["cond"], "control-flow"),
        (["while_loop", "while_loop"], "control-flow"),
        (["constexpr_blockwise_shift_scale"], "compressed-weights"),
        (["constexpr_lut_to_dense", "dequantize"], "compressed-weights"),
        (["resample"], None),  # without coordinates there is no grid
        (["constexpr_cast"], None),
    ],
)
def test_operations(tmp_path: Path, operations: list[str], code: str | None) -> None:
    found = codes(package_with(tmp_path, *operations))
    assert found == ([] if code is None else [("warning", code)])


@pytest.mark.parametrize("computed", [True, False])
def test_only_a_computed_grid_is_said(tmp_path: Path, computed: bool) -> None:
    build = PackageBuilder()
    build.input("x", "float32", (1, 3, 8, 8))
    grid = build.weight("grid", "float32", (1, 8, 8, 2))
    if computed:
        grid = build.operation("tanh", "moved", "float32", (1, 8, 8, 2), {"x": [grid]})
    build.operation("resample", "y", "float32", (1, 3, 8, 8), {"x": ["x"], "coordinates": [grid]})
    build.output("y", "float32")
    found = codes(build.write(tmp_path / "net.mlpackage"))
    assert found == ([("warning", "computed-grid")] if computed else [])


def test_new_operations(tmp_path: Path) -> None:
    build = PackageBuilder()
    build.function.opset = "CoreML9"
    build.block = build.function.block_specializations["CoreML9"]
    build.input("x", "float32", (4, 10))
    build.operation("relu", "y", "float32", (4, 10), {"x": ["x"]})
    build.output("y", "float32")
    assert codes(build.write(tmp_path / "net.mlpackage")) == [("warning", "new-opset")]


def test_several_functions(tmp_path: Path) -> None:
    build = PackageBuilder()
    build.input("x", "float32", (4, 10))
    build.operation("relu", "y", "float32", (4, 10), {"x": ["x"]})
    build.output("y", "float32")
    build.spec.mlProgram.functions["other"].CopyFrom(build.function)
    assert codes(build.write(tmp_path / "net.mlpackage")) == [("failure", "several-functions")]


def test_a_function_with_another_name(tmp_path: Path) -> None:
    build = PackageBuilder()
    build.input("x", "float32", (4, 10))
    build.operation("relu", "y", "float32", (4, 10), {"x": ["x"]})
    build.output("y", "float32")
    build.spec.mlProgram.functions["run"].CopyFrom(build.function)
    del build.spec.mlProgram.functions["main"]
    build.spec.description.defaultFunctionName = "run"
    assert codes(build.write(tmp_path / "net.mlpackage")) == [("warning", "entry-point")]


@pytest.mark.parametrize(
    ("dtype", "shape", "expected"),
    [
        ("bool", (4,), [("failure", "no-tensor-data-type")]),
        ("int64", (4,), [("failure", "no-tensor-data-type")]),
        ("float64", (4,), [("failure", "no-tensor-data-type")]),
        ("bfloat16", (4,), [("failure", "bfloat16-binding")]),
        ("float16", (), [("warning", "rank")]),
        ("float16", (1, 1, 1, 1, 1), []),
        ("float16", (1, 1, 1, 1, 1, 1), [("warning", "rank")]),
        ("float16", (1,) * 17, [("failure", "rank")]),
    ],
)
def test_bindings(tmp_path: Path, dtype: str, shape, expected) -> None:
    manifest = manifest_with([("x", "input", dtype, shape)])
    assert codes(package_with(tmp_path), manifest) == expected


def test_bfloat16_is_a_tensor_type_all_the_same() -> None:
    assert "bfloat16" in DATA_TYPES


def test_pictures_states_and_enumerated_shapes(tmp_path: Path) -> None:
    package = package_with(tmp_path)
    manifest = manifest_with(
        [("x", "input", "float32", (1, 3, "h", 8))],
        states=("cache",),
        kinds={"x": "image"},
        enumerated={"x": ((1, 3, 4, 8), (1, 3, 8, 8))},
    )
    assert codes(package, manifest) == [
        ("warning", "image-feature"),
        ("failure", "states"),
        ("failure", "enumerated-shapes"),
    ]


def test_a_refusal_lists_everything(tmp_path: Path) -> None:
    package = package_with(tmp_path, "cond")
    manifest = manifest_with(
        [("mask", "input", "bool", (4,)), ("y", "output", "bfloat16", (4,))], states=("cache",)
    )
    with pytest.raises(UnsupportedModel) as caught:
        require_suitable(package.path, metal_findings(package, manifest))
    text = str(caught.value)
    assert text.startswith("net.mlpackage cannot run in a machine learning pass: ")
    assert all(part in text for part in ('"mask" is bool', '"y" is bfloat16', "states (cache)"))
    assert "control flow" not in text


def test_warnings_are_no_refusal(tmp_path: Path) -> None:
    package = package_with(tmp_path, "while_loop")
    found = metal_findings(package, layout_manifest(package))
    assert found
    require_suitable(package.path, found)
