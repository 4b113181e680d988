"""Which binding is which tensor: `device/bindings.py`."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import pytest

from metal4conv.device.bindings import (
    Slot,
    check_library,
    check_pipeline,
    match,
    read_bindings,
)
from metal4conv.device.failures import RunFailed
from metal4conv.device.protocol import TensorPlan
from tests.device.plans import X, Y, bound

IMAGE = TensorPlan("image", "input", 0, 16, (8, 8, 3), (1, 32, 256), 1536, False)
MASK = TensorPlan("mask", "input", 1, 16, (8, 8, 1), (1, 32, 256), 512, False)


def indices(slots) -> list[tuple[str, int]]:
    return [(slot.plan.name, slot.index) for slot in slots]


def reflected(name="x", index=0, *, kind=37, dimensions=(10, 4)):
    """What Metal's objects answer, as far as reflection is read."""
    sizes = None
    if dimensions is not None:
        sizes = SimpleNamespace(
            rank=lambda: len(dimensions), extentAtDimensionIndex_=lambda at: dimensions[at]
        )
    return SimpleNamespace(
        name=lambda: name,
        index=lambda: index,
        type=lambda: kind,
        access=lambda: 0,
        tensorDataType=lambda: 3,
        dimensions=lambda: sizes,
    )


def reading(*items):
    return read_bindings(SimpleNamespace(bindings=lambda: items))


def test_only_tensors_are_read():
    [found] = reading(reflected(), reflected("sampler", 1, kind=2))
    assert found == bound(X)


@pytest.mark.parametrize(
    ("dimensions", "expected"),
    [(None, None), ((-1, 4), (-1, 4)), ((2**64 - 1, 4), (-1, 4)), ((), ())],
)
def test_sizes_that_are_open(dimensions, expected):
    [found] = reading(reflected(dimensions=dimensions))
    assert found.dimensions == expected


def test_no_reflection_is_none():
    assert read_bindings(None) is None
    assert read_bindings(SimpleNamespace(bindings=lambda: None)) is None
    assert reading() is None


def test_a_name_that_is_none_is_empty():
    [found] = reading(reflected(None))
    assert found.name == ""


def test_a_rank_that_cannot_be():
    with pytest.raises(RunFailed, match="17 dimensions"):
        reading(reflected(dimensions=(1,) * 17))


def test_names_decide_over_order():
    slots = match((X, Y), (bound(Y, index=0), bound(X, index=5)))
    assert indices(slots) == [("x", 5), ("y", 0)]


def test_without_reflection_the_manifest_decides():
    assert indices(match((X, Y), None)) == [("x", 0), ("y", 1)]


def test_nameless_bindings_go_by_index():
    bindings = (bound(Y, name="", index=3), bound(X, name="", index=2))
    assert indices(match((X, Y), bindings)) == [("x", 2), ("y", 3)]


def test_nameless_bindings_in_another_order_go_by_shape():
    bindings = (bound(MASK, name="", index=0), bound(IMAGE, name="", index=1))
    assert indices(match((IMAGE, MASK), bindings)) == [("image", 1), ("mask", 0)]


def test_one_nameless_binding_beside_a_named_one():
    bindings = (bound(MASK, name="", index=0), bound(IMAGE, index=1))
    assert indices(match((IMAGE, MASK), bindings)) == [("image", 1), ("mask", 0)]


def test_nameless_bindings_that_no_order_fits():
    other = replace(IMAGE, name="other", index=1, dimensions=(9, 9, 9))
    bindings = (bound(IMAGE, name="", index=0), bound(MASK, name="", index=1))
    with pytest.raises(RunFailed, match="which is which") as caught:
        match((IMAGE, other), bindings)
    assert caught.value.kind == "refused"


@pytest.mark.parametrize(
    ("bindings", "text"),
    [
        ((bound(X),), 'no binding for output "y"'),
        ((bound(X, name="xx"), bound(Y)), 'no binding for input "x": did you mean "xx"'),
        ((bound(X), bound(Y), bound(Y, name="z", index=2)), 'a binding "z"'),
        ((bound(X), bound(Y), bound(Y, name="", index=2)), "without a name"),
        ((bound(X), bound(X, index=1), bound(Y)), 'two bindings named "x"'),
        ((bound(X), bound(Y, index=0)), "at index 0"),
        ((bound(X, name=""), bound(X, name="", index=1)), "2 input bindings without names"),
    ],
)
def test_bindings_that_do_not_pair_up(bindings, text):
    with pytest.raises(RunFailed, match=text) as caught:
        match((X, Y), bindings)
    assert caught.value.kind == "refused"


def slot(plan: TensorPlan, **changes) -> Slot:
    return Slot(plan, plan.index, bound(plan, **changes))


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"data_type": 16}, "float32 in the layout manifest and float16"),
        ({"access": 2}, "access 2"),
        ({"dimensions": (10, 5)}, r"\(10, 4\).*\(10, 5\)"),
        ({"dimensions": (10, 4, 1)}, r"\(10, 4, 1\)"),
    ],
)
@pytest.mark.parametrize("check", [check_library, check_pipeline])
def test_what_would_end_the_process(check, changes, text):
    with pytest.raises(RunFailed, match=text) as caught:
        check(slot(X, **changes))
    assert caught.value.kind == "refused"


@pytest.mark.parametrize("dimensions", [None, (-1, 4), (10, 4)])
def test_what_is_open_is_accepted(dimensions):
    check_library(slot(X, dimensions=dimensions))
    check_pipeline(slot(X, dimensions=dimensions))


def test_a_dynamic_tensor_may_show_its_default_before_compilation_only():
    dynamic = replace(X, is_dynamic=True)
    check_library(slot(dynamic, dimensions=(1, 1)))
    with pytest.raises(RunFailed, match="dimensions"):
        check_pipeline(slot(dynamic, dimensions=(1, 1)))
    with pytest.raises(RunFailed, match="dimensions"):
        check_library(slot(dynamic, dimensions=(1, 1, 1)))


def test_a_binding_for_reading_and_writing_is_both():
    check_pipeline(slot(X, access=1))
    check_pipeline(slot(Y, access=1))
