"""The emulator answers to what the runner says, with PyObjC's names, counts and values."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from functools import cache

import pytest

from metal4conv.device import emulator
from metal4conv.device.emulator import open_api
from tests.device.apple_headers import CLASSES, declared
from tests.device.bindings import emulated_constants, everything_said, read_facts

ONLY_ON_METAL = {"MTLCaptureManager", "MTLCaptureDescriptor"}
"""Classes that the runner asks for on a device only: the emulator writes no captures."""


@cache
def emulated_classes() -> tuple[type, ...]:
    """All classes that the emulator's modules define."""
    items = pkgutil.iter_modules(emulator.__path__, f"{emulator.__name__}.")
    modules = [emulator, *(importlib.import_module(item.name) for item in items)]
    return tuple(
        {
            kind: None
            for module in modules
            for kind in vars(module).values()
            if inspect.isclass(kind) and kind.__module__.startswith(emulator.__name__)
        }
    )


def offers(kind: type, method: str) -> bool:
    """Whether a class has a method with as many arguments as its name has underscores."""
    static = inspect.getattr_static(kind, method, None)
    if static is None or not callable(getattr(kind, method, None)):
        return False
    bound = isinstance(static, classmethod | staticmethod)
    try:
        inspect.signature(getattr(kind, method)).bind(
            *([] if bound else [None]), *[None] * method.count("_")
        )
    except TypeError:
        return False
    return True


def is_on_metal_only(selector: str) -> bool:
    """Whether only those classes declare a selector that the emulator does not have."""
    owners = set(declared().get(selector, ()))
    return bool(owners) and owners <= ONLY_ON_METAL


def selectors_said() -> list[str]:
    """The selectors that the emulator must have, as PyObjC spells them."""
    return sorted(
        {
            said.name.replace(":", "_")
            for said in everything_said()
            if said.kind == "call" and not is_on_metal_only(said.name)
        }
    )


@pytest.mark.parametrize("method", selectors_said())
def test_emulator_has_the_selector_with_as_many_arguments(method: str) -> None:
    assert any(offers(kind, method) for kind in emulated_classes())


def test_emulator_has_the_classes_and_functions() -> None:
    api = open_api(None)
    facts = read_facts()
    names = {said.name for said in everything_said() if said.kind == "name"}
    names = {name for name in names if name in CLASSES or name in facts["functions"]}
    lacking = {
        name
        for name in names - ONLY_ON_METAL
        if not hasattr(api.metal, name) and not hasattr(api.foundation, name)
    }
    assert lacking == set()


def test_what_no_class_offers_is_found() -> None:
    right = "newTensorWithDescriptor_offset_error_"
    assert any(offers(kind, right) for kind in emulated_classes())
    for wrong in ("newTensorWithDescriptor_offset_error", "newTensorWithDescriptor_offsets_error_"):
        assert not any(offers(kind, wrong) for kind in emulated_classes())


def test_emulator_s_constants_have_apple_s_values() -> None:
    found = emulated_constants()
    constants = read_facts()["constants"]
    assert len(found) > 10
    assert found == {name: constants.get(name) for name in found}
