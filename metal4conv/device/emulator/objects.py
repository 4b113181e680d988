"""Objects with PyObjC's manners: `alloc().init()`, properties as methods, extents, URLs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, ClassVar, TypeVar

from metal4conv.device.emulator.misbehaviour import World
from metal4conv.layout.rules import MAXIMUM_RANK

Made = TypeVar("Made", bound="EmulatedObject")


class EmulatedObject:
    """Made in two steps, as in Objective-C."""

    @classmethod
    def alloc(cls: type[Made]) -> Made:
        """An object before its initializer."""
        return cls.__new__(cls)

    def init(self: Made) -> Made:
        """The object, ready."""
        self.__init__()  # type: ignore[misc]  # Python's step after alloc
        return self


class Descriptor(EmulatedObject):
    """Properties with a getter `name()` and a setter `setName_(value)` each."""

    properties: ClassVar[dict[str, Any]] = {}
    """Defaults by name. (Any: numbers, texts and objects.)"""

    def __init_subclass__(cls) -> None:
        for name in cls.properties:
            setattr(cls, name, getter(name))
            setattr(cls, f"set{name[0].upper()}{name[1:]}_", setter(name))

    def __init__(self) -> None:
        self.values = dict(self.properties)


def getter(name: str) -> Callable[[Descriptor], Any]:
    """The method that reads a property."""
    return lambda self: self.values[name]


def setter(name: str) -> Callable[[Descriptor, Any], None]:
    """The method that sets a property."""

    def set_value(self: Descriptor, value: Any) -> None:  # Any: whatever the property holds
        self.values[name] = value

    return set_value


class TensorExtents(EmulatedObject):
    """`MTLTensorExtents`: sizes, strides or an origin, innermost first. `world` is set below it."""

    world: ClassVar[World]

    def initWithRank_values_(self, rank: int, values: Sequence[int] | None) -> TensorExtents | None:
        """Nothing for a rank above 16, or without values."""
        referee = self.world.referee
        referee.require(
            self.world.is_registered, "extents-metadata", "call the registration of the api first"
        )
        if rank > MAXIMUM_RANK:
            referee.note("extents-rank")
            return None
        if values is None or len(values) < rank:
            raise TypeError(f"initWithRank:values: expects {rank} numbers, got {values}")
        self.numbers = tuple(int(value) for value in values[:rank])
        if self.world.misbehave == "broken-extents":
            self.numbers = (*self.numbers[:1], *(0 for _ in self.numbers[1:]))
        return self

    def rank(self) -> int:
        return len(self.numbers)

    def extentAtDimensionIndex_(self, index: int) -> int:
        return self.numbers[index] if index < len(self.numbers) else -1


def extents_of(world: World, numbers: Sequence[int]) -> TensorExtents:
    """Extents that Metal makes itself, with whatever numbers it likes."""
    made: TensorExtents = world.extents_class.alloc()
    made.numbers = tuple(numbers)
    return made


class FileURL:
    """An `NSURL` of a file."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def path(self) -> str:
        return str(self.file)


class NSURL:
    """Foundation's class, as far as files go."""

    @staticmethod
    def fileURLWithPath_(path: str) -> FileURL:
        return FileURL(Path(path))


class ResourceDescriptor(Descriptor):
    """What has modes, which the resource options pack: cache in bits 0-3, storage in 4-7, hazard
    tracking in 8-9."""

    def resourceOptions(self) -> int:
        values = self.values
        return int(
            values["cpuCacheMode"] | values["storageMode"] << 4 | values["hazardTrackingMode"] << 8
        )

    def setResourceOptions_(self, options: int) -> None:
        self.values |= {
            "cpuCacheMode": options & 15,
            "storageMode": options >> 4 & 15,
            "hazardTrackingMode": options >> 8 & 3,
        }


class TensorDescriptor(ResourceDescriptor):
    """`MTLTensorDescriptor`, with the header's defaults. `world` is set below it."""

    world: ClassVar[World]

    properties: ClassVar[dict[str, Any]] = {
        "dimensions": None,
        "strides": None,
        "dataType": 3,
        "usage": 3,
        "cpuCacheMode": 0,
        "storageMode": 0,
        "hazardTrackingMode": 0,
    }

    def __init__(self) -> None:
        super().__init__()
        self.values["dimensions"] = extents_of(self.world, (1,))


class HeapDescriptor(ResourceDescriptor):
    """`MTLHeapDescriptor`."""

    properties: ClassVar[dict[str, Any]] = {
        "type": 0,
        "size": 0,
        "storageMode": 2,
        "cpuCacheMode": 0,
        "hazardTrackingMode": 0,
    }


class ResidencySetDescriptor(Descriptor):
    """`MTLResidencySetDescriptor`."""

    properties: ClassVar[dict[str, Any]] = {"label": None, "initialCapacity": 0}


class LibraryFunctionDescriptor(Descriptor):
    """`MTL4LibraryFunctionDescriptor`."""

    properties: ClassVar[dict[str, Any]] = {"name": None, "library": None}


class PipelineOptions(Descriptor):
    """`MTL4PipelineOptions`."""

    properties: ClassVar[dict[str, Any]] = {"shaderReflection": 0, "shaderValidation": 0}


class CompilerDescriptor(Descriptor):
    """`MTL4CompilerDescriptor`."""

    properties: ClassVar[dict[str, Any]] = {"label": None, "pipelineDataSetSerializer": None}


class ArgumentTableDescriptor(Descriptor):
    """`MTL4ArgumentTableDescriptor`."""

    properties: ClassVar[dict[str, Any]] = {
        "maxBufferBindCount": 0,
        "maxTextureBindCount": 0,
        "maxSamplerStateBindCount": 0,
        "initializeBindings": False,
        "label": None,
    }


class CommandQueueDescriptor(Descriptor):
    """`MTL4CommandQueueDescriptor`."""

    properties: ClassVar[dict[str, Any]] = {"label": None, "feedbackQueue": None}


class MachineLearningPipelineDescriptor(Descriptor):
    """`MTL4MachineLearningPipelineDescriptor`."""

    properties: ClassVar[dict[str, Any]] = {
        "machineLearningFunctionDescriptor": None,
        "options": None,
        "label": None,
    }

    def __init__(self) -> None:
        super().__init__()
        self.given: dict[int, TensorExtents] = {}

    def setInputDimensions_atBufferIndex_(self, dimensions: TensorExtents, index: int) -> None:
        self.given[index] = dimensions

    def inputDimensionsAtBufferIndex_(self, index: int) -> TensorExtents | None:
        return self.given.get(index)

    def reset(self) -> None:
        self.__init__()  # type: ignore[misc]  # all as it was at first


class CommitOptions(EmulatedObject):
    """`MTL4CommitOptions`."""

    def __init__(self) -> None:
        self.handlers: list[Callable[[Any], None]] = []  # Any: an MTL4CommitFeedback

    def addFeedbackHandler_(self, handler: Callable[[Any], None]) -> None:
        self.handlers.append(handler)
