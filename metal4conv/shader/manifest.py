"""The JSON form of a shader's manifest: written, read, checked, and compared with its files.

`schema.json` describes the form field by field; what one field has to be because of another is
checked by `consistency`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from metal4conv.errors import DamagedFile, UsageError
from metal4conv.report import Report, as_json
from metal4conv.shader.consistency import check_consistency
from metal4conv.shader.document import (
    FORMAT,
    LATENTS_SUFFIX,
    MANIFEST_SUFFIX,
    SOURCE_SUFFIX,
    WEIGHTS_SUFFIX,
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

SCHEMA_FILE = Path(__file__).with_name("schema.json")

Json = dict[str, Any]  # Any: a JSON object


@cache
def shader_schema() -> Json:
    """The JSON Schema of a shader's manifest."""
    schema: Json = json.loads(SCHEMA_FILE.read_text("utf-8"))
    return schema


def manifest_json(manifest: ShaderManifest) -> Json:
    """The JSON form, fields in the order of their declaration."""
    return {"format": FORMAT, **as_json(manifest)}


def manifest_text(manifest: ShaderManifest) -> str:
    """The text of the file `NAME.shader.json`: equal manifests give equal bytes."""
    return json.dumps(manifest_json(manifest), indent=2, ensure_ascii=False) + "\n"


def manifest_from_json(document: object) -> ShaderManifest:
    """The manifest of a JSON document; `DamagedFile` when it is not one."""
    if not isinstance(document, dict) or document.get("format") != FORMAT:
        raise DamagedFile(f'this is not the manifest of a shader: its format is not "{FORMAT}"')
    fields = {key: frozen(value) for key, value in document.items() if key != "format"}
    try:
        nested = {
            "inputs": tuple(ShaderPort(**row) for row in fields["inputs"]),
            "outputs": tuple(ShaderPort(**row) for row in fields["outputs"]),
            "entry_points": tuple(map(entry_point_from_json, fields["entry_points"])),
            "constants": tuple(FunctionConstant(**row) for row in fields["constants"]),
            "blocks": tuple(WeightBlock(**row) for row in fields["blocks"]),
            "estimates": Estimates(**fields["estimates"]),
            "images": tuple(IntermediateImage(**row) for row in fields["images"]),
            "textures": tuple(TextureLayout(**row) for row in fields["textures"]),
            "rounding": tuple(
                Rounding(row["output"], float(row["largest"]), float(row["rms"]))
                for row in fields["rounding"]
            ),
            "sampler": fields["sampler"] and SamplerLayout(**fields["sampler"]),
            "texture_case": fields["texture_case"] and TextureCase(**fields["texture_case"]),
        }
        return ShaderManifest(**{**fields, **nested})
    except (KeyError, TypeError, AttributeError) as error:
        raise DamagedFile(f"the shader's manifest is damaged: {error!r}") from None


def entry_point_from_json(row: Json) -> EntryPoint:
    """The entry point of a JSON object whose lists are tuples."""
    nested = {
        "arguments": tuple(Argument(**item) for item in row["arguments"]),
        "attachments": tuple(Attachment(**item) for item in row["attachments"]),
    }
    return EntryPoint(**{**row, **nested})


def frozen(value: Any) -> Any:  # Any: a JSON document
    """A JSON value with tuples for lists; 32.0, which JSON Schema takes as an integer, is one.

    >>> frozen({"shape": [1, [2.0, "n"]]})
    {'shape': (1, (2, 'n'))}
    """
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, list):
        return tuple(map(frozen, value))
    if isinstance(value, dict):
        return {key: frozen(item) for key, item in value.items()}
    return value


def check_shader_manifest(document: object) -> ShaderManifest:
    """The manifest of a JSON document; `DamagedFile` says which field is wrong, and why."""
    from jsonschema import Draft202012Validator
    from jsonschema.exceptions import best_match

    error = best_match(Draft202012Validator(shader_schema()).iter_errors(document))
    if error is not None:
        raise DamagedFile(
            f"the shader's manifest does not fit its schema: {error.message}",
            where=error.json_path,
        )
    manifest = manifest_from_json(document)
    check_consistency(manifest)
    return manifest


def read_manifest(path: str | Path) -> ShaderManifest:
    """The checked manifest of a file; its other files are checked by `check_files`."""
    file = Path(path)
    if not file.name.endswith(MANIFEST_SUFFIX):
        raise UsageError(
            f"{path} is no shader's manifest: its name does not end with {MANIFEST_SUFFIX}",
            hint="name the NAME.shader.json that `metal4conv shader` wrote",
        )
    if not file.is_file():
        raise UsageError(f"no such file: {path}")
    try:
        return check_shader_manifest(json.loads(file.read_text("utf-8")))
    except (ValueError, RecursionError) as error:  # ValueError: also a number of 5000 digits
        raise DamagedFile(f"{path} is no JSON: {error}") from None
    except DamagedFile as error:
        error.add_note(f"in {path}")
        raise


@dataclass(frozen=True)
class ShaderFiles:
    """The files that belong to a manifest; None where the shader has no such file."""

    source: Path
    weights: Path | None
    latents: Path | None


def shader_files(manifest: ShaderManifest, folder: str | Path) -> ShaderFiles:
    """Where the files of a manifest in `folder` are to be."""
    stem = Path(folder) / manifest.name
    return ShaderFiles(
        source=stem.with_name(f"{manifest.name}{SOURCE_SUFFIX}"),
        weights=(
            stem.with_name(f"{manifest.name}{WEIGHTS_SUFFIX}") if manifest.weights_bytes else None
        ),
        latents=stem.with_name(f"{manifest.name}{LATENTS_SUFFIX}") if manifest.textures else None,
    )


def check_files(manifest: ShaderManifest, folder: str | Path) -> ShaderFiles:
    """The files of a manifest in `folder`, which have to be those that it was written with.

    `UsageError` names a missing one, `DamagedFile` one with another content.
    """
    files = shader_files(manifest, folder)
    hashes: Mapping[Path | None, str | None] = {
        files.source: manifest.source_sha256,
        files.weights: manifest.weights_sha256,
        files.latents: manifest.latents_sha256,
    }
    for file, expected in hashes.items():
        if file is None:
            continue
        if not file.is_file():
            raise UsageError(
                f"no such file: {file}",
                where=f"{manifest.name}{MANIFEST_SUFFIX}",
                hint="a shader's files are written together; keep them in one folder",
            )
        content = file.read_bytes()
        if file == files.weights and len(content) != manifest.weights_bytes:
            raise DamagedFile(
                f"{file} has {len(content):,} bytes, its manifest says {manifest.weights_bytes:,}",
                hint="write the shader again",
            )
        if hashlib.sha256(content).hexdigest() != expected:
            raise DamagedFile(
                f"{file} is not the file that its manifest was written with: the SHA-256 differs",
                hint="write the shader again; edited source goes into a file of another name",
            )
    return files


def shader_layout_report(path: str | Path) -> Report:
    """What `layout` tells about a shader: the manifest, and where everything is bound."""
    manifest = read_manifest(path)
    return Report("layout", {"file": str(path), "shader": manifest_json(manifest)})
