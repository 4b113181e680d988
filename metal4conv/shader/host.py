"""Running a shader's entry points on this computer, through the library made of the stand-in.

Inputs and outputs are rows, one a point, as in the buffers of a compute dispatch. What the shader
does not write stays not-a-number; what it writes beyond its buffers is an error; what it reads
beyond them is not-a-number.
"""

from __future__ import annotations

import ctypes
import math
import os
import struct
import tempfile
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from metal4conv.errors import RejectedShader, UsageError, did_you_mean
from metal4conv.shader.compiler import HostBuild, compile_for_host
from metal4conv.shader.document import Argument, EntryPoint, ShaderManifest
from metal4conv.shader.manifest import read_manifest, shader_files
from metal4conv.stand_in import (
    ADDRESSES,
    BUILTINS,
    FILTERS,
    KINDS,
    MESSAGE_BYTES,
    Binding,
    Dispatch,
    Target,
    loaded,
)

GUARD_BYTES = 4096
"""Before and after each buffer."""

NOT_A_NUMBER = 0xFF
"""Bytes that are not-a-number in all formats: around what is read, and where nothing is written."""

WRITTEN_GUARD = 0xFD
"""Bytes around what is written: another pattern, as not-a-number is what may be written there."""

ALIGNMENT = 256

LEAST_POINTS = 2048
"""For a thread of its own."""


@dataclass(frozen=True)
class Memory:
    """Bytes at an aligned address between two guards."""

    whole: np.ndarray
    bytes: np.ndarray
    guard: int

    @property
    def address(self) -> int:
        """Where the bytes are."""
        return int(self.bytes.ctypes.data)

    def check_guards(self, name: str) -> None:
        """`RejectedShader` when something wrote beyond the bytes."""
        start = self.address - int(self.whole.ctypes.data)
        end = start + self.bytes.size
        if (self.whole[:start] != self.guard).any():
            raise RejectedShader(f'the shader writes before the start of buffer "{name}"')
        if (self.whole[end:] != self.guard).any():
            raise RejectedShader(f'the shader writes beyond the end of buffer "{name}"')


def guarded(content: bytes | np.ndarray, guard: int = NOT_A_NUMBER) -> Memory:
    """Memory with this content."""
    given = np.frombuffer(content, np.uint8)
    whole = np.full(given.size + 2 * GUARD_BYTES + ALIGNMENT, guard, np.uint8)
    start = GUARD_BYTES + -(int(whole.ctypes.data) + GUARD_BYTES) % ALIGNMENT
    inner = whole[start : start + given.size]
    inner[:] = given
    return Memory(whole, inner, guard)


@dataclass
class HostShader:
    """A shader that runs here. Its library is compiled when the first entry point runs, into
    `folder`, where it is found again, or for this object alone.
    """

    manifest: ShaderManifest
    source: Path
    weights: bytes = b""
    latents: bytes = b""
    folder: Path | None = None
    build: HostBuild = field(default_factory=HostBuild)
    library: ctypes.CDLL | None = None
    weights_memory: Memory | None = None

    def compile(self, folder: Path | None = None) -> Path:
        """The shared library's file in a folder, this shader's own by default."""
        where = folder or self.folder
        if where is None:
            raise UsageError("a shader is compiled into a folder, and none is given")
        return compile_for_host(self.source, self.manifest, where, self.build)

    def run(
        self,
        entry_name: str,
        inputs: Mapping[str, np.ndarray],
        size: tuple[int, int],
        use_matmul2d: bool = False,
        textures: Mapping[str, bytes | np.ndarray] | None = None,
        threads: int | None = None,
    ) -> dict[str, np.ndarray]:
        """The rows of each output of one entry point on a grid of (width, height) points.

        `inputs` has rows for each input that is bound as a buffer, and for each image that an
        earlier pass wrote; the images that this one writes are among the results. `textures` are
        the bytes of each texture, None for those of the latents' file. The result does not depend
        on `threads`, the processor's by default.
        """
        entry = self.entry(entry_name)
        call = Call(self, entry, size, use_matmul2d, inputs, textures or {})
        call.dispatch(threads or os.cpu_count() or 1)
        return call.results()

    def run_network(
        self,
        inputs: Mapping[str, np.ndarray],
        size: tuple[int, int],
        use_matmul2d: bool = False,
        threads: int | None = None,
    ) -> dict[str, np.ndarray]:
        """The rows of each output of the whole network: all its passes, one after the other."""
        names = self.manifest.passes
        if not names:
            computes = (one for one in self.manifest.entry_points if one.stage == "compute")
            names = (next(one.name for one in computes if one.inputs == "buffer"),)
        known = dict(inputs)
        for name in names:
            known |= self.run(name, known, size, use_matmul2d, threads=threads)
        return {port.name: known[port.name] for port in self.manifest.outputs}

    def entry(self, name: str) -> EntryPoint:
        """The entry point of that name; `UsageError` names those there are."""
        for entry in self.manifest.entry_points:
            if entry.name == name:
                return entry
        known = [entry.name for entry in self.manifest.entry_points]
        raise UsageError(f'no entry point "{name}": {did_you_mean(name, known)}')

    def opened(self) -> ctypes.CDLL:
        """The library in this process."""
        if self.library is None and self.folder is not None:
            self.library = loaded(self.compile())
        if self.library is None:
            # once it is loaded nobody needs the file
            with tempfile.TemporaryDirectory(prefix="metal4conv-") as folder:
                self.library = loaded(self.compile(Path(folder)))
        return self.library

    def weights_at(self, offset: int = 0) -> int:
        """The address of a byte of the weights."""
        if self.weights_memory is None:
            self.weights_memory = guarded(self.weights)
        return self.weights_memory.address + offset


def open_shader(manifest_path: str | Path, folder: Path | None = None) -> HostShader:
    """The shader of a manifest's file with the files beside it; compiled into `folder`."""
    manifest = read_manifest(manifest_path)
    files = shader_files(manifest, Path(manifest_path).parent)
    return HostShader(
        manifest,
        files.source,
        files.weights.read_bytes() if files.weights else b"",
        files.latents.read_bytes() if files.latents else b"",
        folder,
    )


@dataclass
class Call:
    """One run of an entry point: its buffers, and what the library is given."""

    shader: HostShader
    entry: EntryPoint
    size: tuple[int, int]
    use_matmul2d: bool
    inputs: Mapping[str, np.ndarray]
    textures: Mapping[str, bytes | np.ndarray]
    memory: dict[str, Memory] = field(default_factory=dict)
    made: dict[str, tuple[Memory, np.dtype[Any], int]] = field(default_factory=dict)

    @property
    def points(self) -> int:
        """Of the grid."""
        return self.size[0] * self.size[1]

    def dispatch(self, threads: int) -> None:
        """Runs it, in several calls at the same time where it is large."""
        if self.points == 0:
            raise UsageError(f"a grid of {self.size[0]} × {self.size[1]} points has none")
        bindings = [self.binding(argument) for argument in self.bound_arguments()]
        targets = self.targets()
        groups, group_threads = self.grid()
        count = self.size[1] if self.entry.stage == "fragment" else groups[0] * groups[1]
        parts = max(1, min(threads, count, self.points // LEAST_POINTS))
        edges = [count * part // parts for part in range(parts + 1)]
        library = self.shader.opened()

        def run(first: int, last: int) -> None:
            message = ctypes.create_string_buffer(MESSAGE_BYTES)
            what = Dispatch(
                entry=self.shader.manifest.entry_points.index(self.entry),
                constants=self.constants(),
                bindings=(Binding * len(bindings))(*bindings),
                binding_count=len(bindings),
                targets=(Target * len(targets))(*targets),
                target_count=len(targets),
                width=self.size[0],
                height=self.size[1],
                threads=group_threads,
                groups=groups,
                first=first,
                count=last - first,
                message=ctypes.addressof(message),
            )
            if library.metal4conv_run(ctypes.byref(what)):
                raise RejectedShader(
                    f"{self.entry.name}: {message.value.decode(errors='replace')}",
                    where=f"{self.shader.source.name}, run on this computer",
                )

        with ThreadPoolExecutor(parts) as pool:
            for _ in pool.map(run, edges, edges[1:]):
                pass
        for name, memory in self.memory.items():
            memory.check_guards(name)

    def bound_arguments(self) -> list[Argument]:
        """The parameters there are: a compiler without tensors sees none of those."""
        without = self.shader.build.without_tensors
        return [one for one in self.entry.arguments if not (without and one.kind == "tensor")]

    def constants(self) -> int:
        """The values of the function constants, one a bit."""
        return sum(1 << one.index for one in self.shader.manifest.constants) * self.use_matmul2d

    def grid(self) -> tuple[tuple[int, int], tuple[int, int]]:
        """Threadgroups, and threads of each, in both dimensions."""
        if self.entry.tile is None:
            groups = math.ceil(self.points / self.entry.points_per_threadgroup)
            return (groups, 1), (self.entry.threads_per_threadgroup, 1)
        tiles = tuple(
            math.ceil(points / tile)
            for points, tile in zip(self.size, self.entry.tile, strict=True)
        )
        return (tiles[0], tiles[1]), (self.entry.threads_per_threadgroup, 1)

    def binding(self, argument: Argument) -> Binding:
        """What one parameter gets."""
        result = Binding(kind=KINDS.index(argument.kind), name=argument.name.encode())
        match argument.kind:
            case "buffer":
                self.bind_buffer(argument, result)
            case "tensor":
                self.bind_tensor(argument, result)
            case "texture":
                self.bind_texture(argument, result)
            case "sampler":
                sampler = self.shader.manifest.sampler
                if sampler is not None:
                    result.filter = FILTERS.index(sampler.filter)
                    result.address = ADDRESSES.index(sampler.address)
            case "threadgroup":
                result.bytes = self.entry.threadgroup_memory_bytes
            case "builtin":
                result.builtin = BUILTINS.index(argument.role)
        return result

    def bind_buffer(self, argument: Argument, result: Binding) -> None:
        """The weights, the parameters, or the rows of a port or image."""
        if argument.role == "weights":
            result.data = self.shader.weights_at()
            result.bytes = len(self.shader.weights)
            return
        name = argument.port or argument.name
        if argument.role == "parameters":
            memory = guarded(struct.pack("<II", *self.size))
        elif argument.role == "output" or (argument.role == "image" and name not in self.inputs):
            memory = self.new_rows(name)
        elif name not in self.inputs:
            raise UsageError(
                f'input "{name}" is missing', hint=f"inputs given: {', '.join(self.inputs)}"
            )
        else:
            memory = guarded(self.rows(name))
        self.memory[f"{argument.role} {name}"] = memory
        result.data = memory.address
        result.bytes = memory.bytes.size

    def new_rows(self, name: str) -> Memory:
        """Memory for what the entry point writes."""
        width, dtype = self.row_format(name)
        empty = np.full(self.points * width * dtype.itemsize, NOT_A_NUMBER, np.uint8)
        memory = guarded(empty, WRITTEN_GUARD)
        self.made[name] = (memory, dtype, width)
        return memory

    def row_format(self, name: str) -> tuple[int, np.dtype[Any]]:
        """The width of the rows of a port or image, and what they consist of."""
        manifest = self.shader.manifest
        for port in (*manifest.inputs, *manifest.outputs):
            if port.name == name:
                return port.width, np.dtype(np.float32)
        for image in manifest.images:
            if image.name == name:
                return image.width, np.dtype(image.dtype)
        raise UsageError(f'the manifest has no input, output or image "{name}"')

    def rows(self, name: str) -> np.ndarray:
        """The rows that were given for an input or image, checked."""
        width, dtype = self.row_format(name)
        port = next((one for one in self.shader.manifest.inputs if one.name == name), None)
        count = 1 if port is not None and port.uniform else self.points
        rows = np.ascontiguousarray(self.inputs[name], dtype)
        if rows.shape != (count, width):
            raise UsageError(
                f'"{name}" has the shape {rows.shape}, expected ({count}, {width}): '
                f"one row for each of {self.size[0]} × {self.size[1]} points"
            )
        return rows.view(np.uint8)

    def bind_tensor(self, argument: Argument, result: Binding) -> None:
        """A block of the weights."""
        block = self.shader.manifest.block(argument.port or argument.name)
        result.data = self.shader.weights_at(block.offset)
        result.bytes = block.byte_length
        result.rank = len(block.dimensions)
        for place, (size, stride) in enumerate(zip(block.dimensions, block.strides, strict=True)):
            result.dimensions[place] = size
            result.strides[place] = stride

    def bind_texture(self, argument: Argument, result: Binding) -> None:
        """A texture, from what was given or from the latents' file."""
        name = argument.port or argument.name
        layout = next((one for one in self.shader.manifest.textures if one.name == name), None)
        if layout is None:
            raise UsageError(f'the manifest has no texture "{name}"')
        if name in self.textures:
            content = np.ascontiguousarray(np.frombuffer(self.textures[name], np.uint8))
        else:
            stored = self.shader.latents[layout.offset : layout.offset + layout.byte_length]
            content = np.frombuffer(stored, np.uint8)
        if content.size != layout.byte_length:
            raise UsageError(
                f'texture "{name}" has {content.size} bytes, expected {layout.byte_length}'
            )
        memory = guarded(content)
        self.memory[f"texture {name}"] = memory
        result.data = memory.address
        result.bytes = layout.byte_length
        result.width = layout.width
        result.height = layout.height
        result.bytes_per_row = layout.bytes_per_row
        result.pixel_format = layout.raw_pixel_format

    def targets(self) -> Sequence[Target]:
        """Where the colours of a fragment function go."""
        made = []
        for attachment in self.entry.attachments:
            name = attachment.output
            if name not in self.made:
                self.memory[f"output {name}"] = self.new_rows(name)
            memory, _, width = self.made[name]
            made.append(
                Target(
                    rows=memory.address,
                    row_width=width,
                    first=attachment.first,
                    channels=attachment.channels,
                )
            )
        return made

    def results(self) -> dict[str, np.ndarray]:
        """What was written."""
        return {
            name: memory.bytes.view(dtype).reshape(self.points, width).copy()
            for name, (memory, dtype, width) in self.made.items()
        }
