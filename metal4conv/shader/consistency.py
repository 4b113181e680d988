"""What the fields of a shader's manifest have to be because of one another."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Iterator
from itertools import pairwise

from metal4conv.errors import DamagedFile
from metal4conv.layout.rules import DATA_TYPES
from metal4conv.shader.document import (
    Argument,
    ArgumentKind,
    EntryPoint,
    ShaderManifest,
    ShaderPort,
    TextureLayout,
    WeightBlock,
)
from metal4conv.shader.packing import MOST_BUFFERS

MOST_THREADGROUP_BYTES = 32768
"""Metal's feature set tables: the threadgroup memory of every GPU with Metal 4."""

INDEX_SPACES: dict[ArgumentKind, str] = {
    "buffer": "buffer",
    "tensor": "buffer",  # MTL4ArgumentTable.h: setResource:atBufferIndex:
    "texture": "texture",
    "sampler": "sampler",
    "threadgroup": "threadgroup",
}
"""The kinds of arguments that the host binds, and whose indexes they share."""

MOST_SLOTS = {"buffer": MOST_BUFFERS, "texture": 128, "sampler": 16, "threadgroup": 31}
"""MTL4ArgumentTable.h: the slots of a table; the Metal feature set tables: of threadgroup
memory."""

MOST_THREADS = 1024
"""Metal's feature set tables: threads of a threadgroup."""

SIMDGROUP_THREADS = 32

MEMORY_MULTIPLE = 16
"""MTL4ComputeCommandEncoder.h: bytes of threadgroup memory."""

PIXEL_FORMATS = {"rgba8Unorm": (70, 4), "rgba16Float": (115, 8)}
"""The value of MTLPixelFormat, and the bytes of a texel."""


def check_consistency(manifest: ShaderManifest) -> None:
    """`DamagedFile` names the first field that does not fit the others."""
    check_unique("blocks", (block.name for block in manifest.blocks))
    check_unique("inputs", (port.name for port in manifest.inputs))
    check_unique("outputs", (port.name for port in manifest.outputs))
    check_unique("entry_points", (entry.name for entry in manifest.entry_points))
    check_unique("constants", (str(constant.index) for constant in manifest.constants))
    check_unique("images", (image.name for image in manifest.images))
    check_unique("textures", (texture.name for texture in manifest.textures))
    for port in (*manifest.inputs, *manifest.outputs):
        check_port(manifest, port)
    for block in manifest.blocks:
        check_block(block)
    check_weights_file(manifest)
    for entry in manifest.entry_points:
        check_entry_point(manifest, entry)
    check_passes(manifest)
    check_textures(manifest)
    outputs = [port.name for port in manifest.outputs]
    check_unique("rounding", (row.output for row in manifest.rounding))
    for row in manifest.rounding:
        require(row.output in outputs, "rounding", f'there is no output "{row.output}"')


def require(condition: bool, where: str, message: str) -> None:
    """`DamagedFile` for a field that does not fit."""
    if not condition:
        raise DamagedFile(f"the shader's manifest contradicts itself: {message}", where=where)


def check_unique(where: str, names: Iterable[str]) -> None:
    """No two may have the same name or index."""
    found: set[str] = set()
    for name in names:
        require(name not in found, where, f'"{name}" is there twice')
        found.add(name)


def check_port(manifest: ShaderManifest, port: ShaderPort) -> None:
    """Its width is the product of the sizes of its features."""
    where = f'port "{port.name}"'
    sizes = []
    for axis in port.feature_axes:
        require(axis < len(port.shape), where, f"the shape {port.shape} has no axis {axis}")
        size = port.shape[axis]
        require(isinstance(size, int), where, f'the size "{size}" of features is no number')
        sizes.append(int(size))
    width = math.prod(sizes)
    require(port.width == width, where, f"width is {port.width}, its features are {width}")
    known = [texture.name for texture in manifest.textures if texture.input == port.name]
    require(
        set(port.textures) <= set(known), where, f"textures {port.textures} are not all among them"
    )


def check_block(block: WeightBlock) -> None:
    """Type, strides and length go with the dimensions; `MTLTensor.h` has the rules of strides."""
    where = f'block "{block.name}"'
    data_type = DATA_TYPES[block.dtype]
    require(
        block.raw_data_type == data_type.raw,
        where,
        f"raw_data_type is {block.raw_data_type}, {block.dtype} is {data_type.raw}",
    )
    rank = len(block.dimensions)
    require(
        len(block.strides) == rank and len(block.used) == rank,
        where,
        f"{rank} dimensions, {len(block.strides)} strides, {len(block.used)} used sizes",
    )
    require(block.strides[0] == 1, where, f"the first stride is {block.strides[0]}, not 1")
    steps = zip(block.dimensions, pairwise(block.strides), strict=False)
    for dimension, (stride, following) in steps:
        require(
            following >= stride * dimension,
            where,
            f"stride {following} is below {stride} times the dimension {dimension}",
        )
    for used, dimension in zip(block.used, block.dimensions, strict=True):
        require(used <= dimension, where, f"{used} of {dimension} elements are used")
    length = block.strides[-1] * block.dimensions[-1] * data_type.bytes
    require(
        block.byte_length == length,
        where,
        f"byte_length is {block.byte_length}, its dimensions and strides need {length}",
    )


def check_weights_file(manifest: ShaderManifest) -> None:
    """Blocks follow one another within the file, and are bound at indexes of their own."""
    weights = [
        argument
        for entry in manifest.entry_points
        for argument in entry.arguments
        if argument.role == "weight"
    ]
    end = 0
    for block in manifest.blocks:
        where = f'block "{block.name}"'
        require(block.offset >= end, where, f"begins at {block.offset}, within the one before")
        end = block.offset + block.byte_length
        require(
            end <= manifest.weights_bytes,
            where,
            f"ends at {end}, the weights' file has {manifest.weights_bytes} bytes",
        )
        require(
            block.index is None or manifest.tensors == "handle",
            where,
            f"is bound at {block.index}, though tensors are made in the shader",
        )
        taken = any(argument.port == block.name for argument in weights)
        require(
            block.index is None or taken,
            where,
            f"is bound at {block.index}, but no function takes it",
        )
    bound = (str(block.index) for block in manifest.blocks if block.index is not None)
    check_unique("blocks", bound)
    if manifest.inline_weights:
        require(not manifest.blocks, "blocks", "the weights stand in the source")
        require(manifest.weights_bytes == 0, "weights_bytes", "the weights stand in the source")


def check_entry_point(manifest: ShaderManifest, entry: EntryPoint) -> None:
    """Arguments have indexes of their own and hold what there is."""
    where = f'entry point "{entry.name}"'
    check_unique(where, (argument.name for argument in entry.arguments))
    for space in dict.fromkeys(INDEX_SPACES.values()):
        indexes = [
            argument.index
            for argument in entry.arguments
            if INDEX_SPACES.get(argument.kind) == space
        ]
        check_unique(f"{where}, {space} indexes", map(str, indexes))
        highest = max((index for index in indexes if index is not None), default=0)
        require(
            highest < MOST_SLOTS[space],
            where,
            f"{space} index {highest} is beyond the {MOST_SLOTS[space]} that there are",
        )
    for argument in entry.arguments:
        check_argument(manifest, argument, f'{where}, argument "{argument.name}"')
    memory = entry.threadgroup_memory_bytes
    require(
        memory <= MOST_THREADGROUP_BYTES,
        where,
        f"needs {memory} bytes of threadgroup memory, there are {MOST_THREADGROUP_BYTES}",
    )
    require(
        memory % MEMORY_MULTIPLE == 0,
        where,
        f"{memory} bytes of threadgroup memory are no multiple of {MEMORY_MULTIPLE}",
    )
    threads = entry.threads_per_threadgroup
    require(
        threads <= MOST_THREADS and not (entry.simdgroup and threads % SIMDGROUP_THREADS),
        where,
        f"{threads} threads in a threadgroup, allowed are whole simdgroups up to {MOST_THREADS}",
    )
    if entry.tile is not None:
        points = math.prod(entry.tile)
        require(
            points == entry.points_per_threadgroup,
            where,
            f"a tile has {points} pixels, points_per_threadgroup is {entry.points_per_threadgroup}",
        )
    check_attachments(manifest, entry, where)


def check_argument(manifest: ShaderManifest, argument: Argument, where: str) -> None:
    """It has an index where the host binds it, and its port is there."""
    is_bound = argument.kind in INDEX_SPACES
    require(
        (argument.index is not None) == is_bound,
        where,
        f"a {argument.kind} {'has an' if is_bound else 'has no'} index",
    )
    known = ports_of_role(manifest, argument.role)
    if known is not None:
        names = ", ".join(known) or "none"
        require(
            argument.port in known, where, f'{argument.role} "{argument.port}" is not among {names}'
        )
    if argument.role == "weights":
        require(manifest.weights_bytes > 0, where, "takes weights, and there is no file of them")
    if argument.role == "weight":
        block = manifest.block(str(argument.port))
        require(
            block.index == argument.index,
            where,
            f'is at index {argument.index}, block "{block.name}" at {block.index}',
        )


def ports_of_role(manifest: ShaderManifest, role: str) -> Collection[str] | None:
    """What an argument of that role may hold; None where it names no port."""
    match role:
        case "input":
            return [port.name for port in manifest.inputs]
        case "output":
            return [port.name for port in manifest.outputs]
        case "image":
            outputs = [port.name for port in manifest.outputs]  # which later passes may read
            return [*(image.name for image in manifest.images), *outputs]
        case "weight":
            return [block.name for block in manifest.blocks]
        case "latents":
            return [texture.name for texture in manifest.textures]
    return None


def check_attachments(manifest: ShaderManifest, entry: EntryPoint, where: str) -> None:
    """Each holds features of an output."""
    check_unique(
        f"{where}, attachments", (str(attachment.index) for attachment in entry.attachments)
    )
    widths = {port.name: port.width for port in manifest.outputs}
    for attachment in entry.attachments:
        place = f"{where}, attachment {attachment.index}"
        require(attachment.output in widths, place, f'there is no output "{attachment.output}"')
        end, width = attachment.first + attachment.channels, widths[attachment.output]
        require(end <= width, place, f"ends at feature {end}, the output has {width}")


def check_passes(manifest: ShaderManifest) -> None:
    """Passes are compute functions; what is evaluated point by point has a function for it."""
    stages = {entry.name: entry.stage for entry in manifest.entry_points}
    for name in manifest.passes:
        require(stages.get(name) == "compute", "passes", f'"{name}" is no compute function')
    require(
        (manifest.evaluate is None) == bool(manifest.passes),
        "evaluate",
        "a network has either a function of one point, or several passes",
    )


def check_textures(manifest: ShaderManifest) -> None:
    """Textures hold features of an input and follow one another in the file."""
    end = 0
    widths = {port.name: port.width for port in manifest.inputs}
    for texture in manifest.textures:
        where = f'texture "{texture.name}"'
        for problem in texture_problems(texture, widths):
            require(False, where, problem)
        require(texture.offset >= end, where, f"begins at {texture.offset}, within the one before")
        end = texture.offset + texture.byte_length
    has_textures = bool(manifest.textures)
    require(has_textures or manifest.texture_case is None, "texture_case", "there are no textures")
    for name in ("sampler", "latents_sha256"):
        there = getattr(manifest, name) is not None
        require(there == has_textures, name, "goes with textures, and they with it")


def texture_problems(texture: TextureLayout, widths: dict[str, int]) -> Iterator[str]:
    """What is wrong with one texture."""
    raw, texel_bytes = PIXEL_FORMATS[texture.pixel_format]
    if texture.raw_pixel_format != raw:
        yield f"raw_pixel_format is {texture.raw_pixel_format}, {texture.pixel_format} is {raw}"
    if texture.bytes_per_row != texture.width * texel_bytes:
        yield f"bytes_per_row is {texture.bytes_per_row}, not {texture.width * texel_bytes}"
    length = texture.bytes_per_row * texture.height
    if texture.byte_length != length:
        yield f"byte_length is {texture.byte_length}, not {length}"
    if texture.input not in widths:
        yield f'there is no input "{texture.input}"'
    elif max(texture.channels) >= widths[texture.input]:
        yield f"channel {max(texture.channels)} of an input with {widths[texture.input]} features"
