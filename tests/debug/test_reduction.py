"""Seeded faults in a network of 400 operations come down to a few, as a case that fails alone."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest

from metal4conv.debug.origins import package_reference
from metal4conv.debug.reduction import reduce_package
from metal4conv.errors import UnsupportedModel, UsageError
from metal4conv.frontends.toolkit import quiet
from metal4conv.layout.manifest import embedded_manifest
from metal4conv.mil.dataflow import Dataflow, dataflow
from metal4conv.mil.package import Package, read_package
from metal4conv.report import Report
from metal4conv.verify.golden import read_golden
from metal4conv.verify.verification import verify
from tests.conftest import Done, tree_hash
from tests.debug.chains import Network, drawn, network
from tests.mil.foreign import toolkit

BLOCKS = 50
MOST_OPERATIONS = 5


@pytest.fixture(scope="module")
def right(tmp_path_factory: pytest.TempPathFactory) -> Package:
    """A sound network of 400 operations."""
    return network(tmp_path_factory.mktemp("right") / "net.mlpackage", BLOCKS)


def kinds(report: Report) -> list[str]:
    """The types of the operations that are left."""
    return [row["type"] for row in report.data["parts"]]


def names(report: Report) -> list[str]:
    """What those that are left give."""
    return [row["operation"] for row in report.data["parts"]]


def test_a_wrong_operation_of_400_comes_down_to_itself(right: Package, tmp_path: Path) -> None:
    wrong = network(tmp_path / "wrong.mlpackage", BLOCKS, fault=25)
    report = reduce_package(
        wrong.path,
        inputs=drawn(),
        output=tmp_path / "case",
        reference=package_reference(right.path),
    )
    assert report.data["operations"] == {"before": 400, "after": 1}
    assert names(report) == ["b25_mul"]
    assert report.data["checks"] <= 25
    found = verify(tmp_path / "case" / "wrong-reduced.mlpackage")
    assert found.data["verdict"] == "differs"


def test_an_overflow_in_the_middle_needs_no_reference(tmp_path: Path) -> None:
    package = network(tmp_path / "net.mlpackage", BLOCKS, dtype="float16", overflow=20)
    report = reduce_package(package.path, inputs=drawn("float16"), output=tmp_path / "case")
    assert report.data["operations"] == {"before": 404, "after": 1}
    assert names(report) == ["square"]
    assert report.data["checks"] <= 25
    found = verify(tmp_path / "case" / "net-reduced.mlpackage")
    assert found.exit_code == 1
    assert "float16-overflow" in [finding.code for finding in found.findings]


Fails = Callable[[Path, Mapping[str, np.ndarray]], bool]


def judged(says: Callable[[Dataflow], bool]) -> tuple[Fails, list[int]]:
    """What fails where a program looks like that, and the sizes of what was asked about."""
    asked: list[int] = []

    def fails(path: Path, inputs: Mapping[str, np.ndarray]) -> bool:
        package = read_package(path)
        assert {item.name for item in package.interface().inputs} == set(inputs)
        flow = dataflow(package.function())
        asked.append(len(flow.working))
        return says(flow)

    return fails, asked


def test_a_fault_of_two_operations_together(right: Package, tmp_path: Path) -> None:
    fails, asked = judged(lambda flow: {"b10_tanh", "b40_sin"} <= flow.makers.keys())
    report = reduce_package(right.path, inputs=drawn(), output=tmp_path, fails=fails)
    assert names(report) == ["b10_tanh", "b40_sin"]
    assert len(asked) <= 60


def test_a_fault_of_two_operations_where_one_reads_what_comes_of_the_other(
    right: Package, tmp_path: Path
) -> None:
    def says(flow: Dataflow) -> bool:
        return (
            "b10_tanh" in flow.makers
            and "b40_erf" in flow.makers
            and flow.makers["b10_tanh"] in flow.ancestors(["b40_erf"])
        )

    fails, asked = judged(says)
    report = reduce_package(right.path, inputs=drawn(), output=tmp_path, fails=fails)
    assert kinds(report) == ["tanh", "transpose", "erf"]
    assert len(report.data["parts"]) <= MOST_OPERATIONS
    assert report.data["parts"][-1]["instead_of"] != {}
    assert len(asked) <= 80
    package = read_package(tmp_path / "net-reduced.mlpackage")
    assert says(dataflow(package.function()))


def small(path: Path, dtype: str = "float16") -> Package:
    """Four blocks with an overflow after the second."""
    return network(path, 4, dtype=dtype, overflow=1)


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a case, made of a package whose name has a space and a quote."""
    folder = tmp_path_factory.mktemp("it's here")
    package = small(folder / "it's a net.mlpackage")
    reduce_package(package.path, inputs=drawn("float16"), output=folder / "case", name="found")
    return folder / "case"


def test_the_files_of_a_case(case: Path) -> None:
    assert sorted(path.name for path in case.iterdir()) == [
        "README.md",
        "found.golden.safetensors",
        "found.inputs.npz",
        "found.layout.json",
        "found.mlpackage",
        "found.outputs.npz",
        "reduce.json",
    ]
    golden = read_golden(case / "found.golden.safetensors")
    with np.load(case / "found.inputs.npz") as inputs, np.load(case / "found.outputs.npz") as given:
        (vectors,) = golden.cases
        for name, array in vectors.inputs.items():
            np.testing.assert_array_equal(inputs[name], array)
        for name, array in vectors.outputs.items():
            np.testing.assert_array_equal(given[name], array)
    package = read_package(case / "found.mlpackage")
    manifest = embedded_manifest(package)
    assert manifest is not None
    assert manifest.to_json() == json.loads((case / "found.layout.json").read_text())
    assert golden.origin.package_sha256 == manifest.package.sha256


def test_the_readme_says_what_fails_and_its_command_shows_it(case: Path) -> None:
    text = (case / "README.md").read_text()
    assert "1 of its 36 operations" in text
    assert "float16 to 65504" in text
    assert re.search(r"- metal4conv \S+\n", text)
    (line,) = (line.strip() for line in text.splitlines() if line.startswith("    "))
    words = shlex.split(line)
    assert words == ["metal4conv", "verify", "found.mlpackage"]
    done = subprocess.run(
        [sys.executable, "-m", *words], cwd=case, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1, done.stderr
    assert "differs" in done.stdout


def test_coremltools_reads_the_case(case: Path) -> None:
    ct, _, _ = toolkit()
    with quiet():
        read = ct.models.MLModel(str(case / "found.mlpackage"), skip_model_load=True)
    assert [item.name for item in read.get_spec().description.input] == ["big"]


def test_the_same_fault_gives_the_same_case(case: Path, tmp_path: Path) -> None:
    package = small(tmp_path / "it's a net.mlpackage")
    reduce_package(package.path, inputs=drawn("float16"), output=tmp_path / "case", name="found")
    assert tree_hash(tmp_path / "case" / "found.mlpackage") == tree_hash(case / "found.mlpackage")
    for name in ("README.md", "found.golden.safetensors", "found.inputs.npz"):
        assert (tmp_path / "case" / name).read_bytes() == (case / name).read_bytes()


def test_what_does_not_fail_is_not_reduced(tmp_path: Path) -> None:
    package = network(tmp_path / "net.mlpackage", 1, dtype="float16")
    report = reduce_package(package.path, inputs=drawn("float16"), output=tmp_path / "case")
    assert report.exit_code == 1
    assert report.data["verdict"] == "does not fail"
    assert [path.name for path in (tmp_path / "case").iterdir()] == ["reduce.json"]


def test_values_that_cannot_be_fed_stay_inside(tmp_path: Path) -> None:
    """A list between operations is neither input nor output, so its maker stays with its reader."""
    net = Network()
    x = net.input("x", "float32", (2, 3))
    net.add("sin", "a", (2, 3), x=x)
    for number in range(3):
        net.add("greater", f"c{number}", (2, 3), "bool", x="a", y=0.1)
        net.add("select", f"s{number}", (2, 3), cond=f"c{number}", a="a", b=x)
    net.add("concat", "y", (6, 3), values=["s0", "s1", "s2"], axis=0, interleave=np.array(False))
    net.output("y", "float32")
    package = net.save(tmp_path / "net.mlpackage")
    x_array = {"x": np.linspace(-1, 1, 6, dtype=np.float32).reshape(2, 3)}
    fails, _ = judged(lambda flow: "s1" in flow.makers)
    report = reduce_package(package.path, inputs=x_array, output=tmp_path, fails=fails)
    assert names(report)[-1] == "s1"
    assert set(names(report)) <= {"c1_as_int32", "c1", "s1"}
    made = read_package(tmp_path / "net-reduced.mlpackage")
    assert verify(made.path).passed


def test_a_part_that_this_machine_cannot_run_is_no_answer(tmp_path: Path) -> None:
    package = small(tmp_path / "net.mlpackage", "float32")

    def says(flow: Dataflow) -> bool:
        if "bent" not in flow.makers and len(flow.working) < 20:
            raise UnsupportedModel("not here")
        return "square" in flow.makers

    fails, _ = judged(says)
    report = reduce_package(package.path, inputs=drawn(), output=tmp_path / "case", fails=fails)
    assert "square" in names(report)
    steps = json.loads((tmp_path / "case" / "reduce.json").read_text())["steps"]
    assert {step["detail"] for step in steps if step["answer"] == "skip"} == {"not here"}


def test_what_is_reached_after_the_last_check_is_the_case(tmp_path: Path) -> None:
    package = small(tmp_path / "net.mlpackage", "float32")

    def says(flow: Dataflow) -> bool:
        return {"b0_erf", "b3_tanh"} <= flow.makers.keys()

    fails, asked = judged(says)
    report = reduce_package(
        package.path, inputs=drawn(), output=tmp_path / "case", fails=fails, most_checks=5
    )
    assert len(asked) == 5
    assert [finding.code for finding in report.findings] == ["stopped-early"]
    assert report.passed
    count = len(report.data["parts"])
    assert 2 < count < 36
    more = reduce_package(
        package.path, inputs=drawn(), output=tmp_path / "case", fails=fails, resume=True
    )
    assert names(more) == ["b0_erf", "b3_tanh"]
    assert more.findings == ()


def test_a_killed_reduction_goes_on_where_it_was(tmp_path: Path) -> None:
    package = small(tmp_path / "net.mlpackage", "float32")

    def says(flow: Dataflow) -> bool:
        return {"b1_erf", "b2_tanh"} <= flow.makers.keys()

    first, _ = judged(says)
    expected = reduce_package(package.path, inputs=drawn(), output=tmp_path / "whole", fails=first)
    asked: list[int] = []

    def interrupted(path: Path, inputs: Mapping[str, np.ndarray]) -> bool:
        asked.append(1)
        if len(asked) > 3:
            raise KeyboardInterrupt
        return first(path, inputs)

    state = tmp_path / "state"
    with pytest.raises(KeyboardInterrupt):
        reduce_package(package.path, inputs=drawn(), output=state, fails=interrupted)
    assert [path.name for path in state.iterdir()] == ["reduce.json"]
    second, rest = judged(says)
    report = reduce_package(package.path, inputs=drawn(), output=state, fails=second, resume=True)
    assert names(report) == names(expected)
    assert len(rest) == expected.data["checks"] - 3
    assert tree_hash(state / "net-reduced.mlpackage") == tree_hash(
        tmp_path / "whole" / "net-reduced.mlpackage"
    )


def test_the_command_reduces_by_a_command(tmp_path: Path, metal4conv: Callable[..., Done]) -> None:
    package = small(tmp_path / "it's a net.mlpackage", "float32")
    check = "sh -c '! grep -aq square \"$0\"/Data/com.apple.CoreML/model.mlmodel' {package}"
    done = metal4conv(
        *("debug", package.path, "--reduce", "--check", check, "-o", tmp_path / "a case")
    )
    assert done.code == 0, done.stderr
    assert "1 of 36 operations" in done.stdout
    readme = (tmp_path / "a case" / "README.md").read_text()
    assert f"`{check}` says that it is bad" in readme
    assert "the executor itself agrees with them" in readme
    command = next(line.strip() for line in readme.splitlines() if line.startswith("    sh"))
    assert subprocess.run(shlex.split(command), check=False).returncode == 1


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--reduce"], "--reduce writes files"),
        (["--reduce", "--search"], "do not go together"),
        (["--check", "true"], "--check needs --search or --reduce"),
        (["--resume"], "--resume needs --search or --reduce"),
        (["--search", "--name", "x"], "--name is for --reduce"),
        (["--search", "--check-timeout", "3"], "--check-timeout needs --check"),
        (["--search", "--case", "4"], "there is no case 4"),
        (["--search", "--report", "x.html"], "do not go with --search and --reduce"),
        (["--search", "--all"], "do not go with --search and --reduce"),
        (["--search", "--max-checks", "3"], "--max-checks is for --reduce"),
        (["--reduce", "-o", "case", "--name", "a/b"], "cannot be the name of a package"),
    ],
)
def test_options_that_do_not_go_together(
    words: list[str],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    metal4conv: Callable[..., Done],
) -> None:
    monkeypatch.chdir(tmp_path)
    network(tmp_path / "net.mlpackage", 1)
    done = metal4conv("debug", "net.mlpackage", *words)
    assert done.code == 2
    assert message in done.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "net.mlpackage",
        "net.mlpackage.weights",
    ]


def test_a_package_with_other_inputs_is_no_reference(tmp_path: Path) -> None:
    package = network(tmp_path / "net.mlpackage", 1)
    net = Network()
    net.output(net.add("relu", "b0_sin", (4, 16), x=net.input("z", "float32", (4, 16))), "float32")
    other = net.save(tmp_path / "other.mlpackage")
    with pytest.raises(UsageError, match="takes an input z, which the package has not"):
        reduce_package(
            package.path,
            inputs=drawn(),
            output=tmp_path / "case",
            reference=package_reference(other.path),
        )
