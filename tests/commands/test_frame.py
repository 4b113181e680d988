"""`metal4conv frame`: tables, document and picture, and what it says of files that do not fit."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree

import pytest

from metal4conv.mil.interface import LAYOUT_KEY
from tests.conftest import SAMPLES, Done
from tests.layout import packages
from tests.layout.manifests import manifest_with

GOLDEN = Path(__file__).parents[1] / "golden"
FRAMES = Path(__file__).parents[1] / "frame" / "frames"
SVG = "{http://www.w3.org/2000/svg}"


@pytest.mark.parametrize(
    "name", ["wwdc25_occlusion", "wwdc25_without_barriers", "async_compute_event_missing"]
)
def test_output(
    name: str,
    metal4conv: Callable[..., Done],
    monkeypatch: pytest.MonkeyPatch,
    request: pytest.FixtureRequest,
) -> None:
    monkeypatch.chdir(FRAMES)
    done = metal4conv("frame", f"{name}.toml")
    text = (
        f"$ metal4conv frame {name}.toml\n{done.stdout}--- stderr\n{done.stderr}--- {done.code}\n"
    )
    file = GOLDEN / f"frame_{name}.txt"
    if request.config.getoption("--rewrite-golden"):
        file.write_text(text, "utf-8")
    assert text == file.read_text("utf-8")


def test_json_is_one_document(metal4conv: Callable[..., Done]) -> None:
    done = metal4conv("frame", FRAMES / "wwdc25_without_barriers.toml", "--json")
    document = json.loads(done.stdout)
    assert (done.code, done.stderr, document["command"]) == (1, "", "frame")
    assert document["passed"] is False
    assert [row["status"] for row in document["synchronization"]] == ["missing"] * 4
    assert document["synchronization"][3]["after"] == ["machine_learning"]
    assert document["resident"] == {
        "main": ["albedo", "depth", "geometry", "normals", "occlusion", "scratch"]
    }
    kinds = {(row["from"], row["to"], row["frames_ago"]) for row in document["dependencies"]}
    assert ("occlusion", "lighting", 0) in kinds
    assert ("lighting", "gbuffer", 1) in kinds


def test_quiet_says_nothing_of_a_frame_in_order(metal4conv: Callable[..., Done]) -> None:
    done = metal4conv("frame", FRAMES / "wwdc25_occlusion.toml", "-q")
    assert (done.code, done.stdout, done.stderr) == (0, "", "")
    assert metal4conv("frame", FRAMES / "wwdc25_without_barriers.toml", "-q").stdout


def test_another_size(metal4conv: Callable[..., Done]) -> None:
    done = metal4conv("frame", FRAMES / "upscaler_fits.toml", "--dim", "h=721")
    assert done.code == 1
    assert "dimension h cannot be 721, allowed is 16 to 2160 in steps of 8" in done.stderr
    done = metal4conv("frame", FRAMES / "upscaler_fits.toml", "--dim", "h=0")
    assert done.code == 2
    assert "expected 1 or more, got 0" in done.stderr
    done = metal4conv("frame", FRAMES / "upscaler_fits.toml", "--dim", "hight=720")
    assert done.code == 2
    assert 'the frame has no dimension "hight"' in done.stderr


def test_package_with_its_manifest(tmp_path: Path, metal4conv: Callable[..., Done]) -> None:
    manifest = manifest_with(
        [("x", "input", "float32", (4, 10)), ("y", "output", "float32", (4, 7))], name="classifier"
    )
    build = packages.classifier()
    build.metadata(LAYOUT_KEY, json.dumps(manifest.to_json()))
    build.write(tmp_path / "classifier.mlpackage")
    frame = (FRAMES / "read_back.toml").read_text("utf-8")
    frame = frame.replace("manifest", "package").replace("networks/classifier.layout.json", "{}")
    (tmp_path / "frame.toml").write_text(frame.replace("{}", "classifier.mlpackage"), "utf-8")
    done = metal4conv("frame", tmp_path / "frame.toml")
    assert done.code == 1
    assert "has dimensions [10, 1], and" in done.stderr
    assert "has [10, 4], innermost first" in done.stderr


def test_picture(tmp_path: Path, metal4conv: Callable[..., Done]) -> None:
    picture = tmp_path / "pictures" / "frame.svg"
    done = metal4conv("frame", FRAMES / "async_compute_event_missing.toml", "--svg", picture)
    assert done.code == 1
    root = ElementTree.parse(picture).getroot()
    texts = shown_texts(root)
    assert {"gbuffer", "occlude", "shadows", "lighting", "occlusion", "shadow map"} <= {*texts}
    assert "event of occlude" in texts
    red = [item for item in root.iter(f"{SVG}path") if item.get("stroke") == "#d0021b"]
    assert [item.findtext(f"{SVG}title") for item in red] == [
        "WAR geometry: occlude before gbuffer, 1 frame ago",
        "WAW intermediates of occlude: occlude before occlude, 1 frame ago",
        "RAW occlusion: occlude before lighting",
    ]
    stamp = picture.stat().st_mtime_ns
    metal4conv("frame", FRAMES / "async_compute_event_missing.toml", "--svg", picture)
    assert picture.stat().st_mtime_ns == stamp


def shown_texts(root: ElementTree.Element) -> list[str]:
    """The texts of a picture, without what only a pointer shows."""
    return [
        (item.text or "") + "".join(inner.tail or "" for inner in item)
        for item in root.iter(f"{SVG}text")
    ]


def test_depfile(
    tmp_path: Path, metal4conv: Callable[..., Done], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(FRAMES)
    done = metal4conv("frame", "read_back.toml", "--depfile", tmp_path / "frame.d")
    assert done.code == 2
    assert "--depfile needs --svg" in done.stderr
    picture, depfile = tmp_path / "frame.svg", tmp_path / "frame.d"
    assert metal4conv("frame", "read_back.toml", "--svg", picture, "--depfile", depfile).code == 0
    rule = depfile.read_text("utf-8").splitlines()[0]
    assert rule == f"{picture}: read_back.toml networks/classifier.layout.json"


def test_picture_does_not_take_a_folder(tmp_path: Path, metal4conv: Callable[..., Done]) -> None:
    (tmp_path / "keep").mkdir()
    done = metal4conv("frame", FRAMES / "read_back.toml", "--svg", tmp_path / "keep")
    assert done.code == 2
    assert "is a folder" in done.stderr
    assert (tmp_path / "keep").is_dir()


def test_names_are_text_in_the_picture(tmp_path: Path, metal4conv: Callable[..., Done]) -> None:
    frame = (FRAMES / "single_buffered.toml").read_text("utf-8")
    frame = frame.replace('"uniforms"', "'<b>&\"x'").replace('"draw"', '"</svg> \'draw"')
    (tmp_path / "frame.toml").write_text(frame, "utf-8")
    picture = tmp_path / "frame.svg"
    assert metal4conv("frame", tmp_path / "frame.toml", "--svg", picture).code == 1
    texts = shown_texts(ElementTree.parse(picture).getroot())
    assert '<b>&"x' in texts
    assert "</svg> 'draw" in texts


def test_sample_frame(metal4conv: Callable[..., Done]) -> None:
    done = metal4conv("frame", SAMPLES / "frame.toml")
    assert (done.code, done.stderr) == (0, "")


HEAD = 'format = "metal4conv.frame/1"\n'
TEXTURE = '[[texture]]\nname = "image"\n'
PASS = '[[pass]]\nname = "draw"\nkind = "render"\nattachments = ["image"]\n'
BAD = {
    "no_format": ("", 'key format: expected format = "metal4conv.frame/1", got none'),
    "not_toml": ("a = ", "is not TOML: Invalid value (at end of document)"),
    "deep": (f"a = {'[' * 5000}", "is not TOML: "),
    "unknown_key": (f"{HEAD}[[textures]]\n", 'there is no key "textures" here'),
    "unknown_key_hint": (f"{HEAD}[[textures]]\n", 'did you mean "texture"?'),
    "no_passes": (HEAD, "key pass: a frame needs passes, and there are none"),
    "not_a_table": (f"{HEAD}pass = [3]\n", "expected a table, got 3"),
    "not_a_list": (f"{HEAD}pass = 3\n", "key pass: expected a list, got 3"),
    "no_name": (
        f'{HEAD}[[pass]]\nkind = "compute"\n',
        '[[pass]] number 1: the key "name" is missing',
    ),
    "empty_name": (f'{HEAD}[[texture]]\nname = ""\n', "expected a name, got an empty text"),
    "hidden_name": (f'{HEAD}[[texture]]\nname = "a\\u001b[31m"\n', "characters that cannot be"),
    "kind": (f'{HEAD}[[pass]]\nname = "a"\nkind = "rendr"\n', 'did you mean "render"?'),
    "kind_key": (
        f'{HEAD}[[pass]]\nname = "a"\nkind = "compute"\nattachments = []\n',
        'there is no key "attachments" here',
    ),
    "two_passes": (f"{HEAD}{TEXTURE}{PASS}{PASS}", 'there are two passes "draw"'),
    "two_names": (f'{HEAD}{TEXTURE}[[buffer]]\nname = "image"\n{PASS}', 'there is another "image"'),
    "resource": (
        f"{HEAD}{TEXTURE}{PASS}reads = ['imgae']\n",
        '[[pass]] "draw", reads, key resource: there is no resource "imgae"',
    ),
    "stage": (
        f"{HEAD}{TEXTURE}{PASS}reads = [{{ resource = 'image', stages = ['dispatch'] }}]\n",
        'key stages: "dispatch" is not known here',
    ),
    "frames_ago": (
        f"{HEAD}{TEXTURE}{PASS}reads = [{{ resource = 'image', frames_ago = -1 }}]\n",
        "key frames_ago: expected 0 to 16, got -1",
    ),
    "in_flight": (f"{HEAD}frames_in_flight = 0\n{PASS}{TEXTURE}", "expected 1 to 8, got 0"),
    "dims": (f'{HEAD}[dims]\nh = "x"\n', '[dims], key h: expected a number, got "x"'),
    "formula": (
        f'{HEAD}[dims]\nh = 4\n[[buffer]]\nname = "b"\nbytes = "4*w"\n',
        'key bytes: formula "4*w" needs the size of "w"',
    ),
    "size": (
        f'{HEAD}[dims]\nh = 4\n[[tensor]]\nname = "t"\nshape = ["h-4"]\n',
        'key shape: expected 1 or more, got 0 ("h-4")',
    ),
    "both_orders": (
        f'{HEAD}[[tensor]]\nname = "t"\nshape = [1]\ndimensions = [1]\n',
        "shape and dimensions say the same",
    ),
    "no_heap": (
        f'{HEAD}[[buffer]]\nname = "b"\nbytes = 4\nheap = "h"\n',
        'key heap: there is no heap "h"',
    ),
    "heap_bytes": (
        f'{HEAD}[[heap]]\nname = "h"\n[[buffer]]\nname = "b"\nheap = "h"\n',
        "key heap: what is placed in a heap needs its bytes",
    ),
    "no_buffer": (
        f'{HEAD}[[tensor]]\nname = "t"\nbuffer = "b"\n',
        'key buffer: there is no buffer "b"',
    ),
    "offset": (
        f'{HEAD}[[tensor]]\nname = "t"\noffset = 4\n',
        "key offset: an offset needs a buffer",
    ),
    "copies": (
        f'{HEAD}[[buffer]]\nname = "b"\n[[tensor]]\nname = "t"\nbuffer = "b"\ncopies = 2\n',
        "key copies: it has the copies of what it lives in",
    ),
    "part_of_texture": (
        f"{HEAD}{TEXTURE}{PASS}reads = [{{ resource = 'image', bytes = 4 }}]\n",
        'only buffers have parts, "image" is a texture',
    ),
    "barrier_pass": (
        f'{HEAD}{TEXTURE}{PASS}[[barrier]]\npass = "dra"\n',
        '[[barrier]] number 1, key pass: the GPU has no pass "dra"',
    ),
    "barrier_stage": (
        f'{HEAD}{TEXTURE}{PASS}[[barrier]]\npass = "draw"\nform = "consumer"\n'
        'after = ["fragmnt"]\nbefore = ["vertex"]\n',
        'key after: "fragmnt" is not known here',
    ),
    "barrier_missing_stage": (
        f'{HEAD}{TEXTURE}{PASS}[[barrier]]\npass = "draw"\nform = "consumer"\nafter = ["tile"]\n',
        'the key "before" is missing',
    ),
    "barrier_step": (
        f'{HEAD}{TEXTURE}{PASS}[[barrier]]\npass = "draw"\nform = "encoder"\n'
        'after = ["vertex"]\nbefore = ["vertex"]\n',
        'a barrier within pass "draw" stands before one of its steps',
    ),
    "event_order": (
        f"{HEAD}{TEXTURE}{PASS}"
        f'{PASS.replace("draw", "later")}[[event]]\nsignal = "later"\nwait = "draw"\n',
        '"draw" is not listed after "later", which signals the event',
    ),
    "fence_queue": (
        f"{HEAD}{TEXTURE}{PASS}"
        f'{PASS.replace("draw", "other")}queue = "second"\n'
        '[[fence]]\nupdate = { pass = "draw", after = ["fragment"] }\n'
        'wait = { pass = "other", before = ["vertex"] }\n',
        "a fence works within a queue",
    ),
    "wait_later": (
        f'{HEAD}{TEXTURE}[[pass]]\nname = "read"\nkind = "cpu"\nreads = ["image"]\n'
        f'waits_for = ["draw"]\n{PASS}',
        'the pass "draw" is committed later, so this would never end',
    ),
    "residency": (
        f'{HEAD}{TEXTURE}{PASS}[[residency_set]]\nname = "s"\nresources = ["imag"]\n',
        '[[residency_set]] number 1, key resources: "imag" is not known here',
    ),
    "no_manifest": (
        f'{HEAD}[[pass]]\nname = "n"\nkind = "machine_learning"\nmanifest = "no.json"\n',
        "no.json is not there",
    ),
    "no_package": (
        f'{HEAD}[[pass]]\nname = "n"\nkind = "machine_learning"\npackage = "no.mlpackage"\n',
        'at frame.toml: [[pass]] "n"',
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_file_that_does_not_fit(
    name: str, tmp_path: Path, metal4conv: Callable[..., Done], monkeypatch: pytest.MonkeyPatch
) -> None:
    text, message = BAD[name]
    monkeypatch.chdir(tmp_path)
    Path("frame.toml").write_text(text, "utf-8")
    done = metal4conv("frame", "frame.toml")
    assert (done.code, done.stdout) == (2, "")
    assert "frame.toml" in done.stderr
    shown = done.stderr.replace("\n  at ", " at ").replace("\n  hint: ", " ")
    assert all(words in shown for words in message.split(": ", 1))


NETWORK = """
[dims]
h = 64
w = 64
[[tensor]]
name = "t"
[[tensor]]
name = "u"
[[pass]]
name = "n"
kind = "machine_learning"
manifest = "%s"
"""


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ("inputs = { colour = 't' }", 'the network has no input "colour"'),
        ("outputs = { upscale = 't' }", 'the network has no output "upscale"'),
        ("dims = { height = 4 }", 'the network has no dimension "height"'),
        ("intermediates = 'x'", 'no heap "x"'),
        ("package = 'x'", "the package has its manifest"),
    ],
)
def test_network_that_does_not_fit(
    keys: str, message: str, tmp_path: Path, metal4conv: Callable[..., Done]
) -> None:
    manifest = FRAMES / "networks" / "upscaler.layout.json"
    (tmp_path / "frame.toml").write_text(f"{HEAD}{NETWORK % manifest}{keys}\n", "utf-8")
    done = metal4conv("frame", tmp_path / "frame.toml")
    assert done.code == 2
    assert message in done.stderr
    assert '[[pass]] "n"' in done.stderr


def test_network_without_sizes(tmp_path: Path, metal4conv: Callable[..., Done]) -> None:
    manifest = FRAMES / "networks" / "upscaler.layout.json"
    frame = f"{HEAD}{NETWORK % manifest}".replace("h = 64\n", "")
    (tmp_path / "frame.toml").write_text(frame, "utf-8")
    done = metal4conv("frame", tmp_path / "frame.toml")
    assert done.code == 2
    assert 'the network\'s dimension "h" has no size' in done.stderr


def test_damaged_manifest(tmp_path: Path, metal4conv: Callable[..., Done]) -> None:
    (tmp_path / "net.json").write_text("{", "utf-8")
    (tmp_path / "frame.toml").write_text(f"{HEAD}{NETWORK % 'net.json'}", "utf-8")
    done = metal4conv("frame", tmp_path / "frame.toml")
    assert done.code == 3
    assert "net.json is not JSON" in done.stderr


@pytest.mark.parametrize(
    ("text", "message", "hint"),
    [
        ("", "expected format", "--help shows a small frame"),
        ('format = "metal4conv.frame/1"', "a frame needs passes", "--help shows a small frame"),
        (
            'format = "metal4conv.frame/1"\n[pass]\nname = "a"',
            "expected a list, got a table",
            "[[pass]]",
        ),
        (
            'format = "metal4conv.frame/1"\n[[pass]]\nname = "a"',
            'the key "kind" is missing',
            "machine_learning",
        ),
        (
            'format = "metal4conv.frame/1"\n[[pass]]\nname = "a"\nkind = "cpu"\nreads = ["b"]',
            'there is no resource "b"',
            "[[texture]]",
        ),
    ],
)
def test_first_attempts_are_told_what_to_write(
    text: str, message: str, hint: str, metal4conv: Callable[..., Done], tmp_path: Path
) -> None:
    file = tmp_path / "frame.toml"
    file.write_text(text, "utf-8")
    done = metal4conv("frame", file)
    assert done.code == 2
    said, hinted = done.stderr.split("hint: ")
    assert message in said
    assert hint in hinted


def test_help_shows_a_frame(metal4conv: Callable[..., Done], tmp_path: Path) -> None:
    help_lines = metal4conv("frame", "--help").stdout.splitlines()
    first = next(n for n, line in enumerate(help_lines) if line.strip().startswith("format ="))
    frame = help_lines[first : help_lines.index("", first)]
    text = "\n".join(line for line in frame if not line.strip().startswith("package ="))
    (tmp_path / "frame.toml").write_text(text, "utf-8")
    done = metal4conv("frame", tmp_path / "frame.toml")
    assert (done.code, done.stdout.count("MISSING: barrier")) == (0, 2), done.stderr
    assert "needs what is missing" in done.stdout  # and does not claim to be in order


def test_reversed_shape_is_recognised(metal4conv: Callable[..., Done], tmp_path: Path) -> None:
    text = (FRAMES / "upscaler_fits.toml").read_text("utf-8")
    assert 'shape = [1, 3, "h", "w"]' in text
    file = tmp_path / "frame.toml"
    text = text.replace('shape = [1, 3, "h", "w"]', 'shape = ["w", "h", 3, 1]')
    file.write_text(text.replace('"networks/', f'"{FRAMES / "networks"}/'), "utf-8")
    done = metal4conv("frame", file, "-q")
    assert done.code == 1
    assert "hint: shape has the outermost first" in done.stderr
