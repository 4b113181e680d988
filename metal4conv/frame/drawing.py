"""A frame as a picture: passes in columns, resources in lanes, and what waits for what on them.

A mark on a lane is an access: full for a write, hollow for a read. The line between two marks is a
dependency: grey where something orders it, red where nothing does, dashed from a frame before.
Above, between the passes, stand the barriers. Equal frames give equal bytes.
"""

from __future__ import annotations

from collections import defaultdict

from metal4conv.frame.analysis import Analysis
from metal4conv.frame.calls import Call, call_text, place_text
from metal4conv.frame.canvas import Canvas, number, shorten
from metal4conv.frame.dependencies import Dependency
from metal4conv.frame.document import Barrier, Event, Fence
from metal4conv.frame.messages import Row
from metal4conv.frame.needed import MissingWait
from metal4conv.frame.passes import DEFAULT_QUEUE
from metal4conv.frame.stages import in_order

COLUMN = 144
BOX_WIDTH, BOX_HEIGHT = 124, 44
MARGIN, TITLE = 24, 56
LANE = 30
LETTER = 6.4
"""About the width of a letter at 11 pixels, for room and for shortening."""

COLORS = {
    "render": "#2f6fb5",
    "compute": "#3a8a4a",
    "machine_learning": "#8a4fb0",
    "cpu": "#6b6b6b",
}
ORDERED, MISSING, NEEDLESS = "#9a9a9a", "#d0021b", "#b8860b"


def svg_of(analysis: Analysis) -> str:
    """The picture as the text of an SVG file."""
    drawing = Drawing(analysis)
    drawing.draw()
    return drawing.canvas.document(drawing.width, drawing.height)


class Drawing:
    """Where everything stands, and the elements that show it."""

    def __init__(self, analysis: Analysis) -> None:
        self.analysis, self.frame, self.canvas = analysis, analysis.frame, Canvas()
        self.lanes = lanes_of(analysis)
        longest = max((len(shorten(name, 26)) for name in self.lanes), default=4)
        self.left = MARGIN + longest * LETTER + 24
        self.columns = {
            item.name: self.left + 70 + position * COLUMN
            for position, item in enumerate(self.frame.passes)
        }
        self.calls = calls_by_gap(analysis)
        deepest = max(map(len, self.calls.values()), default=0)
        self.boxes = MARGIN + TITLE + deepest * 15
        self.first_lane = self.boxes + BOX_HEIGHT + 34
        self.width = self.left + 70 + (len(self.frame.passes) - 1) * COLUMN + BOX_WIDTH / 2 + 60
        self.width = max(self.width, 560)
        self.height = self.first_lane + len(self.lanes) * LANE + 50

    def draw(self) -> None:
        """Everything, from the back to the front."""
        count = self.frame.in_flight
        self.canvas.text(MARGIN, MARGIN + 6, self.frame.file, "title")
        self.canvas.text(
            MARGIN, MARGIN + 24, f"{count} frame{'s' * (count > 1)} in flight", "small"
        )
        self.draw_lanes()
        self.draw_calls()
        for dependency in sorted(self.analysis.dependencies, key=lambda item: item.missing):
            self.draw_dependency(dependency)
        self.draw_passes()
        self.draw_accesses()
        self.draw_legend()

    def lane(self, name: str) -> float:
        """The height of a resource's lane."""
        return self.first_lane + list(self.lanes).index(name) * LANE

    def draw_lanes(self) -> None:
        """Names of resources, and lines."""
        right = self.width - MARGIN
        for name in self.lanes:
            y = self.lane(name)
            label = shorten(name, 26)
            self.canvas.add("line", x1=self.left, y1=y, x2=right, y2=y, stroke="#ececec")
            self.canvas.text(self.left - 10, y + 4, label, text_anchor="end")

    def draw_passes(self) -> None:
        """A box for each pass, and a line down through its lanes."""
        bottom = self.first_lane + (len(self.lanes) - 1) * LANE + 8
        for item in self.frame.passes:
            x = self.columns[item.name]
            self.canvas.add(
                *("rect", None, item.name),
                x=x - BOX_WIDTH / 2,
                y=self.boxes,
                width=BOX_WIDTH,
                height=BOX_HEIGHT,
                rx=6,
                fill=COLORS[item.kind],
            )
            middle = {"text_anchor": "middle"}
            name = shorten(item.name, int(BOX_WIDTH / LETTER) - 1)
            apart = item.queue not in ("", DEFAULT_QUEUE)
            kind = SHORT.get(item.kind, item.kind) if apart else item.kind.replace("_", " ")
            queue = f", {item.queue}" if apart else ""
            self.canvas.text(x, self.boxes + 19, name, "pass", **middle)
            self.canvas.text(x, self.boxes + 34, shorten(kind + queue, 22), "on", **middle)
            self.canvas.add(
                *("line",),
                x1=x,
                y1=self.boxes + BOX_HEIGHT,
                x2=x,
                y2=bottom,
                stroke=COLORS[item.kind],
                stroke_opacity=0.25,
            )

    def draw_accesses(self) -> None:
        """A mark for each use: full for a write, hollow for a read, a ring with a dot for both."""
        used: defaultdict[tuple[str, str], set[str]] = defaultdict(set)
        for item in self.analysis.conflicts.items:
            owner = self.frame.passes[item.pass_number]
            for touch in self.analysis.conflicts.touches[item.number]:
                modes = {"R"} if touch.access.reads else set()
                modes |= {"W"} if touch.access.writes else set()
                used[owner.name, touch.access.resource] |= modes
        for (name, resource), modes in used.items():
            x, y = self.columns[name], self.lane(resource)
            color = COLORS[self.frame.pass_named(name).kind]
            fill = "#fff" if "R" in modes else color
            words = {"R": "reads", "W": "writes"}
            told = " and ".join(words[mode] for mode in sorted(modes))
            title = f"{name} {told} {resource}"
            self.canvas.add(
                "circle", None, title, cx=x, cy=y, r=6, fill=fill, stroke=color, stroke_width=2
            )
            if modes == {"R", "W"}:
                self.canvas.add("circle", cx=x, cy=y, r=3, fill=color)

    def draw_dependency(self, item: Dependency) -> None:
        """The line from one use to the other, along the lane of the later one's resource."""
        color = MISSING if item.missing else ORDERED
        x1, y1 = self.columns[item.earlier], self.lane(item.first)
        x2, y2 = self.columns[item.later], self.lane(item.second)
        style: dict[str, object] = {"stroke": color, "stroke_width": 2.5 if item.missing else 1.5}
        told = f"{item.kind} {item.second}: {item.earlier} before {item.later}"
        if item.ago:
            x1, y1 = max(x2 - 46, self.left), y2
            style["stroke_dasharray"] = "4 3"
            told += f", {item.ago} frame{'s' * (item.ago > 1)} ago"
        bend = 0.0 if y1 == y2 and x2 - x1 < 1.5 * COLUMN else 11.0
        middle = (x1 + x2) / 2
        if y1 == y2:
            path = f"M{number(x1)} {number(y1)}Q{number(middle)} {number(y1 - 2 * bend)} "
            path += f"{number(x2 - 6)} {number(y2)}"
        else:
            path = f"M{number(x1)} {number(y1)}L{number(x2 - 6)} {number(y2)}"
        self.canvas.add("path", None, told, d=path, fill="none", **style)
        tip = f"M{number(x2 - 6)} {number(y2)}l-7 -4v8z"
        self.canvas.add("path", d=tip, fill=color)
        label = f"{item.kind} −{item.ago}" if item.ago else item.kind
        x = middle if not item.ago else x2 - 30
        y = (y1 + y2) / 2 - bend - 4
        self.canvas.text(x, y, label, "edge", text_anchor="middle", style=f"fill:{color}")

    def draw_calls(self) -> None:
        """Barriers, fences, events and waits: a line between columns, with its stages above."""
        bottom = self.first_lane + (len(self.lanes) - 1) * LANE + 8
        for gap, rows in self.calls.items():
            x = self.left + 70 + (gap - 0.5) * COLUMN
            colors = [color_of(row) for row in rows]
            line = MISSING if MISSING in colors else colors[0]
            self.canvas.add(
                *("line",),
                x1=x,
                y1=self.boxes - 6,
                x2=x,
                y2=bottom,
                stroke=line,
                stroke_dasharray="2 3",
            )
            for position, (row, color) in enumerate(zip(rows, colors, strict=True)):
                y = self.boxes - 12 - (len(rows) - 1 - position) * 15
                style = {"text_anchor": "middle", "style": f"fill:{color}"}
                title = f"{place_text(self.frame, row.call)}: {call_text(row.call)}"
                self.canvas.text(x, y, label_of(row), "edge", title, **style)

    def draw_legend(self) -> None:
        """What marks and colours mean."""
        y = self.height - 18
        x = float(MARGIN)
        for color, label in (
            (ORDERED, "in order"),
            (MISSING, "nothing orders it"),
            (NEEDLESS, "needless"),
        ):
            self.canvas.add("line", x1=x, y1=y, x2=x + 18, y2=y, stroke=color, stroke_width=2.5)
            self.canvas.text(x + 23, y + 4, label, "small")
            x += 40 + len(label) * 5.4
        for fill, dot, label in (
            ("#222", False, "writes"),
            ("#fff", False, "reads"),
            ("#fff", True, "both"),
        ):
            self.canvas.add("circle", cx=x + 6, cy=y, r=5, fill=fill, stroke="#222", stroke_width=2)
            if dot:
                self.canvas.add("circle", cx=x + 6, cy=y, r=2.5, fill="#222")
            self.canvas.text(x + 16, y + 4, label, "small")
            x += 32 + len(label) * 5.4
        self.canvas.text(x, y + 4, "−1: from one frame ago", "small")


def lanes_of(analysis: Analysis) -> tuple[str, ...]:
    """What passes use, in the order of its first use."""
    names = (
        touch.access.resource
        for item in analysis.conflicts.items
        for touch in analysis.conflicts.touches[item.number]
    )
    return tuple(dict.fromkeys(names))


def calls_by_gap(analysis: Analysis) -> dict[int, list[Row]]:
    """What stands before each pass, by the position of the pass."""
    found: defaultdict[int, list[Row]] = defaultdict(list)
    for row in analysis.rows:
        found[gap_of(analysis, row.call)].append(row)
    return dict(sorted(found.items()))


def gap_of(analysis: Analysis, call: Call) -> int:
    """The position of the pass that a call stands before."""
    match call:
        case Barrier():
            return analysis.frame.position(call.pass_name) + (call.form == "producer")
        case Fence():
            return analysis.frame.position(call.wait_pass)
        case Event():
            return analysis.frame.position(call.wait)
        case MissingWait():
            return analysis.frame.position(call.pass_name)


SHORT = {
    "acceleration_structure": "accel.",
    "machine_learning": "ML",
    "resource_state": "res. state",
}


def label_of(row: Row) -> str:
    """A call in a few letters."""
    match row.call:
        case Barrier(form=form, after=after, before=before, level=level):
            mark = "in pass " if form == "encoder" else ""
            ends = ["+".join(SHORT.get(s, s) for s in in_order(side)) for side in (after, before)]
            return f"{mark}{ends[0]} → {ends[1]}{('', '', ' (alias)')[level]}"
        case Fence(update_pass=first):
            return f"fence of {shorten(first, 14)}"
        case Event(signal=first):
            return f"event of {shorten(first, 14)}"
        case MissingWait(wait=wait):
            return f"wait for {shorten(wait.pass_name, 14)}"


def color_of(row: Row) -> str:
    """The colour of a call."""
    return {"missing": MISSING, "needless": NEEDLESS}.get(row.status, "#555")
