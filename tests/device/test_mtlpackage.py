from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from metal4conv.device.mtlpackage import check_against, comparison, read_metal_package
from metal4conv.device.reflection import MPS_DATA_TYPES, ReflectedFunction, ReflectedTensor
from metal4conv.errors import DamagedFile, UsageError
from metal4conv.layout.document import LayoutManifest
from tests.device.metal_packages import MANIFEST, reflected, write_metal_package
from tests.layout.manifests import classifier, manifest_with, upscaler


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return write_metal_package(tmp_path / "net.mtlpackage", [reflected(upscaler())])


def findings(tmp_path: Path, manifest: LayoutManifest, *functions: ReflectedFunction):
    """Severity and code of each difference."""
    metal = read_metal_package(write_metal_package(tmp_path / "net.mtlpackage", functions))
    return [(item.severity, item.code) for item in check_against(manifest, metal)]


def test_a_package_shows_its_functions(path: Path) -> None:
    metal = read_metal_package(path)
    assert metal.functions == (reflected(upscaler()),)
    assert metal.unreadable is None
    assert metal.library == path / "library.mpsgraphpackage"
    assert metal.function("main") == metal.function("other") == metal.functions[0]


def test_nothing_there(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no such file"):
        read_metal_package(tmp_path / "net.mtlpackage")


@pytest.mark.parametrize("name", ["net.mlpackage", "net", "net.MTLPACKAGE"])
def test_the_loader_goes_by_the_ending(path: Path, name: str) -> None:
    renamed = path.rename(path.with_name(name))
    with pytest.raises(DamagedFile, match=r"whose name ends in \.mtlpackage"):
        read_metal_package(renamed)


def test_a_file_is_no_package(tmp_path: Path) -> None:
    (tmp_path / "net.mtlpackage").write_bytes(b"PK")
    with pytest.raises(DamagedFile, match="expected a folder"):
        read_metal_package(tmp_path / "net.mtlpackage")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "it has no manifest.json"),
        ("", "is damaged: Expecting value"),
        ("\xff", "is damaged"),
        ("[" * 100_000, "is damaged: maximum recursion"),
        ("[]", "is damaged: list indices"),
        ("{}", "it has no entry 'mtlpackage'"),
        ('{"mtlpackage": {"version": 1}}', "is damaged: 'int' object"),
    ],
)
def test_a_damaged_manifest(path: Path, text: str | None, message: str) -> None:
    file = path / "manifest.json"
    file.unlink()
    if text is not None:
        file.write_text(text, "latin-1")
    with pytest.raises(DamagedFile) as caught:
        read_metal_package(path)
    assert message in caught.value.message


def rewrite(path: Path, **entries: object) -> None:
    """Changes entries of the manifest."""
    content = {**MANIFEST["mtlpackage"], **entries}
    (path / "manifest.json").write_text(json.dumps({"mtlpackage": content}))


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ({"version": {"major": 2, "minor": 0, "patch": 0}}, "names version {'major': 2"),
        ({"pkgtype": "Shaders"}, "and type 'Shaders'; expected"),
        ({"pkgtype": "metal4conv-emulated"}, "was made for the emulator"),
        ({"content": {"mpspkgname": None}}, "names no folder as mpspkgname: None"),
        ({"content": {"mpspkgname": ""}}, "names no folder as mpspkgname: ''"),
        ({"content": {"mpspkgname": "."}}, "names a folder outside the package: ."),
        ({"content": {"mpspkgname": "../other"}}, "names a folder outside the package: ../other"),
        ({"content": {"mpspkgname": "/etc"}}, "names a folder outside the package: /etc"),
        ({"content": {"mpspkgname": "a\0b"}}, "names a folder that cannot be"),
        ({"content": {"mpspkgname": "x" * 10_000}}, "names a folder that cannot be"),
        ({"content": {"mpspkgname": "other"}}, "the package has no folder other"),
    ],
)
def test_what_the_loader_refuses(path: Path, entries: dict[str, object], message: str) -> None:
    rewrite(path, **entries)
    with pytest.raises(DamagedFile) as caught:
        read_metal_package(path)
    assert message in caught.value.message


def test_a_link_does_not_leave_the_package(path: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside.mpsgraphpackage"
    (path / "library.mpsgraphpackage").rename(outside)
    (path / "library.mpsgraphpackage").symlink_to(outside)
    with pytest.raises(DamagedFile, match="outside the package"):
        read_metal_package(path)


@pytest.mark.parametrize("change", ["missing", "damaged", "a folder", "a link"])
def test_a_reflection_that_cannot_be_read_is_a_warning(
    path: Path, tmp_path: Path, change: str
) -> None:
    file = path / "library.mpsgraphpackage/reflection.fb"
    content = file.read_bytes()
    file.unlink()
    if change == "damaged":
        file.write_bytes(content[:100])
    elif change == "a folder":
        file.mkdir()
    elif change == "a link":
        (tmp_path / "reflection.fb").write_bytes(content)
        file.symlink_to(tmp_path / "reflection.fb")
    metal = read_metal_package(path)
    assert metal.functions is None
    (found,) = check_against(upscaler(), metal)
    assert (found.severity, found.code) == ("warning", "reflection-unreadable")
    assert found.message.startswith("the reflection of net.mtlpackage cannot be compared: ")


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
@given(st.binary(max_size=60), st.integers(0, 200))
def test_any_bytes_in_the_manifest(path: Path, data: bytes, at: int) -> None:
    whole = json.dumps(MANIFEST).encode()
    (path / "manifest.json").write_bytes(whole[:at] + data + whole[at + len(data) :])
    try:
        metal = read_metal_package(path)
    except DamagedFile:
        return
    assert metal.functions is not None


@pytest.mark.parametrize("manifest", [upscaler(), classifier(), manifest_with([])])
def test_a_package_of_this_network_agrees(tmp_path: Path, manifest: LayoutManifest) -> None:
    assert findings(tmp_path, manifest, reflected(manifest)) == []


def test_another_function_beside_it_does_not_matter(tmp_path: Path) -> None:
    other = ReflectedFunction("other", (), ())
    assert findings(tmp_path, upscaler(), other, reflected(upscaler())) == []


def test_no_such_function(tmp_path: Path) -> None:
    other = replace(reflected(upscaler()), name="predict")
    assert findings(tmp_path, upscaler(), other) == [("failure", "function-missing")]


def test_a_package_has_main_whatever_the_function_is_called(tmp_path: Path) -> None:
    manifest = manifest_with([("x", "input", "float32", (4,))], function="run")
    main = replace(reflected(manifest), name="main")
    assert findings(tmp_path, manifest, main) == []


F16, F32 = MPS_DATA_TYPES["float16"], MPS_DATA_TYPES["float32"]
COLOR = ReflectedTensor("color", (1, 3, -1, -1), F16)
UPSCALED = ReflectedTensor("upscaled", (1, 3, -1, -1), F16)


@pytest.mark.parametrize(
    ("inputs", "outputs", "expected"),
    [
        ([COLOR], [UPSCALED], []),
        (
            [replace(COLOR, name="colour")],
            [UPSCALED],
            [("failure", "tensor-missing"), ("failure", "tensor-unknown")],
        ),
        ([COLOR, UPSCALED], [], [("failure", "tensor-role")]),
        (
            [COLOR, replace(COLOR, name="extra")],
            [UPSCALED],
            [("failure", "tensor-unknown"), ("warning", "tensor-order")],
        ),
        ([replace(COLOR, mps_data_type=F32)], [UPSCALED], [("failure", "tensor-type")]),
        ([COLOR], [replace(UPSCALED, mps_data_type=77)], [("failure", "tensor-type")]),
        # the reverse order, another rank, another fixed size
        ([replace(COLOR, shape=(-1, -1, 3, 1))], [UPSCALED], [("failure", "tensor-shape")]),
        ([replace(COLOR, shape=(3, -1, -1))], [UPSCALED], [("failure", "tensor-shape")]),
        ([replace(COLOR, shape=(1, 4, -1, -1))], [UPSCALED], [("failure", "tensor-shape")]),
        # open sizes: the default in their place, another number, and one that should be fixed
        ([replace(COLOR, shape=(1, 3, 720, 1280))], [UPSCALED], [("warning", "tensor-open-size")]),
        ([COLOR], [replace(UPSCALED, shape=(1, 3, 1440, -1))], [("warning", "tensor-open-size")]),
        ([replace(COLOR, shape=(1, 3, 64, 64))], [UPSCALED], [("failure", "tensor-shape")]),
        ([replace(COLOR, shape=(-1, 3, -1, -1))], [UPSCALED], [("failure", "tensor-shape")]),
        ([COLOR], [replace(UPSCALED, shape=(-1, 3, -1, -1))], [("warning", "tensor-open-size")]),
    ],
)
def test_differences(tmp_path: Path, inputs, outputs, expected) -> None:
    function = ReflectedFunction("main", tuple(inputs), tuple(outputs))
    assert findings(tmp_path, upscaler(), function) == expected


def test_messages_say_both_sides(tmp_path: Path) -> None:
    function = ReflectedFunction(
        "main", (ReflectedTensor("color", (1, 64, 64, 3), F32),), (UPSCALED,)
    )
    metal = read_metal_package(write_metal_package(tmp_path / "net.mtlpackage", [function]))
    kind, shape = check_against(upscaler(), metal)
    assert kind.message == 'input "color": the manifest has float16, the reflection float32'
    assert shape.message == (
        'input "color": the manifest has shape [1, 3, h, w], the reflection [1, 64, 64, 3] '
        "(outermost first)"
    )


def test_another_order_is_a_warning(tmp_path: Path) -> None:
    manifest = manifest_with(
        [
            ("a", "input", "float32", (4,)),
            ("b", "input", "int32", (2,)),
            ("y", "output", "float32", (4,)),
        ]
    )
    function = reflected(manifest)
    swapped = replace(function, inputs=function.inputs[::-1])
    assert findings(tmp_path, manifest, swapped) == [("warning", "tensor-order")] * 2


def test_tensors_without_names_go_by_their_order(tmp_path: Path) -> None:
    function = ReflectedFunction("main", (replace(COLOR, name=""),), (replace(UPSCALED, name=""),))
    assert findings(tmp_path, upscaler(), function) == [("warning", "reflection-without-names")]


def test_too_few_tensors_without_names(tmp_path: Path) -> None:
    function = ReflectedFunction("main", (replace(COLOR, name=""),), ())
    assert findings(tmp_path, upscaler(), function) == [
        ("warning", "reflection-without-names"),
        ("failure", "tensor-count"),
    ]


def test_a_function_without_tensors(tmp_path: Path) -> None:
    empty = ReflectedFunction("main", (), ())
    assert findings(tmp_path, upscaler(), empty) == [("failure", "tensor-missing")] * 2


def test_a_reflection_of_many_long_names_gives_a_short_message(tmp_path: Path) -> None:
    inputs = tuple(
        ReflectedTensor(f"{number}{'n' * 1000}", (1,) * 999, F16) for number in range(99)
    )
    function = ReflectedFunction("main", inputs, (replace(UPSCALED, shape=(1,) * 999),))
    metal = read_metal_package(write_metal_package(tmp_path / "net.mtlpackage", [function]))
    found = check_against(upscaler(), metal)
    assert [item.code for item in found[:3]] == ["tensor-missing", "tensor-shape", "tensor-unknown"]
    assert found[0].message.endswith(" and 80 more")
    assert all(len(item.message) < 3000 for item in found)


def test_a_comparison_has_both_sides(tmp_path: Path) -> None:
    function = ReflectedFunction("main", (COLOR,), ())
    metal = read_metal_package(write_metal_package(tmp_path / "net.mtlpackage", [function]))
    color, upscaled = comparison(upscaler(), metal)
    assert color == {
        "name": "color",
        "role": "input",
        "expected_place": 0,
        "place": 0,
        "expected_shape": [1, 3, "h", "w"],
        "shape": [1, 3, -1, -1],
        "expected_data_type": "float16",
        "data_type": "float16",
    }
    assert (upscaled["place"], upscaled["shape"], upscaled["data_type"]) == (None, None, None)
