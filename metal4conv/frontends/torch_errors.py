"""What coremltools cannot lower of a PyTorch model, told as an error of the model."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import FrameType, TracebackType
from typing import Any

from metal4conv.errors import Metal4ConvError, UnsupportedModel, first_line
from metal4conv.frontends.script_tracing import MODULE
from metal4conv.frontends.stack_traces import line_of_trace
from metal4conv.mil.correspondence import SourceValue

LOWERS_NODES = ("convert_nodes", "from_exir_node")
"""coremltools' functions that lower a node, and that read one. Both call it `node`."""

OPERATIONS = "coremltools.converters.mil.frontend.torch.ops"
OURS = "metal4conv.frontends.torch"
"""Where lowerings of PyTorch operations stand: coremltools', and ours."""


@contextmanager
def lowering_errors(values: Callable[[], Sequence[SourceValue]]) -> Iterator[None]:
    """Within it what coremltools raises for a node becomes `UnsupportedModel`, which names it.

    `values` are those of the model; they tell a node's line. A mistake of ours stays one.
    """
    try:
        yield
    except UnsupportedModel as error:
        # our lowerings refuse arguments, and do not know the node's place
        node = failed_node(frames_of(error.__traceback__))
        if node is not None and not error.where:
            error.where = places(node, values)
        raise
    except (MemoryError, Metal4ConvError):
        raise
    except Exception as error:  # coremltools raises many kinds, and so does numpy within it
        frames = frames_of(error.__traceback__)
        node = failed_node(frames)
        if node is None or is_ours(frames):
            raise
        raise UnsupportedModel(
            f"the operation {operator_of(node)} cannot be converted: {reason_of(error)}",
            where=places(node, values),
            hint="replace it in the model, or move it out of it into the app",
        ) from error


def frames_of(trace: TracebackType | None) -> list[FrameType]:
    """The frames that an error went through, from the outside in."""
    frames = []
    while trace is not None:
        frames.append(trace.tb_frame)
        trace = trace.tb_next
    return frames


def failed_node(frames: Sequence[FrameType]) -> Any:
    """The innermost node that was lowered or read, or None.

    (Any: coremltools' node, or torch.fx's.)
    """
    found = [
        frame.f_locals["node"]
        for frame in frames
        if frame.f_code.co_name in LOWERS_NODES and "node" in frame.f_locals
    ]
    return found[-1] if found else None


def is_ours(frames: Sequence[FrameType]) -> bool:
    """Whether our code failed: at its own line, or with what it asked of coremltools' builder."""
    if module_of_frame(frames[-1]).startswith("metal4conv."):
        return True
    node = max(at for at, row in enumerate(frames) if row.f_code.co_name in LOWERS_NODES)
    names = [module_of_frame(frame) for frame in frames[node:]]
    lowerings = [name for name in names if name == OPERATIONS or name.startswith(OURS)]
    return lowerings[-1:] != [] and lowerings[-1].startswith(OURS)


def module_of_frame(frame: FrameType) -> str:
    """The module whose code a frame runs."""
    return str(frame.f_globals.get("__name__"))


def reason_of(error: Exception) -> str:
    """What coremltools said; the kind of error too where the message is only a value."""
    line = first_line(error)
    plain = isinstance(error, (ValueError, NotImplementedError, RuntimeError))
    return line if plain else f"{type(error).__name__}: {line}"


def operator_of(node: Any) -> str:
    """The operator of coremltools' node, or of torch.fx's."""
    return str(getattr(node, "kind", None) or node.target)


def places(node: Any, values: Callable[[], Sequence[SourceValue]]) -> tuple[str, ...]:
    """The node with its operator, module and line, and the code of that line."""
    row = next((row for row in values() if row.name == node.name), None) or described(node)
    return (f"node {row}", *([row.code] if row.code else ()))


def described(node: Any) -> SourceValue:
    """What a node says of itself; those that give several tensors are none of a model's values."""
    meta = node.meta or {}
    modules = list(meta.get("nn_module_stack", {}).values())
    hierarchy = getattr(node, "model_hierarchy", None) or ""
    path = (
        str(modules[-1][0])
        if modules
        else ".".join(match[1] for match in MODULE.finditer(hierarchy))
    )
    line, code = line_of_trace(meta.get("stack_trace") or "")
    return SourceValue(node.name, operator_of(node), path or None, line, code)
