"""A model in its own framework: what it takes and gives, how to run it, how to lower it to MIL."""

from __future__ import annotations

import zipfile
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import numpy as np

from metal4conv.errors import DamagedFile, UntrustedFile, UsageError
from metal4conv.frontends.spec import InputSpec, parse_dimension, parse_input
from metal4conv.lazy import check_installed
from metal4conv.mil.correspondence import SourceValue
from metal4conv.mil.program import Dimension, TensorType
from metal4conv.report import Finding


@dataclass(frozen=True)
class SourceOptions:
    """What the user says about a source on the command line.

    `dimensions` holds ranges (`--dim h=64..2160`) and plain numbers (`--dim h=720`).
    """

    inputs: tuple[InputSpec, ...] = ()
    dimensions: Mapping[str, Dimension | int] = field(default_factory=dict)
    signature: str | None = None
    weights: Path | None = None
    trust: bool = False


def parse_options(
    inputs: Iterable[str],
    dims: Iterable[str],
    *,
    weights: str | Path | None = None,
    signature: str | None = None,
    trust: bool = False,
) -> SourceOptions:
    """Options as they are written on the command line: `x:1x3xhxw`, `h=64..2160`."""
    dimensions: dict[str, Dimension | int] = {}
    for text in dims:
        name, size = parse_dimension(text)
        if name in dimensions:
            raise UsageError(f'dimension "{name}" is given twice', where="--dim")
        dimensions[name] = size
    specs = tuple(parse_input(text) for text in inputs)
    return SourceOptions(specs, dimensions, signature, Path(weights) if weights else None, trust)


@dataclass(frozen=True)
class SourceInput:
    """An input of the source model: its own dtype, and its shape with named dynamic sizes.

    `value_range` bounds golden inputs; None leaves it to the dtype and the shape.
    """

    name: str
    type: TensorType
    value_range: tuple[float, float] | None = None


@dataclass(frozen=True)
class CastOperation:
    """An operation as it is when the pass that casts to float16 comes to it: later passes may join
    it with others, or give it another name. `inputs` and `outputs` are names of values.
    """

    name: str
    type: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


@dataclass(frozen=True)
class LoweringRequest:
    """How the package shall be: opset, and the precision inside and at the border."""

    target: str = "iOS18"
    precision: str = "float16"
    io_precision: str | None = None
    output_names: tuple[str, ...] = ()
    """Names for the outputs in their order; the source's own when empty."""
    input_dtypes: Mapping[str, str] = field(default_factory=dict)
    """The dtype of float inputs for which the user named one: `-i x:1x3xhxw:float32`."""
    float32_operations: tuple[str, ...] = ()
    """Operations that stay in float32 in a package of mixed precision."""
    cast_operations: list[CastOperation] | None = field(default=None, compare=False)
    """A list that takes in all operations; they stay in float32 then."""

    @property
    def io_dtype(self) -> str:
        """The dtype of float inputs and outputs."""
        inside = "float32" if self.precision == "float32" else "float16"
        return self.io_precision or inside


@dataclass(frozen=True)
class Lowered:
    """A Core ML model fresh from a frontend: its specification (bytes of a `Model` message), and
    the folder with its weight files.
    """

    spec: bytes
    weights_folder: Path
    findings: tuple[Finding, ...] = ()
    values: Mapping[str, str] = field(default_factory=dict)
    """Names of the source's values by names of the package's values that hold them."""


class ModelSource(Protocol):
    """An opened source model."""

    @property
    def framework(self) -> str:
        """`pytorch`, `tensorflow` or `onnx`."""

    @property
    def kind(self) -> str:
        """What it came in: `exported program`, `TorchScript`, `factory`, `SavedModel`, …"""

    @property
    def name(self) -> str:
        """The default name of the package."""

    @property
    def inputs(self) -> tuple[SourceInput, ...]:
        """The inputs in their order."""

    @property
    def outputs(self) -> tuple[str, ...]:
        """The outputs' names in their order."""

    @property
    def dimensions(self) -> Mapping[str, Dimension]:
        """The sizes of all named dimensions in `inputs`."""

    @property
    def files(self) -> tuple[Path, ...]:
        """All files that were read, in a stable order; an edit of one asks for a rebuild."""

    @property
    def findings(self) -> tuple[Finding, ...]:
        """What the user should know about the source."""

    def predict(self, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """The source framework's own outputs by name, in float32 arithmetic."""

    def lower(self, request: LoweringRequest, work_folder: Path) -> Lowered:
        """The model as Core ML; temporary files go to `work_folder`."""

    def values(self) -> tuple[SourceValue, ...]:
        """The values that the model computes, in their order; those within loops and branches
        are left out.
        """

    def trace(
        self, inputs: Mapping[str, np.ndarray], names: Collection[str]
    ) -> dict[str, np.ndarray]:
        """Those of the named values that can be had, floats as float32; it runs as `predict`."""

    def describe(self) -> dict[str, object]:
        """For `inspect`: operations by type, parameters, and what cannot be converted."""


PICKLE_HINT = "save the model with torch.export.save or torch.jit.save, or name a factory"


def open_source(text: str, options: SourceOptions) -> ModelSource:
    """The source that `text` names: a path, `file.py:factory`, or `package.module:factory`."""
    path = Path(text)
    kind = source_kind(text)
    if kind in ("pt2", "torchscript", "factory"):
        return open_torch_source(kind, text, options)
    if kind in ("savedmodel", "keras", "graphdef"):
        return open_tensorflow_source(kind, path, options)
    if kind == "onnx":
        return open_onnx_source(path, options)
    raise UsageError(f"{text}: this kind of file cannot be converted")


def open_torch_source(kind: str, text: str, options: SourceOptions) -> ModelSource:
    """A PyTorch source; TensorFlow is not imported."""
    from metal4conv.frontends import torch

    match kind:
        case "pt2":
            return torch.open_exported_program(Path(text), options)
        case "torchscript":
            return torch.open_torchscript(Path(text), options)
    return torch.open_factory(text, options)


def open_tensorflow_source(kind: str, path: Path, options: SourceOptions) -> ModelSource:
    """A TensorFlow source; PyTorch is not imported."""
    from metal4conv.frontends import tensorflow

    match kind:
        case "savedmodel":
            return tensorflow.open_saved_model(path, options)
        case "keras":
            return tensorflow.open_keras(path, options)
    return tensorflow.open_frozen_graph(path, options)


def open_onnx_source(path: Path, options: SourceOptions) -> ModelSource:
    """An ONNX source; neither PyTorch nor TensorFlow is imported."""
    check_installed("onnx", extra="onnx")
    from metal4conv.frontends.onnx import source

    return source.open_onnx(path, options)


def source_kind(text: str) -> str:
    """Which frontend reads `text`, by its name and by what is in the file.

    One of `pt2`, `torchscript`, `factory`, `savedmodel`, `keras`, `graphdef`, `onnx`, `package`.
    """
    path = Path(text)
    if path.is_dir():
        return folder_kind(path)
    if not path.exists():
        return missing_kind(text)
    if path.stat().st_size == 0:
        raise DamagedFile(f"{text} is empty")
    match path.suffix:
        case ".pt2":
            check_archive(path)
            return "pt2"
        case ".pt" | ".pth" | ".bin" | ".ckpt" | ".pkl":
            return torch_file_kind(path)
        case ".keras":
            check_archive(path)
            return "keras"
        case ".h5" | ".hdf5":
            return "keras"
        case ".pb":
            return "graphdef"
        case ".safetensors":
            raise UsageError(
                f"{text} holds weights without a model",
                hint="name the model's factory: "
                f"metal4conv convert file.py:factory --weights {text}",
            )
        case ".py":
            raise UsageError(
                f"{text} is a Python file; which function makes the model?",
                hint=f"name it after a colon: {text}:factory",
            )
        case ".onnx":
            return "onnx"
    raise UsageError(
        f"{text}: the suffix {path.suffix or '(none)'} is not known",
        hint="known: .pt2 .pt .keras .h5 .pb .onnx, a SavedModel folder, file.py:factory",
    )


def folder_kind(path: Path) -> str:
    """A SavedModel or a package."""
    if (path / "Manifest.json").exists() or path.suffix == ".mlpackage":
        return "package"
    if (path / "saved_model.pb").exists():
        return "savedmodel"
    raise UsageError(
        f"{path} is a folder without saved_model.pb and without Manifest.json",
        hint="name a SavedModel folder or an .mlpackage",
    )


def missing_kind(text: str) -> str:
    """What a text that is no file means: a factory, or a mistake."""
    target, colon, _ = text.rpartition(":")
    if not colon:
        raise UsageError(f"no such file or folder: {text}")
    if (target.endswith(".py") or "/" in target) and not Path(target).exists():
        raise UsageError(f"no such file: {target}", where=text)
    return "factory"


def check_archive(path: Path) -> None:
    """`DamagedFile` when a file that should be a zip archive is none."""
    if not zipfile.is_zipfile(path):
        raise DamagedFile(
            f"{path} is damaged or truncated: it is no archive, as {path.suffix} files are",
            hint="save or copy the model again",
        )


def torch_file_kind(path: Path) -> str:
    """TorchScript, or why the file cannot be read: pickles run code when they are opened."""
    with path.open("rb") as file:
        start = file.read(2)
    if start[:1] == b"\x80":
        raise UntrustedFile(
            f"{path} is a pickle, which runs code when it is opened", hint=PICKLE_HINT
        )
    check_archive(path)
    with zipfile.ZipFile(path) as archive:
        members = {name.partition("/")[2] for name in archive.namelist()}
    if "constants.pkl" in members:
        return "torchscript"
    if "data.pkl" in members:
        raise UntrustedFile(
            f"{path} is a pickle (a state dict, or a whole module saved by torch.save), not a "
            "model that can be converted by itself",
            hint="for a state dict name the model's factory and pass this file as --weights; "
            f"for a module: {PICKLE_HINT}",
        )
    if any(
        name.endswith(("serialized_exported_program.json", "archive_format")) for name in members
    ):
        return "pt2"
    raise DamagedFile(f"{path} is an archive, but not one that PyTorch wrote")
