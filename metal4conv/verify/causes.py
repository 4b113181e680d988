"""The causes in a report of `debug`, with what its findings say about them."""

from __future__ import annotations

from dataclasses import dataclass

from metal4conv.report import Finding, Report


@dataclass(frozen=True)
class CauseText:
    """Why an operation makes the outputs differ, in words."""

    kind: str
    operation: str
    message: str
    hint: str | None


def cause_texts(report: Report) -> list[CauseText]:
    """The causes of a difference; none in a report of `verify`."""
    return [
        CauseText(
            cause["kind"],
            cause["operation"],
            cause.get("message") or (found.message if found else cause["kind"]),
            cause.get("hint") or (found.hint if found else None),
        )
        for cause in report.data.get("causes", ())
        for found in [finding_at(report, cause["operation"])]
    ]


def finding_at(report: Report, operation: str) -> Finding | None:
    """The failure that is about an operation."""
    about = [item for item in report.findings if item.where == operation]
    return next((item for item in about if item.severity == "failure"), None)


def other_findings(report: Report) -> list[Finding]:
    """Findings, but for those that the causes tell already."""
    told = [finding_at(report, cause.operation) for cause in cause_texts(report)]
    return [item for item in report.findings if item not in told]
