"""The ways in which the emulator fails on purpose, so that the runner's defences are tested."""

from __future__ import annotations

from dataclasses import dataclass, field
from threading import Lock
from typing import Any
from weakref import WeakValueDictionary

from metal4conv.device.compute_protocol import StandIn
from metal4conv.device.emulator.rules import Referee
from metal4conv.errors import UsageError, did_you_mean

MISBEHAVIOURS = {
    "nil-reflection": "the pipeline has no reflection",
    "nil-dimensions": "reflection shows bindings without dimensions",
    "dynamic-dimensions": "the pipeline's reflection leaves sizes open",
    "huge-dimensions": "open sizes are 2^64-1 in place of -1",
    "other-order": "outputs have the first indices",
    "empty-names": "bindings have no names",
    "timeout": "the GPU never finishes",
    "feedback-error": "the GPU reports an error, and writes nothing",
    "no-feedback": "commit feedback never comes",
    "abort": "MPSGraph ends the process when the network runs",
    "abort-at-compile": "MPSGraph ends the process when the pipeline is compiled",
    "compile-error": "the pipeline cannot be compiled",
    "no-constants": "functions cannot be compiled with a constant that is true",
    "hang": "compilation never ends",
    "constant-output": "outputs hold one value everywhere",
    "nan-output": "outputs are NaN, or the largest integer",
    "broken-extents": "the bridge hands on the first number of extents alone",
    "no-metal4": "the GPU is not of Metal 4's family",
    "no-device": "there is no GPU",
    "old-system": "Metal has no classes of macOS 26",
}
"""By name, what happens."""


FIRST_ADDRESS = 1 << 32
PAGE = 16384


@dataclass
class World:
    """What the objects of one emulator share.

    `tensors` are found by the identifier in an argument table's slot, as long as somebody holds
    them, as `textures` and `samplers` are, and `buffers` by their addresses. `compiling` is held
    while a pipeline is compiled. `stand_in` is what runs in place of sources in the Metal Shading
    Language.
    """

    misbehave: str | None = None
    referee: Referee = field(default_factory=Referee)
    is_registered: bool = False
    extents_class: Any = None  # TensorExtents of this world
    tensors: WeakValueDictionary[int, Any] = field(default_factory=WeakValueDictionary)
    last_identifier: int = 0
    compiling: Lock = field(default_factory=Lock)
    stand_in: StandIn | None = None
    buffers: WeakValueDictionary[int, Any] = field(default_factory=WeakValueDictionary)
    textures: WeakValueDictionary[int, Any] = field(default_factory=WeakValueDictionary)
    samplers: WeakValueDictionary[int, Any] = field(default_factory=WeakValueDictionary)
    last_address: int = FIRST_ADDRESS

    def next_identifier(self) -> int:
        """A resource's number on this GPU; 0 is none."""
        self.last_identifier += 1
        return self.last_identifier

    def next_address(self, length: int) -> int:
        """Where a buffer of so many bytes is on this GPU."""
        address = self.last_address
        self.last_address += (length // PAGE + 2) * PAGE
        return address

    def buffer_at(self, address: int) -> Any:  # Any: a Buffer or None
        """The buffer that holds an address, as long as somebody holds it."""
        for start, buffer in list(self.buffers.items()):
            if start <= address < start + buffer.length():
                return buffer
        return None


def check_misbehaviour(name: str | None) -> None:
    """`UsageError` for a way that there is not."""
    if name is not None and name not in MISBEHAVIOURS:
        raise UsageError(
            f'the emulator cannot misbehave by "{name}"', hint=did_you_mean(name, MISBEHAVIOURS)
        )
