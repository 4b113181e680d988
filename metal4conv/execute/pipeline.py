"""Pipelines: models in a row, where each takes features of the app or of a model before it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

import numpy as np

from metal4conv.errors import Metal4ConvError
from metal4conv.execute.features import check_input, check_names, check_state, given_array
from metal4conv.execute.images import picture_of_pixels, pixels_of_tensor
from metal4conv.execute.tracing import See, within
from metal4conv.mil.dtypes import DTYPES
from metal4conv.mil.interface import Feature, Interface
from metal4conv.mil.program import Operation, TensorType


class Stage(Protocol):
    """What a pipeline asks of its models. (Any: arrays, and a classifier's texts and numbers.)"""

    interface: Interface
    states: dict[str, TensorType]

    def predict_arrays(
        self,
        inputs: Mapping[str, Any],
        state: dict[str, np.ndarray] | None = None,
        see: See | None = None,
    ) -> dict[str, Any]: ...

    def trace(
        self, inputs: Mapping[str, Any], state: dict[str, np.ndarray] | None = None
    ) -> Iterator[tuple[Operation, dict[str, np.ndarray]]]: ...


class Pipeline:
    """The models of a pipeline, ready to run as one; it answers as `Executor` does."""

    def __init__(self, stages: Sequence[Stage], interface: Interface) -> None:
        self.stages = tuple(stages)
        self.interface = interface
        self.inputs = {item.name: item.type for item in interface.inputs}
        self.outputs = {item.name: item.type for item in interface.outputs}
        self.states = {item.name: item.type for item in interface.states}

    def predict(
        self, inputs: Mapping[str, Any], state: dict[str, np.ndarray] | None = None
    ) -> dict[str, Any]:
        """The outputs by name, as `Executor.predict` gives them."""
        return with_pictures(self.interface, self.predict_arrays(inputs, state))

    def predict_arrays(
        self,
        inputs: Mapping[str, Any],
        state: dict[str, np.ndarray] | None = None,
        see: See | None = None,
    ) -> dict[str, Any]:
        """The same, but a picture comes as the array of its pixels; `see` sees all models."""
        known = self.given(inputs)
        own = self.copied(state)
        for number, stage in enumerate(self.stages, 1):
            with in_model(number):
                inner = within(see, f"model {number}") if see else None
                known |= stage.predict_arrays(wanted(stage, known), held(stage, own), inner)
        self.keep(own, state)
        return {item.name: converted(item, known[item.name]) for item in self.interface.outputs}

    def trace(
        self, inputs: Mapping[str, Any], state: dict[str, np.ndarray] | None = None
    ) -> Iterator[tuple[Operation, dict[str, np.ndarray]]]:
        """Each operation of each model with its outputs, in the order in which they run.

        A model runs once more for what the models after it take.
        """
        known = self.given(inputs)
        own = self.copied(state)
        for number, stage in enumerate(self.stages, 1):
            with in_model(number):
                feed, kept = wanted(stage, known), held(stage, own)
                before = None if kept is None else {key: kept[key].copy() for key in kept}
                yield from stage.trace(feed, before)
                known |= stage.predict_arrays(feed, kept)
        self.keep(own, state)

    def make_state(self) -> dict[str, np.ndarray]:
        """Fresh states: zeros."""
        return {
            name: np.zeros([int(size) for size in type.shape], type.dtype)
            for name, type in self.states.items()
        }

    def given(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        """What the app gives, checked; the pixels of a picture, for each model to order."""
        optional = {item.name for item in self.interface.inputs if item.optional}
        check_names(inputs, self.inputs, optional)
        sizes: dict[str, int] = {}
        known: dict[str, Any] = {}
        for item in self.interface.inputs:
            if item.name not in inputs:
                continue  # the model that takes it knows the default
            array = given_array(item, inputs[item.name])
            checked = check_input(item, array, self.interface.dimensions, sizes)
            known[item.name] = pixels_of_tensor(item, checked) if item.kind == "image" else checked
        return known

    def copied(self, state: Mapping[str, np.ndarray] | None) -> dict[str, np.ndarray] | None:
        """Copies of the states, so that a run that fails changes none."""
        if state is None:
            return None
        check_state(state, self.states)
        return {name: state[name].copy() for name in self.states}

    def keep(self, own: dict[str, np.ndarray] | None, state: dict[str, np.ndarray] | None) -> None:
        """Writes the new values of the states into the caller's arrays."""
        for name, array in (own or {}).items():
            if state is not None:
                state[name][...] = array


def wanted(stage: Stage, known: Mapping[str, Any]) -> dict[str, Any]:
    """The features that a model takes, of all that there are."""
    return {item.name: known[item.name] for item in stage.interface.inputs if item.name in known}


def held(stage: Stage, own: Mapping[str, np.ndarray] | None) -> dict[str, np.ndarray] | None:
    """The states of one model, None to start at zeros."""
    return None if own is None else {name: own[name] for name in stage.states}


def converted(item: Feature, value: Any) -> Any:
    """An output in the dtype that the pipeline declares. (Any: as in `Stage`.)"""
    if item.kind != "tensor":
        return value
    return np.asarray(value).astype(DTYPES[item.type.dtype].numpy, copy=False)


def with_pictures(interface: Interface, found: Mapping[str, Any]) -> dict[str, Any]:
    """Outputs whose pictures are PIL pictures. (Any: as in `Stage`, and pictures.)"""
    kinds = {item.name: item.kind for item in interface.outputs}
    return {
        name: picture_of_pixels(value) if kinds[name] == "image" else value
        for name, value in found.items()
    }


@contextmanager
def in_model(number: int) -> Iterator[None]:
    """Errors say in which model of the pipeline they happened."""
    try:
        yield
    except Metal4ConvError as error:
        error.add_note(f"in model {number} of the pipeline")
        raise
