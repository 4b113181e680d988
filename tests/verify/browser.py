"""Headless Chromium, told what to do through the DevTools protocol over a pair of pipes.

Messages are JSON documents that end with a null byte; Chromium reads them from file descriptor 3
and answers on 4.
"""

from __future__ import annotations

import base64
import fcntl
import itertools
import json
import os
import select
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")

FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
    *("--hide-scrollbars", "--remote-debugging-pipe"),
)

START = """
import os, sys
os.dup2(int(sys.argv[1]), 3)
os.dup2(int(sys.argv[2]), 4)
os.execv(sys.argv[3], sys.argv[3:])
"""
"""Gives Chromium the file descriptors that it expects."""

PATIENCE = 60.0
"""Seconds for an answer; a busy machine is slow to start a browser."""

Json = dict[str, Any]


class Browser:
    """A running Chromium with one page, and what it told on its own."""

    def __init__(self, reader: int, writer: int) -> None:
        self.reader, self.writer = reader, writer
        self.numbers = itertools.count(1)
        self.rest = b""
        self.events: list[Json] = []
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        attached = self.call("Target.attachToTarget", targetId=target, flatten=True)
        self.session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.page(f"{domain}.enable")

    def call(self, method: str, session: str | None = None, **parameters: object) -> Json:
        """The result of a command; what else arrives meanwhile is kept."""
        number = self.send(method, session, parameters)
        answer = self.wait(lambda found: found.get("id") == number)
        assert "error" not in answer, f"{method}: {answer['error']}"
        result: Json = answer["result"]
        return result

    def send(self, method: str, session: str | None, parameters: Json) -> int:
        """Sends a command; gives its number."""
        number = next(self.numbers)
        message: Json = {"id": number, "method": method, "params": parameters}
        if session is not None:
            message["sessionId"] = session
        os.write(self.writer, json.dumps(message).encode() + b"\0")
        return number

    def page(self, method: str, **parameters: object) -> Json:
        """The result of a command to the page."""
        return self.call(method, self.session, **parameters)

    def wait(self, is_wanted: Callable[[Json], bool]) -> Json:
        """The next message that is wanted; events are kept."""
        end = time.monotonic() + PATIENCE
        while True:
            while b"\0" in self.rest:
                text, _, self.rest = self.rest.partition(b"\0")
                message: Json = json.loads(text)
                if "method" in message:
                    self.events.append(message)
                if message.get("method") == "Page.javascriptDialogOpening":
                    # until somebody does, the page stands still
                    self.send("Page.handleJavaScriptDialog", self.session, {"accept": False})
                if is_wanted(message):
                    return message
            ready, _, _ = select.select([self.reader], [], [], max(end - time.monotonic(), 0))
            assert ready, f"Chromium did not answer within {PATIENCE:g} s"
            found = os.read(self.reader, 1 << 20)
            assert found, "Chromium ended"
            self.rest += found

    def open(self, address: str) -> None:
        """Opens an address, and forgets what earlier pages told."""
        self.events.clear()
        self.page("Page.navigate", url=address)
        if not any(event["method"] == "Page.loadEventFired" for event in self.events):
            self.wait(lambda found: found.get("method") == "Page.loadEventFired")
        self.settle()

    def settle(self) -> None:
        """Lets the page paint twice, after which what it does of itself is done."""
        self.evaluate("new Promise(f => requestAnimationFrame(() => requestAnimationFrame(f)))")

    def evaluate(self, expression: str) -> Any:  # Any: a JSON value
        """The value of an expression in the page; a promise is awaited."""
        answer = self.page(
            "Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True
        )
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def click(self, x: float, y: float) -> None:
        """A click of the left button."""
        for kind in ("mousePressed", "mouseReleased"):
            self.page("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)
        self.settle()

    def type(self, text: str) -> None:
        """Types into what has the focus."""
        self.page("Input.insertText", text=text)
        self.settle()

    def press(self, key: str, **more: object) -> None:
        """Presses a key, such as Enter."""
        for kind in ("keyDown", "keyUp"):
            self.page("Input.dispatchKeyEvent", type=kind, key=key, **more)
        self.settle()

    def errors(self) -> list[str]:
        """Exceptions, and what stands in the console as an error or a warning."""
        self.settle()
        found = []
        for event in self.events:
            match event["method"]:
                case "Runtime.exceptionThrown":
                    details = event["params"]["exceptionDetails"]
                    found.append(details.get("exception", details).get("description", "exception"))
                case "Log.entryAdded":
                    found.append(event["params"]["entry"]["text"])
                case "Runtime.consoleAPICalled":
                    found.append(f"console: {event['params']['args']}")
                case "Page.javascriptDialogOpening":
                    found.append(f"dialog: {event['params']['message']}")
        return found

    def requests(self) -> list[str]:
        """The addresses of all requests, but for data that stands in the page."""
        return [
            event["params"]["request"]["url"]
            for event in self.events
            if event["method"] == "Network.requestWillBeSent"
            and not event["params"]["request"]["url"].startswith("data:")
        ]

    def refused(self) -> set[str]:
        """The addresses of those requests that the page's policy did not let out."""
        numbers = {
            event["params"]["requestId"]
            for event in self.events
            if event["method"] == "Network.loadingFailed"
            and event["params"].get("blockedReason") == "csp"
        }
        return {
            event["params"]["request"]["url"]
            for event in self.events
            if event["method"] == "Network.requestWillBeSent"
            and event["params"]["requestId"] in numbers
        }

    def screenshot(self, path: Path, *, whole: bool = False) -> None:
        """Writes a picture of what is in view, or of the whole page."""
        found = self.page("Page.captureScreenshot", captureBeyondViewport=whole)
        path.write_bytes(base64.b64decode(found["data"]))

    def show_as(self, width: int, height: int, *, scheme: str = "light", media: str = "") -> None:
        """Sets the size of the window, the color scheme and the medium."""
        self.page(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=False,
        )
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        self.page("Emulation.setEmulatedMedia", media=media, features=features)


@contextmanager
def chromium(folder: Path) -> Iterator[Browser]:
    """A Chromium whose profile is a new folder within `folder`."""
    assert CHROMIUM is not None
    commands, to_chromium = os.pipe()
    from_chromium, answers = os.pipe()
    # no lower than 10, so that neither is in the other's place
    given = [fcntl.fcntl(end, fcntl.F_DUPFD, 10) for end in (commands, answers)]
    process = subprocess.Popen(
        [
            *(sys.executable, "-c", START, *map(str, given), CHROMIUM, *FLAGS),
            *(f"--user-data-dir={folder / 'chromium'}", "about:blank"),
        ],
        pass_fds=given,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    for end in (commands, answers, *given):
        os.close(end)  # so that reading ends when Chromium does
    try:
        yield Browser(from_chromium, to_chromium)
    finally:
        process.terminate()
        process.wait(PATIENCE)
        os.close(from_chromium)
        os.close(to_chromium)
