"""The layers of the package: imports point down only, and heavy packages stay where they belong."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "metal4conv"

LAYERS = [
    {"errors", "lazy"},
    {"registry", "report", "outputs", "stand_in"},
    {"mil"},
    {"execute"},
    {"layout"},
    {"frontends", "device", "shader", "frame", "view"},
    {"verify"},
    {"precision"},
    {"packaging", "assembly"},
    {"precision_search", "shading_costs", "shading_source"},
    {"conversion", "reshaping", "inspection", "machine", "shading"},
    {"given"},
    {"running"},
    {"debug", "build"},
    {"console"},
    {"commands"},
    {"cli"},
    {"__main__"},
]
"""From the bottom up; members of one set do not know each other, except as ALLOWED says."""

ALLOWED = {("errors", "lazy"), ("lazy", "errors"), ("reshaping", "conversion")}

ONLY_IN = {
    "coremltools": {"frontends"},
    "tensorflow": {"frontends"},
    "keras": {"frontends"},
    "onnx": {"frontends"},
    "onnxruntime": {"frontends"},
    "torch": {"frontends", "execute"},
    "objc": {"device"},
    "Metal": {"device"},
    "click": {"cli", "commands", "console"},
    "rich": {"commands", "console"},
}
"""Packages that only these parts may import."""


def modules() -> list[Path]:
    return sorted(PACKAGE.rglob("*.py"))


def part_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imports_of(path: Path) -> list[tuple[str, bool]]:
    """Imported modules, and whether the import is for type checking only."""
    tree = ast.parse(path.read_text("utf-8"))
    typing_only = {
        inner
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
        for inner in ast.walk(node)
    }
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [(alias.name, node in typing_only) for alias in node.names]
        if isinstance(node, ast.ImportFrom) and node.module:
            names = [f"{node.module}.{alias.name}" for alias in node.names]
            direct = node.module != "metal4conv"
            found += [(node.module, node in typing_only)] if direct else [(n, False) for n in names]
    return found


def level(part: str) -> int:
    return next(index for index, layer in enumerate(LAYERS) if part in layer)


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_point_down(path: Path) -> None:
    part = part_of(path)
    if part == "__init__":
        return  # the lazy public API, which imports when it is used
    for name, typing_only in imports_of(path):
        top, _, rest = name.partition(".")
        if top != "metal4conv" or not rest or typing_only:
            continue
        other = rest.partition(".")[0]
        if other in ("__version__", part):
            continue
        known = (part, other) in ALLOWED or level(other) < level(part)
        assert known, f"{part} imports {other}, which is not below it"


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_packages_stay_in_their_part(path: Path) -> None:
    for name, typing_only in imports_of(path):
        top = name.partition(".")[0]
        if top in ONLY_IN and not typing_only:
            assert part_of(path) in ONLY_IN[top], f"{top} is imported in {part_of(path)}"


HEAVY = {"numpy", "torch", "coremltools", "tensorflow", "onnx", "rich", "google", "sympy", "keras"}


@pytest.mark.parametrize(
    "arguments", [["--help"], ["convert", "--help"], ["view", "--help"], ["--version"]]
)
def test_help_loads_nothing_heavy(arguments: list[str]) -> None:
    code = (
        "import sys\n"
        "from metal4conv.cli import run\n"
        f"assert run({arguments!r}) == 0\n"
        f"print('loaded', sorted({HEAVY!r} & {{name.partition('.')[0] for name in sys.modules}}))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "loaded []"
