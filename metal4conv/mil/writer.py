"""Writing `.mlpackage` folders, byte for byte the same for the same model."""

from __future__ import annotations

import json
import shutil
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from metal4conv.mil.schema import deterministic_bytes

NAMESPACE = uuid.UUID("5c6b3f0e-3b0a-4c55-9f0e-6d34636f6e76")
"""The items of `Manifest.json` need UUIDs; ours follow from the items' names."""

ITEMS = (
    ("com.apple.CoreML/model.mlmodel", "CoreML Model Specification", "model.mlmodel"),
    ("com.apple.CoreML/weights", "CoreML Model Weights", "weights"),
)


def write_package(folder: Path, spec: Any, weights_folder: Path | None) -> None:
    """Writes a package of a `Model` message and a folder of weight files.

    `folder` must not exist; the weight files are moved where that is possible. (Any: a protobuf
    message.)
    """
    data = folder / "Data" / "com.apple.CoreML"
    data.mkdir(parents=True)
    (data / "model.mlmodel").write_bytes(deterministic_bytes(spec))
    (data / "weights").mkdir()
    for file in sorted(weights_folder.glob("*.bin")) if weights_folder else ():
        shutil.move(file, data / "weights" / file.name)
    (folder / "Manifest.json").write_text(manifest_text(), "utf-8")


def manifest_text() -> str:
    """The package's `Manifest.json`: which file is the model."""
    entries = {
        str(uuid.uuid5(NAMESPACE, path)).upper(): {
            "author": "com.apple.CoreML",
            "description": description,
            "name": name,
            "path": path,
        }
        for path, description, name in ITEMS
    }
    root = str(uuid.uuid5(NAMESPACE, ITEMS[0][0])).upper()
    document = {
        "fileFormatVersion": "1.0.0",
        "itemInfoEntries": dict(sorted(entries.items())),
        "rootModelIdentifier": root,
    }
    return json.dumps(document, indent=4) + "\n"


def set_metadata(spec: Any, values: Mapping[str, str], *, description: str = "") -> None:
    """Replaces the user-defined metadata; dates and machine names have no place in it. (Any: a
    protobuf message.)
    """
    metadata = spec.description.metadata
    metadata.userDefined.clear()
    for key in sorted(values):
        metadata.userDefined[key] = values[key]
    if description:
        metadata.shortDescription = description
