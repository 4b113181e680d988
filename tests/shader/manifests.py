"""Manifests for tests, written down by hand as the generator writes them."""

from __future__ import annotations

import hashlib
from dataclasses import replace

from metal4conv.shader.document import (
    Argument,
    Attachment,
    EntryPoint,
    Estimates,
    FunctionConstant,
    IntermediateImage,
    Rounding,
    SamplerLayout,
    ShaderManifest,
    ShaderPort,
    TextureCase,
    TextureLayout,
    WeightBlock,
)

SHA = hashlib.sha256(b"").hexdigest()


def buffer(name: str, index: int, role: str, port: str | None = None) -> Argument:
    """A buffer that a function reads, or writes when it is an output."""
    access = "" if role in ("output", "image") else "const "
    declaration = {
        "weights": "const device uchar *weights",
        "parameters": f"constant field_parameters &{name}",
    }.get(role, f"{access}device float *{name}")
    return Argument(name, "buffer", index, declaration, role, port)


def tensor(block: str, index: int) -> Argument:
    declaration = f"tensor<device half, dextents<int, 2>> {block}"
    return Argument(block, "tensor", index, declaration, "weight", block)


def builtin(role: str) -> Argument:
    return Argument(role, "builtin", None, f"uint {role}", role)


def stage_in() -> Argument:
    return Argument("varyings", "stage_in", None, "field_varyings varyings", "stage_in")


TILE = Argument("tile", "threadgroup", 0, "threadgroup uchar *tile", "tile")


def block(
    name: str, offset: int, dimensions: tuple[int, ...], used: tuple[int, ...], dtype: str,
    role: str, index: int | None = None,
) -> WeightBlock:  # fmt: skip
    raw, size = {"float16": (16, 2), "float32": (3, 4), "int8": (45, 1)}[dtype]
    strides, count = [], 1
    for dimension in dimensions:
        strides.append(count)
        count *= dimension
    return WeightBlock(
        name=name,
        layer=f"layer {name}",
        role=role,  # type: ignore[arg-type]  # one of the roles
        dtype=dtype,
        raw_data_type=raw,
        offset=offset,
        byte_length=count * size,
        dimensions=dimensions,
        strides=tuple(strides),
        used=used,
        index=index,
    )


def port(
    name: str, width: int, textures: tuple[str, ...] = (), uniform: bool = False
) -> ShaderPort:
    shape: tuple[int | str, ...] = (1, width) if uniform else ("n", width)
    return ShaderPort(name, "float32", shape, (1,), width, uniform, textures)


def field(tensors: str = "inline") -> ShaderManifest:
    """A radiance field of 3 + 2 → 20 → 3 + 5: two inputs, one of them uniform, two outputs."""
    bound = tensors == "handle"
    weights = [buffer("weights", 0, "weights")]
    handles = [tensor("w0", 1), tensor("w1", 2)] if bound else []
    first = 3 if bound else 1
    inputs = [
        buffer("position", first, "input", "position"),
        buffer("light", first + 1, "input", "light"),
    ]
    outputs = [
        buffer("color", first + 2, "output", "color"),
        buffer("features", first + 3, "output", "features"),
    ]
    parameters = [buffer("parameters", first + 4, "parameters")]
    fragment_parameters = [buffer("parameters", first + 2, "parameters")]
    return ShaderManifest(
        name="field",
        source={"framework": "PyTorch", "kind": "module"},
        precision="float16",
        tensors=tensors,
        inline_weights=False,
        system=(26, 0),
        evaluate="field_evaluate",
        inputs=(port("position", 3), port("light", 2, uniform=True)),
        outputs=(port("color", 3), port("features", 5)),
        entry_points=(
            EntryPoint(
                "field_fragment",
                "fragment",
                (stage_in(), *weights, *handles, *inputs, *fragment_parameters),
                attachments=(
                    Attachment(0, "color", "color", 0, 3),
                    Attachment(1, "features_0", "features", 0, 4),
                    Attachment(2, "features_4", "features", 4, 1),
                ),
            ),
            EntryPoint(
                "field_compute",
                "compute",
                (
                    *weights,
                    *handles,
                    *inputs,
                    *outputs,
                    *parameters,
                    TILE,
                    builtin("threadgroup_position_in_grid"),
                ),
                threads_per_threadgroup=64,
                points_per_threadgroup=64,
                threadgroup_memory_bytes=12288,
                simdgroup=True,
            ),
        ),
        constants=(
            FunctionConstant(
                "field_use_matmul2d", 0, "bool", "Metal Performance Primitives or not"
            ),
        ),
        blocks=(
            block("w0", 0, (32, 32), (5, 20), "float16", "weight", 1 if bound else None),
            block("b0", 2048, (32,), (20,), "float32", "bias"),
            block("w1", 2176, (32, 16), (20, 8), "float16", "weight", 2 if bound else None),
            block("b1", 3200, (16,), (8,), "float32", "bias"),
        ),
        weights_bytes=3328,
        weights_sha256=SHA,
        source_sha256=SHA,
        estimates=Estimates(288, 260, 400, 12288),
        rounding=(Rounding("color", 0.0012, 0.0003), Rounding("features", 0.0, 0.0)),
    )


def texture(name: str, offset: int, channels: tuple[int, int, int, int]) -> TextureLayout:
    return TextureLayout(
        name=name,
        input="latents",
        channels=channels,
        pixel_format="rgba8Unorm",
        raw_pixel_format=70,
        width=8,
        height=4,
        offset=offset,
        bytes_per_row=32,
        byte_length=128,
    )


def material() -> ShaderManifest:
    """A neural material of 6 latents in two textures → 7 outputs, with int8 weights."""
    weights = [buffer("weights", 0, "weights")]
    textures = [
        Argument(name, "texture", index, f"texture2d<float> {name}", "latents", name)
        for index, name in enumerate(("latents_texture0", "latents_texture1"))
    ]
    sampler = [
        Argument("latents_sampler", "sampler", 0, "sampler latents_sampler", "latents_sampler")
    ]
    color = [buffer("color", 1, "output", "color")]
    parameters = [buffer("parameters", 2, "parameters")]
    builtins = [builtin("thread_position_in_grid")]
    return ShaderManifest(
        name="material",
        source={"framework": "PyTorch", "kind": "module"},
        precision="int8",
        tensors="inline",
        inline_weights=False,
        system=(26, 4),
        evaluate="material_evaluate",
        inputs=(port("latents", 6, ("latents_texture0", "latents_texture1")),),
        outputs=(port("color", 3),),
        entry_points=(
            EntryPoint(
                "material_fragment",
                "fragment",
                (stage_in(), *weights, *textures, *sampler),
                inputs="texture",
                attachments=(Attachment(0, "color", "color", 0, 3),),
            ),
            EntryPoint(
                "material_compute",
                "compute",
                (
                    *weights,
                    buffer("latents", 1, "input", "latents"),
                    buffer("color", 2, "output", "color"),
                    buffer("parameters", 3, "parameters"),
                    TILE,
                    *builtins,
                ),
                threads_per_threadgroup=32,
                points_per_threadgroup=32,
                threadgroup_memory_bytes=4096,
                simdgroup=True,
            ),
            EntryPoint(
                "material_texture_compute",
                "compute",
                (*weights, *color, *parameters, *textures, *sampler, TILE, *builtins),
                inputs="texture",
                threads_per_threadgroup=32,
                points_per_threadgroup=32,
                threadgroup_memory_bytes=4096,
                simdgroup=True,
            ),
        ),
        constants=(
            FunctionConstant("material_use_matmul2d", 0, "bool", "Metal Performance Primitives"),
        ),
        blocks=(
            block("w0", 0, (32, 16), (6, 3), "int8", "weight"),
            block("s0", 512, (16,), (3,), "float32", "scale"),
            block("b0", 640, (16,), (3,), "float32", "bias"),
        ),
        weights_bytes=768,
        weights_sha256=SHA,
        source_sha256=SHA,
        estimates=Estimates(21, 18, 152, 4096),
        textures=(
            texture("latents_texture0", 0, (0, 1, 2, 3)),
            texture("latents_texture1", 256, (4, 5, -1, -1)),
        ),
        sampler=SamplerLayout("linear", "repeat"),
        texture_case=TextureCase(2, 8, 4),
        latents_sha256=SHA,
    )


def denoiser() -> ShaderManifest:
    """Two passes of convolutions with an image between, in tiles of pixels."""
    first = (
        buffer("weights", 0, "weights"),
        buffer("noisy", 1, "input", "noisy"),
        buffer("hidden", 2, "image", "hidden"),
        buffer("parameters", 3, "parameters"),
        TILE,
        builtin("threadgroup_position_in_grid"),
    )
    second = (
        buffer("weights", 0, "weights"),
        buffer("hidden", 1, "image", "hidden"),
        buffer("noisy", 2, "input", "noisy"),
        buffer("clean", 3, "output", "clean"),
        buffer("parameters", 4, "parameters"),
        TILE,
        builtin("threadgroup_position_in_grid"),
    )
    shape: tuple[int | str, ...] = (1, 3, "h", "w")
    passes = tuple(
        EntryPoint(
            f"denoiser_pass_{number}",
            "compute",
            arguments,
            threads_per_threadgroup=128,
            points_per_threadgroup=64,
            tile=(8, 8),
            threadgroup_memory_bytes=8192,
            simdgroup=True,
        )
        for number, arguments in enumerate((first, second))
    )
    return ShaderManifest(
        name="denoiser",
        source={"framework": "ONNX", "kind": "model"},
        precision="float16",
        tensors="inline",
        inline_weights=False,
        system=(26, 0),
        evaluate=None,
        inputs=(ShaderPort("noisy", "float32", shape, (1,), 3),),
        outputs=(ShaderPort("clean", "float32", shape, (1,), 3),),
        entry_points=passes,
        constants=(
            FunctionConstant("denoiser_use_matmul2d", 0, "bool", "Metal Performance Primitives"),
        ),
        blocks=(
            block("w0", 0, (8, 3, 3, 3), (8, 3, 3, 3), "float16", "weight"),
            block("w1", 512, (3, 8, 3, 3), (3, 8, 3, 3), "float16", "weight"),
        ),
        weights_bytes=1024,
        weights_sha256=SHA,
        source_sha256=SHA,
        estimates=Estimates(432, 432, 64, 8192),
        passes=("denoiser_pass_0", "denoiser_pass_1"),
        images=(IntermediateImage("hidden", 8, "float16"),),
    )


def tiny() -> ShaderManifest:
    """One number in, one out, with its weights in the source."""
    arguments = (
        buffer("x", 0, "input", "x"),
        buffer("y", 1, "output", "y"),
        buffer("parameters", 2, "parameters"),
        builtin("thread_position_in_grid"),
    )
    entry = EntryPoint("tiny_compute", "compute", arguments)
    return replace(
        field(),
        name="tiny",
        inline_weights=True,
        evaluate="tiny_evaluate",
        inputs=(port("x", 1),),
        outputs=(port("y", 1),),
        entry_points=(replace(entry, threads_per_threadgroup=32, points_per_threadgroup=32),),
        constants=(),
        blocks=(),
        weights_bytes=0,
        estimates=Estimates(2, 1, 136, 0),
        rounding=(),
    )


MANIFESTS = {
    "field": field(),
    "handles": field("handle"),
    "material": material(),
    "denoiser": denoiser(),
    "tiny": tiny(),
}
