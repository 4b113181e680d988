"""Metal packages as Apple's tools write them, and tools that behave as those were seen to."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from metal4conv.device.reflection import (
    MPS_DATA_TYPES,
    ReflectedFunction,
    ReflectedTensor,
    write_reflection,
)
from metal4conv.layout.document import LayoutManifest

MANIFEST = {
    "mtlpackage": {
        "version": {"major": 1, "minor": 0, "patch": 0},
        "pkgtype": "MLLibrary",
        "content": {"mpspkgname": "library.mpsgraphpackage"},
    }
}


def write_metal_package(path: Path, functions: Sequence[ReflectedFunction]) -> Path:
    """A package with this reflection, and a network that is none."""
    library = path / "library.mpsgraphpackage"
    library.mkdir(parents=True)
    (path / "manifest.json").write_text(json.dumps(MANIFEST))
    (library / "model_0.mpsgraph").write_bytes(b"no network")
    (library / "reflection.fb").write_bytes(write_reflection(functions))
    return path


def reflected(manifest: LayoutManifest) -> ReflectedFunction:
    """What the tool's reflection would show of the function of a manifest."""
    tensors = [
        ReflectedTensor(
            tensor.name,
            tuple(size if isinstance(size, int) else -1 for size in tensor.dimensions[::-1]),
            MPS_DATA_TYPES[tensor.coreml.dtype],
        )
        for tensor in manifest.tensors
    ]
    count = len(manifest.inputs)
    return ReflectedFunction(
        manifest.package.function, tuple(tensors[:count]), tuple(tensors[count:])
    )


def write_tool(path: Path, script: str) -> Path:
    """A program of the shell, which adds its arguments as a line to the file NAME.log."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f'#!/bin/sh\necho "$0 $@" >> "{path.parent / path.name}.log"\n{script}\n')
    path.chmod(0o755)
    return path


def calls_of(tool: Path) -> list[list[str]]:
    """The arguments of each call of a tool."""
    log = tool.with_name(f"{tool.name}.log")
    return [line.split()[1:] for line in log.read_text().splitlines()] if log.exists() else []


def copying(ready: Path) -> str:
    """The script of a tool that makes the package `ready`, whatever is asked of it."""
    return f"""
while [ $# -gt 0 ]; do
  [ "$1" = -o ] && out=$2
  shift
done
cp -R "{ready}" "$out" && echo "Created metal package $out"
"""
