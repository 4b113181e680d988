"""SavedModel folders: their signatures and functions, one of which is the model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from metal4conv.errors import DamagedFile, UnsupportedModel, UsageError, did_you_mean
from metal4conv.frontends.names import feature_names
from metal4conv.frontends.tensorflow_model import (
    TensorFlowModel,
    declared_input,
)
from metal4conv.frontends.tensorflow_runtime import load_tensorflow, reading

PREFERRED = ("serving_default", "serve")

# Any throughout: TensorFlow carries no types


def read_saved_model(path: Path, signature: str | None) -> TensorFlowModel:
    """The function that `signature` names, else `serving_default`, `serve`, or the only one."""
    if (path / "saved_model.pb").stat().st_size == 0:
        raise DamagedFile(f"{path / 'saved_model.pb'} is empty")
    tensorflow = load_tensorflow()
    with reading(path):
        loaded = tensorflow.saved_model.load(str(path))
        functions = functions_by_name(loaded)
    function = functions[choose_signature(path, functions, signature)]
    with reading(path):
        return model_of_function(path, loaded, function)


def functions_by_name(loaded: Any) -> dict[str, Any]:
    """The signatures, and the functions that the saved object has as attributes."""
    found = dict(sorted(loaded.signatures.items())) if hasattr(loaded, "signatures") else {}
    attributes = [name for name in dir(loaded) if not name.startswith("_")]
    for name in [*attributes, "__call__"]:
        variants = getattr(getattr(loaded, name, None), "concrete_functions", ())
        for index, variant in enumerate(variants):
            found.setdefault(name if len(variants) == 1 else f"{name}.{index}", variant)
    return found


def choose_signature(path: Path, functions: Mapping[str, Any], wanted: str | None) -> str:
    """The name of the function to convert; `UsageError` when that is unknown or open."""
    if wanted is not None:
        if wanted not in functions:
            raise UsageError(
                f'{path} has no signature "{wanted}"',
                where="--signature",
                hint=did_you_mean(wanted, functions),
            )
        return wanted
    for name in PREFERRED:
        if name in functions:
            return name
    if len(functions) == 1:
        return next(iter(functions))
    if not functions:
        raise UnsupportedModel(
            f"{path} has no signatures and no functions",
            hint="save it with signatures: tf.saved_model.save(model, path, signatures={...})",
        )
    raise UsageError(
        f"{path} has several signatures: {', '.join(functions)}",
        hint=f"name one: --signature {next(iter(functions))}",
    )


def model_of_function(path: Path, loaded: Any, function: Any) -> TensorFlowModel:
    """A concrete function as a model; inputs in the order of the function's own arguments.

    (A signature is saved without an order; TensorFlow sorts its names when it reads them.)
    """
    tensorflow = load_tensorflow()
    leaves = tensorflow.nest.flatten(function.structured_input_signature, expand_composites=True)
    specs = [leaf for leaf in leaves if isinstance(leaf, tensorflow.TensorSpec)]
    inputs, outputs, findings = feature_names(
        input_names(function, specs), output_names(function.structured_outputs)
    )

    def call(tensors: Sequence[Any]) -> Sequence[Any]:
        remaining = iter(tensors)
        values = [
            next(remaining) if isinstance(leaf, tensorflow.TensorSpec) else leaf for leaf in leaves
        ]
        arguments, named = tensorflow.nest.pack_sequence_as(
            function.structured_input_signature, values, expand_composites=True
        )
        results: Sequence[Any] = tensorflow.nest.flatten(function(*arguments, **named))
        return results

    call.loaded = loaded  # type: ignore[attr-defined]  # its variables live as long as it does
    return TensorFlowModel(
        "SavedModel",
        path.resolve().name,
        tuple(sorted(file for file in path.rglob("*") if file.is_file())),
        tuple(declared_input(name, spec) for name, spec in zip(inputs, specs, strict=True)),
        outputs,
        call,
        sum(int(variable.shape.num_elements() or 0) for variable in function.variables),
        findings,
    )


def input_names(function: Any, specs: Sequence[Any]) -> list[str]:
    """The signature's own names; those of its specs for functions with positional arguments."""
    arguments, named = function.structured_input_signature
    if not arguments and len(named) == len(specs):
        return sorted(named)
    return [str(spec.name or f"input_{index}") for index, spec in enumerate(specs)]


def output_names(structure: Any) -> list[str]:
    """One name per output, in the order in which TensorFlow flattens them.

    >>> output_names({"pose": 0, "error": 0}), output_names((0, {"a": 0}))
    (['error', 'pose'], ['output_0', 'output_1_a'])
    """
    if isinstance(structure, Mapping):
        return [
            name if leaf == "output" else f"{name}_{leaf.removeprefix('output_')}"
            for name in sorted(structure)
            for leaf in output_names(structure[name])
        ]
    if isinstance(structure, (list, tuple)):
        return [
            f"output_{index}"
            if leaf == "output"
            else f"output_{index}_{leaf.removeprefix('output_')}"
            for index, item in enumerate(structure)
            for leaf in output_names(item)
        ]
    return ["output"]
