"""Source text that an app compiles in: the layout of a package in Swift, Objective-C or C.

One file a language. The text depends on the manifest alone: equal manifests give equal bytes.
"""

from __future__ import annotations

from collections.abc import Callable

from metal4conv.errors import UsageError, did_you_mean
from metal4conv.layout.document import LayoutManifest
from metal4conv.layout.emit.cpp import cpp_text
from metal4conv.layout.emit.objc import objc_text
from metal4conv.layout.emit.plan import Plan, plan_of
from metal4conv.layout.emit.swift import swift_text

EMITTERS: dict[str, Callable[[Plan], str]] = {
    "swift": swift_text,
    "objc": objc_text,
    "cpp": cpp_text,
}


def emit(manifest: LayoutManifest, language: str) -> str:
    """The text of one file in `swift`, `objc` or `cpp`.

    `UnsupportedModel` names a tensor that cannot be bound.
    """
    if language not in EMITTERS:
        raise UsageError(
            f'no code is written in "{language}"', hint=did_you_mean(language, EMITTERS)
        )
    return EMITTERS[language](plan_of(manifest))
