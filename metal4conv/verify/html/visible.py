"""Text in which nothing is hidden: a name in a model may hold characters that lie about it."""

from __future__ import annotations

import re
from typing import Any

from markupsafe import Markup

HIDDEN = re.compile(
    "["
    "\x00-\x08\x0b-\x1f\x7f-\x9f"  # control characters, but for tabs and line ends
    "\u00ad\u061c\u180e\u200b-\u200f"  # soft hyphen, marks and spaces without width
    "\u2028-\u202e\u2060-\u206f\ufeff"  # line separators; overrides of the writing direction
    "\ud800-\udfff\ufff9-\ufffb"  # halves of characters, annotations
    "]"
)


def visible(text: str) -> str:
    r"""The text with hidden characters by number.

    >>> visible("gnp\u202elive.png")
    'gnp⟨U+202E⟩live.png'
    """
    return HIDDEN.sub(lambda found: f"⟨U+{ord(found[0]):04X}⟩", text)


def all_visible(value: Any) -> Any:  # Any: a JSON document
    """A JSON document whose texts hide nothing; what is marked as HTML stays as it is.

    >>> all_visible({"a\\x00": ["b\\x1b", 1]})
    {'a⟨U+0000⟩': ['b⟨U+001B⟩', 1]}
    """
    if isinstance(value, str):
        return value if isinstance(value, Markup) else visible(value)
    if isinstance(value, dict):
        return {visible(key): all_visible(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [all_visible(item) for item in value]
    return value
