"""Tables of a TOML file, read key by key: what does not fit is named with its table and key."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NoReturn

from metal4conv.errors import UsageError, did_you_mean
from metal4conv.layout.expression import evaluate

NAMES = {str: "text", int: "a number", bool: "true or false", list: "a list", dict: "a table"}


class Fields:
    """One table. `place` says where it stands, `keys` are all that it may have."""

    def __init__(
        self,
        table: object,
        place: str,
        keys: Iterable[str],
        sizes: Mapping[str, int] | None = None,
    ) -> None:
        self.place = place
        self.sizes = sizes or {}
        if not isinstance(table, dict):
            raise UsageError(f"expected a table, got {toml_text(table)}", where=place)
        self.table: dict[str, Any] = table  # Any: TOML values
        known = tuple(keys)
        for key in table:
            if key not in known:
                raise UsageError(
                    f'there is no key "{key}" here', where=place, hint=did_you_mean(key, known)
                )

    def __contains__(self, key: str) -> bool:
        return key in self.table

    def fail(self, key: str, message: str, hint: str | None = None) -> NoReturn:
        """The error of one key."""
        raise UsageError(message, where=f"{self.place}, key {key}", hint=hint)

    def value(self, key: str, kind: type, default: Any = None) -> Any:  # Any: of type `kind`
        """The value of a key that has this type; `default` where it is missing."""
        if key not in self.table:
            return default
        found = self.table[key]
        if not isinstance(found, kind) or (kind is int and isinstance(found, bool)):
            table = kind is list and isinstance(found, dict)
            hint = f"begin each one with [[{key}]], in double brackets" if table else None
            self.fail(key, f"expected {NAMES[kind]}, got {toml_text(found)}", hint)
        if isinstance(found, str) and not found.isprintable():
            self.fail(key, f"{found!a} has characters that cannot be shown")
        return found

    def name(self, key: str = "name") -> str:
        """The text of a key that must be there."""
        if key not in self.table:
            raise UsageError(f'the key "{key}" is missing', where=self.place)
        found: str = self.value(key, str)
        if not found:
            self.fail(key, "expected a name, got an empty text")
        return found

    def text(self, key: str) -> str | None:
        """The text of a key, None where it is missing."""
        found: str | None = self.value(key, str)
        return found

    def flag(self, key: str) -> bool:
        """Whether a key is true."""
        return bool(self.value(key, bool, False))

    def choice(self, key: str, known: Iterable[str], default: str | None = None) -> str:
        """A word out of some."""
        words = tuple(known)
        if key not in self.table:
            if default is not None:
                return default
            hint = f"known: {', '.join(words)}"
            raise UsageError(f'the key "{key}" is missing', where=self.place, hint=hint)
        found = self.name(key)
        if found not in words:
            self.fail(key, f'"{found}" is not known here', did_you_mean(found, words))
        return found

    def words(self, key: str, known: Iterable[str] | None = None) -> tuple[str, ...]:
        """A list of texts, each one of `known`."""
        words = None if known is None else tuple(known)
        found = self.value(key, list, [])
        for word in found:
            if not isinstance(word, str):
                self.fail(key, f"expected texts, got {toml_text(word)}")
            if words is not None and word not in words:
                self.fail(key, f'"{word}" is not known here', did_you_mean(word, words))
        return tuple(found)

    def count(self, key: str, default: int, least: int = 0, most: int | None = None) -> int:
        """A whole number within bounds."""
        found: int = self.value(key, int, default)
        if found < least or (most is not None and found > most):
            upper = "or more" if most is None else f"to {most}"
            self.fail(key, f"expected {least} {upper}, got {found}")
        return found

    def size(self, key: str, least: int = 0) -> int | None:
        """A size, a number or a formula of the frame's dimensions; None where it is missing."""
        if key not in self.table:
            return None
        return self.number_of(key, self.table[key], least)

    def size_list(self, key: str, least: int = 1) -> tuple[int, ...] | None:
        """A list of sizes."""
        if key not in self.table:
            return None
        return tuple(self.number_of(key, item, least) for item in self.value(key, list))

    def number_of(self, key: str, found: object, least: int) -> int:
        """A number, or the value of a formula."""
        if isinstance(found, bool) or not isinstance(found, (int, str)):
            self.fail(key, f"expected a number or a formula, got {toml_text(found)}")
        try:
            number = evaluate(found, self.sizes)
        except UsageError as error:
            self.fail(key, error.message, error.hint)
        if number < least:
            formula = f' ("{found}")' if isinstance(found, str) else ""
            self.fail(key, f"expected {least} or more, got {number}{formula}")
        return number

    def tables(self, key: str) -> list[object]:
        """An array of tables."""
        found: list[object] = self.value(key, list, [])
        return found

    def mapping(self, key: str) -> dict[str, object]:
        """A table of any keys."""
        found: dict[str, object] = self.value(key, dict, {})
        return found


def toml_text(value: object) -> str:
    """A TOML value in words, for an error message.

    >>> toml_text(True), toml_text([1]), toml_text("x"), toml_text(2.5)
    ('true', 'a list', '"x"', '2.5')
    """
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, (list, dict)):
        return NAMES[type(value)]
    return f'"{value}"' if isinstance(value, str) else str(value)
