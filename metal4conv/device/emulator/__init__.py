"""An emulator of the part of Metal 4 that runs networks, on the executor, and compute functions.

Compute functions run as another compiler translated them into a shared library. It has the names,
arguments and answers of PyObjC's `Metal`, and holds its caller to the rules of `rules.RULES`. It
says nothing of a GPU's speed, nor of how it rounds.
"""

from __future__ import annotations

from types import SimpleNamespace

from metal4conv.device.api import Api
from metal4conv.device.compute_protocol import StandIn
from metal4conv.device.emulator.gpu import metal_module
from metal4conv.device.emulator.misbehaviour import World, check_misbehaviour
from metal4conv.device.emulator.objects import NSURL
from metal4conv.device.emulator.rules import Referee


def open_api(
    misbehave: str | None = None, referee: Referee | None = None, stand_in: StandIn | None = None
) -> Api:
    """A new GPU; `referee` notes the rules that are broken, `stand_in` runs compute functions."""
    check_misbehaviour(misbehave)
    world = World(misbehave, referee or Referee(), stand_in=stand_in)

    def register() -> None:
        world.is_registered = True

    return Api(metal_module(world), SimpleNamespace(NSURL=NSURL), register, is_emulated=True)
