"""The elements of an SVG picture; SVG 1.1 without scripts or fonts of its own."""

from __future__ import annotations

from dataclasses import dataclass, field
from html import escape

STYLE = (
    "text{font:11px -apple-system,'Segoe UI',Roboto,'DejaVu Sans',sans-serif;fill:#222}"
    ".title{font-size:14px;font-weight:600}.pass{fill:#fff;font-weight:600}"
    ".small{font-size:9.5px;fill:#555}.on{fill:#fff;opacity:.85;font-size:9.5px}"
    ".edge{font-size:9px;paint-order:stroke;stroke:#fff;stroke-width:3px}"
)


@dataclass
class Canvas:
    """Elements in the order in which they are painted."""

    lines: list[str] = field(default_factory=list)

    def add(self, name: str, text: str | None = None, title: str = "", /, **values: object) -> None:
        """One element; attributes and text are escaped. `title` is what a pointer shows."""
        shown = "".join(
            f' {key.rstrip("_").replace("_", "-")}="{escape(number(value))}"'
            for key, value in values.items()
        )
        inner = f"<title>{escape(title)}</title>" if title else ""
        inner += "" if text is None else escape(text)
        self.lines.append(f"<{name}{shown}>{inner}</{name}>" if inner else f"<{name}{shown}/>")

    def text(
        self, x: float, y: float, text: str, kind: str = "", title: str = "", /, **values: object
    ) -> None:
        """A line of text."""
        if kind:
            values["class_"] = kind
        self.add("text", text, title, x=x, y=y, **values)

    def document(self, width: float, height: float) -> str:
        """The text of the SVG file."""
        wide, high = number(width), number(height)
        return "\n".join(
            [
                f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {wide} {high}" '
                f'width="{wide}" height="{high}">',
                f"<style>{STYLE}</style>",
                f'<rect width="{wide}" height="{high}" fill="#fff"/>',
                *self.lines,
                "</svg>\n",
            ]
        )


def number(value: object) -> str:
    """A number with at most one digit after the point, or the text.

    >>> number(3.0), number(2.25), number("red")
    ('3', '2.2', 'red')
    """
    return f"{value:.1f}".removesuffix(".0") if isinstance(value, float) else str(value)


def shorten(text: str, most: int) -> str:
    """A text with at most so many letters.

    >>> shorten("ambient occlusion", 10)
    'ambient o…'
    """
    return text if len(text) <= most else f"{text[: most - 1]}…"
