"""Latents: what `--latents` takes, and what it says about everything else."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import save_file

from metal4conv.errors import DamagedFile, Metal4ConvError, UnsupportedModel, UsageError
from metal4conv.shader.latents import Latents, latents_of, parse_latents, read_latents
from metal4conv.shader.network import Convolution, Network, Pass, PointProgram, Port, Vector

SAMPLES = Path(__file__).parents[2] / "sample_models"
PORTS = (
    Port("features", "float32", ("n", 5), (1,)),
    Port("height", "float32", ("n", 1), (1,)),
    Port("light", "float32", (1, 3), (1,), uniform=True),
)


def network(*ports: Port, convolution: Convolution | None = None) -> Network:
    """A network with these inputs, as far as latents look at it."""
    return Network("net", ports, (), (Pass(PointProgram((), (), ()), (), (), convolution),))


def drawn(shape: tuple[int, ...], dtype: str = "uint8") -> np.ndarray:
    random = np.random.default_rng(3)
    if dtype == "uint8":
        return random.integers(0, 256, shape, np.uint8)
    return random.standard_normal(shape).astype(dtype)


def read(text: str) -> Latents:
    return read_latents(parse_latents(text), PORTS)


def refused(text: str, kind: type[Metal4ConvError] = UsageError) -> str:
    with pytest.raises(kind) as caught:
        latents_of([parse_latents(text)], network(*PORTS))
    return str(caught.value)


def test_the_sample() -> None:
    port = Port("latents", "float32", ("n", 8), (1,))
    path = SAMPLES / "neural_material_latents.safetensors"
    (latents,) = latents_of([parse_latents(f"latents={path}")], network(port))
    assert (latents.height, latents.width, latents.channels) == (128, 128, 8)
    assert latents.array.dtype == np.uint8
    assert latents.files == (path,)
    assert latents.rounding == 0


@pytest.mark.parametrize("dtype", ["uint8", "float16", "float32"])
@pytest.mark.parametrize("kind", ["npy", "npz", "safetensors"])
def test_arrays_of_files(tmp_path: Path, kind: str, dtype: str) -> None:
    array = drawn((3, 4, 5), dtype)
    path = tmp_path / f"wall.{kind}"
    match kind:
        case "npy":
            np.save(path, array)
        case "npz":
            np.savez(path, **{"a": array, "b:0": array[:1]})
        case "safetensors":
            save_file({"a": array, "b:0": array[:1].copy()}, path)
    latents = read(f"features={path}" if kind == "npy" else f"features={path}:a")
    assert latents.array.dtype == (np.uint8 if dtype == "uint8" else np.float16)
    np.testing.assert_array_equal(latents.array, array.astype(latents.array.dtype))
    largest = np.abs(array.astype(latents.array.dtype).astype(float) - array.astype(float)).max()
    assert latents.rounding == largest
    assert (largest > 0) == (dtype == "float32")
    if kind != "npy":
        assert read(f"features={path}:b:0").height == 1


@pytest.mark.parametrize(
    ("modes", "channels"),
    [(("RGBA", "L"), (4, 1)), (("LA", "RGB"), (2, 3)), (("RGB", "L", "L"), (3, 1, 1))],
)
def test_pictures_follow_one_another(
    tmp_path: Path, modes: tuple[str, ...], channels: tuple[int, ...]
) -> None:
    array = drawn((6, 7, 5))
    edges = np.cumsum((0, *channels))
    names = []
    for number, mode in enumerate(modes):
        pixels = array[:, :, edges[number] : edges[number + 1]]
        names.append(str(tmp_path / f"part {number}.png"))
        Image.frombytes(mode, (7, 6), np.ascontiguousarray(pixels).tobytes()).save(names[-1])
    latents = read(f"features={','.join(names)}")
    np.testing.assert_array_equal(latents.array, array)
    assert [str(path) for path in latents.files] == names


def test_one_feature_may_be_an_image(tmp_path: Path) -> None:
    array = drawn((4, 6))
    np.save(tmp_path / "map.npy", array)
    Image.fromarray(array).save(tmp_path / "map.png")
    for name in ("map.npy", "map.png"):
        np.testing.assert_array_equal(read(f"height={tmp_path / name}").array[:, :, 0], array)


@pytest.mark.parametrize(
    ("shape", "told"),
    [
        ((4, 4, 3), "expected latents of height×width×5"),
        ((4, 4, 3), "got 4×4×3"),
        ((5, 4, 6), "the first axis seems to hold the features"),
        ((1, 4, 4, 5), "got 1×4×4×5\n"),
        ((1, 4, 4, 5), "without further axes before its height"),
        ((4, 5), "got 4×5"),
        ((), "got no dimensions"),
        ((0, 4, 5), "1 to 16384 texels a side are possible; got 0×4×5"),
        ((1, 16385, 5), "got 1×16385×5"),
    ],
)
def test_shapes_that_do_not_fit(tmp_path: Path, shape: tuple[int, ...], told: str) -> None:
    path = tmp_path / "x.npy"
    np.save(path, np.zeros(shape, np.uint8))
    message = refused(f"features={path}")
    assert told in message
    assert f"at --latents features={path}" in message


@pytest.mark.parametrize("dtype", ["int8", "uint16", "float64", "bool"])
def test_types_that_do_not_fit(tmp_path: Path, dtype: str) -> None:
    path = tmp_path / "x.npy"
    np.save(path, np.zeros((2, 2, 5), dtype))
    assert f"latents are uint8, float16 or float32; got {dtype}" in refused(f"features={path}")


@pytest.mark.parametrize("number", [7e4, np.inf, np.nan])
def test_numbers_that_a_texture_does_not_hold(tmp_path: Path, number: float) -> None:
    array = np.zeros((2, 3, 5), np.float32)
    array[1, 2, 4] = number
    path = tmp_path / "x.npy"
    np.save(path, array)
    message = refused(f"features={path}")
    assert f"the latent [1, 2, 4] is {array[1, 2, 4]}" in message
    assert "finite numbers up to 65504" in message


def test_names_that_do_not_fit(tmp_path: Path) -> None:
    path = tmp_path / "x.npz"
    np.savez(path, wall=drawn((2, 2, 5)), floor=drawn((2, 2, 5)))
    assert "does not say which input" in refused(str(path))
    assert "does not say which input" in refused("features=")
    assert 'did you mean "features"?' in refused(f"feature={path}:wall")
    assert "one row for all points" in refused(f"light={path}:wall")
    assert 'did you mean "wall"?' in refused(f"features={path}:walls")
    message = refused(f"features={path}")
    assert "holds 2 arrays" in message
    assert f"name one as {path}:NAME; known: wall, floor" in message
    with pytest.raises(UsageError, match='"features" has latents twice'):
        latents_of(
            [parse_latents(f"features={path}:wall"), parse_latents(f"features={path}:floor")],
            network(*PORTS),
        )


def test_networks_that_read_neighbours(tmp_path: Path) -> None:
    weight = np.zeros((4, 5, 3, 3), np.float32)
    convolution = Convolution(Vector("y", 4), "features", weight, (1, 1), "blur")
    path = tmp_path / "x.npy"
    np.save(path, drawn((2, 2, 5)))
    refusing = network(*PORTS, convolution=convolution)
    with pytest.raises(UnsupportedModel, match='convolution "blur" of this one reads the pixels'):
        latents_of([parse_latents(f"features={path}")], refusing)
    assert latents_of([], refusing) == ()


def test_files_that_are_not_there_or_unknown(tmp_path: Path) -> None:
    (tmp_path / "x.dds").write_bytes(b"DDS ")
    Image.new("RGBA", (2, 2)).save(tmp_path / "x.png")
    Image.new("L", (2, 3)).save(tmp_path / "y.png")
    Image.new("P", (2, 2)).save(tmp_path / "palette.png")
    Image.fromarray(np.zeros((2, 2), np.uint16)).save(tmp_path / "deep.png")
    assert "no such file" in refused(f"features={tmp_path}/none.npy")
    assert "cannot read latents from" in refused(f"features={tmp_path}/x.dds")
    assert "differ in size: x.png 2×2, y.png 2×3" in refused(
        f"features={tmp_path}/x.png,{tmp_path}/y.png"
    )
    assert "x.dds is no .png file" in refused(f"features={tmp_path}/x.png,{tmp_path}/x.dds")
    assert "mode P" in refused(f"features={tmp_path}/palette.png")
    assert "8 bits a channel" in refused(f"features={tmp_path}/deep.png")


@pytest.mark.parametrize("kind", ["npy", "npz", "safetensors", "png"])
@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 and no more", b"\x93NUMPY\x01\x00", b"text"])
def test_damaged_files(tmp_path: Path, kind: str, content: bytes) -> None:
    path = tmp_path / f"x.{kind}"
    path.write_bytes(content)
    assert str(path) in refused(f"features={path}", DamagedFile)


def test_arrays_under_another_suffix(tmp_path: Path) -> None:
    with (tmp_path / "x.npz").open("wb") as file:
        np.save(file, drawn((2, 2, 5)))
    with (tmp_path / "x.npy").open("wb") as file:
        np.savez(file, a=drawn((2, 2, 5)))
    assert "is one array" in refused(f"features={tmp_path}/x.npz", DamagedFile)
    assert "is an archive" in refused(f"features={tmp_path}/x.npy", DamagedFile)


def test_pickled_objects_are_not_loaded(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.array([{}], object), allow_pickle=True)
    np.savez(tmp_path / "x.npz", a=np.array([{}], object))
    for name in ("x.npy", "x.npz"):
        assert "pickle" in refused(f"features={tmp_path / name}", DamagedFile)


def test_pictures_that_pillow_finds_large(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It warns from a size on, and refuses twice as many pixels."""
    path = tmp_path / "x.png"
    Image.new("L", (40, 40), 7).save(path)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    assert read(f"height={path}").array.min() == 7
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 500)
    assert "exceeds limit" in refused(f"height={path}", DamagedFile)


def test_a_type_that_numpy_lacks(tmp_path: Path) -> None:
    header = b'{"a":{"dtype":"BF16","shape":[1,1,5],"data_offsets":[0,10]}}'
    path = tmp_path / "x.safetensors"
    path.write_bytes(len(header).to_bytes(8, "little") + header + bytes(10))
    message = refused(f"features={path}", Metal4ConvError)
    assert "bfloat16" in message.lower()
