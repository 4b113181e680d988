"""The log of a run, line by line, so that the parent knows how far a child came that died."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from metal4conv.device.failures import RunFailed
from metal4conv.device.protocol import STEPS, STEPS_FILE, Backing, Record, record_line


class Journal:
    """Writes records to a folder's `steps.jsonl`; `current` is the step that was begun last,
    and the first one before that. `steps` are the names of all that there are, in order."""

    def __init__(self, folder: Path, steps: Sequence[str] = STEPS) -> None:
        self.file = folder / STEPS_FILE
        self.steps = steps
        self.current = Record("begin", 1, steps[0])

    def write(self, record: Record) -> None:
        """Adds a line; it is the system's before this returns, and outlives the process."""
        with self.file.open("a", encoding="utf-8") as file:
            file.write(record_line(record) + "\n")

    @contextmanager
    def step(
        self, name: str, case: str | None = None, backing: Backing | None = None
    ) -> Iterator[dict[str, Any]]:  # Any: JSON types
        """Frames a step of `steps`; what the block puts into the mapping goes with its end."""
        number = self.steps.index(name) + 1
        self.current = Record("begin", number, name, case, backing)
        self.write(self.current)
        data: dict[str, Any] = {}
        yield data
        self.write(Record("done", number, name, case, backing, data=data or None))

    def note(self, detail: str | None = None, data: Mapping[str, Any] | None = None) -> None:
        """A fact of the current step: `detail` is for the user, `data` for the program."""
        at = self.current
        self.write(
            Record("note", at.number, at.name, at.case, at.backing, detail=detail, data=data)
        )

    def fail(self, failure: RunFailed) -> None:
        """Ends the log with what went wrong in the current step."""
        at = self.current
        data = {"hint": failure.hint} if failure.hint else None
        place = (at.number, at.name, at.case, at.backing)
        self.write(Record("failed", *place, failure.kind, failure.message, data))

    def finish(self) -> None:
        """Ends the log of a run that did everything."""
        self.write(Record("finished"))
