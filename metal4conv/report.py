"""What a command found out: data, findings and the exit code that follows from them."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, is_dataclass
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    import numpy as np

Severity = Literal["info", "warning", "failure"]


@dataclass(frozen=True)
class Finding:
    """Something the user should know about a result that exists all the same.

    `code` is a stable identifier for scripts (`int64-input-cast`), `where` names the thing in the
    user's model, `hint` what to do about it.
    """

    severity: Severity
    code: str
    message: str
    where: str | None = None
    hint: str | None = None


@dataclass(frozen=True, eq=False)
class Picture:
    """One tensor as the source and the package gave it, for pages that show tensors as pictures.

    `case` is the label of the case in the report's data; `expected` is None without a source.
    """

    name: str
    case: str
    expected: np.ndarray | None
    actual: np.ndarray


@dataclass(frozen=True)
class Report:
    """The result of one command.

    `kind` names the command, `data` is what `--json` prints (JSON types only), `files` are the
    paths that were written or left untouched because their content was the same. `pictures` are
    what an HTML page may show; `--json` leaves them out.
    """

    kind: str
    data: dict[str, Any] = field(default_factory=dict)  # Any: a JSON document
    findings: tuple[Finding, ...] = ()
    files: tuple[str, ...] = ()
    pictures: tuple[Picture, ...] = field(default=(), repr=False, compare=False)

    @property
    def passed(self) -> bool:
        """Whether no finding is a failure."""
        return all(finding.severity != "failure" for finding in self.findings)

    @property
    def exit_code(self) -> int:
        """0, or 1 when the answer is no."""
        return 0 if self.passed else 1

    def to_json(self) -> dict[str, Any]:  # Any: a JSON document
        """The one document that `--json` prints."""
        document: dict[str, Any] = {"command": self.kind, "passed": self.passed, **self.data}
        document["findings"] = [drop_none(asdict(finding)) for finding in self.findings]
        if self.files:
            document["files"] = list(self.files)
        return document


def drop_none(values: dict[str, Any]) -> dict[str, Any]:  # Any: a JSON document
    """The same mapping without the keys that hold nothing.

    >>> drop_none({"a": 1, "b": None})
    {'a': 1}
    """
    return {key: value for key, value in values.items() if value is not None}


def as_json(value: object) -> Any:  # Any: a JSON document
    """A dataclass (tuples become lists) as JSON types."""
    if is_dataclass(value) and not isinstance(value, type):
        return as_json(asdict(value))
    if isinstance(value, dict):
        return {str(key): as_json(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [as_json(item) for item in value]
    return value
