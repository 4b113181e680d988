"""Text in which nothing is hidden: a name in a model may hold characters that lie about it."""

from __future__ import annotations

import re

from markupsafe import Markup

HIDDEN = re.compile(
    "["
    "\x00-\x08\x0b-\x1f\x7f-\x9f"  # control characters, but for tabs and line ends
    "\u00ad\u061c\u180e\u200b-\u200f"  # soft hyphen, marks and spaces without width
    "\u2028-\u202e\u2060-\u206f\ufeff"  # line separators; overrides of the writing direction
    "\ud800-\udfff\ufff9-\ufffb"  # halves of characters, annotations
    "]"
)


JSON_ESCAPE = re.compile(r"\\(?:u([0-9a-f]{4})|(.))")
"""All escapes of a JSON text, so that none starts within another."""


def visible(text: str) -> str:
    r"""The text with hidden characters by number.

    >>> visible("gnp\u202elive.png")
    'gnp⟨U+202E⟩live.png'
    """
    return HIDDEN.sub(lambda found: f"⟨U+{ord(found[0]):04X}⟩", text)


def finalized(value: object) -> object:
    """What a template prints: visible, but for what is marked as HTML."""
    return visible(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def visible_json(text: str) -> str:
    r"""An ASCII text of JSON whose strings hide nothing.

    >>> import json
    >>> print(visible_json(json.dumps("a\u202e\b\\u202e")))
    "a⟨U+202E⟩⟨U+0008⟩\\u202e"
    """
    return JSON_ESCAPE.sub(visible_escape, text)


def visible_escape(found: re.Match[str]) -> str:
    """An escape as it is, or what shows the hidden character that it stands for.

    Halves of characters beyond the first 65536 stay: two of them are one that shows.
    """
    code = {"b": 8, "f": 12}.get(found[2] or "", int(found[1] or "20", 16))
    is_half = 0xD800 <= code < 0xE000
    if is_half or not HIDDEN.match(chr(code)):
        return found[0]
    return f"⟨U+{code:04X}⟩"
