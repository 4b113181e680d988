"""The emulator's own Metal packages: a container of a Core ML package, which Metal would refuse.

```
NAME.mtlpackage/
  manifest.json                            version 0.0.0, pkgtype "metal4conv-emulated"
  library.mpsgraphpackage/reflection.fb    as Apple's tool writes it
  library.mpsgraphpackage/network.mlpackage   a link to the Core ML package
```
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from metal4conv.device.mtlpackage import EMULATED_KIND, REFLECTION
from metal4conv.device.reflection import (
    MPS_DATA_TYPES,
    ReflectedFunction,
    ReflectedTensor,
    read_reflection,
    write_reflection,
)
from metal4conv.device.suitability import ENTRY_POINT
from metal4conv.errors import Metal4ConvError, UnsupportedModel
from metal4conv.layout.document import LayoutManifest, TensorLayout
from metal4conv.layout.manifest import manifest_of
from metal4conv.mil.package import Package, read_package

VERSION = {"major": 0, "minor": 0, "patch": 0}
LIBRARY = "library.mpsgraphpackage"
NETWORK = "network.mlpackage"


@dataclass(frozen=True)
class EmulatedPackage:
    """What the container holds."""

    function: ReflectedFunction
    package: Package
    manifest: LayoutManifest


def write_emulated_package(package: Path, manifest: LayoutManifest, target: Path) -> Path:
    """Makes the container at `target`, a path that ends in `.mtlpackage`; gives the path back."""
    library = target / LIBRARY
    library.mkdir(parents=True)
    content = {"version": VERSION, "pkgtype": EMULATED_KIND, "content": {"mpspkgname": LIBRARY}}
    text = json.dumps({"mtlpackage": {**content, "function": manifest.package.function}}, indent=2)
    (target / "manifest.json").write_text(text, "utf-8")
    function = ReflectedFunction(
        ENTRY_POINT,
        tuple(map(reflected, manifest.inputs)),
        tuple(map(reflected, manifest.outputs)),
    )
    (library / REFLECTION).write_bytes(write_reflection([function]))
    (library / NETWORK).symlink_to(package.resolve(), target_is_directory=True)
    return target


def reflected(tensor: TensorLayout) -> ReflectedTensor:
    """A tensor as Apple's tool shows it: outermost dimension first, -1 where it is open."""
    if tensor.coreml.dtype not in MPS_DATA_TYPES:
        raise UnsupportedModel(
            f'{tensor.role} "{tensor.name}" is {tensor.coreml.dtype}, which no Metal package has'
        )
    shape = tuple(size if isinstance(size, int) else -1 for size in tensor.coreml.shape)
    return ReflectedTensor(tensor.name, shape, MPS_DATA_TYPES[tensor.coreml.dtype])


def read_emulated_package(path: Path) -> EmulatedPackage:
    """The container at `path`; `ValueError` with the reason when it is none."""
    try:
        document = json.loads((path / "manifest.json").read_text("utf-8"))["mtlpackage"]
        kind, version = document["pkgtype"], document["version"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(f"manifest.json is missing or damaged: {error}") from error
    if kind != EMULATED_KIND:
        raise ValueError(
            f'manifest.json has package type "{kind}": a package for Metal itself, which runs on a '
            "Mac; the emulator runs its own"
        )
    if version != VERSION:
        raise ValueError(f"manifest.json has version {version}, the emulator has {VERSION}")
    try:
        (function,) = read_reflection((path / LIBRARY / REFLECTION).read_bytes())
        package = read_package(path / LIBRARY / NETWORK)
        manifest = manifest_of(package, document["function"])
    except (OSError, Metal4ConvError) as error:
        raise ValueError(f"{LIBRARY} is missing or damaged: {error}") from error
    return EmulatedPackage(function, package, manifest)
