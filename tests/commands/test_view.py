"""`view`: what it prints, compared with `tests/golden/`, its pictures, its JSON and its errors."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from metal4conv.commands.tensor_rendering import show_view
from metal4conv.mil.program import Dimension
from metal4conv.view.parts import ViewOptions
from metal4conv.view.pictures import GAP_COLOR, HEAT, INF_COLOR, NAN_COLOR
from metal4conv.view.viewing import view_file
from tests.conftest import Done
from tests.layout.manifests import manifest_with

Colors = Literal["standard", "256", "truecolor"]

GOLDEN = Path(__file__).parents[1] / "golden"

ROWS, COLUMNS = np.mgrid[0:50, 0:30]
COLOR = np.stack([COLUMNS / 32, ROWS / 64, (ROWS // 5 + COLUMNS // 5) % 2 / 2])[None].astype("f2")


def padded(array: np.ndarray, row_bytes: int) -> bytes:
    """A tensor in a buffer: rows of the innermost dimension padded with 0xAB."""
    rows = np.ascontiguousarray(array).reshape(-1, array.shape[-1]).view(np.uint8)
    whole = np.full((len(rows), row_bytes), 0xAB, np.uint8)
    whole[:, : rows.shape[1]] = rows
    return whole.tobytes()


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with a file of each kind."""
    monkeypatch.chdir(tmp_path)
    noisy = COLOR.copy()
    noisy[0, 1, 20:30, 10:20] += np.float16(0.125)
    noisy[0, 0, 4, 3] = np.nan
    ramp = np.arange(-8, 8, dtype=np.float32).reshape(4, 4)
    special = np.array([1, np.nan, np.inf, -np.inf, 1e-40, 0, 70000], np.float32)
    np.savez(
        "mixed.npz",
        color=COLOR,
        ramp=ramp,
        special=special,
        mask=np.array([True, False, True]),
        ids=np.arange(12, dtype=np.int8).reshape(3, 4),
        constant=np.full((2, 2), 0.5),
        labels=np.array(["cat", "dog"]),
    )
    np.savez_compressed("other.npz", color=noisy, ramp=ramp.astype(np.float16), extra=special)
    np.save("color.npy", COLOR)
    np.save("noisy.npy", noisy)
    Path("color.bin").write_bytes(padded(COLOR, 64))
    manifest = manifest_with(
        [("color", "input", "float16", (1, 3, "h", "w"))],
        {"h": Dimension(16, 64, 16), "w": Dimension(16, 64, 32)},
    )
    Path("net.layout.json").write_text(json.dumps(manifest.to_json()), "utf-8")
    return tmp_path


BUFFER = ["color.bin", "--layout", "net.layout.json", "--tensor", "color"]
SIZED = [*BUFFER, "--dim", "h=50", "--dim", "w=30"]

COMMANDS = {
    "view_table": ["mixed.npz"],
    "view_table_metal": ["mixed.npz", "--innermost-first"],
    "view_picture": ["mixed.npz", "--tensor", "color"],
    "view_special": ["mixed.npz", "--tensor", "special"],
    "view_numbers": ["mixed.npz", "--tensor", "ids", "--numbers"],
    "view_slice": ["mixed.npz", "--tensor", "color", "--slice", "0,1,::10,3"],
    "view_part": ["mixed.npz", "--tensor", "color", "--innermost-first", "--slice", "4:8,0:3,1"],
    "view_labels": ["mixed.npz", "--tensor", "labels"],
    "view_buffer": SIZED,
    "view_sheared": ["color.bin", "--shape", "1x3x50x30", "--dtype", "float16"],
    "view_against": ["noisy.npy", "--against", "color.npy"],
    "view_against_table": ["other.npz", "--against", "mixed.npz"],
}


@pytest.mark.parametrize("name", COMMANDS)
def test_output(name: str, metal4conv: Callable[..., Done], request: pytest.FixtureRequest) -> None:
    arguments = ["view", *COMMANDS[name]]
    done = metal4conv(*arguments)
    shown = "\n".join(line.rstrip() for line in done.stdout.splitlines())
    text = (
        f"$ metal4conv {' '.join(arguments)}\n{shown}\n--- stderr\n{done.stderr}--- {done.code}\n"
    )
    file = GOLDEN / f"{name}.txt"
    if request.config.getoption("--rewrite-golden"):
        file.write_text(text, "utf-8")
    assert text == file.read_text("utf-8")


@pytest.mark.parametrize("name", COMMANDS)
def test_json_is_one_document(name: str, metal4conv: Callable[..., Done]) -> None:
    done = metal4conv("view", *COMMANDS[name], "--json")
    assert (done.code, done.stderr) == (0, "")
    document = json.loads(done.stdout, parse_constant=pytest.fail)
    assert document["command"] == "view"
    assert ("tensors" in document) == ("table" in name)


@pytest.mark.parametrize("name", COMMANDS)
def test_quiet_prints_nothing(name: str, metal4conv: Callable[..., Done]) -> None:
    done = metal4conv("view", *COMMANDS[name], "-q")
    assert (done.code, done.stdout, done.stderr) == (0, "", "")


def pixels_of(path: str) -> np.ndarray:
    """The pixels of a PNG file."""
    with Image.open(path) as image:
        assert image.mode == "RGB"
        return np.array(image)


def expected_pixels(color: np.ndarray) -> np.ndarray:
    """The pixels of channels within 0..1, first to last."""
    return np.rint(np.moveaxis(color[0].astype(np.float64), 0, 2) * 255).astype(np.uint8)


def test_picture_of_a_padded_buffer(metal4conv: Callable[..., Done]) -> None:
    assert metal4conv("view", *SIZED, "--png", "right.png", "-q").code == 0
    assert pixels_of("right.png").tobytes() == expected_pixels(COLOR).tobytes()

    raw = ["color.bin", "--shape", "1x3x50x30", "--dtype", "float16"]
    assert metal4conv("view", *raw, "--range", "0..1", "--png", "sheared.png", "-q").code == 0
    sheared = np.frombuffer(padded(COLOR, 64), np.float16)[: COLOR.size].reshape(COLOR.shape)
    found = pixels_of("sheared.png")
    assert found.tobytes() == expected_pixels(np.maximum(sheared, 0)).tobytes()
    assert found.tobytes() != expected_pixels(COLOR).tobytes()

    assert metal4conv("view", *raw, "--row-stride", "64", "--png", "again.png", "-q").code == 0
    assert Path("again.png").read_bytes() == Path("right.png").read_bytes()


def test_three_pictures_of_two_files(metal4conv: Callable[..., Done]) -> None:
    arguments = ["noisy.npy", "--against", "color.npy", "--amplify", "4"]
    done = metal4conv("view", *arguments, "--png", "three.png")
    assert done.code == 0
    assert done.stdout.splitlines()[-1] == "three.png"
    found = pixels_of("three.png")
    assert found.shape == (50, 3 * 30 + 2 * 8, 3)
    first, gap, second = found[:, :30], found[:, 30:38], found[:, 38:68]
    assert (gap == GAP_COLOR).all()
    np.testing.assert_array_equal(second, expected_pixels(COLOR))
    assert tuple(first[4, 3]) == NAN_COLOR
    difference = found[:, 76:]
    assert tuple(difference[4, 3]) == NAN_COLOR
    assert difference[25, 15].tolist() == list(HEAT[2])  # 0.125 × 4 is the middle
    assert not difference[40:].any()
    before = Path("three.png").read_bytes()
    metal4conv("view", *arguments, "--png", "three.png")
    assert Path("three.png").read_bytes() == before


def test_infinities_are_in_the_picture(metal4conv: Callable[..., Done]) -> None:
    np.save("inf.npy", np.where(np.eye(8) > 0, np.inf, 0))
    assert metal4conv("view", "inf.npy", "--png", "inf.png").stdout.count("I") > 8
    assert (pixels_of("inf.png")[np.eye(8) > 0] == INF_COLOR).all()


def test_slices_as_picture_and_numbers(metal4conv: Callable[..., Done]) -> None:
    array = np.random.default_rng(0).random((2, 5, 6, 7)).astype(np.float32)
    np.save("x.npy", array)
    arguments = ["x.npy", "--slice", "1,:,2,::-1", "--png", "x.png", "--numbers", "--json"]
    document = json.loads(metal4conv("view", *arguments).stdout)
    part = array[1, :, 2, ::-1]
    assert document["values"] == part.astype(np.float64).tolist()
    assert document["tensor"]["slice"] == "1,:,2,::-1"
    assert document["tensor"]["shape"] == [2, 5, 6, 7]
    assert document["tensor"]["statistics"]["shape"] == [5, 7]
    assert document["files"] == ["x.png"]
    expected = np.rint(part.astype(np.float64) * 255).astype(np.uint8)
    np.testing.assert_array_equal(pixels_of("x.png")[..., 0], expected)


def test_counts_in_json(metal4conv: Callable[..., Done]) -> None:
    done = metal4conv("view", "mixed.npz", "--tensor", "special", "--numbers", "--json")
    document = json.loads(done.stdout)
    found = document["tensor"]["statistics"]
    assert {key: found[key] for key in ("nan", "inf", "zero", "denormal")} == {
        "nan": 1,
        "inf": 2,
        "zero": 1,
        "denormal": 1,
    }
    assert (found["beyond_float16"], found["below_float16"]) == (1, 1)
    assert document["values"][:4] == [1.0, "NaN", "Infinity", "-Infinity"]


def test_differences_in_json(metal4conv: Callable[..., Done]) -> None:
    done = metal4conv("view", "noisy.npy", "--against", "color.npy", "--json")
    found = json.loads(done.stdout)["difference"]
    assert (found["differing"], found["not_finite"], found["equal"]) == (101, 1, False)
    assert found["worst"] == [0, 0, 4, 3]
    assert (found["worst_actual"], found["worst_expected"]) == ("NaN", 0.09375)
    assert found["max_absolute_error"] == pytest.approx(0.125)


@pytest.mark.parametrize(
    "arguments",
    [
        [*SIZED, "--against", "color.npy"],
        ["color.npy", "--against", *SIZED],
        ["mixed.npz", "--tensor", "color", "--against", "color.npy"],
        ["color.npy", "--against", "mixed.npz", "--tensor", "color"],
        ["mixed.npz", "--tensor", "case0/input/color", "--against", "golden.npz"],
        ["golden.npz", "--tensor", "color", "--against", "mixed.npz"],
        ["golden.npz", "--tensor", "case0/input/color", "--against", *SIZED[:3], *SIZED[5:]],
    ],
)
def test_partners_in_other_files(arguments: list[str], metal4conv: Callable[..., Done]) -> None:
    np.savez("golden.npz", **{"case0/input/color": COLOR})
    done = metal4conv("view", *arguments, "--json")
    assert done.code == 0, done.stderr
    assert json.loads(done.stdout)["difference"]["equal"]


def colored(width: int, file: str, colors: Colors = "truecolor", **options: object) -> str:
    """What a terminal with colours gets."""
    stream = io.StringIO()
    console = Console(
        file=stream, width=width, force_terminal=True, color_system=colors, highlight=False
    )
    show_view(view_file(file, ViewOptions(**options)), console)  # type: ignore[arg-type]
    return stream.getvalue()


def test_colors_in_the_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    shown = colored(100, "color.npy")
    # the top left character: the pixel at (0, 0) on that at (1, 0)
    assert "\x1b[38;2;0;0;0;48;2;0;4;0m▀" in shown
    assert shown.count("▀") == 25 * 30
    assert "NaN is" not in shown
    assert "NaN is magenta" in colored(100, "noisy.npy", against="color.npy")


def test_sixteen_colors_are_too_few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    assert "▀" in colored(100, "color.npy", "256")
    assert "▀" not in colored(100, "color.npy", "standard")


def test_no_color(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    shown = colored(100, "color.npy")
    assert "▀" not in shown
    assert "38;2" not in shown


@pytest.mark.parametrize(("width", "beside"), [(110, True), (80, True), (60, False)])
def test_pictures_stand_beside_each_other_where_they_fit(
    width: int, beside: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    shown = colored(width, "noisy.npy", against="color.npy").splitlines()
    assert any(line.startswith("3: difference") for line in shown) == beside
    start = next(i for i, line in enumerate(shown) if "difference ×" in line)
    pictures = shown[start + 1 : shown.index("NaN is N")]
    assert max(map(len, pictures)) <= width
    # "++++" is the difference; the other two pictures are on its lines, or above
    middle = pictures[len(pictures) // 2]
    assert len(middle.split("  ")[0].strip()) > 0 if beside else middle.lstrip() == "++++++++++"


def test_a_terminal_without_unicode(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding="ascii")
    console = Console(file=stream, width=80, force_terminal=True, color_system="truecolor")
    show_view(view_file("color.npy", ViewOptions()), console)
    stream.flush()
    assert b"1 ? 3 ? 50 ? 30" in raw.getvalue()
    assert b"=====" in raw.getvalue()


def test_names_cannot_drive_the_terminal(metal4conv: Callable[..., Done]) -> None:
    name = "\x1b[2J[red]\u202egnp"
    np.savez("hostile.npz", **{name: COLOR, "other": COLOR})
    for arguments in (
        ["hostile.npz"],
        ["hostile.npz", "--tensor", name, "--numbers"],
        ["hostile.npz", "--against", "hostile.npz"],
        ["hostile.npz", "--against", "hostile.npz", "--tensor", name],
    ):
        done = metal4conv("view", *arguments)
        assert done.code == 0
        assert r"\x1b[2J[red]\u202egnp" in done.stdout
        assert "\x1b" not in done.stdout


ERRORS: dict[str, tuple[list[str], int, str]] = {
    "no_file": (["missing.npz"], 2, "no such file: missing.npz"),
    "wrong_name": (["mixed.npz", "--tensor", "colour"], 2, 'did you mean "color"?'),
    "no_names": (["color.npy", "--tensor", "x"], 2, "holds one array without a name"),
    "two_nameless": (
        ["color.npy", "--against", "noisy.npy", "--tensor", "x"],
        2,
        "color.npy and noisy.npy hold one array each, without a name",
    ),
    "amplify_all": (
        ["mixed.npz", "--against", "other.npz", "--amplify", "2"],
        2,
        "--amplify is about one tensor",
    ),
    "slice_of_all": (["mixed.npz", "--slice", "0"], 2, "add --tensor NAME, one of: color, ramp"),
    "png_of_all": (["mixed.npz", "--png", "x.png"], 2, "--png is about one tensor"),
    "bad_slice": (["color.npy", "--slice", "0,5"], 2, "dimension 1 has size 3"),
    "no_picture": (
        ["color.npy", "--slice", "0,1,2", "--png", "x.png"],
        2,
        "not look like a picture",
    ),
    "not_png": (["color.npy", "--png", "x.jpg"], 2, "no name of a .png file"),
    "png_folder": (["color.npy", "--png", "folder.png"], 2, "folder.png is a folder"),
    "bad_range": (["color.npy", "--range", "1..0"], 2, 'range "1..0" cannot be read'),
    "endless_range": (["color.npy", "--range", "0..inf"], 2, "cannot be read"),
    "amplify_alone": (["color.npy", "--amplify", "2"], 2, "no difference to amplify"),
    "no_trace": (["mixed.npz", "--operation", "x"], 2, "is no trace, so it has no operations"),
    "both": (["mixed.npz", "--tensor", "a", "--operation", "x"], 2, "names a tensor already"),
    "no_buffer": (["color.npy", "--shape", "3x4"], 2, "color.npy needs none"),
    "raw": (["color.bin"], 2, "so it is a raw buffer"),
    "no_sizes": (BUFFER, 2, "such as --dim h=16 --dim w=32"),
    "short": ([*BUFFER, "--dim", "h=64", "--dim", "w=64"], 3, "has 9600 bytes; tensor"),
    "shapes": (["mixed.npz", "--tensor", "ids", "--against", "color.npy"], 2, "has shape (3, 4)"),
    "which": (["mixed.npz", "--against", "color.npy"], 2, "color.npy holds one tensor, mixed.npz"),
    "no_partner": (
        ["mixed.npz", "--tensor", "ids", "--against", "other.npz"],
        2,
        'no tensor "ids"',
    ),
    "nothing_common": (["mixed.npz", "--against", "lone.npz"], 2, "no tensor of the same name"),
    "text": (["mixed.npz", "--tensor", "labels", "--against", "mixed.npz"], 2, "only numbers"),
    "package": (["folder.png"], 2, "a folder without index.json"),
    "size": (["color.npy", "--dtype", "float32"], 2, "2 bytes an element; float32 has 4"),
    "pickle": (["pickle.npy"], 3, "holds pickled objects"),
    "damaged": (["damaged.npz"], 3, "no readable .npz file"),
}


@pytest.mark.parametrize("name", ERRORS)
def test_errors(name: str, metal4conv: Callable[..., Done]) -> None:
    Path("folder.png").mkdir()
    np.savez("lone.npz", alone=np.zeros(3))
    np.save("pickle.npy", np.array([{}], object), allow_pickle=True)
    Path("damaged.npz").write_bytes(b"PK\x03\x04 and nothing else")
    arguments, code, message = ERRORS[name]
    done = metal4conv("view", *arguments)
    assert (done.code, done.stdout) == (code, "")
    assert done.stderr.startswith("error: ")
    assert message in done.stderr
    assert not Path("x.png").exists()


def test_a_trace_by_operation(metal4conv: Callable[..., Done], folder: Path) -> None:
    from metal4conv.execute.tracing import write_npz

    (folder / "t").mkdir()
    write_npz(folder / "t" / "0.npz", {"y": np.zeros((4, 5)), "z": np.ones(3)})
    write_npz(folder / "t" / "1.npz", {"w": COLOR})
    rows = [
        {"operation": name, "type": "op", "place": [], "file": f"{number}.npz", "outputs": outputs}
        for number, (name, outputs) in enumerate(
            {
                "y": [
                    {"name": "y", "dtype": "float64", "shape": [4, 5]},
                    {"name": "z", "dtype": "float64", "shape": [3]},
                ],
                "w": [{"name": "w", "dtype": "float16", "shape": [1, 3, 50, 30]}],
            }.items()
        )
    ]
    document = {"format": "metal4conv.trace/1", "operations": rows}
    (folder / "t" / "index.json").write_text(json.dumps(document), "utf-8")

    table = json.loads(metal4conv("view", "t", "--json").stdout)
    assert [row["name"] for row in table["tensors"]] == ["y", "z", "w"]
    both = json.loads(metal4conv("view", "t", "--operation", "y", "--json").stdout)
    assert [row["name"] for row in both["tensors"]] == ["y", "z"]
    one = metal4conv("view", "t", "--operation", "w", "--against", "color.npy", "--json")
    assert json.loads(one.stdout)["difference"]["equal"]
    assert json.loads(one.stdout)["tensor"]["operation"] == "w"


def test_files_that_cannot_be_opened(
    metal4conv: Callable[..., Done], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = metal4conv("view", "a" * 300 + ".npy")
    assert (done.code, "Traceback" in done.stderr) == (4, False)
    assert "cannot open aaa" in done.stderr
    assert "File name too long" in done.stderr
    file = tmp_path / "secret.npy"
    file.write_bytes(b"")

    def refuse(*given: object, **more: object) -> None:  # root may read all that is there
        raise PermissionError(13, "Permission denied", str(file))

    monkeypatch.setattr(Path, "open", refuse)
    done = metal4conv("view", file)
    assert (done.code, "Traceback" in done.stderr) == (4, False)
    assert "Permission denied" in done.stderr
