"""TensorFlow, imported when a source needs it: on the CPU, deterministic, and without its logs."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

from metal4conv.errors import DamagedFile, Metal4ConvError, MissingDependency, UnsupportedModel
from metal4conv.frontends.toolkit import quiet
from metal4conv.lazy import require

QUIET_ENVIRONMENT = {"TF_CPP_MIN_LOG_LEVEL": "3", "GRPC_VERBOSITY": "NONE"}
"""Read once, when TensorFlow and tqdm (which coremltools draws its bars with) are loaded."""

FIRST_LINE_CHARACTERS = 300


@cache
def load_tensorflow() -> Any:  # Any: TensorFlow carries no types
    """The module `tensorflow`, ready for reproducible results."""
    for name, value in QUIET_ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    with quiet():
        module = require("tensorflow", extra="tensorflow")
        module.config.experimental.enable_op_determinism()
        if module.config.get_visible_devices("GPU"):
            module.config.set_visible_devices([], "GPU")
    module.get_logger().setLevel("ERROR")
    return module


@cache
def load_keras() -> Any:  # Any: Keras carries no types
    """The module `keras` on its TensorFlow backend."""
    if "keras" not in sys.modules:
        os.environ["KERAS_BACKEND"] = "tensorflow"
    load_tensorflow()
    with quiet():
        module = require("keras", extra="tensorflow")
    if module.backend.backend() != "tensorflow":
        raise MissingDependency(
            f"Keras was imported with its {module.backend.backend()} backend",
            hint="set KERAS_BACKEND=tensorflow before the first import of keras",
        )
    return module


def load_errors() -> tuple[type[Exception], ...]:
    """What TensorFlow and its helpers raise for files that they cannot read.

    Damaged protobufs lead its Python code into lookups of things that are not there.
    """
    from google.protobuf.message import DecodeError

    tensorflow = load_tensorflow()
    lookups = (LookupError, TypeError, AttributeError, AssertionError)
    return (tensorflow.errors.OpError, DecodeError, OSError, ValueError, RuntimeError, *lookups)


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Within it TensorFlow's own errors become ours, which name the file."""
    try:
        with quiet():
            yield
    except Metal4ConvError:
        raise
    except load_errors() as error:
        raise read_error(path, error) from None


def read_error(path: Path, error: Exception) -> Metal4ConvError:
    """What to tell about a file that could not be read."""
    text = first_line(error)
    if "Op type not registered" in text:
        name = text.partition("'")[2].partition("'")[0]
        return UnsupportedModel(
            f"{path} uses the custom operation {name}, which TensorFlow itself does not have",
            hint="export the model without it",
        )
    if isinstance(error, PermissionError):
        return DamagedFile(f"{path} cannot be read: {error.strerror}")
    return DamagedFile(
        f"{path} is damaged, truncated or not what its name says",
        where=f"TensorFlow says: {text}" if text else None,
        hint="save or copy the model again",
    )


def first_line(error: Exception) -> str:
    """The first line of an exception's text that says something, of readable length.

    >>> first_line(ValueError("\\n  \\x1b[1mno shape\\x1b[0m\\nmore"))
    'no shape'
    """
    plain = re.sub(r"\x1b\[[0-9;]*m", "", str(error))
    lines = [line.strip() for line in plain.splitlines()]
    telling = [line for line in lines if line and not line.startswith("Exception encountered when")]
    return telling[0][:FIRST_LINE_CHARACTERS] if telling else ""
