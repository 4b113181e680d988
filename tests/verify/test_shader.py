"""The verdict about shaders, through the stand-in and the emulator, against what numpy gives."""

from __future__ import annotations

import hashlib
import json
import sys
import xml.etree.ElementTree as ET
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from metal4conv.errors import (
    DamagedFile,
    MissingDependency,
    MissingDevice,
    RejectedShader,
    UsageError,
)
from metal4conv.shader import host
from metal4conv.shader.compiler import compile_for_host, find_compiler
from metal4conv.shader.document import GOLDEN_SUFFIX
from metal4conv.shader.manifest import check_files, manifest_text, read_manifest, shader_files
from metal4conv.shader.options import ShaderOptions
from metal4conv.verify import host as remote
from metal4conv.verify import shader as verdicts
from metal4conv.verify import shader_device
from metal4conv.verify.device import DeviceOptions
from metal4conv.verify.golden import read_golden, write_golden
from metal4conv.verify.html.page import page_html
from metal4conv.verify.junit import junit_xml
from metal4conv.verify.shader import verify_shader
from metal4conv.verify.shader_device import plan_case
from metal4conv.verify.shader_runs import grid_of, runs_of, work_of
from metal4conv.verify.summary import markdown
from metal4conv.verify.verification import verify
from tests.shader.handmade import Hand, encoded_siren, radiance_cache, tiny
from tests.shader.handmade import shader_files as write_files
from tests.shader.manifests import field
from tests.verify.shaders import (
    HALF,
    filters,
    golden_case,
    shader_with_vectors,
    textured_shader,
    with_rounding,
    write_vectors,
)


@pytest.fixture(scope="module")
def compiler():
    """A C++ compiler; the test is skipped where there is none."""
    try:
        return find_compiler()
    except MissingDependency as error:
        pytest.skip(error.message)


@pytest.fixture(scope="module")
def libraries(tmp_path_factory) -> Path:
    """Where compiled shaders are kept."""
    return tmp_path_factory.mktemp("libraries")


@pytest.fixture(autouse=True)
def compiled_once(libraries, monkeypatch):
    """Equal sources are compiled once for all tests."""

    def kept(source, manifest, folder, *build):
        return compile_for_host(source, manifest, libraries, *build)

    monkeypatch.setattr(host, "compile_for_host", kept)
    monkeypatch.setattr(shader_device, "compile_for_host", kept)


needs_compiler = pytest.mark.usefixtures("compiler")


@pytest.fixture(scope="module")
def cache(tmp_path_factory, compiler) -> Path:
    """The radiance cache's shader: several inputs, one of them uniform, and three outputs."""
    return shader_with_vectors(tmp_path_factory.mktemp("cache"), radiance_cache())


def dense() -> Hand:
    """Two layers."""
    hand = Hand("dense", seed=3)
    hidden = hand.layer("hidden", hand.input("x", 6), 20)
    hand.output("y", hand.layer("y", hidden, 3, "identity"))
    return hand


def codes(report) -> list[str]:
    return [finding.code for finding in report.findings]


def agreeing(report) -> dict[str, tuple[int, int]]:
    """By function and path in how many of its cases it agrees."""
    rows = report.data["shader"]["runs"]
    return {f"{row['function']} {row['path']}": (row["agree"], row["cases"]) for row in rows}


def test_every_function_on_every_path_agrees(cache):
    report = verify(cache)
    assert (report.exit_code, report.data["verdict"], codes(report)) == (0, "agrees", [])
    assert agreeing(report) == {
        "radiance_cache_compute plain": (2, 2),
        "radiance_cache_compute matmul2d": (2, 2),
        "radiance_cache_fragment plain": (2, 2),
        "radiance_cache_fragment matmul2d": (2, 2),
    }
    assert [row["name"] for row in report.data["outputs"]] == ["radiance", "features", "weight"]
    assert "C++ stand-in for Metal, not Apple's compiler" in report.data["ran"]["package"]
    assert report.data["ran"]["expected"].endswith(
        "radiance_cache.shader.golden.safetensors: numpy"
    )
    assert report.data["on"] == "host"
    assert "float16 weights, 4 layers" in report.data["outputs"][0]["tolerance"]


def test_the_emulator_dispatches_what_is_bound_to_buffers(cache):
    report = verify(cache, on="emulator")
    assert (report.exit_code, report.data["verdict"], codes(report)) == (0, "agrees", ["not-run"])
    assert agreeing(report) == {
        "radiance_cache_compute plain": (2, 2),
        "radiance_cache_compute matmul2d": (2, 2),
        "radiance_cache_fragment plain": (0, 0),
        "radiance_cache_fragment matmul2d": (0, 0),
    }
    assert "emulator" in report.data["ran"]["package"]
    assert "not Apple's compiler" in report.data["ran"]["package"]
    assert len(report.data["shader"]["gpu_seconds"]) == 4


@needs_compiler
@pytest.mark.parametrize("on", ["host", "emulator"])
@pytest.mark.parametrize(
    "options",
    [
        ShaderOptions(tensors="handle"),
        ShaderOptions(precision="float32"),
        ShaderOptions(precision="int8", system=(26, 4)),
    ],
    ids=["handle", "float32", "int8"],
)
def test_precisions_and_tensors(options, on, tmp_path):
    path = shader_with_vectors(tmp_path, dense(), options)
    report = verify_shader(path, on=on)
    assert (report.data["verdict"], report.exit_code) == ("agrees", 0)
    assert report.data["outputs"][0]["tolerance"].endswith(
        f"({options.precision} weights, 2 layers)"
    )


@needs_compiler
def test_weights_in_the_source(tmp_path):
    path = shader_with_vectors(tmp_path, tiny(), ShaderOptions(inline_weights=True))
    for on in ("host", "emulator"):
        report = verify_shader(path, on=on)
        assert report.data["verdict"] == "agrees"
        assert {row["path"] for row in report.data["shader"]["runs"]} == {"plain"}


@needs_compiler
def test_what_samples_textures_has_a_case_of_its_own(tmp_path):
    path = textured_shader(tmp_path)
    report = verify_shader(path)
    assert report.data["verdict"] == "agrees", codes(report)
    assert agreeing(report) == {
        f"wall_{name} {way}": (count, count)
        for name, count in (("compute", 2), ("texture_compute", 1), ("fragment", 1))
        for way in ("plain", "matmul2d")
    }
    report = verify_shader(path, on="emulator")
    assert (report.data["verdict"], codes(report)) == ("agrees", ["not-run"])
    assert agreeing(report)["wall_texture_compute matmul2d"] == (1, 1)
    told = [finding.message for finding in report.findings]
    assert told == ["wall_fragment was not run: only compute functions are dispatched"]


@needs_compiler
def test_textures_that_are_not_those_of_the_case(tmp_path):
    path = textured_shader(tmp_path)
    case = replace(read_manifest(path).texture_case, case=0)
    path.write_text(manifest_text(replace(read_manifest(path), texture_case=case)))
    report = verify_shader(path, on="emulator")
    wrong = {name for name, (agree, count) in agreeing(report).items() if agree < count}
    assert wrong == {f"wall_texture_compute {way}" for way in ("plain", "matmul2d")}
    report = verify_shader(path)
    wrong = {name for name, (agree, count) in agreeing(report).items() if agree < count}
    assert wrong == {
        f"wall_{name} {way}"
        for name in ("texture_compute", "fragment")
        for way in ("plain", "matmul2d")
    }


@needs_compiler
def test_what_no_case_is_for_is_told(tmp_path):
    path = textured_shader(tmp_path)
    path.write_text(manifest_text(replace(read_manifest(path), texture_case=None)))
    report = verify_shader(path)
    assert (report.data["verdict"], codes(report)) == ("agrees", 2 * ["not-verified"])
    assert "wall_fragment was not verified" in report.findings[1].message
    assert agreeing(report)["wall_fragment plain"] == (0, 0)


@needs_compiler
def test_all_passes_of_a_network_with_convolutions(tmp_path):
    network = filters()
    path = write_files(network, HALF, tmp_path)
    image = np.random.default_rng(1).standard_normal((20 * 19, 3)).astype(np.float32)
    write_vectors(path, [golden_case(network, {"image": image}, (20, 19))])
    for on in ("host", "emulator"):
        report = verify_shader(path, on=on)
        assert (report.data["verdict"], codes(report)) == ("agrees", [])
        assert agreeing(report) == {"filters plain": (1, 1), "filters matmul2d": (1, 1)}


@needs_compiler
@pytest.mark.parametrize("on", ["host", "emulator"])
def test_a_path_that_is_wrong_is_named(on, tmp_path):
    # the plain path subtracts products
    path = shader_with_vectors(tmp_path, dense())
    source = shader_files(read_manifest(path), tmp_path).source.read_text()
    plain = next(line for line in source.splitlines() if "sum += " in line or "+= float(" in line)
    path = shader_with_vectors(tmp_path, dense(), changed=(plain, plain.replace("+=", "-=")))
    report = verify_shader(path, on=on)
    assert (report.data["verdict"], report.exit_code) == ("differs", 1)
    right = {
        name.split()[1] for name, (agree, count) in agreeing(report).items() if agree == count > 0
    }
    wrong = {name.split()[1] for name, (agree, count) in agreeing(report).items() if agree < count}
    assert (right, wrong) == ({"matmul2d"}, {"plain"})
    assert set(codes(report)) <= {"out-of-tolerance", "psnr-too-low", "not-run"}


@needs_compiler
@pytest.mark.parametrize("on", ["host", "emulator"])
@pytest.mark.parametrize("precision", ["float16", "int8"])
def test_rounding_of_the_manifest_makes_a_close_tolerance(precision, on, tmp_path):
    hand, options = encoded_siren(), ShaderOptions(precision=precision, system=(26, 4))
    path = shader_with_vectors(tmp_path, hand, options)
    cases = read_golden(path.with_name(f"siren{GOLDEN_SUFFIX}")).cases
    wide = verify_shader(path, on=on)
    with_rounding(path, hand.network(), cases)
    close = verify_shader(path, on=on)
    assert close.data["verdict"] == "agrees", [item.message for item in close.findings]

    def bounds(report):
        return [row["outputs"][0]["tolerance"]["atol"] for row in report.data["cases"]]

    assert max(bounds(close)) < max(bounds(wide))
    errors = [row["outputs"][0]["max_absolute_error"] for row in close.data["cases"]]
    assert max(bounds(close)) < 3 * max(errors)


@needs_compiler
def test_rounding_that_may_be_why_is_told(tmp_path):
    path = shader_with_vectors(tmp_path, encoded_siren())
    report = verify_shader(path, rtol=1e-6)
    assert report.data["verdict"] == "differs"
    assert "--precision float32" in report.findings[0].hint
    assert codes(report) == 4 * ["out-of-tolerance"]  # once for each function and path
    assert report.findings[0].message.endswith("(and in one more case)")
    assert verify_shader(path, rtol=0.1, min_psnr=10).exit_code == 0
    assert "psnr-too-low" in codes(verify_shader(path, min_psnr=300.0))


def spoilt(path: Path, role: str, change: Callable[[np.ndarray], np.ndarray]) -> None:
    """Changes the last block of a role in the weights' file, as if it had been packed so."""
    manifest = read_manifest(path)
    file = shader_files(manifest, path.parent).weights
    data = bytearray(file.read_bytes())
    block = [block for block in manifest.blocks if block.role == role][-1]
    place = slice(block.offset, block.offset + block.byte_length)
    before = np.frombuffer(bytes(data[place]), block.dtype).reshape(block.dimensions[::-1])
    data[place] = np.ascontiguousarray(change(before), block.dtype).tobytes()
    file.write_bytes(data)
    sha256 = hashlib.sha256(data).hexdigest()
    path.write_text(manifest_text(replace(manifest, weights_sha256=sha256)))


def transposed(weight: np.ndarray) -> np.ndarray:
    """The numbers of a square part the wrong way round."""
    made = weight.copy()
    size = min(weight.shape)
    made[:size, :size] = weight[:size, :size].T
    return made


@needs_compiler
@pytest.mark.parametrize(
    ("role", "change"),
    [
        ("bias", np.zeros_like),
        ("bias", lambda bias: np.roll(bias, 1)),
        ("scale", lambda scale: scale * 1.02),
        ("weight", transposed),
        ("weight", lambda weight: np.roll(weight, 1, axis=1)),
        ("weight", lambda weight: weight // 2 * 2),
    ],
    ids=["no bias", "shifted bias", "larger scale", "transposed", "shifted row", "7 bits"],
)
def test_weights_that_are_packed_wrong(role, change, tmp_path):
    hand, options = dense(), ShaderOptions(precision="int8", system=(26, 4))
    path = shader_with_vectors(tmp_path, hand, options)
    cases = read_golden(path.with_name(f"dense{GOLDEN_SUFFIX}")).cases
    with_rounding(path, hand.network(), cases)
    assert verify_shader(path).data["verdict"] == "agrees"
    spoilt(path, role, change)
    assert verify_shader(path).data["verdict"] == "differs"


WRITES_TOO_FAR = ("if (point < count) {", "if (point <= count) {")


@needs_compiler
@pytest.mark.parametrize(("on", "code"), [("host", "host-error"), ("emulator", "device-error")])
def test_what_is_written_beyond_a_buffer(on, code, tmp_path):
    path = shader_with_vectors(tmp_path, dense(), points=(35,), changed=WRITES_TOO_FAR)
    report = verify_shader(path, on=on)
    assert (report.data["verdict"], report.exit_code) == ("failed", 1)
    assert code in codes(report)
    message = next(finding.message for finding in report.findings if finding.code == code)
    assert "beyond the" in message
    assert "dense_compute" in message
    if on == "host":  # which goes on with the others
        assert agreeing(report)["dense_fragment plain"] == (1, 1)


@needs_compiler
def test_a_source_that_breaks_a_rule(tmp_path):
    path = shader_with_vectors(tmp_path, dense(), changed=("kernel void", "kernel vo1d"))
    with pytest.raises(RejectedShader, match=r"dense\.metal"):
        verify_shader(path)


@needs_compiler
def test_other_results_are_not_taken_for_rounding(tmp_path):
    path = shader_with_vectors(tmp_path, dense())
    vectors = path.with_name(f"dense{GOLDEN_SUFFIX}")
    found = read_golden(vectors)
    cases = [replace(case, outputs={"y": -case.outputs["y"]}) for case in found.cases]
    write_golden(vectors, cases, found.origin)
    report = verify_shader(path)
    assert report.data["verdict"] == "differs"
    assert {finding.hint for finding in report.findings} == {None}


MISBEHAVING = [
    ("timeout", "failed", "device-timeout"),
    ("abort", "failed", "device-aborted"),
    ("compile-error", "failed", "device-error"),
    ("nan-output", "differs", "output-not-finite"),
    ("constant-output", "differs", "constant-output"),
]


@pytest.mark.parametrize(("misbehave", "answer", "code"), MISBEHAVING)
def test_a_device_that_goes_wrong(misbehave, answer, code, cache):
    report = verify_shader(
        cache, on="emulator", device=DeviceOptions(misbehave=misbehave, timeout=0.5)
    )
    assert (report.data["verdict"], report.exit_code) == (answer, 1)
    assert code in codes(report)
    assert '"rows ' not in "".join(finding.message for finding in report.findings)
    assert ("failure" in report.data["shader"]) == (answer == "failed")


def test_a_path_that_cannot_be_built_is_told(cache):
    options = DeviceOptions(misbehave="no-constants")
    report = verify_shader(cache, on="emulator", device=options)
    assert (report.data["verdict"], report.exit_code) == ("agrees", 0)
    assert sorted(codes(report)) == ["matmul2d-not-built", "not-run"]
    message = next(f.message for f in report.findings if f.code == "matmul2d-not-built")
    assert message.startswith(
        "radiance_cache_compute was not built with matmul2d and ran its plain path instead"
    )


@pytest.mark.skipif(sys.platform == "darwin", reason="says what other systems lack")
def test_no_metal_here(cache):
    with pytest.raises(MissingDevice, match="there is no Metal 4 here"):
        verify_shader(cache, on="metal")
    report = verify_shader(cache, on="metal", skip_if_missing=True)
    assert (report.data["verdict"], report.exit_code, codes(report)) == ("skipped", 0, ["skipped"])


def test_no_compiler_here(cache, monkeypatch):
    def missing():
        raise MissingDependency("there is no clang", hint="pip install")

    monkeypatch.setattr(verdicts, "find_compiler", missing)
    with pytest.raises(MissingDependency):
        verify_shader(cache)
    assert verify_shader(cache, skip_if_missing=True).data["missing"] == "there is no clang"


def test_a_device_without_metal_4(cache):
    with pytest.raises(MissingDevice, match="does not support Metal 4"):
        verify_shader(cache, on="emulator", device=DeviceOptions(misbehave="no-metal4"))


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"on": "coreml"}, 'cannot be verified on "coreml"'),
        ({"on": "hots"}, 'did you mean "host"?'),
        ({"function": "main"}, "--function is for packages"),
        ({"inputs_npz": "x.npz"}, "--input-npz is for packages"),
        ({"device": DeviceOptions(backing="both")}, "--backing, --repeat and --mtlpackage"),
        ({"device": DeviceOptions(strict=True)}, 'mean nothing on "host"'),
        ({"golden": "nowhere.safetensors"}, "there are no golden vectors nowhere.safetensors"),
    ],
)
def test_what_a_shader_has_no_use_for_is_refused(changes, text, cache):
    with pytest.raises(UsageError) as caught:
        verify(cache, **changes)
    assert text in caught.value.message


def test_a_package_is_no_shader(tmp_path):
    with pytest.raises(UsageError, match='"host" runs shaders, this is a package'):
        verify(tmp_path / "net.mlpackage", on="host")


def test_vectors_of_another_shader(tmp_path):
    path = shader_with_vectors(tmp_path, dense())
    vectors = path.with_name(f"dense{GOLDEN_SUFFIX}")
    found = read_golden(vectors)
    write_golden(vectors, found.cases, replace(found.origin, package_sha256="00" * 32))
    with pytest.raises(UsageError, match="are of another shader"):
        verify_shader(path)
    lacking = [replace(case, outputs={}) for case in found.cases]
    write_golden(vectors, lacking, found.origin)
    with pytest.raises(UsageError, match=r"case 0 has outputs \(none\), the shader y"):
        verify_shader(path)


def test_files_that_were_edited(tmp_path):
    path = shader_with_vectors(tmp_path, dense())
    files = check_files(read_manifest(path), tmp_path)
    files.source.write_text(files.source.read_text() + "\n")
    with pytest.raises(DamagedFile, match=r"dense\.metal is not the file"):
        verify_shader(path)


def test_the_command_says_that_it_is_a_stand_in(cache, metal4conv, tmp_path):
    page, junit = tmp_path / "page.html", tmp_path / "report.xml"
    done = metal4conv("verify", cache, "--report", page, "--junit", junit)
    assert (done.code, done.stderr) == (0, "")
    assert "radiance_cache_fragment (fragment, matmul2d): 2 of 2 cases agree" in done.stdout
    assert "agrees: C++ stand-in for Metal, not Apple's compiler (" in done.stdout
    shown = page.read_text()
    assert "not Apple&#39;s compiler" in shown
    assert "<h2>Functions" in shown
    assert "operations are the lines of its source" in shown
    assert "metal4conv debug" not in shown
    names = [item.get("name") for item in ET.fromstring(junit.read_text()).iter("testcase")]
    assert len(names) == 2 * 4 * 3
    assert "case0 (radiance_cache_compute, matmul2d)/radiance" in names


def test_the_command_s_document_and_exit_codes(cache, metal4conv):
    done = metal4conv("verify", cache, "--json", "--rtol", "1e-9")
    document = json.loads(done.stdout)
    assert (done.code, document["verdict"], document["passed"]) == (1, "differs", False)
    assert document["shader"]["precision"] == "float16"
    assert document["shader"]["compiler"]


@pytest.mark.skipif(sys.platform == "darwin", reason="says what other systems lack")
def test_the_command_without_metal(cache, metal4conv):
    done = metal4conv("verify", cache, "--on", "metal")
    assert (done.code, "there is no Metal 4 here" in done.stderr) == (4, True)
    assert metal4conv("verify", cache, "--on", "metal", "--skip-if-missing").code == 0


def test_pages_and_summaries_of_a_device_that_failed(cache):
    options = DeviceOptions(misbehave="abort")
    report = verify_shader(cache, on="emulator", device=options)
    assert "device-aborted" in junit_xml(report)
    assert "failed" in page_html(report, ["metal4conv"])
    assert "failed" in markdown(report)


def test_another_machine_gets_all_files(cache, monkeypatch):
    asked = {}

    def remotely(host, path, vectors, words, **rest):
        asked.update(host=host, path=path, vectors=vectors, words=words, **rest)
        return verify_shader(path).to_json()

    monkeypatch.setattr(remote, "verify_remotely", remotely)
    report = remote.verify_on_host("me@mac", cache, options={"--rtol": 0.5, "--strict": False})
    assert (report.data["host"], report.data["verdict"]) == ("me@mac", "agrees")
    assert (asked["host"], asked["path"], asked["on"]) == ("me@mac", cache, "metal")
    assert [file.name for file in asked["beside"]] == [
        "radiance_cache.metal",
        "radiance_cache.weights",
    ]
    assert asked["vectors"] == cache.with_name(f"radiance_cache{GOLDEN_SUFFIX}")
    assert asked["words"] == ["--rtol=0.5"]
    assert "Functions" in page_html(report, ["metal4conv"])


def test_runs_are_all_functions_and_paths():
    assert [run.label for run in runs_of(field())] == [
        "field_fragment, plain",
        "field_fragment, matmul2d",
        "field_compute, plain",
        "field_compute, matmul2d",
    ]
    assert len(runs_of(replace(field(), constants=()))) == 2


@pytest.mark.parametrize(("count", "size"), [(1, (1, 1)), (12, (4, 3)), (13, (13, 1))])
def test_points_stand_in_a_grid(count, size):
    hand = radiance_cache()
    manifest = field()
    case = golden_case(hand.network(), hand.rows(count), (count,))
    case = replace(case, inputs={"position": case.inputs["position"], "light": np.zeros((1, 2))})
    assert grid_of(manifest, case) == size


def test_what_is_bound_where():
    manifest = field("handle")
    inputs = {"position": np.zeros((70, 3)), "light": np.zeros((1, 2))}
    case = golden_case(radiance_cache().network(), radiance_cache().rows(70), (70,))
    case = replace(case, inputs=inputs)
    work = next(
        work for work in work_of(manifest, [case]) if work.run.label == "field_compute, matmul2d"
    )
    plan = plan_case("run0", manifest, shader_files(manifest, "build"), work)
    (dispatch,) = plan.dispatches
    assert [(item.kind, item.index, item.resource) for item in dispatch.arguments] == [
        ("buffer", 0, "weights"),
        ("tensor", 1, "w0"),
        ("tensor", 2, "w1"),
        ("buffer", 3, "rows position"),
        ("buffer", 4, "rows light"),
        ("buffer", 5, "rows color"),
        ("buffer", 6, "rows features"),
        ("buffer", 7, "parameters"),
        ("threadgroup", 0, ""),
    ]
    assert dispatch.arguments[-1].byte_length == 12288
    assert (dispatch.threadgroups, dispatch.threads_per_threadgroup) == ((2, 1, 1), (64, 1, 1))
    sizes = {item.name: (item.role, item.byte_length) for item in plan.buffers}
    assert sizes == {
        "weights": ("input", 3328),
        "rows position": ("input", 840),
        "rows light": ("input", 8),
        "rows color": ("output", 840),
        "rows features": ("output", 1400),
        "parameters": ("input", 8),
    }
    first = plan.tensors[0]
    assert (first.offset, first.dimensions, first.strides) == (0, (32, 32), (1, 32))
    assert (first.data_type, first.usage) == (16, 3)
    assert [item.value for item in plan.constants] == [True]
    assert [item.value for item in plan.fallback or ()] == [False]


def test_tiles_are_threadgroups_of_two_dimensions():
    manifest = field()
    entry = replace(manifest.entry("field_compute"), tile=(8, 8), points_per_threadgroup=64)
    inputs = {"position": np.zeros((70, 3)), "light": np.zeros((1, 2))}
    case = golden_case(radiance_cache().network(), radiance_cache().rows(70), (70,))
    work = next(work_of(manifest, [replace(case, inputs=inputs)]))
    work = replace(work, size=(20, 9))
    assert shader_device.plan_dispatch(entry, work).threadgroups == (3, 2, 1)
