"""A frame's analysis as a report: the document of `--json`, and what the tables show."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

from metal4conv.frame.analysis import Analysis, sort_of
from metal4conv.frame.calls import call_text, place_text
from metal4conv.frame.checks import needed_usage
from metal4conv.frame.document import Barrier, Event, Fence, Frame, Pass, Resource
from metal4conv.frame.memory import ENDLESS, span_of
from metal4conv.frame.messages import Row
from metal4conv.frame.needed import MissingWait
from metal4conv.frame.stages import in_order
from metal4conv.report import Report

Json = dict[str, Any]  # Any: a JSON object


def report_of(analysis: Analysis, files: tuple[str, ...] = ()) -> Report:
    """The report of the command."""
    frame = analysis.frame
    data: Json = {
        "file": frame.file,
        "dims": dict(frame.sizes),
        "frames_in_flight": frame.in_flight,
        "mode": "plan" if frame.plan else "check",
        "passes": [pass_json(item) for item in frame.passes],
        "resources": [resource_json(analysis, item) for item in frame.resources.values()],
        "dependencies": [
            {
                "from": item.earlier,
                "to": item.later,
                "frames_ago": item.ago,
                "kind": item.kind,
                "resources": sorted({item.first, item.second}),
                "status": "missing" if item.missing else "ordered",
            }
            for item in analysis.dependencies
        ],
        "synchronization": [row_json(frame, row) for row in analysis.rows],
        "resident": resident_json(analysis),
    }
    return Report("frame", data, analysis.findings, files)


def pass_json(item: Pass) -> Json:
    """A pass with what each step reads and writes."""
    steps = []
    for step in item.steps:
        names: defaultdict[str, dict[str, None]] = defaultdict(dict)
        for access in step.accesses:
            ago = f"@-{access.frames_ago}" if access.frames_ago else ""
            for key in ("reads", "writes"):
                if getattr(access, key):
                    names[key][f"{access.resource}{ago}"] = None
        steps.append(
            {
                "name": step.name,
                "stages": list(step.stages),
                "reads": list(names["reads"]),
                "writes": list(names["writes"]),
                "intermediates": step.network.intermediates if step.network else None,
            }
        )
    waits = [{"pass": wait.pass_name, "frames_ago": wait.frames_ago} for wait in item.waits]
    return {
        "name": item.name,
        "kind": item.kind,
        "queue": item.queue or None,
        "steps": steps,
        "waits_for": waits,
    }


def resource_json(analysis: Analysis, item: Resource) -> Json:
    """A resource with where it lies and the usage that it needs."""
    span = span_of(analysis.frame.resources, item.name)
    known = span.end < ENDLESS
    return {
        "name": item.name,
        "kind": item.kind,
        "dtype": item.dtype,
        "dimensions": None if item.dimensions is None else list(item.dimensions),
        "copies": span.copies or None,
        "lies_in": item.buffer or item.heap,
        "offset": item.offset if item.buffer else item.heap_offset,
        "bytes": span.end - span.begin if known else None,
        "needed_usage": list(needed_usage(analysis.conflicts, item)),
    }


def row_json(frame: Frame, row: Row) -> Json:
    """A barrier, fence, event or wait."""
    found: Json = {"sort": sort_of(row.call), "status": row.status, "number": row.number}
    match row.call:
        case Barrier(pass_name, form, step, after, before, level):
            found |= {
                "pass": pass_name,
                "form": form,
                "step": frame.pass_named(pass_name).steps[step].name or None,
                "after": list(in_order(after)),
                "before": list(in_order(before)),
                "visibility": [[], ["device"], ["device", "resource_alias"]][level],
            }
        case Fence(update, after, wait, before):
            found |= {
                "update": {"pass": update, "after": list(in_order(after))},
                "wait": {"pass": wait, "before": list(in_order(before))},
            }
        case Event(signal, wait, ago):
            found |= {"signal": signal, "wait": wait, "frames_ago": ago}
        case MissingWait(pass_name, wait):
            found |= {"pass": pass_name, "waits_for": wait.pass_name, "frames_ago": wait.frames_ago}
    found["place"] = place_text(frame, row.call)
    found["call"] = call_text(row.call)
    found["orders"] = [
        {"from": first, "to": second, "frames_ago": ago} for first, second, ago in row.orders
    ]
    return found


def resident_json(analysis: Analysis) -> dict[str, list[str]]:
    """What has to be resident for each queue: buffers, heaps, and what lies in neither."""
    frame, found = analysis.frame, defaultdict[str, set[str]](set)
    for item in analysis.conflicts.items:
        owner = frame.passes[item.pass_number]
        for touch in analysis.conflicts.touches[item.number] if owner.kind != "cpu" else ():
            resource = frame.resources.get(touch.access.resource)
            if resource is None or not resource.drawable:
                found[owner.queue].add(allocation_of(frame, touch.access.resource))
    return {queue: sorted(names) for queue, names in sorted(found.items())}


def allocation_of(frame: Frame, name: str) -> str:
    """The heap or buffer that a resource lies in, or itself."""
    resource = frame.resources.get(name)
    outer = (resource.buffer or resource.heap) if resource else None
    return allocation_of(frame, outer) if outer is not None else name
