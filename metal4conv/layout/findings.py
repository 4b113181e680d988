"""What stands between a layout and a tensor on the device, in words."""

from __future__ import annotations

from collections.abc import Iterator

from metal4conv.layout.document import LayoutManifest, TensorLayout
from metal4conv.layout.rules import DATA_TYPES, MAXIMUM_RANK, USUAL_RANK
from metal4conv.layout.sizes import is_unknown
from metal4conv.report import Finding


def layout_findings(manifest: LayoutManifest) -> tuple[Finding, ...]:
    """What a Metal 4 pass cannot bind (failures), and what no package is known to have run with."""
    found = [finding for tensor in manifest.tensors for finding in tensor_findings(tensor)]
    if manifest.states:
        found.append(
            Finding(
                "failure",
                "states",
                f"the package has states ({', '.join(manifest.states)}), which a machine learning "
                "pass cannot bind",
                hint="pass what is to be kept as an input and an output",
            )
        )
    return tuple(found)


def tensor_findings(tensor: TensorLayout) -> Iterator[Finding]:
    """The findings of one input or output."""
    where = f'{tensor.role} "{tensor.name}"'
    coreml, rank = tensor.coreml, len(tensor.dimensions)
    if coreml.kind == "image":
        yield Finding(
            "warning",
            "image-feature",
            f"{where} is a picture for Core ML; Metal takes it as a plain {coreml.dtype} tensor, "
            "whose elements are the pixels' channels from 0 to 255",
            where,
            "scale them in the pass before or after, or convert the model with a tensor there",
        )
    elif coreml.kind != "tensor":
        yield Finding("failure", "no-tensor", f"{where} is of kind {coreml.kind}, no tensor", where)
        return
    if coreml.dtype not in DATA_TYPES:
        yield Finding(
            "failure",
            "no-tensor-data-type",
            f"{where} is {coreml.dtype}, which no MTLTensor can hold",
            where,
            "convert the model again: it gets a cast to a type that fits",
        )
    if rank > MAXIMUM_RANK:
        message = f"{where} has {rank} dimensions, an MTLTensor at most {MAXIMUM_RANK}"
        yield Finding("failure", "rank", message, where)
    elif rank > USUAL_RANK:
        message = f"{where} has {rank} dimensions; more than {USUAL_RANK} are untried"
        yield Finding("warning", "rank", message, where)
    elif rank == 0:
        message = f"{where} is a scalar; tensors without dimensions are untried"
        yield Finding("warning", "rank", message, where, "give it the shape (1,)")
    if any(map(is_unknown, tensor.dimensions)):
        message = f"{where} has a size that is only known when the program runs"
        yield Finding("failure", "unknown-size", message, where)
