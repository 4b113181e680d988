"""Networks of a frame beside its tensors: names, types, ranks and sizes that do not fit each other.

A tensor whose type or size the file leaves open gets those of the first binding that it meets, so
that two networks are compared with one another through it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Literal

from metal4conv.errors import DamagedFile, Metal4ConvError, UsageError, did_you_mean
from metal4conv.frame.document import Access, Frame, Network, Pass, Resource, Step
from metal4conv.frame.fields import Fields
from metal4conv.layout.document import (
    LayoutManifest,
    TensorLayout,
    manifest_from_json,
    optional_at,
)
from metal4conv.layout.findings import layout_findings
from metal4conv.layout.manifest import layout
from metal4conv.report import Finding

REVERSED = "shape has the outermost first; the order of Metal is that of the key dimensions"


class Fitting:
    """Goes through the networks in order, and fills in what the file leaves open."""

    def __init__(self, frame: Frame) -> None:
        self.frame = frame
        self.resources = dict(frame.resources)
        self.findings: list[Finding] = []
        self.heap_bytes: dict[str, int] = {}
        self.filled: dict[str, str] = {}
        """Where the size of a tensor comes from, by its name."""

    def run(self) -> Frame:
        """The frame with the sizes of its tensors."""
        for item in self.frame.passes:
            for step in item.steps:
                if step.network is not None:
                    self.add(item, step, step.network)
        return replace(self.frame, resources=self.resources)

    def fail(self, code: str, where: str, message: str, hint: str | None = None) -> None:
        """A misfit."""
        self.findings.append(Finding("failure", code, message, where, hint))

    def add(self, item: Pass, step: Step, network: Network) -> None:
        """One dispatch."""
        where = place_of(item, step)
        for access in step.accesses:
            kind = self.resources[access.resource].kind
            if kind != "tensor":
                self.fail(
                    "not-a-tensor",
                    where,
                    f'{where} binds "{access.resource}", a {kind}: a network takes tensors',
                    "copy it into a tensor, or make a tensor in a buffer",
                )
        if network.path is None:
            return
        place = f'{self.frame.file}: [[pass]] "{item.name}"'
        manifest = read_manifest(network, place)
        self.findings += [
            replace(found, where=f"{where}, {found.where or network.path.name}", hint=found.hint)
            for found in layout_findings(manifest)
        ]
        sizes = sizes_for(manifest, network, self.frame.sizes, place)
        for name, size in sizes.items():
            try:
                manifest.at({name: size})
            except UsageError as error:
                self.fail("size-not-allowed", where, f"{where}: {error.message}", error.hint)
        self.bind(where, place, manifest.inputs, network.inputs, "input", sizes)
        self.bind(where, place, manifest.outputs, network.outputs, "output", sizes)
        self.check_heap(where, manifest, network, sizes)

    def bind(
        self,
        where: str,
        place: str,
        tensors: tuple[TensorLayout, ...],
        bound: Mapping[str, Access],
        role: Literal["input", "output"],
        sizes: Mapping[str, int],
    ) -> None:
        """Inputs, or outputs, beside what they are bound to."""
        names = [tensor.name for tensor in tensors]
        for name in bound:
            if name not in names:
                table = Fields({}, place, ())
                table.fail(
                    f"{role}s", f'the network has no {role} "{name}"', did_you_mean(name, names)
                )
        for tensor in tensors:
            if tensor.name not in bound:
                self.fail(
                    "binding-missing",
                    where,
                    f'{where} binds nothing to the {role} "{tensor.name}"',
                    f"name its tensor in {role}s",
                )
            elif self.resources[bound[tensor.name].resource].kind == "tensor":
                name = bound[tensor.name].resource
                self.compare(where, self.resources[name], tensor.at(sizes), role)

    def compare(self, where: str, resource: Resource, tensor: TensorLayout, role: str) -> None:
        """One tensor beside one binding."""
        binding = f'{role} "{tensor.name}" of {where}'
        wanted = [size for size in tensor.dimensions if isinstance(size, int)]
        if tensor.data_type is None or len(wanted) != len(tensor.dimensions):
            return  # `layout_findings` tells
        dtype, dimensions = tensor.data_type.name, tuple(wanted)
        found = (resource.dtype or dtype, resource.dimensions or dimensions)
        told = f'tensor "{resource.name}"{self.origin(resource.name)}'
        if found[0] != dtype:
            self.fail("dtype", where, f"{told} is {found[0]}, and {binding} is {dtype}")
        if len(found[1]) != len(dimensions):
            self.fail(
                "rank",
                where,
                f"{told} has {len(found[1])} dimensions, {shown(found[1])}, and {binding} has "
                f"{len(dimensions)}, {shown(dimensions)}",
            )
        elif found[1] != dimensions:
            self.fail(
                "size",
                where,
                f"{told} has dimensions {shown(found[1])}, and {binding} has {shown(dimensions)}, "
                "innermost first",
                REVERSED if found[1][::-1] == dimensions else None,
            )
        if resource.dtype is None or resource.dimensions is None:
            self.filled[resource.name] = binding
            self.resources[resource.name] = replace(resource, dtype=found[0], dimensions=found[1])

    def origin(self, name: str) -> str:
        """Where the size of a tensor was taken from, if not from the file."""
        return f", as {self.filled[name]}," if name in self.filled else ""

    def check_heap(
        self,
        where: str,
        manifest: LayoutManifest,
        network: Network,
        sizes: Mapping[str, int],
    ) -> None:
        """The heap for intermediate values beside our estimate of what they take."""
        estimate = optional_at(manifest.estimated_bytes, {**manifest.sizes, **sizes})
        heap = self.frame.heaps.get(network.intermediates or "")
        if heap is None or heap.bytes is None or not isinstance(estimate, int):
            return
        if heap.bytes < estimate:
            self.findings.append(
                Finding(
                    "warning",
                    "heap-estimate",
                    f'heap "{heap.name}" has {heap.bytes:,} bytes, and the intermediate values of '
                    f"{where} take about {estimate:,}",
                    where,
                    "the pipeline's intermediatesHeapSize is what counts",
                )
            )


def files_read(frame: Frame) -> list[Path]:
    """The frame's file, its manifests, and the files of its packages."""
    networks = [step.network for item in frame.passes for step in item.steps if step.network]
    paths = [network.path for network in networks if network.path is not None]
    inner = [
        file
        for path in dict.fromkeys(paths)
        for file in (sorted(path.rglob("*")) if path.is_dir() else [path])
        if file.is_file()
    ]
    return [Path(frame.file), *inner]


def place_of(item: Pass, step: Step) -> str:
    """What messages call a step."""
    return f'"{item.name}", step "{step.name}"' if step.name else f'"{item.name}"'


def shown(dimensions: tuple[int, ...]) -> str:
    """Dimensions as Metal counts them.

    >>> shown((1280, 720, 3, 1))
    '[1280, 720, 3, 1]'
    """
    return f"[{', '.join(map(str, dimensions))}]"


def read_manifest(network: Network, place: str) -> LayoutManifest:
    """The manifest of a package, or of a manifest's own file."""
    path = network.path
    assert path is not None
    try:
        if path.suffix != ".json":
            return layout(path, function=network.function)
        return manifest_of_file(path)
    except Metal4ConvError as error:
        error.add_note(f"at {place}")
        raise


def manifest_of_file(path: Path) -> LayoutManifest:
    """The manifest that `convert` wrote."""
    if not path.is_file():
        raise UsageError(f"{path} is not there", hint="metal4conv convert writes it")
    try:
        document = json.loads(path.read_text("utf-8"))
    except (ValueError, RecursionError) as error:
        raise DamagedFile(f"{path} is not JSON: {error}") from None
    return manifest_from_json(document)


def sizes_for(
    manifest: LayoutManifest, network: Network, known: Mapping[str, int], place: str
) -> dict[str, int]:
    """The sizes of the dimensions that the network leaves open."""
    table = Fields({}, place, ())
    for name in network.sizes:
        if name not in manifest.dimensions:
            hint = did_you_mean(name, manifest.dimensions)
            table.fail("dims", f'the network has no dimension "{name}"', hint)
    open_names = [name for name in manifest.dimensions if name not in manifest.sizes]
    found = {name: size for name in open_names for size in size_of(name, network, known)}
    for name in open_names:
        if name not in found:
            table.fail(
                "dims",
                f'the network\'s dimension "{name}" has no size',
                f'write dims = {{ {name} = … }}, or "{name}" in the frame\'s [dims]',
            )
    return found


def size_of(name: str, network: Network, known: Mapping[str, int]) -> Iterator[int]:
    """The size of a dimension, from the pass or else from the frame."""
    if name in network.sizes:
        yield network.sizes[name]
    elif name in known:
        yield known[name]
