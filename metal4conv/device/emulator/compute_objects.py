"""Descriptors of compute pipelines and what goes into them, with PyObjC's manners."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from metal4conv.device.emulator.misbehaviour import World
from metal4conv.device.emulator.objects import Descriptor, EmulatedObject

TYPE_BYTES = {53: 1, 29: 4, 33: 4, 3: 4, 16: 2}
"""Bytes of a bool, int, uint, float and half by MTLDataType, of what function constants may be."""


@dataclass(frozen=True)
class Size:
    """`MTLSize`."""

    width: int
    height: int
    depth: int

    @property
    def count(self) -> int:
        """How many there are."""
        return self.width * self.height * self.depth


class CompileOptions(Descriptor):
    """`MTLCompileOptions`; the language version's default is the newest of the system."""

    properties: ClassVar[dict[str, Any]] = {"languageVersion": 0x40000, "mathMode": 2}


class SpecializedFunctionDescriptor(Descriptor):
    """`MTL4SpecializedFunctionDescriptor`."""

    properties: ClassVar[dict[str, Any]] = {
        "functionDescriptor": None,
        "specializedName": None,
        "constantValues": None,
    }


class ComputePipelineDescriptor(Descriptor):
    """`MTL4ComputePipelineDescriptor`."""

    properties: ClassVar[dict[str, Any]] = {
        "computeFunctionDescriptor": None,
        "options": None,
        "label": None,
        "maxTotalThreadsPerThreadgroup": 0,
        "requiredThreadsPerThreadgroup": Size(0, 0, 0),
        "threadGroupSizeIsMultipleOfThreadExecutionWidth": False,
    }


@dataclass(frozen=True)
class Region:
    """`MTLRegion`, two-dimensional."""

    x: int
    y: int
    width: int
    height: int


class TextureDescriptor(Descriptor):
    """`MTLTextureDescriptor`, of two dimensions."""

    properties: ClassVar[dict[str, Any]] = {
        "pixelFormat": 70,
        "width": 1,
        "height": 1,
        "usage": 1,
        "storageMode": 0,
        "mipmapLevelCount": 1,
    }

    @staticmethod
    def texture2DDescriptorWithPixelFormat_width_height_mipmapped_(
        pixel_format: int, width: int, height: int, mipmapped: bool
    ) -> TextureDescriptor:
        made = TextureDescriptor.alloc().init()
        made.values |= {"pixelFormat": pixel_format, "width": width, "height": height}
        return made


class SamplerDescriptor(Descriptor):
    """`MTLSamplerDescriptor`."""

    properties: ClassVar[dict[str, Any]] = {
        "minFilter": 0,
        "magFilter": 0,
        "sAddressMode": 0,
        "tAddressMode": 0,
        "supportArgumentBuffers": False,
    }


class FunctionConstantValues(EmulatedObject):
    """`MTLFunctionConstantValues`: bytes by index. `world` is set below it."""

    world: ClassVar[World]

    def __init__(self) -> None:
        self.values: dict[int, tuple[int, bytes]] = {}

    def setConstantValue_type_atIndex_(self, value: Any, kind: int, index: int) -> None:
        """Copies a value of a type. (Any: an object with a buffer.)"""
        referee = self.world.referee
        referee.require(
            self.world.is_registered, "constant-metadata", "call the registration of the api first"
        )
        memory = bytes(memoryview(value).cast("B"))
        needed = TYPE_BYTES.get(kind, 0)
        detail = f"{len(memory)} bytes for type {kind}"
        referee.require(0 < needed <= len(memory), "constant-memory", detail)
        self.values[index] = (kind, memory[:needed])

    def reset(self) -> None:
        self.values = {}
