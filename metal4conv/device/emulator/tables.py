"""Argument tables, and what has to be alive and resident when the GPU runs."""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from typing import Any

from metal4conv.device.emulator.memory import ResidencySet, ResourceID
from metal4conv.device.emulator.misbehaviour import World
from metal4conv.device.emulator.objects import ArgumentTableDescriptor

MOST_BUFFERS = 31


class ArgumentTable:
    """`MTL4ArgumentTable`: the numbers of resources by index, or addresses of buffers; it holds
    none of them alive."""

    def __init__(self, world: World, descriptor: ArgumentTableDescriptor) -> None:
        self.world = world
        count = int(descriptor.values["maxBufferBindCount"])
        world.referee.require(count <= MOST_BUFFERS, "table-count", f"{count} buffers")
        self.slots = [0] * count
        self.addresses = [0] * count
        self.textures = [0] * int(descriptor.values["maxTextureBindCount"])
        self.samplers = [0] * int(descriptor.values["maxSamplerStateBindCount"])

    def setResource_atBufferIndex_(self, identifier: ResourceID, index: int) -> None:
        self.check_index(index)
        known = identifier._impl in self.world.tensors
        self.world.referee.require(known, "slot-resource", f"resource {identifier._impl}")
        self.slots[index], self.addresses[index] = identifier._impl, 0

    def setAddress_atIndex_(self, address: int, index: int) -> None:
        self.check_index(index)
        known = self.world.buffer_at(address) is not None
        self.world.referee.require(known, "slot-address", f"address {address:#x}")
        self.slots[index], self.addresses[index] = 0, address

    def setTexture_atIndex_(self, identifier: ResourceID, index: int) -> None:
        self.check_index(index, self.textures)
        known = identifier._impl in self.world.textures
        self.world.referee.require(known, "slot-resource", f"texture {identifier._impl}")
        self.textures[index] = identifier._impl

    def setSamplerState_atIndex_(self, identifier: ResourceID, index: int) -> None:
        self.check_index(index, self.samplers)
        sampler = self.world.samplers.get(identifier._impl)
        if sampler is None:
            self.world.referee.fault("slot-resource", f"sampler {identifier._impl}")
        self.world.referee.require(
            bool(sampler.values["supportArgumentBuffers"]), "sampler-argument", f"index {index}"
        )
        self.samplers[index] = identifier._impl

    def check_index(self, index: int, slots: Sequence[int] | None = None) -> None:
        """An index that the table has."""
        count = len(self.slots if slots is None else slots)
        self.world.referee.require(
            0 <= index < count, "slot-index", f"index {index} of a table of {count}"
        )


def alive(world: World, reference: weakref.ref[Any], what: str) -> Any:
    """The object; it is a fault if it is gone. (Any: whatever the reference is to.)"""
    found = reference()
    world.referee.require(found is not None, "kept-alive", f"{what} was dropped before the end")
    return found


def check_resident(world: World, allocation: Any, sets: Sequence[ResidencySet], what: str) -> None:
    """What the GPU touches is in a set that was committed. (Any: a tensor, buffer or heap.)"""
    if any(allocation in item.resident for item in sets):
        return
    if any(allocation in item.added for item in sets):
        world.referee.fault("residency-commit", f"{what} was added after the last commit")
    world.referee.fault("resident", f"{what} is in no residency set of the queue")
