"""Reads the passes of a frame's TOML file."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from metal4conv.errors import did_you_mean
from metal4conv.frame.document import Access, Heap, Network, Pass, Resource, Step, Wait
from metal4conv.frame.fields import Fields
from metal4conv.frame.stages import DEFAULT_STAGE, GEOMETRY, PassKind, in_order, stages_of

KINDS: tuple[PassKind, ...] = ("render", "compute", "machine_learning", "cpu")
NETWORK_KEYS = (*("package", "manifest", "function", "inputs", "outputs", "dims", "intermediates"),)
STEP_KEYS: dict[PassKind, tuple[str, ...]] = {
    "render": ("name", "reads", "writes", "attachments", "stages"),
    "compute": ("name", "reads", "writes", "stages"),
    "machine_learning": ("name", *NETWORK_KEYS),
    "cpu": ("name", "reads", "writes"),
}
DEFAULT_QUEUE = "main"
MOST_FRAMES_AGO = 16
UNLISTED = "list it first, under [[texture]], [[buffer]] or [[tensor]]"


class PassReader:
    """Reads passes; what they name must be in `resources` and `heaps`."""

    def __init__(
        self,
        sizes: Mapping[str, int],
        resources: Mapping[str, Resource],
        heaps: Mapping[str, Heap],
        folder: Path,
    ) -> None:
        self.sizes, self.resources, self.heaps, self.folder = sizes, resources, heaps, folder

    def read(self, row: object, place: str, earlier: Iterable[str]) -> Pass:
        """One pass, after those named `earlier`."""
        keys = {"kind", "queue", "step", "waits_for", *(key for k in KINDS for key in STEP_KEYS[k])}
        given = Fields(row, place, sorted(keys), self.sizes).choice("kind", KINDS)
        kind = next(kind for kind in KINDS if kind == given)
        own = ("waits_for",) if kind == "cpu" else ("queue",)
        keys = {*STEP_KEYS[kind], "kind", "step", *own}
        fields = Fields(row, place, sorted(keys), self.sizes)
        name = fields.name()
        if name in earlier:
            fields.fail("name", f'there are two passes "{name}"')
        return Pass(
            name=name,
            kind=kind,
            queue=fields.text("queue") or DEFAULT_QUEUE if kind != "cpu" else "",
            steps=tuple(self.steps(fields, kind)),
            waits=tuple(self.waits(fields)) if kind == "cpu" else (),
        )

    def steps(self, fields: Fields, kind: PassKind) -> Iterator[Step]:
        """The steps of a pass; it is one itself where it lists none."""
        rows = fields.tables("step")
        if not rows:
            yield self.step(fields, kind, "")
            return
        for key in STEP_KEYS[kind]:
            if key != "name" and key in fields:
                fields.fail(key, "a pass with steps has this in its steps")
        names: set[str] = set()
        for number, row in enumerate(rows, 1):
            inner = Fields(row, f"{fields.place}, step {number}", STEP_KEYS[kind], self.sizes)
            name = inner.name()
            if name in names:
                inner.fail("name", f'there are two steps "{name}"')
            names.add(name)
            yield self.step(inner, kind, name)

    def step(self, fields: Fields, kind: PassKind, name: str) -> Step:
        """One step, whose accesses stand in a pass or in a step of it."""
        if kind == "machine_learning":
            network = self.network(fields)
            bound = (*network.inputs.values(), *network.outputs.values())
            return Step(name, bound, stages_of(kind), network)
        accesses = [
            *self.accesses(fields, "reads", kind, reads=True),
            *self.accesses(fields, "writes", kind, writes=True),
        ]
        if kind == "render":
            accesses += self.attachments(fields)
        named = fields.words("stages", stages_of(kind)) if kind != "cpu" else ()
        stages = {*named, *(access.stage for access in accesses)}
        if kind == "render":
            stages |= {"fragment"} | (set() if stages & {*GEOMETRY} else {"vertex"})
        return Step(name, tuple(accesses), in_order(stages or {DEFAULT_STAGE[kind]}))

    def accesses(
        self, fields: Fields, key: str, kind: PassKind, *, reads: bool = False, writes: bool = False
    ) -> Iterator[Access]:
        """What a step reads, or what it writes."""
        for item in fields.value(key, list, []):
            ago = ("frames_ago",) if reads else ()
            inner = self.item(fields, key, item, ("stages", "offset", "bytes", *ago))
            begin, end = self.part(inner)
            stages = inner.words("stages", stages_of(kind)) or (DEFAULT_STAGE[kind],)
            for stage in stages:
                yield Access(
                    self.resource(inner),
                    stage,
                    reads,
                    writes,
                    inner.count("frames_ago", 0, most=MOST_FRAMES_AGO),
                    begin,
                    end,
                )

    def attachments(self, fields: Fields) -> Iterator[Access]:
        """The attachments of a render pass, which fragments write, and read with `load`."""
        for item in fields.value("attachments", list, []):
            inner = self.item(fields, "attachments", item, ("load",))
            name = self.resource(inner)
            if self.resources[name].kind != "texture":
                inner.fail("resource", f'"{name}" is a {self.resources[name].kind}, no texture')
            loads = inner.flag("load")
            yield Access(name, "fragment", reads=loads, writes=True, attachment=True)

    def item(self, fields: Fields, key: str, item: object, keys: tuple[str, ...]) -> Fields:
        """An entry of a list: a table, or the name of a resource alone."""
        row = {"resource": item} if isinstance(item, str) else item
        return Fields(row, f"{fields.place}, {key}", ("resource", *keys), self.sizes)

    def resource(self, fields: Fields) -> str:
        """The name of a resource that exists."""
        name = fields.name("resource")
        if name not in self.resources:
            hint = did_you_mean(name, self.resources) if self.resources else UNLISTED
            fields.fail("resource", f'there is no resource "{name}"', hint)
        return name

    def part(self, fields: Fields) -> tuple[int, int | None]:
        """The bytes of a buffer that are meant."""
        begin, length = fields.size("offset"), fields.size("bytes", least=1)
        if begin is None and length is None:
            return 0, None
        name = self.resource(fields)
        if self.resources[name].kind != "buffer":
            kind = self.resources[name].kind
            fields.fail("bytes", f'only buffers have parts, "{name}" is a {kind}')
        return begin or 0, None if length is None else (begin or 0) + length

    def network(self, fields: Fields) -> Network:
        """What a machine learning pass dispatches."""
        if "package" in fields and "manifest" in fields:
            fields.fail("manifest", "the package has its manifest; name one of the two")
        heap = fields.text("intermediates")
        if heap is not None and heap not in self.heaps:
            fields.fail("intermediates", f'no heap "{heap}"', did_you_mean(heap, self.heaps))
        path = fields.text("package") or fields.text("manifest")
        dims = fields.mapping("dims")
        sizes = Fields(dims, f"{fields.place}, dims", dims, self.sizes)
        return Network(
            None if path is None else self.folder / path,
            fields.text("function"),
            self.bindings(fields, "inputs", reads=True),
            self.bindings(fields, "outputs", writes=True),
            {name: sizes.size(name, least=1) or 1 for name in dims},
            heap,
        )

    def bindings(
        self, fields: Fields, key: str, *, reads: bool = False, writes: bool = False
    ) -> dict[str, Access]:
        """The resource of each input, or of each output."""
        found = {}
        for binding, item in fields.mapping(key).items():
            keys = ("frames_ago",) if reads else ()
            inner = self.item(fields, f'{key} "{binding}"', item, keys)
            ago = inner.count("frames_ago", 0, most=MOST_FRAMES_AGO)
            found[binding] = Access(self.resource(inner), "machine_learning", reads, writes, ago)
        return found

    def waits(self, fields: Fields) -> Iterator[Wait]:
        """The passes that the CPU waits for."""
        for item in fields.value("waits_for", list, []):
            row = {"pass": item} if isinstance(item, str) else item
            inner = Fields(row, f"{fields.place}, waits_for", ("pass", "frames_ago"))
            yield Wait(inner.name("pass"), inner.count("frames_ago", 0, most=MOST_FRAMES_AGO))


def read_passes(
    table: Fields,
    sizes: Mapping[str, int],
    resources: Mapping[str, Resource],
    heaps: Mapping[str, Heap],
    folder: Path,
) -> tuple[Pass, ...]:
    """The passes, in order; what the CPU waits for is a pass of the GPU that it can wait for."""
    reader = PassReader(sizes, resources, heaps, folder)
    passes: dict[str, Pass] = {}
    rows = table.tables("pass")
    if not rows:
        hint = "metal4conv frame --help shows a small frame"
        table.fail("pass", "a frame needs passes, and there are none", hint)
    for number, row in enumerate(rows, 1):
        name = row.get("name") if isinstance(row, dict) else None
        shown = f'"{name}"' if isinstance(name, str) else f"number {number}"
        found = reader.read(row, f"{table.place}: [[pass]] {shown}", passes)
        passes[found.name] = found
    check_waits(table.place, passes)
    return tuple(passes.values())


def check_waits(place: str, passes: Mapping[str, Pass]) -> None:
    """The CPU cannot wait for itself, nor for what it has not committed yet."""
    names = list(passes)
    for item in passes.values():
        for wait in item.waits:
            fields = Fields({}, f'{place}: [[pass]] "{item.name}"', ())
            if wait.pass_name not in passes or passes[wait.pass_name].kind == "cpu":
                known = [name for name in names if passes[name].kind != "cpu"]
                hint = did_you_mean(wait.pass_name, known)
                fields.fail("waits_for", f'the GPU has no pass "{wait.pass_name}"', hint)
            if not wait.frames_ago and names.index(wait.pass_name) > names.index(item.name):
                fields.fail(
                    "waits_for",
                    f'the pass "{wait.pass_name}" is committed later, so this would never end',
                    "list it first, or wait for an earlier frame's with frames_ago = 1",
                )
