"""Tables from an operation's official name to the function that handles it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Generic, TypeVar, cast

from metal4conv.errors import UnsupportedModel, did_you_mean

Handler = TypeVar("Handler", bound=Callable[..., object])
Function = TypeVar("Function", bound=Callable[..., object])


class OpTable(Generic[Handler]):
    """Functions by operation name and by the version from which they hold.

    >>> OPS: OpTable = OpTable("toy operation")
    >>> @OPS("double")
    ... def double(x): return 2 * x
    >>> OPS.lookup("double", 17)(21)
    42
    """

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.handlers: dict[str, dict[int, Handler]] = {}

    def __call__(self, *names: str, since: int = 0) -> Callable[[Function], Function]:
        """Decorator that registers a function under `names` from version `since` on."""

        def register(function: Function) -> Function:
            for name in names:
                self.add(name, cast(Handler, function), since=since)
            return function

        return register

    def add(self, name: str, handler: Handler, *, since: int = 0) -> None:
        """A table row; a second one for the same name and version is a mistake."""
        versions = self.handlers.setdefault(name, {})
        if since in versions:
            raise ValueError(f"{self.kind} {name} is registered twice for version {since}")
        versions[since] = handler

    def lookup(self, name: str, version: int) -> Handler:
        """The function with the highest `since` that is not above `version`."""
        versions = self.handlers.get(name)
        if versions is None:
            raise UnsupportedModel(
                f'{self.kind} "{name}" is not known here', hint=did_you_mean(name, self.close(name))
            )
        fitting = [since for since in versions if since <= version]
        if not fitting:
            raise UnsupportedModel(
                f"{self.kind} {name} exists from version {min(versions)} on, not in {version}"
            )
        return versions[max(fitting)]

    def close(self, name: str) -> list[str]:
        """Known names that start like `name`, for the error message."""
        return sorted(known for known in self.handlers if known[:3] == name[:3])

    def __contains__(self, name: str) -> bool:
        return name in self.handlers

    def __iter__(self) -> Iterator[str]:
        return iter(sorted(self.handlers))
