"""What the runner says to Metal, against what PyObjC's wheel and Apple's headers have.

The wheel proves that a selector exists with so many arguments, which of them are out-parameters
and arrays, and what constants are worth. Of plain properties and methods of classes it knows
nothing: those stand in `apple_headers.py`, copied from headers by hand, and only spelling and
count of arguments are checked against that.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from metal4conv.device.metal import register
from metal4conv.layout import rules
from tests.device.apple_headers import CLASSES, declared
from tests.device.bindings import (
    everything_said,
    needed_names,
    needed_selectors,
    problems,
    read_facts,
    sources_of_runner,
    unlisted_speakers,
)
from tests.device.read_pyobjc import FACTS, facts_of, facts_text, read_wheel

FACTS_OF_WHEEL = read_facts()

RIGHT = '''
HEAP = 1
"""`MTLHeapTypePlacement`: the app places what is in it."""


def run(api, device, queue, buffers):
    descriptor = api.metal.MTLTensorDescriptor.alloc().init()
    descriptor.setUsage_(4)
    tensor, error = device.newTensorWithDescriptor_error_(descriptor, None)
    data = bytes(16).strip()
    tensor.replaceSliceOrigin_sliceDimensions_withBytes_strides_(tensor, tensor, data, tensor)
    return tensor.dimensions(), error.localizedDescription(), "initWithRank:values:"
'''


def test_the_runner_speaks_as_pyobjc_and_apple_s_headers_do() -> None:
    found = problems(sources_of_runner(), FACTS_OF_WHEEL)
    assert found == [], "is it new? python -m tests.device.read_pyobjc WHEEL looks for it"


def test_every_file_that_calls_metal_is_looked_at() -> None:
    assert unlisted_speakers() == []


def test_what_is_right_passes() -> None:
    facts = {**FACTS_OF_WHEEL, "constants": {"MTLHeapTypePlacement": 1}}
    assert problems({"right.py": RIGHT}, facts) == []


@pytest.mark.parametrize(
    ("right", "wrong", "problem"),
    [
        ("newTensorWithDescriptor_error_", "newTensorWithDescripter_error_", "nothing is known"),
        ("newTensorWithDescriptor_error_", "newTensorWithDescriptor_errors_", "nothing is known"),
        ("setUsage_(4)", "setUsages_(4)", "nothing is known"),
        ("tensor.dimensions()", "tensor.dimension()", "nothing is known"),
        (".localizedDescription()", ".localisedDescription()", "nothing is known"),
        ("setUsage_(4)", "setUsage_(4, 5)", "takes 1 arguments, not 2"),
        ("setUsage_(4)", "setUsage_()", "takes 1 arguments, not 0"),
        ("setUsage_(4)", "setUsage_(*[4])", "cannot be counted"),
        ("_error_(descriptor, None)", "_error_(descriptor)", "takes 2 arguments, not 1"),
        ("_error_(descriptor, None)", "_error_(descriptor, error)", "is an out-parameter"),
        ("tensor, tensor, data, tensor", "tensor, tensor, None, tensor", "must be memory"),
        ("tensor, tensor, data, tensor", "tensor, tensor, [1], tensor", "must be memory"),
        ("api.metal.MTLTensorDescriptor", "api.metal.MTLTensorDescription", "of the name"),
        ("setUsage_(4)", "setUsage_(api.metal.MTLTensorUsageMachinelearning)", "of the name"),
        ("setUsage_(4)", 'setUsage_(getattr(api.metal, "MTLTensorUsed"))', "of the name"),
        ("tensor.replaceSlice", "data = tensor.replaceSlice", "gives nothing back"),
        ("tensor, error = device.new", "error = tensor = device\n    device.new", "nobody looks"),
        ("HEAP = 1", "HEAP = 2", "MTLHeapTypePlacement is 1, not 2"),
        ("`MTLHeapTypePlacement`", "`MTLHeapTypePlaced`", "MTLHeapTypePlaced is None, not 1"),
        ('"initWithRank:values:"', '"initWithRank:value:"', "nothing is known"),
    ],
)
def test_what_is_wrong_is_found(right: str, wrong: str, problem: str) -> None:
    assert RIGHT.count(right) == 1
    facts = {**FACTS_OF_WHEEL, "constants": {"MTLHeapTypePlacement": 1}}
    found = problems({"wrong.py": RIGHT.replace(right, wrong)}, facts)
    assert len(found) == 1
    assert problem in found[0]
    assert found[0].startswith("wrong.py:")


def test_a_misspelt_selector_in_the_runner_itself_is_found() -> None:
    sources = sources_of_runner()
    calls = [said for said in everything_said() if said.kind == "call" and ":" in said.name]
    assert len(calls) > 5
    for name in {said.name for said in calls}:
        spelt = name.replace(":", "_")
        half = len(spelt) // 2
        misspelt = spelt[:half] + "x" + spelt[half:]
        mutated = {file: text.replace(spelt, misspelt) for file, text in sources.items()}
        found = problems(mutated, FACTS_OF_WHEEL)
        assert any(misspelt.replace("_", ":") in problem for problem in found), name


def test_element_types_have_apple_s_values() -> None:
    constants = FACTS_OF_WHEEL["constants"]
    assert {row.constant: row.raw for row in rules.DATA_TYPES.values()} == {
        row.constant: constants[row.constant] for row in rules.DATA_TYPES.values()
    }
    assert constants["MTL_TENSOR_MAX_RANK"] == rules.MAXIMUM_RANK
    assert constants["MTLBindingAccessReadOnly"] == rules.READ.raw
    assert constants["MTLBindingAccessWriteOnly"] == rules.WRITE.raw


def test_what_only_headers_have_is_said_with_its_source() -> None:
    unproven = needed_selectors() - set(FACTS_OF_WHEEL["selectors"])
    assert unproven <= set(declared())
    for selector in unproven:
        for name in declared()[selector]:
            assert CLASSES[name].header.endswith(".h")
            assert not CLASSES[name].parent or CLASSES[name].parent in CLASSES


def test_what_the_runner_registers_is_what_pyobjc_lacks() -> None:
    registered: list[tuple[bytes, bytes, dict[str, Any]]] = []
    objc = SimpleNamespace(
        _C_IN=b"n", registerMetaDataForSelector=lambda *row: registered.append(row)
    )
    register(objc)
    for owner, selector, _ in registered:
        assert selector.decode() in CLASSES[owner.decode()].selectors
        assert selector.decode() not in FACTS_OF_WHEEL["selectors"], "PyObjC has it by now"
    found = {selector: annotation["arguments"] for _, selector, annotation in registered}
    first = 2  # arguments count from the object and the selector
    assert found == {
        b"initWithRank:values:": {
            first + 1: {"type_modifier": b"n", "c_array_length_in_arg": first}
        },
        b"setConstantValue:type:atIndex:": {
            first: {"type_modifier": b"n", "c_array_of_variable_length": True}
        },
    }


def wheel(folder: Path) -> Path:
    """The wheel that METAL4CONV_PYOBJC_WHEEL names, or else that pip downloads."""
    if given := os.environ.get("METAL4CONV_PYOBJC_WHEEL"):
        return Path(given)
    done = subprocess.run(
        [
            *(sys.executable, "-m", "pip", "download", "-q", "--no-deps", "-d", str(folder)),
            *("--only-binary=:all:", "--python-version", "3.11"),
            *("--platform", FACTS_OF_WHEEL["wheel"].rpartition("-")[2].removesuffix(".whl")),
            f"pyobjc-framework-Metal=={FACTS_OF_WHEEL['version']}",
        ],
        capture_output=True,
        text=True,
    )
    if done.returncode:
        pytest.skip(f"the wheel cannot be downloaded: {done.stderr.strip().splitlines()[-1]}")
    (found,) = folder.glob("*.whl")
    return found


@pytest.mark.slow
def test_table_is_what_the_wheel_says(tmp_path: Path) -> None:
    facts = facts_of(read_wheel(wheel(tmp_path)), needed_selectors(), needed_names())
    assert facts_text(facts) == FACTS.read_text("utf-8")
