"""Random small frames, as plain data that an oracle can go through and as TOML."""

from __future__ import annotations

import random
from dataclasses import dataclass, field

RENDER = ("vertex", "fragment")
COMPUTE = ("blit", "dispatch")


@dataclass(frozen=True)
class Use:
    """One stage's use of a resource."""

    resource: str
    stage: str
    mode: str
    """`r`, `w`; of an attachment `a`, or `l` where it is loaded."""
    ago: int = 0


@dataclass
class Work:
    """One step of a pass."""

    uses: list[Use]
    stages: tuple[str, ...]
    heap: str | None = None


@dataclass
class Encoder:
    """A pass."""

    name: str
    kind: str
    queue: str
    steps: list[Work]
    waits: list[tuple[str, int]] = field(default_factory=list)


@dataclass(frozen=True)
class Place:
    """Where a resource lies: bytes of an allocation with copies; `root` names the content."""

    kind: str
    allocation: str
    root: str
    copies: int
    begin: int
    end: int
    keys: str
    """The keys of its TOML table."""


@dataclass(frozen=True)
class Order:
    """A barrier (`consumer`, `producer`, `encoder`), a `fence` or an `event`."""

    form: str
    first: str
    second: str
    step: int = 0
    after: tuple[str, ...] = ()
    before: tuple[str, ...] = ()
    level: int = 1
    ago: int = 0


@dataclass
class Sketch:
    """A frame."""

    in_flight: int
    places: dict[str, Place]
    encoders: list[Encoder]
    orders: list[Order]

    def position(self, name: str) -> int:
        return [encoder.name for encoder in self.encoders].index(name)

    def toml(self) -> str:
        """The frame's file."""
        lines = ['format = "metal4conv.frame/1"', f"frames_in_flight = {self.in_flight}"]
        lines += ["[[heap]]", 'name = "heap"', "copies = 2", "[[heap]]", 'name = "scratch"']
        for kind in ("texture", "buffer", "tensor"):
            for name, place in self.places.items():
                if place.kind == kind:
                    lines += [f"[[{kind}]]", f'name = "{name}"', place.keys]
        for encoder in self.encoders:
            lines += ["[[pass]]", f'name = "{encoder.name}"', f'kind = "{encoder.kind}"']
            if encoder.kind == "cpu":
                waits = [
                    f'{{ pass = "{name}", frames_ago = {ago} }}' for name, ago in encoder.waits
                ]
                lines.append(f"waits_for = [{', '.join(waits)}]")
            else:
                lines.append(f'queue = "{encoder.queue}"')
            for number, work in enumerate(encoder.steps):
                lines += ["[[pass.step]]", f'name = "step {number}"', *work_lines(encoder, work)]
        return "\n".join([*lines, *(line for order in self.orders for line in order_lines(order))])


def work_lines(encoder: Encoder, work: Work) -> list[str]:
    """The keys of a step."""
    if encoder.kind == "machine_learning":
        sides = {"inputs": "r", "outputs": "w"}
        lines = [
            f"{key} = {{ {', '.join(f'b{n} = {entry(use)}' for n, use in enumerate(uses))} }}"
            for key, mode in sides.items()
            for uses in [[use for use in work.uses if use.mode == mode]]
        ]
        return [*lines, f'intermediates = "{work.heap}"'] if work.heap else lines
    lines = [
        f"{key} = [{', '.join(entry(use, use.stage) for use in work.uses if use.mode == mode)}]"
        for key, mode in (("reads", "r"), ("writes", "w"))
    ]
    if encoder.kind == "render":
        attachments = [
            f'{{ resource = "{use.resource}", load = {"true" if use.mode == "l" else "false"} }}'
            for use in work.uses
            if use.mode in "al"
        ]
        lines.append(f"attachments = [{', '.join(attachments)}]")
    return lines if encoder.kind == "cpu" else [*lines, f"stages = {listed(work.stages)}"]


def entry(use: Use, stage: str | None = None) -> str:
    """A use as TOML."""
    stages = f', stages = ["{stage}"]' if stage not in (None, "cpu") else ""
    ago = f", frames_ago = {use.ago}" if use.ago else ""
    return f'{{ resource = "{use.resource}"{stages}{ago} }}'


def listed(words: tuple[str, ...]) -> str:
    """A list as TOML, which writes it as Python does."""
    return str(list(words))


def order_lines(order: Order) -> list[str]:
    """A barrier, fence or event as TOML."""
    if order.form == "event":
        keys = f'signal = "{order.first}"\nwait = "{order.second}"\nframes_ago = {order.ago}'
        return ["[[event]]", keys]
    after, before = listed(order.after), listed(order.before)
    if order.form == "fence":
        return [
            "[[fence]]",
            f'update = {{ pass = "{order.first}", after = {after} }}',
            f'wait = {{ pass = "{order.second}", before = {before} }}',
        ]
    visibility = ([], ["device"], ["device", "resource_alias"])[order.level]
    return [
        "[[barrier]]",
        f'pass = "{order.second}"\nform = "{order.form}"\nstep = "step {order.step}"',
        f"after = {after}\nbefore = {before}\nvisibility = {visibility}",
    ]


def sketch(seed: int) -> Sketch:
    """A frame of two to six passes."""
    draw = random.Random(seed)
    places = draw_places(draw)
    encoders = [draw_encoder(draw, f"p{number}", places) for number in range(draw.randint(2, 6))]
    found = Sketch(draw.randint(1, 3), places, encoders, [])
    for position, encoder in enumerate(encoders):
        gpu = [(n, e.name) for n, e in enumerate(encoders) if e.kind != "cpu"]
        if encoder.kind == "cpu" and gpu and draw.random() < 0.5:
            number, name = draw.choice(gpu)
            encoder.waits.append((name, 0 if number < position else 1))
    found.orders += [
        order for _ in range(draw.randint(0, 5)) for order in draw_order(draw, encoders)
    ]
    return found


def draw_places(draw: random.Random) -> dict[str, Place]:
    """Textures, buffers in and out of a heap, tensors in and out of a buffer."""
    places: dict[str, Place] = {}
    for number in range(draw.randint(1, 2)):
        name, copies = f"t{number}", draw.randint(1, 2)
        endless = 1
        places[name] = Place("texture", name, name, copies, 0, endless, f"copies = {copies}")
    for number in range(draw.randint(1, 3)):
        name, copies = f"b{number}", draw.randint(1, 3)
        if draw.random() < 0.5:
            begin, length = draw.randint(0, 2) * 64, draw.randint(1, 2) * 64
            keys = f'bytes = {length}\nheap = "heap"\nheap_offset = {begin}'
            places[name] = Place("buffer", "heap", name, 2, begin, begin + length, keys)
        else:
            keys = f"bytes = 256\ncopies = {copies}"
            places[name] = Place("buffer", name, name, copies, 0, 256, keys)
    for number in range(draw.randint(1, 3)):
        name, copies = f"x{number}", draw.randint(1, 2)
        shape = 'dtype = "float32"\ndimensions = [16]'
        if draw.random() < 0.5:
            outer = places["b0"]
            keys = f'{shape}\nbuffer = "b0"\noffset = {0 if number == 0 else 32}'
            begin = outer.begin + (0 if number == 0 else 32)
            end = begin + 64
            places[name] = Place(
                "tensor", outer.allocation, outer.root, outer.copies, begin, end, keys
            )
        else:
            keys = f"{shape}\ncopies = {copies}"
            places[name] = Place("tensor", name, name, copies, 0, 1, keys)
    return places


def draw_encoder(draw: random.Random, name: str, places: dict[str, Place]) -> Encoder:
    """A pass of one or two steps."""
    kind = draw.choice(["render", "compute", "compute", "machine_learning", "cpu"])
    queue = "" if kind == "cpu" else draw.choice(["main", "main", "main", "other"])
    count = 1 if kind == "cpu" else draw.randint(1, 2)
    return Encoder(name, kind, queue, [draw_work(draw, kind, places) for _ in range(count)])


def draw_work(draw: random.Random, kind: str, places: dict[str, Place]) -> Work:
    """What a step does."""
    uses: dict[tuple[str, str, str], Use] = {}
    for _ in range(draw.randint(1, 3)):
        able = [n for n, p in places.items() if kind != "machine_learning" or p.kind == "tensor"]
        resource, mode = draw.choice(able), draw.choice("rrww")
        stage = {"render": draw.choice(RENDER), "compute": draw.choice(COMPUTE)}.get(kind, kind)
        if kind == "render" and mode == "w" and places[resource].kind == "texture":
            stage, mode = "fragment", draw.choice("al")
        ago = draw.choice([0, 0, 0, 1]) if mode == "r" else 0
        uses[resource, stage, mode] = Use(resource, stage, mode, ago)
    used = {use.stage for use in uses.values()}
    order = {"render": RENDER, "compute": COMPUTE}.get(kind, (kind,))
    stages = order if kind == "render" else tuple(stage for stage in order if stage in used)
    heap = "scratch" if kind == "machine_learning" and draw.random() < 0.6 else None
    return Work(list(uses.values()), stages, heap)


def draw_order(draw: random.Random, encoders: list[Encoder]) -> list[Order]:
    """A barrier, fence or event somewhere, or nothing."""
    gpu = [encoder for encoder in encoders if encoder.kind != "cpu"]
    if not gpu:
        return []
    form = draw.choice(["consumer", "consumer", "producer", "encoder", "fence", "event"])
    own = draw.choice(gpu)
    after, before = draw_stages(draw), draw_stages(draw)
    if form == "event":
        other = draw.choice(gpu)
        ago = 0 if encoders.index(other) < encoders.index(own) else 1
        return [Order(form, other.name, own.name, ago=ago)]
    if form == "fence":
        others = [e for e in gpu if e.queue == own.queue and e is not own]
        if not others:
            return []
        return [Order(form, draw.choice(others).name, own.name, after=after, before=before)]
    step = draw.randrange(len(own.steps))
    if form == "encoder" and not step:
        return []
    level = draw.choice([0, 1, 1, 1, 2])
    return [Order(form, own.name, own.name, step, after, before, level)]


def draw_stages(draw: random.Random) -> tuple[str, ...]:
    """One or two stages."""
    known = ["vertex", "fragment", "blit", "dispatch", "machine_learning"]
    return tuple(draw.sample(known, draw.choice([1, 1, 2, 3])))
