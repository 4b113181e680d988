"""Reading `.mtlpackage` folders on any machine, and comparing them with a layout manifest.

What is in them was seen in packages that Apple's tools wrote: `manifest.json` names a folder with
the network and with `reflection.fb`, which names the tensors.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from metal4conv.device.reflection import (
    MPS_DATA_TYPES,
    ReflectedFunction,
    ReflectedTensor,
    read_reflection,
)
from metal4conv.device.suitability import ENTRY_POINT
from metal4conv.errors import DamagedFile, UsageError, shortened
from metal4conv.layout.document import LayoutManifest, Sizes, TensorLayout
from metal4conv.mil.package import check_file
from metal4conv.report import Finding

SUFFIX = ".mtlpackage"
VERSION = {"major": 1, "minor": 0, "patch": 0}
KIND = "MLLibrary"
EMULATED_KIND = "metal4conv-emulated"
REFLECTION = "reflection.fb"

LARGEST_MANIFEST = 1 << 20
LARGEST_REFLECTION = 1 << 26
"""Bytes; those seen have some hundreds."""

DTYPE_OF_MPS = {value: name for name, value in MPS_DATA_TYPES.items()}
Json = dict[str, Any]  # Any: a JSON document


@dataclass(frozen=True)
class MetalPackage:
    """A Metal package on disk. `functions` is None where `unreadable` says why."""

    path: Path
    library: Path
    functions: tuple[ReflectedFunction, ...] | None
    unreadable: str | None = None

    def function(self, name: str) -> ReflectedFunction | None:
        """The function of this name, or else the usual one: there is but one in a package."""
        functions = {item.name: item for item in self.functions or ()}
        return functions.get(name) or functions.get(ENTRY_POINT)


def metal_package_beside(path: Path) -> Path:
    """The Metal package beside a Core ML package.

    >>> print(metal_package_beside(Path("build/net.v2.mlpackage")))
    build/net.v2.mtlpackage
    """
    whole = path if path.name not in ("", "..") else path.resolve()
    return whole.with_name(f"{whole.stem}{SUFFIX}")


def read_metal_package(path: str | Path) -> MetalPackage:
    """The package at `path`, checked as Metal's loader checks it.

    `UsageError` when there is none, `DamagedFile` when it is not one. A reflection that cannot be
    read is no error: its format is not documented.
    """
    path = Path(path)
    if not path.exists():
        raise UsageError(f"no such file or folder: {path}")
    if not path.is_dir() or path.suffix != SUFFIX:
        raise DamagedFile(
            f"{path} is not a Metal package: expected a folder whose name ends in {SUFFIX}",
            hint="metal4conv package makes one of a Core ML package, on a Mac",
        )
    library = library_folder(path)
    try:
        functions = read_reflection(reflection_bytes(path, library))
    except DamagedFile as error:
        return MetalPackage(path, library, None, error.message)
    return MetalPackage(path, library, functions)


def library_folder(path: Path) -> Path:
    """The folder that the package's `manifest.json` names."""
    file = path / "manifest.json"
    if not file.exists() and not file.is_symlink():
        raise DamagedFile(f"{path} is not a Metal package: it has no manifest.json")
    check_file(file, path, largest=LARGEST_MANIFEST)
    try:
        content = json.loads(file.read_text("utf-8"))["mtlpackage"]
        version, kind = dict(content["version"]), content["pkgtype"]
        name = content["content"]["mpspkgname"]
    except KeyError as error:
        raise DamagedFile(f"{file} is damaged: it has no entry {error}") from None
    except (OSError, ValueError, TypeError, RecursionError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise DamagedFile(f"{file} is damaged: {reason}") from None
    if kind == EMULATED_KIND:
        raise DamagedFile(
            f"{path} was made for the emulator; Metal cannot load it",
            hint="metal4conv package makes a real one, on a Mac",
        )
    if (version, kind) != (VERSION, KIND):
        raise DamagedFile(
            f"{file} names version {version} and type {kind!r}; expected {VERSION} and {KIND!r}"
        )
    return named_folder(path, file, name)


def named_folder(path: Path, file: Path, name: object) -> Path:
    """The folder `name` of a package; `DamagedFile` for one that is elsewhere."""
    if not isinstance(name, str) or not name:
        raise DamagedFile(f"{file} names no folder as mpspkgname: {name!r}")
    try:
        root, library = path.resolve(), (path / name).resolve()
        is_folder = library.is_dir()
    except (OSError, ValueError, RuntimeError) as error:  # a null byte, a loop of symlinks
        raise DamagedFile(f"{file} names a folder that cannot be: {name!r}: {error}") from None
    if library == root or not library.is_relative_to(root):
        raise DamagedFile(f"{file} names a folder outside the package: {name}")
    if not is_folder:
        raise DamagedFile(f"the package has no folder {name}, which its manifest names")
    return path / name


def reflection_bytes(path: Path, library: Path) -> bytes:
    """The content of `reflection.fb`; `DamagedFile` when it is missing or no plain file."""
    file = library / REFLECTION
    if not file.exists():
        raise DamagedFile(f"the package has no {REFLECTION}")
    check_file(file, path, largest=LARGEST_REFLECTION)
    try:
        return file.read_bytes()
    except OSError as error:
        raise DamagedFile(f"{file} cannot be read: {error.strerror}") from None


def check_against(manifest: LayoutManifest, metal: MetalPackage) -> tuple[Finding, ...]:
    """How a Metal package's reflection differs from a manifest without numbers for its dimensions.

    A name, role, size or type that differs is a failure, since an app would bind something else.
    Another order is a warning: that it gives the buffer indices is only what was seen so far. So is
    a reflection that cannot be read.
    """
    if metal.functions is None:
        message = f"the reflection of {metal.path.name} cannot be compared: {metal.unreadable}"
        return (Finding("warning", "reflection-unreadable", message, str(metal.path)),)
    name = manifest.package.function
    function = metal.function(name)
    if function is None:
        shown = listed(item.name for item in metal.functions)
        message = f'{metal.path.name} has no function "{name}"; it has {shown}'
        return (Finding("failure", "function-missing", message, name),)
    if nameless(function):
        return tuple(nameless_findings(manifest, function))
    return (*named_findings(manifest, function), *order_findings(manifest, function))


def nameless(function: ReflectedFunction) -> bool:
    """Whether no tensor has a name, as in packages that were written with MPSGraph."""
    tensors = (*function.inputs, *function.outputs)
    return bool(tensors) and not any(tensor.name for tensor in tensors)


def nameless_findings(manifest: LayoutManifest, function: ReflectedFunction) -> Iterator[Finding]:
    """The comparison by place, where there are no names."""
    yield Finding(
        "warning",
        "reflection-without-names",
        "the reflection shows tensors without names; they were compared by their order",
        hint="bind at the manifest's expected_buffer_index",
    )
    for role, expected, shown in (
        ("input", manifest.inputs, function.inputs),
        ("output", manifest.outputs, function.outputs),
    ):
        if len(expected) != len(shown):
            yield Finding(
                "failure",
                "tensor-count",
                f"the manifest has {len(expected)} {role}s, the reflection {len(shown)}",
            )
            continue
        for tensor, found in zip(expected, shown, strict=True):
            yield from tensor_findings(tensor, found, manifest.defaults)


def named_findings(manifest: LayoutManifest, function: ReflectedFunction) -> Iterator[Finding]:
    """Tensors that are missing, too many, of another role, or unlike the manifest's."""
    shown = {"input": by_name(function.inputs), "output": by_name(function.outputs)}
    for tensor in manifest.tensors:
        other = "output" if tensor.role == "input" else "input"
        if tensor.name in shown[tensor.role]:
            found = shown[tensor.role][tensor.name]
            yield from tensor_findings(tensor, found, manifest.defaults)
        elif tensor.name in shown[other]:
            message = f'{tensor.role} "{tensor.name}" is an {other} in the reflection'
            yield Finding("failure", "tensor-role", message, tensor.name)
        else:
            names = listed(name for role in shown.values() for name in role)
            message = f'the reflection has no {tensor.role} "{tensor.name}"; it shows {names}'
            yield Finding("failure", "tensor-missing", message, tensor.name)
    known = {tensor.name for tensor in manifest.tensors}
    for role, tensors in shown.items():
        if unknown := [name for name in tensors if name not in known]:
            message = f"the reflection has {role}s that the package does not have: "
            yield Finding("failure", "tensor-unknown", message + listed(unknown))


def listed(names: Iterable[str]) -> str:
    """Names in quotation marks, not more and no longer than somebody reads.

    >>> listed(["x", "y"]), listed([])
    ('"x", "y"', 'none')
    """
    quoted = [f'"{shortened(name, 100)}"' for name in names]
    more = f" and {len(quoted) - 20} more" if len(quoted) > 20 else ""
    return (", ".join(quoted[:20]) or "none") + more


def by_name(tensors: Sequence[ReflectedTensor]) -> Mapping[str, ReflectedTensor]:
    """Tensors by their names."""
    return {tensor.name: tensor for tensor in tensors}


def order_findings(manifest: LayoutManifest, function: ReflectedFunction) -> Iterator[Finding]:
    """Tensors whose place is not the buffer index that the manifest expects."""
    places = {tensor.name: at for at, tensor in enumerate((*function.inputs, *function.outputs))}
    for tensor in manifest.tensors:
        place = places.get(tensor.name, tensor.expected_buffer_index)
        if place != tensor.expected_buffer_index:
            yield Finding(
                "warning",
                "tensor-order",
                f'{tensor.role} "{tensor.name}" is at place {place} of the reflection, the '
                f"manifest expects buffer index {tensor.expected_buffer_index}",
                tensor.name,
                "bind by name through reflection, never by a fixed index",
            )


def tensor_findings(
    tensor: TensorLayout, found: ReflectedTensor, defaults: Mapping[str, int]
) -> Iterator[Finding]:
    """Type and sizes of one tensor; `defaults` are the dimensions' default sizes."""
    where = f'{tensor.role} "{tensor.name}"'
    if tensor.data_type is not None and dtype_of_mps(found) != tensor.data_type.name:
        yield Finding(
            "failure",
            "tensor-type",
            f"{where}: the manifest has {tensor.data_type.name}, the reflection "
            f"{dtype_of_mps(found)}",
            tensor.name,
            "a tensor of another type ends the process inside MPSGraph",
        )
    expected = tensor.dimensions[::-1]
    open_sizes = tuple(-1 if isinstance(size, str) else size for size in expected)
    if found.shape == open_sizes:
        return
    # The default in the place of an open size was not seen in a file, but is what Metal may show;
    # of outputs, sizes that are open follow when the pipeline is compiled.
    agrees = could_be(tensor.at(defaults).dimensions[::-1], found.shape, tensor.role == "output")
    yield Finding(
        "warning" if agrees else "failure",
        "tensor-open-size" if agrees else "tensor-shape",
        f"{where}: the manifest has shape {shape_text(expected)}, the reflection "
        f"{shortened(shape_text(found.shape), 100)} (outermost first)",
        tensor.name,
    )


def could_be(defaults: Sizes, shown: Sequence[int], may_be_open: bool) -> bool:
    """Whether a shape has the default sizes, or leaves some open where that is allowed.

    >>> could_be((1, 8), (1, 8), False), could_be((1, 8), (1, -1), True), could_be((1,), (2,), True)
    (True, True, False)
    """
    return len(defaults) == len(shown) and all(
        size == at or (at < 0 and may_be_open) for size, at in zip(defaults, shown, strict=True)
    )


def dtype_of_mps(tensor: ReflectedTensor) -> str:
    """The element type in words.

    >>> dtype_of_mps(ReflectedTensor("x", (), 0x10000010))
    'float16'
    >>> dtype_of_mps(ReflectedTensor("x", (), 0x80000008))
    'MPSDataType 0x80000008'
    """
    value = tensor.mps_data_type
    return DTYPE_OF_MPS.get(value, f"MPSDataType {value:#x}")


def shape_text(shape: Sequence[int | str]) -> str:
    """A shape as messages have it.

    >>> shape_text((1, "2*h", -1))
    '[1, 2*h, -1]'
    """
    return f"[{', '.join(map(str, shape))}]"


def comparison(manifest: LayoutManifest, metal: MetalPackage) -> list[Json]:
    """Manifest and reflection of each tensor side by side, for reports."""
    function = metal.function(manifest.package.function)
    shown = (*function.inputs, *function.outputs) if function else ()
    places = {tensor.name: (at, tensor) for at, tensor in enumerate(shown)}
    return [
        comparison_row(tensor, *places.get(tensor.name, (None, None)))
        for tensor in manifest.tensors
    ]


def comparison_row(tensor: TensorLayout, place: int | None, found: ReflectedTensor | None) -> Json:
    """One tensor; what the reflection lacks is None. Shapes are outermost first."""
    return {
        "name": tensor.name,
        "role": tensor.role,
        "expected_place": tensor.expected_buffer_index,
        "place": place,
        "expected_shape": list(tensor.dimensions[::-1]),
        "shape": found and list(found.shape),
        "expected_data_type": tensor.data_type and tensor.data_type.name,
        "data_type": found and dtype_of_mps(found),
    }
