"""Keras files: `.keras` archives and `.h5` files."""

from __future__ import annotations

import json
import re
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from metal4conv.errors import (
    DamagedFile,
    Metal4ConvError,
    UnsupportedModel,
    UntrustedFile,
)
from metal4conv.frontends.names import feature_names
from metal4conv.frontends.savedmodel import output_names
from metal4conv.frontends.tensorflow_model import (
    TensorFlowModel,
    declared_input,
)
from metal4conv.frontends.tensorflow_runtime import first_line, load_errors, load_keras
from metal4conv.frontends.toolkit import quiet
from metal4conv.lazy import require

HDF5_START = b"\x89HDF\r\n\x1a\n"
CODE = ("Lambda", "__lambda__")
"""Classes in a Keras configuration that hold compiled Python code."""

EXPORT_HINT = "export the model with model.export(FOLDER) and convert that SavedModel"

# Any throughout: Keras carries no types


def read_keras(path: Path, *, trust: bool) -> TensorFlowModel:
    """The model of a Keras file; code inside it runs only with `trust`."""
    keras = load_keras()
    try:
        with quiet():
            classes = list(classes_of(read_configuration(path)))
            if not trust and any(name in CODE for name, _ in classes):
                raise code_error(path)
            model = keras.models.load_model(path, safe_mode=not trust, compile=False)
    except load_errors() as error:
        raise keras_error(path, error, classes_from_elsewhere(path)) from None
    return model_of_keras(path, model)


def read_configuration(path: Path) -> Any:  # Any: a JSON document
    """The model's configuration: an entry of a `.keras` archive, an attribute of an `.h5` file."""
    if path.suffix == ".keras":
        with zipfile.ZipFile(path) as archive:
            return json.loads(archive.read("config.json"))
    with path.open("rb") as file:
        if file.read(len(HDF5_START)) != HDF5_START:
            raise ValueError("it does not start as an HDF5 file")
    with require("h5py", extra="tensorflow").File(path, "r") as file:
        if "model_config" not in file.attrs:
            raise ValueError("it has no model configuration, only weights")
        return json.loads(file.attrs["model_config"])


def classes_of(document: Any) -> Iterator[tuple[str, str | None]]:  # Any: a JSON document
    """Class and module of every object that a configuration describes.

    >>> list(classes_of({"config": [{"class_name": "Swirl", "module": None}]}))
    [('Swirl', None)]
    """
    if isinstance(document, dict):
        if isinstance(name := document.get("class_name"), str):
            yield name, document.get("module", "keras")
        yield from (found for value in document.values() for found in classes_of(value))
    if isinstance(document, list):
        yield from (found for value in document for found in classes_of(value))


def classes_from_elsewhere(path: Path) -> list[str]:
    """Classes of a `.keras` file that are not Keras's own; an `.h5` file does not tell."""
    try:
        found = classes_of(read_configuration(path))
    except load_errors():
        return []
    names = [name for name, module in found if not (module or "").startswith(("keras", "builtins"))]
    return list(dict.fromkeys(names))


def code_error(path: Path) -> UntrustedFile:
    """The refusal of a file with code."""
    return UntrustedFile(
        f"{path} holds Python code (a Lambda layer), which would run when it is opened",
        hint="pass --trust if you trust the file, or replace the layer in the model",
    )


def keras_error(path: Path, error: Exception, elsewhere: Sequence[str]) -> Metal4ConvError:
    """What to tell about a Keras file that could not be loaded."""
    text = str(error)
    if "safe_mode" in text:
        return code_error(path)
    unknown = re.findall(r"(?:Could not locate|Unknown) (?:[a-z_ ]+:? )'(\w+)'", text)
    if names := list(elsewhere) or unknown[-1:]:
        return UnsupportedModel(
            f"{path} needs code that is not in the file: {', '.join(names)}", hint=EXPORT_HINT
        )
    return DamagedFile(
        f"{path} is damaged, truncated or not a Keras model",
        where=f"Keras says: {first_line(error)}",
        hint="save or copy the model again",
    )


def model_of_keras(path: Path, model: Any) -> TensorFlowModel:
    """A Keras model as a function of its inputs, in inference mode."""
    keras = load_keras()
    if not getattr(model, "inputs", None):
        raise UnsupportedModel(
            f"{path}: the model does not say what its inputs are",
            hint=EXPORT_HINT,
        )
    tensors = list(model.inputs)
    structure = getattr(model, "_inputs_struct", None)
    keyed = structure if isinstance(structure, Mapping) else None
    wanted = sorted(keyed) if keyed is not None else [tensor.name for tensor in tensors]
    inputs, outputs, findings = feature_names(wanted, keras_output_names(model))

    def call(values: Sequence[Any]) -> Sequence[Any]:
        packed: Any = dict(zip(wanted, values, strict=True)) if keyed is not None else list(values)
        results: Sequence[Any] = keras.tree.flatten(model(packed, training=False))
        return results

    specs = [keyed[name] for name in wanted] if keyed is not None else tensors
    return TensorFlowModel(
        "Keras model",
        path.stem,
        (path,),
        tuple(declared_input(name, spec) for name, spec in zip(inputs, specs, strict=True)),
        outputs,
        call,
        int(model.count_params()),
        findings,
    )


def keras_output_names(model: Any) -> list[str]:
    """The keys of a dictionary of outputs, else the names of the layers that compute them."""
    structure = getattr(model, "_outputs_struct", None)
    if isinstance(structure, Mapping):
        return output_names(structure)
    names = [str(name) for name in getattr(model, "output_names", ())]
    return names or output_names([None] * len(model.outputs))
