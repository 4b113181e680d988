"""Pipelines on disk: one description for apps, and models that feed each other by name."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from metal4conv.errors import DamagedFile, UnsupportedModel, UsageError
from metal4conv.mil.interface import Feature, Interface, read_features

if TYPE_CHECKING:
    from metal4conv.mil.package import Package


def pipeline_models(package: Package) -> tuple[Package, ...]:
    """The models of a pipeline, in the order in which they run; all share the package's files."""
    spec = package.spec
    kind = spec.WhichOneof("Type")
    holder = spec.pipeline if kind == "pipeline" else getattr(spec, kind).pipeline
    models = tuple(replace(package, spec=model) for model in holder.models)
    if not models:
        raise DamagedFile(f"{package.path} holds a {kind} without models")
    for number, model in enumerate(models, 1):
        found = model.spec.WhichOneof("Type") or "model without a type"
        if found != "mlProgram" and not model.is_pipeline:
            raise UnsupportedModel(
                f"{package.path} holds a {kind} whose model {number} of {len(models)} is a "
                f"{found}, not an ML Program",
                hint="only pipelines of ML Programs are run",
            )
    return models


def pipeline_interface(package: Package, models: Sequence[Interface]) -> Interface:
    """What a pipeline of models with these interfaces declares to apps.

    `DamagedFile` where a model takes what nobody gives, or nobody gives an output.
    """
    outputs = {item.name: item for model in models for item in model.outputs}
    declared = {name: item.type for name, item in outputs.items()}
    interface = read_features(package.spec.description, declared, package.metadata)
    known: dict[str, Feature] = {item.name: item for item in interface.inputs}
    for number, model in enumerate(models, 1):
        for item in model.inputs:
            if item.name in known:
                check_kind(known[item.name], item, f"model {number} of the pipeline takes")
            elif not item.optional:
                raise DamagedFile(
                    f'model {number} of the pipeline takes "{item.name}", which neither the '
                    "pipeline's inputs nor a model before it give"
                )
        known |= {item.name: item for item in model.outputs}
    for item in interface.outputs:
        if item.name not in known:
            raise DamagedFile(f'no model of the pipeline gives its output "{item.name}"')
        check_kind(known[item.name], item, "the pipeline declares")
    check_states(interface, models)
    return interface


def nested_interface(package: Package) -> Interface:
    """The interface of a package of any kind, that of a pipeline from those of its models."""
    if not package.is_pipeline:
        return package.interface()
    return pipeline_interface(package, [nested_interface(m) for m in pipeline_models(package)])


def check_kind(given: Feature, taken: Feature, who: str) -> None:
    """Refuses a picture in the place of a tensor, and the like."""
    if given.kind != taken.kind:
        raise UnsupportedModel(
            f'"{given.name}" is given as {given.kind}, but {who} it as {taken.kind}'
        )


def check_states(interface: Interface, models: Sequence[Interface]) -> None:
    """A state belongs to one model, and the pipeline declares it: so both know whose it is."""
    declared = {item.name: item.type for item in interface.states}
    owned: dict[str, int] = {}
    for number, model in enumerate(models, 1):
        for item in model.states:
            if declared.get(item.name) != item.type:
                raise UnsupportedModel(
                    f'model {number} of the pipeline has a state "{item.name}" ({item.type}), '
                    "which the pipeline does not declare"
                )
            if item.name in owned:
                raise UnsupportedModel(
                    f"models {owned[item.name]} and {number} of the pipeline both have a state "
                    f'"{item.name}"'
                )
            owned[item.name] = number
    for name in declared:
        if name not in owned:
            raise DamagedFile(f'no model of the pipeline has its state "{name}"')


def refuse_function(package: Package, function: str | None) -> None:
    """A pipeline has no functions to choose from; "main" is what all the others have."""
    if function not in (None, "main"):
        raise UsageError(f'{package.path} is a pipeline, it has no function "{function}"')
