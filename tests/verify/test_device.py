"""Verdicts and exit codes of `verify --on emulator`, for each way in which a device can fail."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET
from pathlib import Path

import numpy as np
import pytest

from metal4conv.device.emulator.misbehaviour import MISBEHAVIOURS
from metal4conv.errors import DamagedFile, MissingDevice, UnsupportedModel, UsageError
from metal4conv.verify import device
from metal4conv.verify.device import DeviceOptions
from metal4conv.verify.golden import GoldenCase, GoldenOrigin, golden_path, write_golden
from metal4conv.verify.host import option_words, report_from_json
from metal4conv.verify.junit import junit_xml
from metal4conv.verify.verification import verify
from tests.device.networks import Network, expected, run_in_process, write_network
from tests.layout.packages import PackageBuilder

ROWS = (3, 8)


@pytest.fixture(scope="module")
def network(tmp_path_factory) -> Network:
    """The network with its golden vectors beside it."""
    made = write_network(tmp_path_factory.mktemp("network"), "float16")
    generator = np.random.default_rng(0)
    cases = []
    [name] = made.manifest.dimensions
    for rows in ROWS:
        shapes = {"a": (rows, 10), "b": (10,)}
        inputs = {key: generator.normal(size=shape) for key, shape in shapes.items()}
        inputs = {key: array.astype(np.float16) for key, array in inputs.items()}
        single = {key: array.astype(np.float32) for key, array in inputs.items()}
        cases.append(GoldenCase(inputs, {name: rows}, expected(single)))
    write_golden(golden_path(made.package.path), cases, GoldenOrigin("net"))
    return made


@pytest.fixture
def verified(network, tmp_path, monkeypatch):
    """The report for some options; the runner is called here, since a child imports torch anew."""

    def supervise(request, inputs, *, strict=False):
        return run_in_process(tmp_path, request, inputs)

    monkeypatch.setattr(device, "supervise", supervise)

    def report(**options):
        return verify(network.package.path, on="emulator", device=DeviceOptions(**options))

    return report


IN_A_CHILD = ("abort", "abort-at-compile", "hang")
"""What would end this process, or never end."""

VERDICTS = {
    "nil-reflection": (0, "agrees", {"device-note"}),
    "nil-dimensions": (0, "agrees", {"device-note"}),
    "dynamic-dimensions": (0, "agrees", {"device-note"}),
    "huge-dimensions": (0, "agrees", {"device-note"}),
    "other-order": (0, "agrees", {"binding-index"}),
    "empty-names": (0, "agrees", {"reflection-without-names"}),
    "no-constants": (0, "agrees", set()),
    "no-feedback": (0, "agrees", {"device-note"}),
    "timeout": (1, "failed", {"device-timeout"}),
    "feedback-error": (1, "failed", {"device-error"}),
    "compile-error": (1, "failed", {"device-error"}),
    "broken-extents": (1, "failed", {"device-error"}),
    "constant-output": (1, "differs", {"constant-output", "out-of-tolerance"}),
    "nan-output": (1, "differs", {"output-not-finite", "out-of-tolerance"}),
}
MISSING = ("no-metal4", "no-device", "old-system")


def test_every_way_to_misbehave_is_judged():
    assert {*VERDICTS, *MISSING, *IN_A_CHILD} == set(MISBEHAVIOURS)


@pytest.mark.parametrize("misbehave", VERDICTS)
def test_verdicts(verified, misbehave):
    code, verdict, codes = VERDICTS[misbehave]
    report = verified(misbehave=misbehave, timeout=0.1 if misbehave == "timeout" else 60.0)
    assert (report.exit_code, report.data["verdict"]) == (code, verdict)
    assert codes <= {finding.code for finding in report.findings}
    json.dumps(report.to_json(), allow_nan=False)
    if verdict == "failed":
        assert report.data["metal"]["failure"]["step"] > 0
        assert report.data["outputs"] == []
        suite = ET.fromstring(junit_xml(report).encode())
        assert (suite.get("tests"), suite.get("failures")) == ("1", "1")


@pytest.mark.parametrize("misbehave", MISSING)
def test_what_is_missing_is_an_error_or_skipped(verified, network, misbehave):
    with pytest.raises(MissingDevice, match="there is no Metal 4 here"):
        verified(misbehave=misbehave)
    options = DeviceOptions(misbehave=misbehave)
    path = network.package.path
    report = verify(path, on="emulator", device=options, skip_if_missing=True)
    assert (report.exit_code, report.data["verdict"]) == (0, "skipped")
    assert report.findings[0].message.startswith("skipped: there is no Metal 4")
    suite = ET.fromstring(junit_xml(report).encode())
    assert (suite.get("skipped"), suite.get("failures")) == ("1", "0")


@pytest.mark.parametrize("misbehave", ["abort", "abort-at-compile"])
def test_a_process_that_ends_leaves_a_verdict(network, misbehave):
    options = DeviceOptions(misbehave=misbehave)
    report = verify(network.package.path, on="emulator", device=options)
    assert (report.exit_code, report.data["verdict"]) == (1, "failed")
    (finding,) = [item for item in report.findings if item.severity == "failure"]
    assert finding.code == "device-aborted"
    assert "signal SIGABRT" in finding.message
    assert "failed assertion" in finding.message


def test_both_backings_are_cases_of_their_own(verified):
    report = verified(backing="both", repeat=2)
    assert (report.exit_code, report.findings) == (0, ())
    labels = [case["label"] for case in report.data["cases"]]
    assert labels == [f"case{n} ({way})" for n in range(2) for way in ("device", "buffer")]
    runs = report.data["metal"]["runs"]
    assert [len(row["gpu_seconds"]) for row in runs] == [2] * 4
    assert {row["name"] for row in report.data["metal"]["reflection"]} == {
        *("a", "b", "product", "positive")
    }


def test_options_of_a_device_mean_nothing_elsewhere(network):
    with pytest.raises(UsageError, match="mean nothing"):
        verify(network.package.path, device=DeviceOptions(backing="buffer"))


def test_a_metal_package_that_is_not_there_is_named(network, monkeypatch):
    monkeypatch.setattr(device, "why_not_here", lambda: None)
    absent = DeviceOptions(metal_package=Path("absent.mtlpackage"))
    with pytest.raises(UsageError, match=r"no Metal package absent\.mtlpackage"):
        verify(network.package.path, on="metal", device=absent)


def test_the_emulators_package_is_not_for_metal(network, monkeypatch):
    monkeypatch.setattr(device, "why_not_here", lambda: None)
    with pytest.raises(DamagedFile, match="made for the emulator"):
        verify(network.package.path, on="metal")


def test_metal_is_missing_on_linux(network, metal4conv):
    package = str(network.package.path)
    done = metal4conv("verify", package, "--on", "metal")
    assert (done.code, done.stdout) == (4, "")
    assert "Metal 4 needs macOS 26" in done.stderr
    done = metal4conv("verify", package, "--on", "metal", "--skip-if-missing")
    assert done.code == 0
    assert "skipped" in done.stdout
    assert metal4conv("verify", package, "--on", "coreml").code == 4


def test_what_no_tensor_holds_is_refused_before_anything_runs(tmp_path):
    build = PackageBuilder()
    build.input("x", "float64", (2, 10))
    build.operation("add", "y", "float64", (2, 10), {"x": ["x"], "y": ["x"]})
    build.output("y", "float64")
    package = build.write(tmp_path / "net.mlpackage")
    x = np.ones((2, 10))
    write_golden(
        golden_path(package.path), [GoldenCase({"x": x}, {}, {"y": x + x})], GoldenOrigin("net")
    )
    with pytest.raises(UnsupportedModel, match=r"x.*float64, which no MTLTensor can hold"):
        verify(package.path, on="emulator")


def test_a_report_comes_back_as_it_was(verified):
    report = verified(misbehave="compile-error")
    assert report_from_json(json.loads(json.dumps(report.to_json()))) == report


def test_only_what_is_not_usual_travels_to_another_machine():
    assert DeviceOptions(metal_package=Path("x")).words() == {}
    words = option_words(DeviceOptions("both", repeat=3, strict=True).words())
    assert sorted(words) == ["--backing=both", "--repeat=3", "--strict"]
