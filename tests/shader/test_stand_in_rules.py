"""What the stand-in refuses: a file each in `msl/refused/`, with the message it has to give."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from metal4conv.errors import RejectedShader
from metal4conv.shader.compiler import HostBuild
from metal4conv.shader.host import HostShader
from tests.shader.pieces import MSL

REFUSED = sorted((MSL / "refused").glob("*.metal"))

ACCEPTED = {
    "static_k": ("(1, 16, 40,", "(1, 16, tensor_ops::dynamic_length_v<int>,"),
    "bfloat_in_26_0": ("// system: 26.0", "// system: 26.1"),
    "right_extents": ("false, false, false", "false, true, false"),
    "simdgroup_below_fragment": ("<execution_simdgroup>", "<execution_thread>"),
}
"""One edit that mends a refused file: it shows that the rule, and nothing else, refused it."""


def requested(text: str, key: str, default: str = "") -> str:
    """What a file says of itself in a comment at its top."""
    found = re.search(rf"^// {key}: (.*)$", text, re.M)
    return found[1] if found else default


def build_for(text: str) -> HostBuild:
    """The system that a file is for."""
    major, minor = requested(text, "system", "26.0").split(".")
    return HostBuild(system=(int(major), int(minor)), unoptimised=True)


@pytest.mark.parametrize("path", REFUSED, ids=lambda path: path.stem)
def test_refused(path: Path, shader_of: Callable[..., HostShader]) -> None:
    text = path.read_text()
    with pytest.raises(RejectedShader) as caught:
        shader_of(f"refused/{path.name}", build=build_for(text)).opened()
    expected = "|".join(map(re.escape, requested(text, "refused").split("|")))
    assert re.search(expected, str(caught.value))


@pytest.mark.parametrize("name", ACCEPTED)
def test_accepted_after_one_edit(name: str, shader_of: Callable[..., HostShader]) -> None:
    before, after = ACCEPTED[name]
    text = "// system: 26.0\n" + (MSL / "refused" / f"{name}.metal").read_text()
    assert before in text
    text = text.replace(before, after)
    shader_of(f"accepted_{name}\n{text}", build=build_for(text)).opened()


def test_a_rule_names_the_line_that_breaks_it(shader_of: Callable[..., HostShader]) -> None:
    with pytest.raises(RejectedShader) as caught:
        shader_of("refused/static_k.metal").opened()
    text = (MSL / "refused" / "static_k.metal").read_text()
    line = text[: text.index("multiplication.run")].count("\n") + 1
    (where,) = caught.value.where
    assert where.startswith(f"static_k.metal, line {line}: a static k")
    assert "static assertion failed" in caught.value.output
