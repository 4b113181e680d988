"""Source text that an app compiles in to bind and run a shader: Swift, Objective-C or metal-cpp.

One file a language. The text depends on the manifest alone: equal manifests give equal bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from metal4conv.errors import UsageError, did_you_mean
from metal4conv.shader.document import ShaderManifest
from metal4conv.shader.emit.cpp import cpp_text
from metal4conv.shader.emit.objc import objc_text
from metal4conv.shader.emit.plan import ShaderPlan, plan_of
from metal4conv.shader.emit.swift import swift_text

EMITTERS: Mapping[str, Callable[[ShaderPlan], str]] = {
    "swift": swift_text,
    "objc": objc_text,
    "cpp": cpp_text,
}

FILE_SUFFIXES: Mapping[str, str] = {
    "swift": ".shader.swift",
    "objc": ".shader.h",
    "cpp": ".shader.hpp",
}
"""What follows the shader's name in the name of an emitted file."""


def emit_shader(manifest: ShaderManifest, language: str) -> str:
    """The text of one file in `swift`, `objc` or `cpp`.

    `UnsupportedModel` names an argument that no code is written for.
    """
    if language not in EMITTERS:
        raise UsageError(
            f'no code is written in "{language}"', hint=did_you_mean(language, EMITTERS)
        )
    return EMITTERS[language](plan_of(manifest))
