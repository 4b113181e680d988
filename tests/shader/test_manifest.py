"""The manifest's JSON form: it comes back as it was, and what does not fit is named."""

from __future__ import annotations

import copy
import hashlib
import json
import random
import re
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from metal4conv.errors import DamagedFile, Metal4ConvError, UsageError
from metal4conv.shader import document
from metal4conv.shader.emit import EMITTERS, emit_shader
from metal4conv.shader.manifest import (
    check_files,
    check_shader_manifest,
    manifest_from_json,
    manifest_json,
    manifest_text,
    read_manifest,
    shader_layout_report,
    shader_schema,
)
from metal4conv.shader.network import Network
from metal4conv.shader.options import ShaderOptions
from metal4conv.shader.packing import pack_weights
from tests.shader.manifests import MANIFESTS, denoiser, field, material
from tests.shader.test_packing import mlp

Json = dict[str, Any]
EACH = pytest.mark.parametrize("name", MANIFESTS)


@EACH
def test_what_is_written_is_read(name: str) -> None:
    manifest = MANIFESTS[name]
    text = manifest_text(manifest)
    assert text == manifest_text(copy.deepcopy(manifest))
    assert manifest_from_json(json.loads(text)) == manifest
    assert check_shader_manifest(json.loads(text)) == manifest


def test_schema_is_one() -> None:
    Draft202012Validator.check_schema(shader_schema())


SCHEMAS = {
    "ShaderPort": "port",
    "EntryPoint": "entry_point",
    "Argument": "argument",
    "Attachment": "attachment",
    "FunctionConstant": "constant",
    "WeightBlock": "block",
    "IntermediateImage": "image",
    "TextureLayout": "texture",
}


def test_schema_has_the_fields_of_the_document() -> None:
    schema = shader_schema()
    found = {"ShaderManifest": schema, **{k: schema["$defs"][v] for k, v in SCHEMAS.items()}}
    found["Estimates"] = schema["properties"]["estimates"]
    found["Rounding"] = schema["properties"]["rounding"]["items"]
    found["SamplerLayout"] = schema["properties"]["sampler"]["oneOf"][1]
    found["TextureCase"] = schema["properties"]["texture_case"]["oneOf"][1]
    for name, part in found.items():
        names = {field.name for field in fields(getattr(document, name))}
        names |= {"format"} if name == "ShaderManifest" else set()
        assert set(part["properties"]) == set(part["required"]) == names, name


def packed_manifest(network: Network, options: ShaderOptions) -> document.ShaderManifest:
    packed = pack_weights(network, options)
    return replace(
        field(options.tensors),
        precision=options.precision,
        blocks=packed.blocks,
        weights_bytes=len(packed.data),
    )


@pytest.mark.parametrize(
    "options",
    [
        ShaderOptions(),
        ShaderOptions("float32", "handle"),
        ShaderOptions("int8"),
        ShaderOptions("int8", "handle", system=(26, 4)),
    ],
)
def test_packed_weights_make_a_consistent_manifest(options: ShaderOptions) -> None:
    check_shader_manifest(manifest_json(packed_manifest(mlp((5, 20, 8)), options)))


def set_at(*path: str | int, value: object) -> Callable[[Json], None]:
    """A change of one field."""

    def change(row: Any) -> None:
        for key in path[:-1]:
            row = row[key]
        row[path[-1]] = value

    return change


BLOCK = ("blocks", 2)
COMPUTE = ("entry_points", 1)

OF_SCHEMA = {
    r"\$.system\[0\]: '26' is not": set_at("system", 0, value="26"),
    r"\$.blocks\[2\].offset: .*not a multiple of 128": set_at(*BLOCK, "offset", value=2180),
    r"\$.blocks\[0\].dtype: .*'float64' is not one of": set_at(
        "blocks", 0, "dtype", value="float64"
    ),
    r"\$.name: .*does not match": set_at("name", value="a-b"),
    r"\$.entry_points\[1\].tile: ": set_at(*COMPUTE, "tile", value=[8]),
    r"\$: Additional properties": set_at("extra", value=1),
    r"\$.weights_sha256: ": set_at("weights_sha256", value="abc"),
}


@pytest.mark.parametrize("message", OF_SCHEMA)
def test_a_field_that_does_not_fit_the_schema_is_named(message: str) -> None:
    row = manifest_json(field())
    OF_SCHEMA[message](row)
    with pytest.raises(DamagedFile) as caught:
        check_shader_manifest(row)
    said = f"{''.join(caught.value.where)}: {caught.value.message}".replace(
        "the shader's manifest does not fit its schema: ", ""
    )
    assert re.match(message, said), said


CONTRADICTIONS: dict[str, tuple[Callable[[Json], None], str]] = {
    "raw data type": (
        set_at(*BLOCK, "raw_data_type", value=3),
        "raw_data_type is 3, float16 is 16",
    ),
    "first stride": (set_at(*BLOCK, "strides", value=[2, 64]), "the first stride is 2, not 1"),
    "row stride": (set_at(*BLOCK, "strides", value=[1, 20]), "stride 20 is below 1 times .* 32"),
    "rank": (set_at(*BLOCK, "strides", value=[1]), "2 dimensions, 1 strides"),
    "used": (set_at(*BLOCK, "used", value=[33, 8]), "33 of 32 elements are used"),
    "length": (set_at(*BLOCK, "byte_length", value=1000), "byte_length is 1000, .* need 1024"),
    "overlap": (set_at(*BLOCK, "offset", value=1920), "begins at 1920, within the one before"),
    "end of file": (set_at("weights_bytes", value=3200), "ends at 3264, .* has 3200 bytes"),
    "names": (set_at(*BLOCK, "name", value="w0"), '"w0" is there twice'),
    "bound": (set_at(*BLOCK, "index", value=9), "is bound at 9, though tensors are made"),
    "inline": (set_at("inline_weights", value=True), "the weights stand in the source"),
    "buffer twice": (set_at(*COMPUTE, "arguments", 1, "index", value=0), '"0" is there twice'),
    "no index": (set_at(*COMPUTE, "arguments", 1, "index", value=None), "a buffer has an index"),
    "an index": (set_at(*COMPUTE, "arguments", -1, "index", value=3), "a builtin has no index"),
    "input": (
        set_at(*COMPUTE, "arguments", 1, "port", value="normal"),
        'input "normal" is not among position, light',
    ),
    "output": (
        set_at(*COMPUTE, "arguments", 3, "port", value="position"),
        'output "position" is not among color, features',
    ),
    "memory": (
        set_at(*COMPUTE, "threadgroup_memory_bytes", value=40000),
        "needs 40000 bytes of threadgroup memory, there are 32768",
    ),
    "odd memory": (
        set_at(*COMPUTE, "threadgroup_memory_bytes", value=1000),
        "1000 bytes of threadgroup memory are no multiple of 16",
    ),
    "threads": (
        set_at(*COMPUTE, "threads_per_threadgroup", value=2048),
        "2048 threads in a threadgroup, allowed are whole simdgroups up to 1024",
    ),
    "half a simdgroup": (
        set_at(*COMPUTE, "threads_per_threadgroup", value=48),
        "48 threads in a threadgroup, allowed are whole simdgroups",
    ),
    "slots": (
        set_at(*COMPUTE, "arguments", 1, "index", value=31),
        "buffer index 31 is beyond the 31 that there are",
    ),
    "texture case": (
        set_at("texture_case", value={"case": 0, "width": 2, "height": 2}),
        "there are no textures",
    ),
    "tile": (set_at(*COMPUTE, "tile", value=[8, 4]), "a tile has 32 pixels"),
    "attachment": (
        set_at("entry_points", 0, "attachments", 1, "first", value=2),
        "ends at feature 6, the output has 5",
    ),
    "attachments": (
        set_at("entry_points", 0, "attachments", 1, "index", value=0),
        '"0" is there twice',
    ),
    "attached output": (
        set_at("entry_points", 0, "attachments", 1, "output", value="normal"),
        'there is no output "normal"',
    ),
    "passes": (set_at("passes", value=["field_fragment"]), "is no compute function"),
    "evaluate": (set_at("evaluate", value=None), "either a function of one point, or several"),
    "width": (set_at("inputs", 0, "width", value=4), "width is 4, its features are 3"),
    "dynamic features": (
        set_at("inputs", 0, "shape", value=["n", "f"]),
        'the size "f" of features is no number',
    ),
    "rounding": (
        set_at("rounding", value=[{"output": "normal", "largest": 0.1, "rms": 0.01}]),
        'there is no output "normal"',
    ),
    "axis": (set_at("inputs", 0, "feature_axes", value=[2]), "has no axis 2"),
    "sampler": (
        set_at("sampler", value={"filter": "linear", "address": "repeat"}),
        "goes with textures",
    ),
}


@pytest.mark.parametrize("name", CONTRADICTIONS)
def test_a_field_that_contradicts_another_is_named(name: str) -> None:
    change, message = CONTRADICTIONS[name]
    row = json.loads(manifest_text(field()))
    change(row)
    with pytest.raises(DamagedFile, match=f"contradicts itself: .*{message}") as caught:
        check_shader_manifest(row)
    assert caught.value.where


OF_TEXTURES: dict[str, tuple[Callable[[Json], None], str]] = {
    "format": (set_at("textures", 0, "raw_pixel_format", value=115), "rgba8Unorm is 70"),
    "row": (set_at("textures", 0, "bytes_per_row", value=64), "bytes_per_row is 64, not 32"),
    "length": (set_at("textures", 0, "byte_length", value=100), "byte_length is 100, not 128"),
    "overlap": (set_at("textures", 1, "offset", value=100), "within the one before"),
    "channel": (
        set_at("textures", 1, "channels", value=[4, 5, 6, -1]),
        "channel 6 of an input with 6 features",
    ),
    "input": (set_at("textures", 0, "input", value="color"), "textures .* are not all among them"),
    "sampler": (set_at("sampler", value=None), "goes with textures"),
    "port": (set_at("entry_points", 0, "arguments", 2, "port", value="t"), 'latents "t" is not'),
}


@pytest.mark.parametrize("name", OF_TEXTURES)
def test_textures_that_do_not_fit_are_named(name: str) -> None:
    change, message = OF_TEXTURES[name]
    row = json.loads(manifest_text(material()))
    change(row)
    with pytest.raises(DamagedFile, match=message):
        check_shader_manifest(row)


def test_tensors_share_the_indexes_of_buffers() -> None:
    row = json.loads(manifest_text(field("handle")))
    for argument in row["entry_points"][1]["arguments"]:
        if argument["name"] == "position":
            argument["index"] = 1  # where w0 is bound
    with pytest.raises(DamagedFile, match=r'buffer indexes|"1" is there twice'):
        check_shader_manifest(row)


def test_a_tensor_is_bound_where_its_block_says() -> None:
    row = json.loads(manifest_text(field("handle")))
    row["blocks"][0]["index"] = 7
    with pytest.raises(DamagedFile, match='is at index 1, block "w0" at 7'):
        check_shader_manifest(row)


def test_a_tensor_that_no_function_takes_is_told() -> None:
    row = json.loads(manifest_text(field("handle")))
    row["entry_points"] = []
    with pytest.raises(DamagedFile, match="is bound at 1, but no function takes it"):
        check_shader_manifest(row)


def test_weights_that_are_taken_have_to_be_there() -> None:
    row = json.loads(manifest_text(field()))
    row |= {"blocks": [], "weights_bytes": 0}
    with pytest.raises(DamagedFile, match="takes weights, and there is no file of them"):
        check_shader_manifest(row)


def test_images_between_passes_have_to_be_there() -> None:
    row = json.loads(manifest_text(denoiser()))
    row["images"] = []
    with pytest.raises(DamagedFile, match='image "hidden" is not among'):
        check_shader_manifest(row)


def written(folder: Path, manifest: document.ShaderManifest) -> Path:
    """A manifest with files of zeros beside it."""
    contents = {
        "metal": b"// source\n",
        "weights": bytes(manifest.weights_bytes),
        "latents": bytes(384),
    }
    for suffix, content in contents.items():
        (folder / f"{manifest.name}.{suffix}").write_bytes(content)
    hashes = {key: hashlib.sha256(content).hexdigest() for key, content in contents.items()}
    manifest = replace(
        manifest,
        source_sha256=hashes["metal"],
        weights_sha256=hashes["weights"],
        latents_sha256=hashes["latents"] if manifest.textures else None,
    )
    path = folder / f"{manifest.name}.shader.json"
    path.write_text(manifest_text(manifest), "utf-8")
    return path


@EACH
def test_files_are_those_of_the_manifest(name: str, tmp_path: Path) -> None:
    path = written(tmp_path, MANIFESTS[name])
    manifest = read_manifest(path)
    files = check_files(manifest, tmp_path)
    assert files.source == tmp_path / f"{manifest.name}.metal"
    assert (files.weights is None) == manifest.inline_weights
    assert (files.latents is None) == (not manifest.textures)


@pytest.mark.parametrize("suffix", ["metal", "weights", "latents"])
def test_another_file_is_told(suffix: str, tmp_path: Path) -> None:
    manifest = read_manifest(written(tmp_path, material()))
    file = tmp_path / f"material.{suffix}"
    content = file.read_bytes()
    file.write_bytes(b"\1" + content[1:])
    with pytest.raises(
        DamagedFile, match=rf"material\.{suffix} is not the file .* SHA-256 differs"
    ):
        check_files(manifest, tmp_path)
    file.unlink()
    with pytest.raises(UsageError, match="no such file"):
        check_files(manifest, tmp_path)


def test_a_cut_weights_file_is_told_with_both_lengths(tmp_path: Path) -> None:
    manifest = read_manifest(written(tmp_path, material()))
    (tmp_path / "material.weights").write_bytes(bytes(700))
    with pytest.raises(DamagedFile, match="has 700 bytes, its manifest says 768"):
        check_files(manifest, tmp_path)


def test_what_is_no_manifest_is_told(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"does not end with \.shader\.json"):
        read_manifest(tmp_path / "net.json")
    with pytest.raises(UsageError, match="no such file"):
        read_manifest(tmp_path / "net.shader.json")
    path = tmp_path / "net.shader.json"
    for content, message in {
        b"": "no JSON",
        b"\xff\xfe": "no JSON",
        b"[]": "does not fit its schema",
        b'{"format": "metal4conv.layout/1"}': "does not fit its schema",
        b"[" * 100_000: "no JSON",
        b'{"width": %s}' % (b"9" * 5000): "no JSON",
    }.items():
        path.write_bytes(content)
        with pytest.raises(DamagedFile, match=message) as caught:
            read_manifest(path)
        assert str(path) in str(caught.value)
    with pytest.raises(DamagedFile, match="its format is not"):
        manifest_from_json([])


def test_layout_report(tmp_path: Path) -> None:
    report = shader_layout_report(written(tmp_path, field()))
    assert report.kind == "layout"
    assert report.data["shader"]["blocks"][2]["name"] == "w1"
    json.dumps(report.to_json())


def places(value: Any, path: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    """The paths of all values in a document."""
    yield path
    if isinstance(value, dict | list):
        rows = value.items() if isinstance(value, dict) else enumerate(value)
        for key, item in rows:
            yield from places(item, (*path, key))


STRANGE = [None, -1, 0, 3, 7.0, 0.5, 10**30, "", "x", "a b", [], [1], {}, True, "w0", "color"]


@pytest.mark.parametrize("name", MANIFESTS)
def test_any_value_anywhere_is_an_error_with_a_name_or_gives_code(name: str) -> None:
    document = json.loads(manifest_text(MANIFESTS[name]))
    draw = random.Random(f"manifest {name}")
    for path in draw.sample([path for path in places(document) if path], 60):
        changed = copy.deepcopy(document)
        set_at(*path, value=draw.choice(STRANGE))(changed)
        with suppress(Metal4ConvError):  # any other error fails the test
            manifest = check_shader_manifest(changed)
            for language in EMITTERS:
                emit_shader(manifest, language)
