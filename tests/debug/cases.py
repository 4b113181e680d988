"""Networks, and what a case of a fault in one of them is; changes of weights.

A case says which operations are right: the one that was changed, or those that the changed
expression became. Where something is missing, what gave the value and what takes it are both right.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from tests.debug.faults import CodeFault, Fault, PackageFault


@dataclass(frozen=True)
class Network:
    """A source model and what `convert` is told about it.

    `origin` is `sample` (by the names of `sample_models`), `code` (a factory in `networks.py`),
    `script` (such a factory's module as TorchScript), `outside` (an ONNX export of
    `tests.outside`), `keras`, or `transformers` (a factory in `outside.py`, run with the slow
    tests).
    """

    origin: str
    name: str
    inputs: tuple[str, ...] = ()
    dims: tuple[str, ...] = ()
    precision: str = "float16"

    @property
    def framework(self) -> str:
        """What the source model came in."""
        named = {"animation_blend": "SavedModel", "denoiser": "ONNX"}
        kinds = {"script": "TorchScript", "outside": "ONNX", "keras": "Keras"}
        return named.get(self.name) or kinds.get(self.origin, "PyTorch")


NETWORKS = {
    "material": Network("sample", "neural_material", ("latents:64x8::0..1",)),
    "upscaler": Network("sample", "upscaler", ("color:1x3x16x20",)),
    "occlusion": Network(
        "sample", "ambient_occlusion", ("depth:1x1x32x40::0.5..6", "normals:1x3x32x40::-1..1")
    ),
    "denoiser": Network("sample", "denoiser", dims=("h=16", "w=20")),
    "blend": Network("sample", "animation_blend", dims=("batch=4",)),
    "shading": Network("code", "shading", ("position:48x3", "normal:48x3::-1..1")),
    "pyramid": Network("code", "pyramid"),
    "language": Network("code", "language", ("ids:1x9:int64:0..39",)),
    "tables": Network("code", "tables", ("x:2x8x8::-1..1",)),
    "shading_script": Network(
        "script", "shading", ("position:48x3", "normal:48x3::-1..1"), precision="float32"
    ),
    "tables_script": Network("script", "tables", ("x:2x8x8::-1..1",)),
    "convolutions": Network("outside", "convolutions"),
    "decoder": Network("outside", "decoder", ("ids:1x7:int64:0..49",), precision="float32"),
    "perceptron": Network("outside", "perceptron", ("x:1x7x16::-2..2",)),
    "recurrent": Network("outside", "recurrent", ("x:1x7x8::-2..2",)),
    "scenery": Network("keras", "scenery"),
    "vit": Network("transformers", "vit"),
    "bert": Network(
        "transformers", "bert", ("input_ids:1x7:int64:0..99", "attention_mask:1x7:int64:0..1")
    ),
    "convnext": Network("transformers", "convnext"),
    "segformer": Network("transformers", "segformer"),
    "swin2sr": Network("transformers", "swin2sr"),
}
"""Each is converted once a session and precision; `precision` is that of its cases."""


@dataclass(frozen=True)
class Case:
    """One fault in one network, and the names of the package's values that are right answers.

    Names are those before casts to float16, or their ends.
    """

    name: str
    network: str
    kind: str
    fault: Fault
    right: tuple[str, ...] = ()
    precision: str = ""
    slow: bool = False

    def __post_init__(self) -> None:
        if not self.right:
            assert isinstance(self.fault, PackageFault)
            object.__setattr__(self, "right", (self.fault.operation,))
        if not self.precision:
            object.__setattr__(self, "precision", NETWORKS[self.network].precision)


def element(*place: int, add: float) -> Callable[[np.ndarray], np.ndarray]:
    """One element made larger."""

    def change(array: np.ndarray) -> np.ndarray:
        array[place] += add
        return array

    return change


def channel(at: int, scale: float) -> Callable[[np.ndarray], np.ndarray]:
    """What belongs to one output channel, scaled."""

    def change(array: np.ndarray) -> np.ndarray:
        array[at] *= scale
        return array

    return change


def scaled(factor: float) -> Callable[[np.ndarray], np.ndarray]:
    return lambda array: array * factor


def zeros(array: np.ndarray) -> np.ndarray:
    return array * 0


def transposed(array: np.ndarray) -> np.ndarray:
    return array.T


def mirrored(array: np.ndarray) -> np.ndarray:
    """A kernel from right to left: convolution for correlation."""
    return array[..., ::-1]


def rolled(axis: int, by: int = 1) -> Callable[[np.ndarray], np.ndarray]:
    """Channels or gates in another order."""
    return lambda array: np.roll(array, by, axis)


def edit(old: str, new: str) -> CodeFault:
    return CodeFault(old, new)


@dataclass
class Corpus:
    """Collects cases; a name is the network's and the fault's."""

    cases: list[Case] = field(default_factory=list)

    def add(
        self,
        network: str,
        kind: str,
        faults: Mapping[str, tuple[Any, ...]],  # a fault, then names
        *,
        precision: str = "",
        fast: int = 100,
    ) -> None:
        """Cases of one kind: the fault by its name, then the right answers, as far as needed.

        The first `fast` of them are in every test run, the others in the slow one: what changes
        the source is converted anew.
        """
        for number, (name, (fault, *right)) in enumerate(faults.items()):
            named = f"{network}-{name}"
            case = Case(named, network, kind, fault, tuple(right), precision, number >= fast)
            self.cases.append(case)
