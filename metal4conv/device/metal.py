"""Metal through PyObjC: the only file that knows it, and only inside functions."""

from __future__ import annotations

import platform
import sys
from importlib import metadata
from typing import Any

from metal4conv.device.api import Api
from metal4conv.errors import MissingDependency, MissingDevice
from metal4conv.layout.rules import SYSTEMS_OF_METAL_4
from metal4conv.lazy import check_installed, install_line, require

EXTRA = "metal"
DISTRIBUTION = "pyobjc-framework-Metal"
LEAST_PYOBJC = 12
"""The first release with the classes of macOS 26."""

LEAST_DARWIN = 25
"""The kernel of macOS 26. The system's own version is no guide: to a Python that was built for an
older system, newer ones give a number that suits it."""

NEEDED = f"Metal 4 needs macOS {SYSTEMS_OF_METAL_4['macOS']} or newer on a Mac with Apple silicon"


def open_api() -> Api:
    """PyObjC's modules. `MissingDevice` on another system or an older macOS, `MissingDependency`
    without PyObjC. Whether the GPU supports Metal 4 is the runner's to find out."""
    check_here()
    objc = require("objc", extra=EXTRA)
    foundation = require("Foundation", extra=EXTRA)
    metal = require("Metal", extra=EXTRA)
    return Api(metal, foundation, lambda: register(objc))


def why_not_here() -> str | None:
    """Why Metal 4 is out of reach, None where nothing speaks against it; nothing is imported."""
    try:
        check_here()
    except (MissingDevice, MissingDependency) as error:
        return error.message if error.hint is None else f"{error.message} ({error.hint})"
    return None


def check_here() -> None:
    """`MissingDevice` or `MissingDependency` for what is plain without opening Metal."""
    if sys.platform != "darwin":
        raise MissingDevice(f"this is {platform.system()}; {NEEDED}")
    kernel = platform.release()
    if int(kernel.partition(".")[0]) < LEAST_DARWIN:
        raise MissingDevice(f"this is macOS {platform.mac_ver()[0]} (Darwin {kernel}); {NEEDED}")
    for module in ("objc", "Foundation", "Metal"):
        check_installed(module, extra=EXTRA)
    found = metadata.version(DISTRIBUTION)
    if int(found.partition(".")[0]) < LEAST_PYOBJC:
        raise MissingDependency(
            f"{DISTRIBUTION} {found} is installed, {LEAST_PYOBJC} or newer has Metal 4",
            hint=f"run: {install_line('Metal', EXTRA)} --upgrade",
        )


def register(objc: Any) -> None:  # Any: PyObjC's module
    """Tells the bridge that the numbers of extents are an array, and a constant's value memory.

    PyObjC's metadata lacks both selectors. From the runtime's own it takes `const NSInteger *` for
    one number, and of `const void *` it takes nothing but None and its own pointers. Arguments
    count from the object and the selector: of extents 2 is the rank and 3 the values, of a function
    constant 2 is the value. Its class is abstract, and what is registered holds for those below.
    """
    arguments = {3: {"type_modifier": objc._C_IN, "c_array_length_in_arg": 2}}
    objc.registerMetaDataForSelector(
        b"MTLTensorExtents", b"initWithRank:values:", {"arguments": arguments}
    )
    value = {2: {"type_modifier": objc._C_IN, "c_array_of_variable_length": True}}
    objc.registerMetaDataForSelector(
        b"MTLFunctionConstantValues", b"setConstantValue:type:atIndex:", {"arguments": value}
    )
