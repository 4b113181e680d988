"""What ends a run early, in words, with a hint where others have met the same text."""

from __future__ import annotations

from typing import Any

from metal4conv.device.protocol import FailureKind

HINTS = (
    (
        "Unsupported Ops or shapes for MLEncoder",
        "others met this with an input of dynamic size that was not given sizes, with control "
        "flow, with a grid sample whose grid is computed, and with bfloat16 inputs or outputs; "
        "convert with fixed sizes, or split the model there",
    ),
    (
        "Invalid metal package",
        "the path must be a readable folder whose name ends in .mtlpackage, with the manifest.json "
        "of metal-package-builder in it; a sandbox that hides it gives the same text",
    ),
    (
        "Unsupported metal package version",
        "the package was built for another system: build it with this system's Xcode",
    ),
    (
        "expected element type",
        "a tensor's type is not the graph's: the Metal package is not of this Core ML package",
    ),
    (
        "strides should be nil",
        "a tensor that the device makes has a layout of its own and takes no strides",
    ),
    (
        "program_source",
        "this is what Metal's own compiler says of the source; xcrun metal -std=metal4.0 says the "
        "same on the command line",
    ),
    ("not found", "the Metal package has no function of this name"),
)
"""Texts of Metal and MPSGraph, looked for in this order, and what they meant to others."""

QUEUE_DOMAIN = "MTL4CommandQueueErrorDomain"
QUEUE_TIMEOUT = 1


class RunFailed(Exception):
    """The run cannot go on; `kind` as `protocol.FailureKind` has it."""

    def __init__(self, kind: FailureKind, message: str, hint: str | None = None) -> None:
        super().__init__(message)
        self.kind = kind
        self.message = message
        self.hint = hint


def hint_for(text: str) -> str | None:
    """What is known of a text that Metal printed or gave back.

    >>> hint_for("Function nowhere not found")
    'the Metal package has no function of this name'
    """
    return next((hint for part, hint in HINTS if part.lower() in text.lower()), None)


def described(error: Any) -> str:  # Any: an NSError
    """An NSError in one line: what it says, its domain and code."""
    if error is None:
        return "no error object"
    return f"{error.localizedDescription()} ({error.domain()} {error.code()})"


def answer(result: Any, selector: str) -> Any:  # Any: what a selector gave back
    """The object of a selector that gives back an object and an NSError; `RunFailed` without one.

    Only the object counts: where there is one, the error means nothing.
    """
    if not isinstance(result, tuple) or len(result) != 2:
        raise RunFailed(
            "error",
            f"{selector} gave {type(result).__name__} in place of an object and an error",
            "PyObjC does not know this selector; install pyobjc-framework-Metal 12 or newer",
        )
    value, error = result
    if value is None:
        text = described(error)
        raise RunFailed("error", f"{selector} failed: {text}", hint_for(text))
    return value


def made(value: Any, selector: str) -> Any:  # Any: an object of Metal
    """The object of a selector that gives back nothing when it fails; `RunFailed` then."""
    if value is None:
        raise RunFailed("error", f"{selector} gave no object, and no reason")
    return value


def gpu_failure(error: Any) -> RunFailed:  # Any: an NSError
    """What commit feedback's error means: the queue's own timeout, or an error of the GPU."""
    text = described(error)
    is_timeout = (str(error.domain()), int(error.code())) == (QUEUE_DOMAIN, QUEUE_TIMEOUT)
    kind: FailureKind = "timeout" if is_timeout else "error"
    return RunFailed(kind, f"the GPU reports: {text}", hint_for(text))
