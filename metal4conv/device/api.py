"""Who answers as Metal: PyObjC's modules, or the emulator's objects with the same names."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Api:
    """Metal as the runner sees it.

    `metal` is the module `Metal`: functions, classes and constants. A class that the running
    system lacks is missing as an attribute. `foundation` is the module `Foundation`. `register`
    tells PyObjC of the selectors that its own metadata lacks, before the first call of them.
    """

    metal: Any  # PyObjC's modules have no types
    foundation: Any  # as above
    register: Callable[[], None]
    is_emulated: bool = False
