"""What stands in Metal's way on a machine; nothing of Metal is opened here."""

from __future__ import annotations

import platform
import subprocess
import sys
from importlib import metadata
from types import SimpleNamespace

import pytest

from metal4conv.device import metal
from metal4conv.errors import MissingDependency, MissingDevice


@pytest.fixture
def machine(monkeypatch):
    """Pretends to be another machine."""

    def pretend(system="darwin", kernel="25.1.0", pyobjc: str | None = "12.2.2"):
        def check_installed(module, *, extra=None):
            if pyobjc is None:
                raise MissingDependency(f"{module} is not installed", hint=f"pip: {extra}")

        monkeypatch.setattr(sys, "platform", system)
        monkeypatch.setattr(platform, "release", lambda: kernel)
        monkeypatch.setattr(platform, "mac_ver", lambda: ("15.7", ("", "", ""), "arm64"))
        monkeypatch.setattr(metal, "check_installed", check_installed)
        monkeypatch.setattr(metadata, "version", lambda name: pyobjc)

    return pretend


def test_another_system(machine):
    machine(system="linux")
    assert f"this is {platform.system()}" in metal.why_not_here()
    assert "macOS 26.0" in metal.why_not_here()
    with pytest.raises(MissingDevice):
        metal.open_api()


def test_an_older_macos(machine):
    machine(kernel="24.6.0")
    assert metal.why_not_here().startswith("this is macOS 15.7 (Darwin 24.6.0); Metal 4 needs")


def test_pyobjc_is_missing(machine):
    machine(pyobjc=None)
    assert metal.why_not_here() == "objc is not installed (pip: metal)"
    with pytest.raises(MissingDependency):
        metal.open_api()


def test_pyobjc_is_old(machine):
    machine(pyobjc="11.1")
    assert "pyobjc-framework-Metal 11.1 is installed, 12 or newer" in metal.why_not_here()
    assert "pip install 'metal4conv[metal]'" in metal.why_not_here()


def test_nothing_speaks_against_it(machine):
    machine()
    assert metal.why_not_here() is None


def test_the_bridge_is_told_of_the_array():
    calls = []
    objc = SimpleNamespace(
        _C_IN=b"n", registerMetaDataForSelector=lambda *arguments: calls.append(arguments)
    )
    metal.register(objc)
    arguments = {3: {"type_modifier": b"n", "c_array_length_in_arg": 2}}
    value = {2: {"type_modifier": b"n", "c_array_of_variable_length": True}}
    selector = b"setConstantValue:type:atIndex:"
    assert calls == [
        (b"MTLTensorExtents", b"initWithRank:values:", {"arguments": arguments}),
        (b"MTLFunctionConstantValues", selector, {"arguments": value}),
    ]


def test_asking_loads_nothing():
    code = (
        "import sys; from metal4conv.device.metal import why_not_here; why_not_here()\n"
        "print(sorted({'numpy', 'torch', 'objc', 'Metal'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
