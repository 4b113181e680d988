"""The first bad operation is found by cutting, in about log2(n) checks, also after a kill."""

from __future__ import annotations

import json
import math
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from metal4conv.debug.case import Case
from metal4conv.debug.check import Answer, CommandCheck, Verdict
from metal4conv.debug.inputs import chosen_inputs
from metal4conv.debug.origins import package_reference
from metal4conv.debug.search import search
from metal4conv.errors import DamagedFile, OutputError, UnsupportedModel, UsageError
from metal4conv.mil.dataflow import dataflow
from metal4conv.mil.package import Package, read_package
from metal4conv.mil.schema import new_model
from metal4conv.mil.writer import write_package
from metal4conv.report import Report
from metal4conv.verify.golden import GoldenCase, GoldenOrigin, write_golden
from metal4conv.verify.verification import verify
from tests.conftest import Done
from tests.debug.chains import Network, drawn, network
from tests.layout.packages import set_type

BLOCKS = 8
OPERATIONS = 8 * BLOCKS


@pytest.fixture(scope="module")
def right(tmp_path_factory: pytest.TempPathFactory) -> Package:
    """64 operations in a row of blocks."""
    return network(tmp_path_factory.mktemp("right") / "net.mlpackage", BLOCKS)


@pytest.fixture(scope="module")
def wrong(tmp_path_factory: pytest.TempPathFactory) -> Package:
    """The same with a wrong factor in block 5."""
    return network(tmp_path_factory.mktemp("wrong") / "it's a net.mlpackage", BLOCKS, fault=5)


@dataclass
class Counting:
    """A check that looks at the number of operations in a part; it keeps what it was asked."""

    says: Callable[[int, Case], Verdict]
    identity: str = "counting"
    asked: list[int] = field(default_factory=list)

    def __call__(self, case: Case) -> Answer:
        count = len(dataflow(case.part.package.function()).working)
        self.asked.append(count)
        return Answer(self.says(count, case), f"{count} operations")


def first_place(report: Report, package: Package) -> int:
    """How many operations the shortest bad prefix has that the report names."""
    flow = dataflow(package.function())
    return flow.working.index(flow.makers[report.data["found"][0]["operation"]]) + 1


def test_a_wrong_operation_is_found_beside_another_package(
    right: Package, wrong: Package, tmp_path: Path
) -> None:
    report = search(
        wrong.path, state=tmp_path, inputs=drawn(), reference=package_reference(right.path)
    )
    (found,) = report.data["found"]
    assert (found["operation"], found["type"], found["alone"]) == ("b5_mul", "mul", "bad")
    assert [row["name"] for row in found["inputs"]] == ["b5_tanh", "b5_mul_y"]
    assert found["inputs"][1]["max"] == 1.5
    assert found["outputs"][0]["shape"] == [4, 16]
    assert report.exit_code == 1
    # the whole, the bisection, the operation alone, and two to see whether answers are monotone
    assert report.data["checks"] <= 1 + math.ceil(math.log2(OPERATIONS)) + 3
    assert shlex.split(report.data["repeat"]) == [
        "metal4conv",
        "verify",
        str(tmp_path / "bad.mlpackage"),
    ]
    assert not verify(tmp_path / "bad.mlpackage").passed


def test_an_overflow_of_float16_is_found_without_anything_to_compare_with(tmp_path: Path) -> None:
    package = network(tmp_path / "net.mlpackage", 6, dtype="float16", overflow=3)
    report = search(package.path, state=tmp_path / "state", inputs=drawn("float16"))
    (found,) = report.data["found"]
    assert (found["operation"], found["alone"]) == ("square", "bad")
    assert "float16 to 65504" in found["detail"]
    assert found["outputs"][0]["inf"] > 0
    assert found["inputs"][0]["inf"] == 0


def test_a_sound_package_is_good_after_one_check(tmp_path: Path) -> None:
    sound = network(tmp_path / "net.mlpackage", 2, dtype="float16")
    report = search(sound.path, state=tmp_path / "state", inputs=drawn("float16"))
    assert report.exit_code == 0
    assert report.data["verdict"] == "good"
    assert report.data["checks"] == 1
    assert [finding.code for finding in report.findings] == ["all-good"]
    assert [path.name for path in (tmp_path / "state").iterdir()] == ["search.json"]


def test_float32_differs_in_nothing_from_float32(right: Package, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="has no float16 arithmetic"):
        search(right.path, state=tmp_path, inputs=drawn())


@pytest.mark.parametrize("place", [1, 33, OPERATIONS])
def test_every_place_is_found(place: int, right: Package, tmp_path: Path) -> None:
    check = Counting(lambda count, case: "bad" if count >= place else "good")
    report = search(right.path, state=tmp_path, inputs=drawn(), check=check)
    assert first_place(report, right) == place
    assert len(check.asked) <= 1 + math.ceil(math.log2(OPERATIONS)) + 3
    found = report.data["found"][0]
    assert found["alone"] == ("bad" if place == 1 else "good")
    if place > 1:
        assert "errors of several operations add up" in report.findings[0].message


def test_answers_that_are_not_monotone_are_told_and_searched_in_front(
    right: Package, tmp_path: Path
) -> None:
    check = Counting(lambda count, case: "bad" if 9 <= count < 24 or count > 50 else "good")
    report = search(right.path, state=tmp_path, inputs=drawn(), check=check)
    assert first_place(report, right) == 9
    assert len(report.data["found"]) == 2
    assert report.findings[-1].code == "not-monotone"


def test_the_branch_of_a_bad_value_is_followed(tmp_path: Path) -> None:
    net = Network()
    x = net.input("x", "float32", (4, 16))
    left = side = x
    for number in range(15):  # the two branches take turns
        left = net.add("tanh", f"left{number}", (4, 16), x=left)
        side = net.add("sin", f"side{number}", (4, 16), x=side)
    masked = net.add("mul", "masked", (4, 16), x=side, y=0.0)
    y = net.add("add", "y", (4, 16), x=left, y=masked)
    z = y
    for number in range(46):
        z = net.add("tanh", f"z{number}", (4, 16), x=z)
    net.output(z, "float32")
    package = net.save(tmp_path / "net.mlpackage")

    def says(count: int, case: Case) -> Verdict:
        makers = dataflow(case.part.package.function()).makers
        outputs = case.part.outputs.values()
        hit = "side2" in makers and any(name.startswith("side") for name in outputs)
        return "bad" if hit or "z36" in makers else "good"

    report = search(package.path, state=tmp_path / "state", inputs=drawn(), check=Counting(says))
    found = [row["operation"] for row in report.data["found"]]
    assert found == ["side2", "z36"]
    assert any(step["question"].startswith("value side") for step in report.data["steps"])


def test_what_cannot_be_told_leaves_several_operations(right: Package, tmp_path: Path) -> None:
    def says(count: int, case: Case) -> Verdict:
        return "skip" if 30 <= count < 34 else "bad" if count >= 32 else "good"

    report = search(right.path, state=tmp_path, inputs=drawn(), check=Counting(says))
    flow = dataflow(right.function())
    names = [flow.operations[place].outputs[0].name for place in flow.working]
    assert report.data["found"][0]["candidates"] == names[29:34]
    assert "one of 5 operations" in report.findings[0].message


def test_a_check_that_cannot_tell_of_the_whole(right: Package, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot tell whether the whole package is good"):
        search(
            right.path,
            state=tmp_path,
            inputs=drawn(),
            check=Counting(lambda count, case: "skip"),
        )


def test_a_command_is_asked(wrong: Package, tmp_path: Path) -> None:
    model = '"$METAL4CONV_PACKAGE"/Data/com.apple.CoreML/model.mlmodel'
    check = CommandCheck(f"sh -c '! grep -aq b5_mul {model}'", log=tmp_path / "log")
    report = search(wrong.path, state=tmp_path / "its state", inputs=drawn(), check=check)
    assert report.data["found"][0]["operation"] == "b5_mul"
    assert "exit status 1" in report.findings[0].message
    again = subprocess.run(
        shlex.split(report.data["repeat"]),
        env={**os.environ, "METAL4CONV_PACKAGE": str(tmp_path / "its state" / "bad.mlpackage")},
        check=False,
    )
    assert again.returncode == 1


def test_a_command_that_is_never_pleased_is_doubted(right: Package, tmp_path: Path) -> None:
    report = search(right.path, state=tmp_path, inputs=drawn(), check=CommandCheck("false"))
    assert report.data["found"][0]["operation"] == "b0_linear"
    assert "never-good" in [finding.code for finding in report.findings]


def interrupted(says: Callable[[int, Case], Verdict], after: int) -> Counting:
    """A check during which the user interrupts."""
    check = Counting(says)

    def stop(count: int, case: Case) -> Verdict:
        if len(check.asked) > after:
            raise KeyboardInterrupt
        return says(count, case)

    check.says = stop
    return check


@pytest.mark.parametrize("after", [0, 4, 9])
def test_a_killed_search_goes_on_where_it_was(after: int, right: Package, tmp_path: Path) -> None:
    def says(count: int, case: Case) -> Verdict:
        return "bad" if count >= 40 else "good"

    run = partial(search, right.path, inputs=drawn())
    whole = Counting(says)
    expected = run(state=tmp_path / "whole", check=whole)
    with pytest.raises(KeyboardInterrupt):
        run(state=tmp_path / "state", check=interrupted(says, after))
    if after:
        steps = json.loads((tmp_path / "state" / "search.json").read_text())["steps"]
        assert len(steps) == after
    rest = Counting(says)
    report = run(state=tmp_path / "state", check=rest, resume=bool(after))
    assert report.data["found"] == expected.data["found"]
    assert report.data["steps"] == expected.data["steps"]
    assert len(rest.asked) == len(whole.asked) - after
    assert report.data["checks_now"] == len(rest.asked)


def test_another_search_does_not_go_on(right: Package, wrong: Package, tmp_path: Path) -> None:
    check = Counting(lambda count, case: "bad" if count >= 40 else "good")
    search(right.path, state=tmp_path, inputs=drawn(), check=check)
    with pytest.raises(UsageError, match="is there already"):
        search(right.path, state=tmp_path, inputs=drawn(), check=check)
    go_on = partial(search, state=tmp_path, resume=True)
    with pytest.raises(UsageError, match="the package is not the one that"):
        go_on(wrong.path, inputs=drawn(), check=check)
    other = Counting(check.says, "another command")
    with pytest.raises(UsageError, match=r"the check is not the one that") as caught:
        go_on(right.path, inputs=drawn(), check=other)
    assert "then: counting" in str(caught.value)
    with pytest.raises(UsageError, match="the inputs are not those that"):
        go_on(right.path, inputs={"x": np.zeros((4, 16), np.float32)}, check=check)
    with pytest.raises(UsageError, match="there is nothing to go on with"):
        search(right.path, state=tmp_path / "no", inputs=drawn(), check=check, resume=True)


@pytest.mark.parametrize("text", ["", "{}", '{"format": "other/1"}', "[1]"])
def test_a_damaged_state(text: str, right: Package, tmp_path: Path) -> None:
    (tmp_path / "search.json").write_text(text)
    check = Counting(lambda count, case: "good")
    with pytest.raises(DamagedFile, match=r"search.json cannot be read"):
        search(right.path, state=tmp_path, inputs=drawn(), check=check, resume=True)


def test_a_state_that_cannot_be_written(right: Package, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    check = Counting(lambda count, case: "good")
    with pytest.raises(OutputError, match="cannot make the folder"):
        search(right.path, state=tmp_path / "file" / "state", inputs=drawn(), check=check)


def test_programs_with_states_are_refused(tmp_path: Path) -> None:
    net = Network("float16")
    state = net.spec.description.state.add(name="s").type.stateType.arrayType
    state.dataType = 65552
    state.shape.extend((4, 16))
    value = net.function.inputs.add(name="s")
    net.output(net.add("relu", "y", (4, 16), x=net.input("x", "float16", (4, 16))), "float16")
    set_type(value.type.stateType.wrappedType, "float16", (4, 16))
    package = net.save(tmp_path / "net.mlpackage")
    with pytest.raises(UnsupportedModel, match='has a state "s", so its program cannot be cut'):
        search(package.path, state=tmp_path / "state", inputs=drawn("float16"))


def test_pipelines_are_refused(tmp_path: Path) -> None:
    spec = new_model()
    spec.specificationVersion = 9
    spec.pipeline.models.add().specificationVersion = 9
    write_package(tmp_path / "net.mlpackage", spec, None)
    with pytest.raises(UnsupportedModel, match="holds a pipeline of several models"):
        search(tmp_path / "net.mlpackage", state=tmp_path / "state", inputs={})


def test_sizes_that_are_open_are_those_of_the_inputs(tmp_path: Path) -> None:
    net = Network("float16")
    x = net.input("x", "float16", ((1, 64), 4))
    for number in range(3):
        x = net.add("mul", f"a{number}", ("h", 4), x=x, y=40.0)
    net.add("square", "b", ("h", 4), x=x)
    net.add("tanh", "y", ("h", 4), x=x)
    net.add("add", "z", ("h", 4), x="y", y="b")
    net.output("z", "float16")
    package = net.save(tmp_path / "net.mlpackage")
    inputs = {"x": np.linspace(0.001, 0.01, 36, dtype=np.float16).reshape(9, 4)}
    report = search(package.path, state=tmp_path / "state", inputs=inputs)
    assert report.data["found"][0]["operation"] == "b"
    made = read_package(tmp_path / "state" / "bad.mlpackage").interface()
    assert [item.type.shape for item in (*made.inputs, *made.outputs)] == [(9, 4), (9, 4)]
    assert made.dimensions == {}


def test_a_classifier_is_judged_by_its_probabilities(tmp_path: Path) -> None:
    net = Network("float16")
    x = net.input("x", "float16", (4,))
    big = net.add("mul", "big", (4,), x=x, y=300.0)
    square = net.add("square", "square", (4,), x=big)
    small = net.add("mul", "small", (4,), x=square, y=1e-5)
    net.add("softmax", "p", (4,), x=small, axis=np.array(0))
    made = net.block.operations.add(type="classify")
    made.inputs["probabilities"].arguments.add(name="p")
    classes = made.inputs["classes"].arguments.add().value
    set_type(classes.type.listType.type, "string", ())
    for letter in "abcd":
        label = classes.immediateValue.list.values.add()
        set_type(label.type, "string", ())
        label.immediateValue.tensor.strings.values.append(letter)
    set_type(made.outputs.add(name="label").type, "string", ())
    entry = made.outputs.add(name="by_label").type.dictionaryType
    set_type(entry.keyType, "string", ())
    set_type(entry.valueType, "float32", ())
    net.block.outputs.extend(["label", "by_label"])
    net.spec.description.output.add(name="label").type.stringType.SetInParent()
    net.spec.description.output.add(name="by_label").type.dictionaryType.stringKeyType.SetInParent()
    net.spec.description.predictedFeatureName = "label"
    package = net.save(tmp_path / "net.mlpackage")
    x_array = {"x": np.array([1.0, 2.0, 0.5, 0.25], np.float16)}
    report = search(package.path, state=tmp_path / "state", inputs=x_array)
    assert report.data["found"][0]["operation"] == "square"


def test_the_inputs_are_those_of_a_golden_case(right: Package, tmp_path: Path) -> None:
    cases = [GoldenCase({"x": np.full((4, 16), number, np.float32)}) for number in range(2)]
    write_golden(tmp_path / "net.golden.safetensors", cases, GoldenOrigin("net"))
    path = tmp_path / "net.golden.safetensors"
    assert chosen_inputs(right, golden=path, case=1)["x"].max() == 1
    with pytest.raises(UsageError, match="there is no case 2"):
        chosen_inputs(right, golden=path, case=2)
    np.savez(tmp_path / "given.npz", x=np.full((4, 16), 7, np.float32))
    assert chosen_inputs(right, inputs_npz=tmp_path / "given.npz")["x"].max() == 7
    first, second = (chosen_inputs(right, seed=seed)["x"] for seed in (0, 1))
    assert first.shape == (4, 16)
    assert not np.array_equal(first, second)


SLOW_CHECK = """#!/bin/sh
# good without b5_mul; the third check waits until somebody ends it
grep -aq b5_mul "$1/Data/com.apple.CoreML/model.mlmodel" && bad=1 || bad=0
echo $$ >> pids
[ ! -e go ] && [ "$(wc -l < pids)" -ge 3 ] && sleep 600
exit $bad
"""


def test_an_interrupted_command_leaves_no_process_and_goes_on(
    wrong: Package,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    metal4conv: Callable[..., Done],
) -> None:
    script = tmp_path / "check.sh"
    script.write_text(SLOW_CHECK)
    script.chmod(0o755)
    monkeypatch.chdir(tmp_path)
    words = ["debug", str(wrong.path), "--search", "--check", "./check.sh", "-o", "state"]
    root = str(Path(__file__).parents[2])
    started = subprocess.Popen(
        [sys.executable, "-m", "metal4conv", *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": root},
    )
    deadline = time.monotonic() + 120
    pids = tmp_path / "pids"
    while time.monotonic() < deadline and started.poll() is None:
        if pids.exists() and len(pids.read_text().split()) == 3:
            break
        time.sleep(0.05)
    time.sleep(0.2)
    started.send_signal(signal.SIGINT)
    _, talk = started.communicate(timeout=60)
    assert started.returncode == 130
    assert b"--resume (state in state)" in talk
    for pid in map(int, pids.read_text().split()):
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)
    assert len(json.loads((tmp_path / "state/search.json").read_text())["steps"]) == 2
    (tmp_path / "go").touch()
    refused = metal4conv(*words)
    assert refused.code == 2
    done = metal4conv(*words, "--resume")
    assert done.code == 1
    assert "b5_mul (mul)" in done.stdout
    assert "first-bad" not in done.stdout
    assert "operation b5_mul (mul) is the first bad one (exit status 1)" in done.stderr
    assert "again: ./check.sh " in done.stdout


def test_the_command_names_the_operation_and_how_to_see_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, metal4conv: Callable[..., Done]
) -> None:
    monkeypatch.chdir(tmp_path)
    network(tmp_path / "net.mlpackage", 2, dtype="float16", overflow=0)
    done = metal4conv("debug", "net.mlpackage", "--search")
    assert done.code == 1
    lines = done.stdout.splitlines()
    assert lines[0] == "square (square)"
    assert lines[2].split()[:5] == ["x", "big", "float16", "4", "×"]
    assert lines[3].split()[:2] == ["→", "square"]
    assert "net.mlpackage is bad: " in done.stdout
    assert "again: metal4conv verify net.search/bad.mlpackage" in lines
    again = metal4conv("verify", "net.search/bad.mlpackage")
    assert again.code == 1
    document = json.loads(
        metal4conv(
            "debug", "net.mlpackage", "--search", "--resume", "--json", "-o", "net.search"
        ).stdout
    )
    assert document["checks_now"] == 0
    assert document["found"][0]["operation"] == "square"


def test_the_command_takes_another_package(
    right: Package, wrong: Package, tmp_path: Path, metal4conv: Callable[..., Done]
) -> None:
    words = ("debug", wrong.path, "--search", "--against", right.path, "-o", tmp_path / "state")
    done = metal4conv(*words)
    assert done.code == 1
    assert done.stdout.startswith("b5_mul (mul)\n")
    assert f"by the expected outputs: {right.path}" in done.stdout
    refused = metal4conv(*words[:3], "--against", wrong.path, "--resume", *words[5:])
    assert refused.code == 2
    assert "what the package is compared with is not what" in refused.stderr
