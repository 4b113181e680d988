"""The format's description is itself a frame, and names every key."""

from __future__ import annotations

import re
import subprocess
import sys
import textwrap
from pathlib import Path

from metal4conv.frame import document, passes, reading, synchronization
from metal4conv.frame.reading import read_frame


def example() -> str:
    """The TOML in the description."""
    text = document.__doc__ or ""
    body = text[text.index("    format =") : text.index("\nA name that")]
    return textwrap.dedent(body)


def test_description_is_a_frame(tmp_path: Path) -> None:
    path = tmp_path / "frame.toml"
    path.write_text(example(), "utf-8")
    frame = read_frame(path, {"h": 1080})
    assert [item.name for item in frame.passes] == ["gbuffer", "upscale", "blur", "read back"]
    assert frame.sizes == {"h": 1080, "w": 1280}
    assert frame.resources["color"].dimensions == (1280, 1080, 3, 1)
    assert len(frame.synchronization.barriers) == 2


def test_description_names_every_key() -> None:
    keys = {
        *reading.TOP,
        *(key for keys in reading.KEYS.values() for key in keys),
        *(key for keys in passes.STEP_KEYS.values() for key in keys),
        *(*synchronization.BARRIER_KEYS, *synchronization.FENCE_KEYS, *synchronization.EVENT_KEYS),
    }
    words = {*re.findall(r"[a-z_]+", document.__doc__ or "")}
    assert keys <= words, keys - words


def test_a_frame_without_packages_loads_nothing_heavy() -> None:
    code = (
        "import sys\n"
        "from metal4conv.cli import run\n"
        "assert run(['frame', 'sample_models/frame.toml', '-q']) == 0\n"
        "heavy = {'torch', 'coremltools', 'onnx', 'tensorflow'}\n"
        "print(sorted(heavy & {*sys.modules}))\n"
    )
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True
    )
    assert done.stdout == "[]\n"
