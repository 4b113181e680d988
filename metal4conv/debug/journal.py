"""What a search has asked and heard so far, in a file: a killed search goes on where it was.

Format `metal4conv.search/1`, a JSON object: `about` says what is searched (a search goes on for
the same only), `steps` has each question with its answer, in the order in which they were asked.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from metal4conv.debug.check import Answer
from metal4conv.errors import DamagedFile, OutputError, UsageError

FORMAT = "metal4conv.search/1"
WORDS = {
    "package_sha256": "the package is not the one",
    "check": "the check is not the one",
    "reference": "what the package is compared with is not what",
    "inputs_sha256": "the inputs are not those",
    "function": "the function is not the one",
    "mode": "what is to be done is not what",
}
"""What `about` may differ in, as a message begins."""

Json = dict[str, Any]  # Any: a JSON object


@dataclass
class Journal:
    """Answers by question, written to a file after each one."""

    path: Path
    about: Mapping[str, str]
    steps: list[Json] = field(default_factory=list)
    asked: int = 0
    """How many answers are from this process."""

    def known(self, question: str) -> Answer | None:
        """The answer that was heard before."""
        for step in self.steps:
            if step["question"] == question:
                return Answer(step["answer"], step["detail"])
        return None

    def add(self, question: str, answer: Answer, **more: object) -> None:
        """Notes an answer; it is on disk when this returns."""
        self.asked += 1
        row = {"question": question, "answer": answer.verdict, "detail": answer.detail}
        self.steps.append({**row, **more})
        self.write()

    def write(self, result: Json | None = None) -> None:
        """Writes the file; a reader, and a process that is killed, see the old or the new one."""
        document: Json = {"format": FORMAT, "about": dict(self.about), "steps": self.steps}
        if result is not None:
            document["result"] = result
        aside = self.path.with_name(f".{self.path.name}.{os.getpid()}")
        try:
            aside.write_text(json.dumps(document, indent=1) + "\n", "utf-8")
            aside.replace(self.path)
        except OSError as error:
            raise OutputError(f"cannot write {self.path}: {error.strerror}") from None
        finally:
            aside.unlink(missing_ok=True)


def open_journal(path: Path, about: Mapping[str, str], *, resume: bool) -> Journal:
    """A new journal, or with `resume` the one that is there and says that it is about the same."""
    if not resume:
        if path.exists():
            raise UsageError(
                f"{path} is there already",
                where="-o",
                hint="go on with --resume, or name another folder",
            )
        return Journal(path, about)
    if not path.exists():
        raise UsageError(f"there is nothing to go on with: no {path}", where="--resume")
    document = read_document(path)
    for key, what in WORDS.items():
        was, now = document["about"].get(key, ""), about.get(key, "")
        if was != now:
            raise UsageError(
                f"{what} that {path} is about",
                where=[f"then: {was or 'none'}", f"now: {now or 'none'}"],
                hint="start anew in another folder, without --resume",
            )
    return Journal(path, about, list(document["steps"]))


def read_document(path: Path) -> Json:
    """The content of a journal; `DamagedFile` for what is none."""
    try:
        document = json.loads(path.read_text("utf-8"))
        if document["format"] != FORMAT:
            raise ValueError(f'its format is "{document["format"]}", expected "{FORMAT}"')
        dict(document["about"])
        for step in document["steps"]:
            str(step["question"] + step["detail"])
            if step["answer"] not in ("good", "bad", "skip"):
                raise ValueError(f'an answer is "{step["answer"]}"')
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DamagedFile(
            f"{path} cannot be read: {error}", hint="start anew in another folder"
        ) from None
    found: Json = document
    return found


def inputs_sha256(inputs: Mapping[str, np.ndarray]) -> str:
    """The hash of arrays with their names, types and shapes."""
    digest = hashlib.sha256()
    for name in sorted(inputs):
        array = np.ascontiguousarray(inputs[name])
        digest.update(f"{name}\n{array.dtype}\n{array.shape}\n".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()
