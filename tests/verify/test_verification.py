import json
import subprocess
import sys
import xml.etree.ElementTree as ET
from dataclasses import replace

import numpy as np
import pytest

from metal4conv.errors import UnsupportedModel, UsageError
from metal4conv.mil.interface import LAYOUT_KEY
from metal4conv.mil.program import TensorType
from metal4conv.verify import verification
from metal4conv.verify.draw import draw_cases, golden_origin, predict_cases
from metal4conv.verify.golden import write_golden
from metal4conv.verify.junit import junit_xml
from metal4conv.verify.verification import verify
from tests.verify.fakes import HEIGHT, FakeExecutor, FakePackage, FakeSource, tanh

SHA = "ab" * 32


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A package of tanh; the test may replace what runs it."""
    fake = FakePackage(
        tmp_path / "net.mlpackage",
        metadata={LAYOUT_KEY: json.dumps({"package": {"sha256": SHA}})},
    )
    monkeypatch.setattr(verification, "read_package", lambda path: fake)
    runs(monkeypatch, tanh)
    return fake


def runs(monkeypatch, network):
    executor = FakeExecutor(network, {"x": TensorType("float16", (1, 3, "h", 8))})
    monkeypatch.setattr(verification, "open_reference", lambda path, function: (executor, "fake"))


def write_vectors(package, sha=SHA, source=None, name="net"):
    source = source or FakeSource(tanh)
    drawn = draw_cases(source.inputs, {"h": HEIGHT}, input_dtypes={"x": "float16"})
    path = package.path.with_name(f"{name}.golden.safetensors")
    cases = predict_cases(source, drawn.cases)
    write_golden(path, cases, golden_origin(source, name, sha, 0))
    return path


def codes(report):
    return [finding.code for finding in report.findings]


def test_right_package_agrees_with_golden_vectors(package):
    write_vectors(package)
    report = verify(package.path)
    assert (report.exit_code, report.data["verdict"], codes(report)) == (0, "agrees", [])
    assert [case["dimensions"]["h"] for case in report.data["cases"]] == [4, 16, 64]
    (output,) = report.data["outputs"]
    assert output["max_absolute_error"] < 1e-3
    assert "1 float16 operations deep" in output["tolerance"]
    json.dumps(report.to_json(), allow_nan=False)


def test_wrong_package_differs(package, monkeypatch):
    write_vectors(package)
    runs(monkeypatch, lambda inputs: {"y": np.roll(np.tanh(inputs["x"]), 1, axis=2)})
    report = verify(package.path)
    assert (report.exit_code, report.data["verdict"]) == (1, "differs")
    assert set(codes(report)) == {"out-of-tolerance", "psnr-too-low"}
    assert report.findings[0].where == "case0/y"
    assert "case0 (h=4)" in report.findings[0].message


def test_given_tolerances(package, monkeypatch):
    write_vectors(package)
    runs(monkeypatch, lambda inputs: {"y": np.tanh(inputs["x"]) + 0.05})
    assert verify(package.path).exit_code == 1
    assert verify(package.path, atol=0.1, rtol=0.0).exit_code == 0
    assert verify(package.path, atol=0.1, min_psnr=60).exit_code == 1


def test_against_a_source_without_golden_vectors(package, monkeypatch):
    report = verify(package.path, against=FakeSource(tanh))
    assert report.data["verdict"] == "agrees"
    assert report.data["ran"]["expected"] == "pytorch factory net"
    source = FakeSource(lambda inputs: {"out": np.tanh(inputs["x"])}, outputs=("out",))
    assert verify(package.path, against=source).exit_code == 0
    assert verify(package.path, against=FakeSource(lambda i: {"y": i["x"]})).exit_code == 1


def test_sizes_of_a_reshaped_package_are_used(package, monkeypatch):
    fixed = replace(package, shape=(1, 3, 20, 8))
    monkeypatch.setattr(verification, "read_package", lambda path: fixed)
    report = verify(package.path, against=FakeSource(tanh))
    assert report.data["cases"][0]["inputs"]["x"]["shape"] == [1, 3, 20, 8]


def test_given_inputs(package, tmp_path, monkeypatch):
    path = tmp_path / "in.npz"
    np.savez(path, x=np.linspace(0, 1, 96).reshape(1, 3, 4, 8))
    alone = verify(package.path, inputs_npz=path)
    assert (alone.exit_code, alone.data["verdict"]) == (0, "not compared")
    assert "nothing-to-compare" in codes(alone)
    compared = verify(package.path, inputs_npz=path, against=FakeSource(tanh))
    assert compared.data["verdict"] == "agrees"
    runs(monkeypatch, lambda inputs: {"y": np.zeros((1, 3, 4, 8))})
    assert "constant-output" in codes(verify(package.path, inputs_npz=path))


def test_constant_output_is_a_failure(package, monkeypatch):
    write_vectors(package)
    runs(monkeypatch, lambda inputs: {"y": np.full_like(inputs["x"], 0.5)})
    report = verify(package.path, atol=10.0)
    assert codes(report) == ["constant-output"] * 3
    assert report.exit_code == 1


def test_constant_source_is_a_warning(package, monkeypatch):
    def zeros(inputs):
        return {"y": np.zeros_like(inputs["x"])}

    write_vectors(package, source=FakeSource(zeros))
    runs(monkeypatch, zeros)
    report = verify(package.path)
    assert codes(report) == ["constant-expected"] * 3
    assert report.exit_code == 0


def test_scalar_that_never_changes_is_a_failure(package, monkeypatch):
    write_vectors(package, source=FakeSource(lambda i: {"y": i["x"].mean()}))
    runs(monkeypatch, lambda inputs: {"y": np.array([0.5])})
    assert codes(verify(package.path, atol=10.0)) == ["constant-output"]


def test_vectors_of_another_model(package):
    path = write_vectors(package, sha="cd" * 32, name="other")
    with pytest.raises(UsageError) as error:
        verify(package.path, golden=path)
    assert "cdcdcd" in str(error.value)
    assert "ababab" in str(error.value)
    assert '"other"' in str(error.value)


def test_a_foreign_package_is_compared_by_names_and_sizes(package, monkeypatch):
    foreign = replace(package, metadata={})
    monkeypatch.setattr(verification, "read_package", lambda path: foreign)
    write_vectors(package)
    assert verify(package.path).exit_code == 0
    renamed = FakeSource(lambda inputs: {"z": np.tanh(inputs["x"])})
    write_vectors(package, source=renamed)
    with pytest.raises(UsageError, match="outputs z, the package has y"):
        verify(package.path)
    write_vectors(package)
    fixed = replace(foreign, shape=(1, 3, 20, 8))
    monkeypatch.setattr(verification, "read_package", lambda path: fixed)
    with pytest.raises(UsageError, match=r"expected shape \(1, 3, 20, 8\)"):
        verify(package.path)


def test_usage(package, tmp_path):
    with pytest.raises(UsageError, match="no golden vectors") as error:
        verify(package.path)
    assert "--against" in error.value.hint
    with pytest.raises(UsageError, match='"metall"') as error:
        verify(package.path, on="metall")
    assert error.value.hint.endswith("(known: reference)") or "reference" in error.value.hint
    golden = write_vectors(package)
    with pytest.raises(UsageError, match="already"):
        verify(package.path, golden=golden, against=FakeSource(tanh))


def test_errors_of_the_executor_name_the_case(package, monkeypatch):
    def fail(inputs):
        raise UnsupportedModel("no operation")

    write_vectors(package)
    runs(monkeypatch, fail)
    with pytest.raises(UnsupportedModel, match=r"no operation\n  while running case0 \(h=4\)"):
        verify(package.path)


def test_junit(package, monkeypatch):
    write_vectors(package)
    runs(monkeypatch, lambda inputs: {"y": np.tanh(inputs["x"]) * (inputs["x"].shape[2] != 16)})
    suite = ET.fromstring(junit_xml(verify(package.path)).encode())
    assert (suite.get("tests"), suite.get("failures")) == ("3", "1")
    failed = [case.get("name") for case in suite if case.find("failure") is not None]
    assert failed == ["case1/y"]


def test_no_framework_is_imported():
    code = (
        "import sys, metal4conv.verify.verification, metal4conv.verify.junit\n"
        "print([m for m in ('torch', 'tensorflow', 'coremltools', 'onnx', 'safetensors')"
        " if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
