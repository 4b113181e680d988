"""Running a package on this machine: features in, features out, as Core ML's `predict` has it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from metal4conv.errors import MissingDevice, UnsupportedModel
from metal4conv.execute.devices import keep_freed_blocks, running_on
from metal4conv.execute.features import (
    check_input,
    check_names,
    check_state,
    default_array,
    given_array,
)
from metal4conv.execute.images import pixels_of_tensor
from metal4conv.execute.marshal import (
    TORCH_DTYPES,
    as_numpy,
    constant_tensor,
    is_host,
    release,
    tensor_from_array,
)
from metal4conv.execute.pipeline import Pipeline, in_model, with_pictures
from metal4conv.execute.plan import Plan, make_plan
from metal4conv.execute.states import State, empty_state
from metal4conv.execute.step import Place, Step, Values, Watch
from metal4conv.execute.tracing import See, Seen, is_finite
from metal4conv.mil.interface import Feature, Interface
from metal4conv.mil.package import Package, read_package
from metal4conv.mil.pipeline import pipeline_interface, pipeline_models, refuse_function
from metal4conv.mil.program import Constant, Function, Operation, TensorType

Adjust = Callable[[Operation, Mapping[str, np.ndarray]], Mapping[str, np.ndarray]]
"""Given an operation and its outputs: those that shall have other values, in the same dtype."""


class Executor:
    """A function of a package, ready to run."""

    def __init__(self, function: Function, interface: Interface, device: str = "cpu") -> None:
        self.function = function
        self.interface = interface
        self.device = open_device(device)
        self.inputs = {item.name: item.type for item in interface.inputs}
        self.outputs = {item.name: item.type for item in interface.outputs}
        self.states = {item.name: item.type for item in interface.states}
        keep_freed_blocks()
        with torch.inference_mode(), running_on(self.device):
            self.plan: Plan = make_plan(function, self.materialize)
            self.plan.fold()

    @classmethod
    def from_package(
        cls, package: Package, function: str | None = None, device: str = "cpu"
    ) -> Executor:
        """The executor of a function, the default one without a name."""
        return cls(package.function(function), package.interface(function), device)

    def materialize(self, constant: Constant) -> torch.Tensor:
        """A constant on the device; on the CPU it shares the package file's memory."""
        tensor = constant_tensor(constant)
        found = tensor.to(self.device)
        if found is not tensor:
            release([tensor])
        return found

    def predict(
        self, inputs: Mapping[str, Any], state: dict[str, np.ndarray] | None = None
    ) -> dict[str, Any]:
        """The outputs by name, as the package declares them.

        A multiarray has the declared dtype, and shape `(1,)` for rank 0; a picture is a PIL
        picture; a classifier gives its label and the probabilities by label as a dictionary.
        An input is an array, or for a picture what `images.tensor_of_picture` takes. `state` is
        read and filled in place. `UsageError` for what does not fit the declaration. (Any: see
        above.)
        """
        return with_pictures(self.interface, self.predict_arrays(inputs, state))

    def predict_arrays(
        self,
        inputs: Mapping[str, Any],
        state: dict[str, np.ndarray] | None = None,
        see: See | None = None,
    ) -> dict[str, Any]:
        """The same, but a picture comes as the array of its pixels. (Any: as for `predict`.)

        `see` is called after each operation, also those in the blocks of loops and branches.
        """
        with torch.inference_mode(), running_on(self.device):
            arguments, states = self.bind(inputs, state)
            results = self.plan.run({}, arguments, watch_for(see) if see else None)
        self.keep(states, state)
        found = dict(zip(self.function.block.outputs, results, strict=True))
        return {item.name: self.output_value(item, found) for item in self.interface.outputs}

    def trace(
        self, inputs: Mapping[str, np.ndarray], state: dict[str, np.ndarray] | None = None
    ) -> Iterator[tuple[Operation, dict[str, np.ndarray]]]:
        """Each operation of the function with its outputs, in the order in which they run.

        Operations in the blocks of loops and branches are left out; `predict_arrays` shows them.
        """
        seen: list[tuple[Operation, dict[str, np.ndarray]]] = []

        def see(step: Step, values: Values, place: Place) -> None:
            if not place:
                seen.append((step.operation, arrays_of(step, values)))

        # torch's modes belong to the steps, not to what the caller does between them
        with torch.inference_mode(), running_on(self.device):
            arguments, states = self.bind(inputs, state)
            steps = self.plan.advance({}, arguments, Watch(see))
        while True:
            with torch.inference_mode(), running_on(self.device):
                step = next(steps, None)
            if step is None:
                break
            yield from seen
            seen.clear()
        self.keep(states, state)

    def predict_adjusting(self, inputs: Mapping[str, Any], adjust: Adjust) -> dict[str, Any]:
        """The outputs, when some values within are replaced as they come. (Any: as for `predict`.)

        `adjust` is called after each operation of the function's own block, with its outputs; the
        arrays that it gives back, by name, are what later operations take. States begin at zero.
        """

        def look(step: Step, values: Values, place: Place) -> None:
            if place:
                return
            declared = dict(zip(step.outputs, step.declared, strict=True))
            for name, array in adjust(step.operation, arrays_of(step, values)).items():
                values[name] = tensor_from_array(array, declared[name]).to(self.device)

        with torch.inference_mode(), running_on(self.device):
            arguments, _ = self.bind(inputs, None)
            results = self.plan.run({}, arguments, Watch(look))
        found = dict(zip(self.function.block.outputs, results, strict=True))
        return {item.name: self.output_value(item, found) for item in self.interface.outputs}

    def make_state(self) -> dict[str, np.ndarray]:
        """Fresh states: zeros."""
        return {name: empty_state(name, type) for name, type in self.states.items()}

    def bind(
        self, inputs: Mapping[str, Any], state: Mapping[str, np.ndarray] | None
    ) -> tuple[list[Any], dict[str, State]]:
        """The function's arguments in order. (Any: what callers pass; tensors and states.)"""
        if state is not None:
            check_state(state, self.states)
        known = {
            name: tensor_from_array(array, self.inputs[name].dtype).to(self.device)
            for name, array in self.checked(inputs).items()
        }
        states = {
            name: State(self.state_tensor(name, type, state)) for name, type in self.states.items()
        }
        arguments: list[Any] = []
        for value in self.function.inputs:
            if value.name in states:
                arguments.append(states[value.name])
                continue
            tensor = known[value.name]
            if isinstance(value.type, TensorType):
                tensor = tensor.to(TORCH_DTYPES[value.type.dtype])
                if not value.type.shape and tensor.numel() == 1:
                    tensor = tensor.reshape(())  # apps declare a number as an array of one
            arguments.append(tensor)
        return arguments, states

    def checked(self, inputs: Mapping[str, Any]) -> dict[str, np.ndarray]:
        """All inputs as declared; one that is left out has its default everywhere."""
        features = self.interface.inputs
        check_names(inputs, self.inputs, {item.name for item in features if item.optional})
        dimensions = self.interface.dimensions
        sizes: dict[str, int] = {}
        found = {}
        for item in sorted(features, key=lambda item: item.name not in inputs):
            if item.name in inputs:
                array = given_array(item, inputs[item.name])
            else:
                array = default_array(item, dimensions, sizes)
            found[item.name] = check_input(item, array, dimensions, sizes)
        return found

    def state_tensor(
        self, name: str, type: TensorType, state: Mapping[str, np.ndarray] | None
    ) -> torch.Tensor:
        """A state's value: what the caller passed, or zeros."""
        array = empty_state(name, type) if state is None else state[name].copy()
        return tensor_from_array(array, type.dtype).to(self.device)

    def keep(self, states: Mapping[str, State], state: dict[str, np.ndarray] | None) -> None:
        """Writes the new values of the states into the caller's arrays."""
        if state is None:
            return
        for name, held in states.items():
            state[name][...] = as_numpy(held.value, self.states[name].dtype)

    def output_value(self, item: Feature, found: Mapping[str, Any]) -> Any:
        """An output as the package declares it. (Any: tensors, host arrays, texts and labels.)"""
        value = found[item.name]
        is_array = isinstance(value, (torch.Tensor, np.ndarray))
        match item.kind:
            case "tensor" if is_array:
                array = as_numpy(value, item.type.dtype)
                return array.reshape(1) if array.ndim == 0 else array
            case "image" if is_array:
                return pixels_of_tensor(item, as_numpy(value, item.type.dtype))
            case "int64" | "double" if is_array and math.prod(value.shape) == 1:
                return as_numpy(value, item.type.dtype).reshape(-1)[0].item()
            case "int64" if isinstance(value, int):
                return value
            case "string" if isinstance(value, str):
                return value
            case "dictionary" if isinstance(value, dict):
                return dict(value)
        raise UnsupportedModel(
            f'output "{item.name}" is declared as {item.kind}, but the program gives a '
            f"{type(value).__name__}"
        )


def watch_for(see: See) -> Watch:
    """What hands each step over as `Seen`."""

    def look(step: Step, values: Values, place: Place) -> None:
        arrays = arrays_of(step, values)
        finite = all(is_finite(array) for array in arrays.values())
        see(Seen(step.operation, place, arrays, finite or inputs_are_finite(step, values)))

    return Watch(look)


def arrays_of(step: Step, values: Values) -> dict[str, np.ndarray]:
    """The outputs of a step that are tensors; lists, states and labels are none."""
    return {
        name: as_numpy(values[name], dtype)
        for name, dtype in zip(step.outputs, step.declared, strict=True)
        if isinstance(values[name], torch.Tensor) or is_host(values[name])
    }


def inputs_are_finite(step: Step, values: Values) -> bool:
    """Whether no tensor that a step takes, constants included, holds NaN or an infinity."""
    taken = [values.get(name) for argument in step.arguments for name in argument.names]
    for item in [*taken, *step.fixed.values()]:
        tensors = item if isinstance(item, list) else [item]
        for tensor in tensors:
            if isinstance(tensor, torch.Tensor) and tensor.is_floating_point():
                if not bool(torch.isfinite(tensor).all()):
                    return False
            elif isinstance(tensor, float) and not math.isfinite(tensor):
                return False
    return True


def load(path: str | Path, function: str | None = None, device: str = "cpu") -> Executor | Pipeline:
    """The executor of the package at `path`; `device` is `cpu`, or `cuda` where torch has it."""
    return open_package(read_package(path), function, device)


def open_package(package: Package, function: str | None, device: str) -> Executor | Pipeline:
    """The executor of a program, or of all programs of a pipeline."""
    if not package.is_pipeline:
        return Executor.from_package(package, function, device)
    refuse_function(package, function)
    stages: list[Executor | Pipeline] = []
    for number, model in enumerate(pipeline_models(package), 1):
        with in_model(number):
            stages.append(open_package(model, None, device))
    return Pipeline(stages, pipeline_interface(package, [stage.interface for stage in stages]))


def open_device(name: str) -> torch.device:
    """A torch device; `MissingDevice` when this machine has none of that name."""
    available = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]
    if name.partition(":")[0] not in available:
        raise MissingDevice(
            f'there is no device "{name}" here', hint=f"devices: {', '.join(available)}"
        )
    return torch.device(name)
