"""Modules made by the user's own code: `file.py:factory` and `package.module:factory`."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import sys
import sysconfig
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import torch

from metal4conv.errors import (
    DamagedFile,
    UnsupportedModel,
    UntrustedFile,
    UsageError,
    did_you_mean,
)
from metal4conv.frontends.source import SourceOptions
from metal4conv.frontends.toolkit import quiet

INSTALLED = tuple(
    {Path(sysconfig.get_path(key)) for key in ("stdlib", "platstdlib", "purelib", "platlib")}
)


@dataclass(frozen=True)
class FactoryProduct:
    """What a factory gave: a module in eval mode and float32, and example inputs by their names.

    `files` are the Python files that were imported from outside the installed packages, and the
    file of weights.
    """

    name: str
    module: torch.nn.Module
    examples: dict[str, Any]  # whatever the user's forward takes
    files: tuple[Path, ...]


def load_factory(text: str, options: SourceOptions) -> FactoryProduct:
    """Imports the code, calls the factory, and loads the weights into what it made."""
    target, _, name = text.rpartition(":")
    before = set(sys.modules)
    code = import_code(target)
    factory = getattr(code, name, None)
    if not callable(factory):
        raise UsageError(
            f'{target} has no function "{name}"', hint=did_you_mean(name, own_functions(code))
        )
    module, examples = call_factory(text, factory)
    files = imported_files(code, before)
    if options.weights:
        load_weights(module, options.weights)
        files = (*files, options.weights)
    return FactoryProduct(name, module.eval().float(), examples, files)


def import_code(target: str) -> ModuleType:
    """The module at a path or of a dotted name; its folder can be imported from."""
    try:
        if target.endswith(".py") or "/" in target:
            return import_file(Path(target))
        if str(Path.cwd()) not in sys.path:
            sys.path.insert(0, str(Path.cwd()))
        return importlib.import_module(target)
    except ModuleNotFoundError as error:
        raise UsageError(
            f"{target} cannot be imported: {error}",
            where=user_frame(error),
            hint="run the command from the folder where Python finds the module, or install what "
            "it imports",
        ) from error
    except Exception as error:  # the user's code may raise anything
        raise UnsupportedModel(
            f"{target} cannot be imported: {type(error).__name__}: {error}", where=user_frame(error)
        ) from error


def import_file(path: Path) -> ModuleType:
    """The module in a file, imported anew under its own name."""
    folder = str(path.resolve().parent)
    if folder not in sys.path:
        sys.path.insert(0, folder)
    spec = importlib.util.spec_from_file_location(path.stem, path.resolve())
    if spec is None or spec.loader is None:
        raise UsageError(f"{path} is no Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module
    spec.loader.exec_module(module)
    return module


def call_factory(text: str, factory: Callable[..., Any]) -> tuple[torch.nn.Module, dict[str, Any]]:
    """What the factory returns: a module, or a module and example inputs, here by name."""
    try:
        with quiet():
            made = factory()
    except Exception as error:  # the user's code may raise anything
        raise UnsupportedModel(
            f"{text} failed: {type(error).__name__}: {error}",
            where=user_frame(error),
            hint="the factory is called without arguments",
        ) from error
    module, examples = made if isinstance(made, tuple) and len(made) == 2 else (made, ())
    if not isinstance(module, torch.nn.Module):
        raise UsageError(
            f"{text} returned {type(module).__name__}, expected a torch.nn.Module, or a module and "
            "example inputs"
        )
    if isinstance(examples, torch.Tensor):
        examples = (examples,)
    names = list(inspect.signature(module.forward).parameters)
    if not isinstance(examples, dict):
        return module, dict(zip(names, examples, strict=False))
    for name in examples:
        if name not in names:
            raise UsageError(
                f'{text} returned an example input "{name}", which the module does not take',
                hint=did_you_mean(name, names),
            )
    return module, examples


def own_functions(code: ModuleType) -> list[str]:
    """Names of the functions that a module defines itself."""
    return [
        name
        for name, value in vars(code).items()
        if inspect.isfunction(value) and value.__module__ == code.__name__
    ]


def imported_files(code: ModuleType, before: set[str]) -> tuple[Path, ...]:
    """The user's own Python files that the factory's code consists of, sorted.

    Those are the files imported since `before`, and those imported earlier from the same folder.
    """
    folder = Path(code.__file__ or ".").resolve().parent
    found = set()
    for name, module in list(sys.modules.items()):
        file = getattr(module, "__file__", None)
        if name == "__main__" or not file or not file.endswith(".py"):
            continue
        path = Path(file).resolve()
        if not path.is_file():
            continue  # torch.classes and its kin have made-up file names
        is_new = name not in before or path.is_relative_to(folder)
        if is_new and not is_installed_file(path):
            found.add(path)
    return tuple(relative_to_here(path) for path in sorted(found))


def is_installed_file(path: Path) -> bool:
    """Whether a file belongs to Python, to an installed package, or to metal4conv itself."""
    own = Path(__file__).resolve().parents[1]
    return any(path.is_relative_to(root) for root in (*INSTALLED, own))


def relative_to_here(path: Path) -> Path:
    """A path as a Makefile in the current folder would write it."""
    here = Path.cwd()
    return path.relative_to(here) if path.is_relative_to(here) else path


def load_weights(module: torch.nn.Module, path: Path) -> None:
    """Loads a state dict (`.safetensors`, or a `.pt` with nothing but tensors) into a module."""
    state = read_state(path)
    try:
        missing, unexpected = module.load_state_dict(state, strict=False)
    except RuntimeError as error:
        raise UsageError(
            f"{path} does not fit the module: {str(error).splitlines()[-1].strip()}",
            where="--weights",
        ) from error
    if missing or unexpected:
        named = [f"missing: {', '.join(missing[:5])}"] if missing else []
        named += [f"not in the module: {', '.join(unexpected[:5])}"] if unexpected else []
        raise UsageError(
            f"{path} does not fit the module: {len(missing)} of its tensors are missing, "
            f"{len(unexpected)} are not in the module",
            where=named,
            hint="pass the state dict of the module that the factory returns",
        )


def read_state(path: Path) -> dict[str, torch.Tensor]:
    """The tensors in a file of weights; nothing in it can run code."""
    if not path.exists():
        raise UsageError(f"no such file: {path}", where="--weights")
    if path.suffix == ".safetensors":
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        try:
            tensors: dict[str, torch.Tensor] = load_file(path)
            return tensors
        except (SafetensorError, OSError) as error:
            raise DamagedFile(f"{path} is damaged or truncated: {error}") from error
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # the restricted reader refuses with several kinds
        raise UntrustedFile(
            f"{path} holds more than tensors, and reading that could run code, or it is damaged",
            where="--weights",
            hint="save only the tensors: safetensors.torch.save_file(model.state_dict(), …)",
        ) from error
    if not isinstance(state, dict):
        raise UsageError(f"{path} holds {type(state).__name__}, expected a state dict")
    nested = state.get("state_dict")
    return nested if isinstance(nested, dict) else state


def user_frame(error: BaseException) -> str | None:
    """The last line of the user's own code that an exception came through."""
    if isinstance(error, SyntaxError) and error.filename:
        return f"{error.filename}:{error.lineno}"
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if not is_installed_file(Path(frame.filename).resolve())]
    own = [frame for frame in own if not frame.filename.startswith("<")]
    return f"{own[-1].filename}:{own[-1].lineno}: {own[-1].line}" if own else None
