"""Running a package on this machine: features in, features out, as Core ML's `predict` has it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from metal4conv.errors import MissingDevice, UnsupportedModel, UsageError
from metal4conv.execute.features import check_input, check_names
from metal4conv.execute.marshal import TORCH_DTYPES, constant_tensor, is_host, tensor_from_array
from metal4conv.execute.plan import Plan, Step, Values, as_numpy, make_plan
from metal4conv.execute.states import State
from metal4conv.mil.interface import Feature, Interface
from metal4conv.mil.package import Package, read_package
from metal4conv.mil.program import Constant, Function, Operation, TensorType


class Executor:
    """A function of a package, ready to run."""

    def __init__(self, function: Function, interface: Interface, device: str = "cpu") -> None:
        self.function = function
        self.interface = interface
        self.device = open_device(device)
        self.inputs = {item.name: item.type for item in interface.inputs}
        self.outputs = {item.name: item.type for item in interface.outputs}
        self.states = {item.name: item.type for item in interface.states}
        with torch.inference_mode():
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
        return constant_tensor(constant).to(self.device)

    def predict(
        self, inputs: Mapping[str, np.ndarray], state: dict[str, np.ndarray] | None = None
    ) -> dict[str, np.ndarray]:
        """The outputs by name, with the dtypes that the package declares; rank 0 comes as `(1,)`.

        `state` is read and filled in place. `UsageError` for inputs that do not fit the
        declaration.
        """
        with torch.inference_mode():
            arguments, states = self.bind(inputs, state)
            results = self.plan.run({}, arguments)
        self.keep(states, state)
        found = dict(zip(self.function.block.outputs, results, strict=True))
        return {item.name: self.output_array(item, found) for item in self.interface.outputs}

    def trace(
        self, inputs: Mapping[str, np.ndarray], state: dict[str, np.ndarray] | None = None
    ) -> Iterator[tuple[Operation, dict[str, np.ndarray]]]:
        """Each operation of the function with its outputs, in the order in which they run."""
        with torch.inference_mode():
            arguments, states = self.bind(inputs, state)
            seen: list[tuple[Operation, dict[str, np.ndarray]]] = []

            def watch(step: Step, values: Values) -> None:
                arrays = {
                    name: as_numpy(values[name], dtype)
                    for name, dtype in zip(step.outputs, step.declared, strict=True)
                    if isinstance(values[name], torch.Tensor) or is_host(values[name])
                }
                seen.append((step.operation, arrays))

            for _ in self.plan.advance({}, arguments, watch):
                yield from seen
                seen.clear()
        self.keep(states, state)

    def make_state(self) -> dict[str, np.ndarray]:
        """Fresh states: zeros."""
        return {
            name: np.zeros([int(size) for size in type.shape], type.dtype)
            for name, type in self.states.items()
        }

    def bind(
        self, inputs: Mapping[str, np.ndarray], state: Mapping[str, np.ndarray] | None
    ) -> tuple[list[Any], dict[str, State]]:
        """The function's arguments in order. (Any: tensors and states.)"""
        optional = {item.name for item in self.interface.inputs if item.optional}
        check_names(inputs, self.inputs, optional)
        sizes: dict[str, int] = {}
        known: dict[str, Any] = {}
        for item in self.interface.inputs:
            array = self.given(item, inputs)
            checked = check_input(item, array, self.interface.dimensions, sizes)
            known[item.name] = tensor_from_array(checked, item.type.dtype).to(self.device)
        states = {
            name: State(self.state_tensor(name, type, state)) for name, type in self.states.items()
        }
        arguments = []
        for value in self.function.inputs:
            if value.name in states:
                arguments.append(states[value.name])
                continue
            tensor = known[value.name]
            if isinstance(value.type, TensorType):
                tensor = tensor.to(TORCH_DTYPES[value.type.dtype])
            arguments.append(tensor)
        return arguments, states

    def given(self, item: Feature, inputs: Mapping[str, np.ndarray]) -> np.ndarray:
        """The array for an input; an optional one that is left out has its default everywhere."""
        if item.name in inputs:
            return np.asarray(inputs[item.name])
        sizes = [
            self.interface.dimensions[size].default if isinstance(size, str) else size
            for size in item.type.shape
        ]
        return np.full(sizes, item.default or 0, item.type.dtype)

    def state_tensor(
        self, name: str, type: TensorType, state: Mapping[str, np.ndarray] | None
    ) -> torch.Tensor:
        """A state's value: what the caller passed, or zeros."""
        shape = tuple(int(size) for size in type.shape)
        if state is None:
            return torch.zeros(shape, dtype=TORCH_DTYPES[type.dtype], device=self.device)
        if name not in state or state[name].shape != shape:
            raise UsageError(
                f'state "{name}" must be an array of shape {shape}',
                hint="take it from make_state()",
            )
        return tensor_from_array(state[name].copy(), type.dtype).to(self.device)

    def keep(self, states: Mapping[str, State], state: dict[str, np.ndarray] | None) -> None:
        """Writes the new values of the states into the caller's arrays."""
        if state is None:
            return
        for name, held in states.items():
            state[name][...] = as_numpy(held.value, self.states[name].dtype)

    def output_array(self, item: Feature, found: Mapping[str, Any]) -> np.ndarray:
        """An output as the package declares it. (Any: a tensor or a host array.)"""
        if item.kind != "tensor":
            raise UnsupportedModel(
                f'output "{item.name}" is of kind {item.kind}, which is not run here yet'
            )
        array = as_numpy(found[item.name], item.type.dtype)
        return array.reshape(1) if array.ndim == 0 else array


def load(path: str | Path, function: str | None = None, device: str = "cpu") -> Executor:
    """The executor of the package at `path`; `device` is `cpu`, or `cuda` where torch has it."""
    return Executor.from_package(read_package(path), function, device)


def open_device(name: str) -> torch.device:
    """A torch device; `MissingDevice` when this machine has none of that name."""
    available = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]
    if name.partition(":")[0] not in available:
        raise MissingDevice(
            f'there is no device "{name}" here', hint=f"devices: {', '.join(available)}"
        )
    return torch.device(name)
