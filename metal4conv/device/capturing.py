"""One submission of a session: encoded, captured if it is the first, waited for."""

from __future__ import annotations

from collections.abc import Callable

from metal4conv.device.protocol import Backing
from metal4conv.device.session import DeviceSession, Request
from metal4conv.device.submission import Submittable, commit_and_wait, start_capture


def submit(
    session: DeviceSession[Request],
    work: Submittable,
    step: str,
    encode: Callable[[], None],
    place: tuple[str, Backing | None],
    experience: str,
) -> float | None:
    """Work from its encoding, the step of that name, to its end; the GPU's seconds, None where
    they are not told.

    `place` is the case and the backing, `experience` what is known of work that never ends.
    """
    journal, path = session.journal, session.request.capture
    manager = None
    with journal.step(step, *place):
        if path is not None and not session.is_captured:
            manager = start_capture(session.api, session.device, path)
            session.is_captured = True
        encode()
    with journal.step("commit and wait", *place):
        try:
            timeout, patience = session.request.timeout_ms, session.patience
            seconds = commit_and_wait(
                session.api, work, timeout, journal.note, patience, experience
            )
        finally:
            if manager is not None:
                manager.stopCapture()
        if seconds is None and session.patience:
            session.patience = 0.0  # it was waited for in vain once
            journal.note("no commit feedback with GPU times came")
    return seconds
