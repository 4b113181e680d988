"""matmul2d of the stand-in, against numpy; and what becomes of a shader that relies on luck."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np
import pytest

from metal4conv.errors import RejectedShader
from metal4conv.shader.compiler import HostBuild
from metal4conv.shader.document import EntryPoint
from metal4conv.shader.host import HostShader
from tests.shader.pieces import MSL, PARAMETERS, POINT, TILE, WEIGHTS, buffer, builtin, compute

X, Y = buffer("input", "x"), buffer("output", "y")
LANE = builtin("thread_index_in_simdgroup")
SIMDGROUP = builtin("simdgroup_index_in_threadgroup")
INDEX = builtin("thread_index_in_threadgroup")

LAYER = compute(
    *("layer", X, WEIGHTS, Y, PARAMETERS, TILE, POINT, LANE, SIMDGROUP),
    threads=64,
    tile_bytes=2 * 32 * 32 * 2,
)
STORED = compute("stored", X, WEIGHTS, Y, TILE, POINT, tile_bytes=32 * 16 * 4)
EDGE = compute("edge", X, WEIGHTS, Y, INDEX, threads=64)

# the kernels read x as half: a row of 16 float32 is one of 32 half
PORTS: Mapping[str, Mapping[str, int]] = {"inputs": {"x": 16}, "outputs": {"y": 16}}

QUICK = HostBuild(unoptimised=True)


def halves(seed: int, *shape: int) -> np.ndarray:
    """Random numbers that are half."""
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float16)


def as_rows(array: np.ndarray) -> np.ndarray:
    """Rows of half in the bytes of rows of float32."""
    return array.view(np.float32)


def edited(name: str, *edits: tuple[str, str]) -> str:
    """The text of a file with some words replaced, each of which has to be there once."""
    text = (MSL / f"{name}.metal").read_text()
    for before, after in edits:
        assert text.count(before) == 1
        text = text.replace(before, after)
    return f"{name}_edited\n{text}"


@pytest.fixture(scope="module")
def cooperative(shader_of: Callable[..., HostShader]) -> HostShader:
    """All functions of the file as it is."""
    weights = halves(1, 16, 32)
    return shader_of("cooperative.metal", LAYER, STORED, EDGE, weights=weights, **PORTS)


def edited_shader(
    make: Callable[..., HostShader], entry: EntryPoint, *edits: tuple[str, str]
) -> HostShader:
    """One function of the file with some words replaced."""
    source = edited("cooperative", *edits)
    return make(source, entry, build=QUICK, weights=halves(1, 16, 32), **PORTS)


def layer_error(shader: HostShader, points: int = 100) -> float:
    """The largest error of `layer` against numpy; not-a-number where something was not written."""
    x = halves(2, points, 32)
    found = shader.run("layer", {"x": as_rows(x)}, (points, 1))["y"]
    expected = x.astype(np.float64) @ halves(1, 16, 32).T.astype(np.float64) + np.arange(16)
    return float(np.abs(found - expected).max())


def stored_error(shader: HostShader) -> np.ndarray:
    """The difference of `stored` to numpy."""
    x = halves(2, 32, 32)
    found = shader.run("stored", {"x": as_rows(x)}, (32, 1))["y"]
    return np.asarray(np.abs(found - x.astype(float) @ halves(1, 16, 32).T.astype(float)))


@pytest.fixture(scope="module")
def products(shader_of: Callable[..., HostShader]) -> HostShader:
    """Both functions of the file; the tests bring their weights."""
    entries = (compute(name, WEIGHTS, Y, threads=1) for name in ("products", "destinations"))
    return shader_of("products.metal", *entries, outputs={"y": 40})


def numbers(shader: HostShader, name: str, weights: np.ndarray) -> np.ndarray:
    """What one thread writes."""
    run = replace(shader, weights=weights.tobytes(), weights_memory=None)
    return run.run(name, {}, (1, 1))["y"][0]


def test_transposes_strides_and_slices(products: HostShader) -> None:
    a, b = halves(1, 2, 64), halves(2, 64, 3)
    weights = np.concatenate([part.ravel() for part in (a, a.T, b, b.T)])
    found = numbers(products, "products", weights)
    a, b = a.astype(np.float64), b.astype(np.float64)
    for number in range(5):
        product = found[number * 6 : number * 6 + 6].reshape(2, 3)
        np.testing.assert_allclose(product, a @ b, atol=1e-5)
    np.testing.assert_allclose(found[30:36].reshape(2, 3), a[:, 32:] @ b[32:], atol=1e-5)
    assert found[36:38].tolist() == [0, 2]


def test_what_a_destination_holds(products: HostShader) -> None:
    a = np.full(32, 1, np.float16)
    b = np.stack([np.full(32, 64.03125), np.arange(32)]).astype(np.float16)
    found = numbers(products, "destinations", np.concatenate([a, b.ravel()]))
    # a sum in half would lose far more than the last rounding does
    total = float(b[0].astype(np.float64).sum())
    assert found[:4].tolist() == [float(np.float16(total)), 496, 1000 + total, 495]
    first = np.arange(32) - 16
    assert found[4:6].tolist() == [127 * first.sum(), (first * np.arange(32)).sum()]
    assert found[6:8].tolist() == [0, 2.0**-20]


def test_the_remainder_of_a_static_k_is_dropped(shader_of: Callable[..., HostShader]) -> None:
    entry = compute("remainder", Y, threads=1)
    build = HostBuild(drop_remainder=True)
    shader = shader_of("remainder.metal", entry, outputs={"y": 1}, build=build)
    assert shader.run("remainder", {}, (1, 1))["y"] == 32


def test_a_layer_of_cooperating_threads(cooperative: HostShader) -> None:
    assert layer_error(cooperative) < 1e-5


@pytest.mark.parametrize(
    "edit",
    [
        # row and column by the number of the thread and of the element
        ("sums.get_multidimensional_index(i)", "array<int, 2>{int(i) % 16, int(lane)}"),
        # a tile that other threads have not filled yet
        ("simdgroup_barrier(mem_flags::mem_threadgroup);\n    constexpr", "constexpr"),
        # places that hold no element
        ("!sums.is_valid_element(i)", "false"),
        # every second element
        ("++i) {\n        if (!sums", "i += 2) {\n        if (!sums"),
    ],
    ids=["layout", "barrier", "validity", "elements"],
)
def test_a_layer_that_relies_on_luck(
    edit: tuple[str, str], shader_of: Callable[..., HostShader]
) -> None:
    assert not layer_error(edited_shader(shader_of, LAYER, edit)) < 0.1


def test_a_result_in_threadgroup_memory(cooperative: HostShader) -> None:
    assert stored_error(cooperative).max() < 1e-5


@pytest.mark.parametrize("instead", ["", "simdgroup_barrier(mem_flags::mem_device);\n    "])
def test_a_result_that_no_barrier_made_visible(
    instead: str, shader_of: Callable[..., HostShader]
) -> None:
    loop = "for (int i = 0; i < 16"
    edit = (f"simdgroup_barrier(mem_flags::mem_threadgroup);\n    {loop}", f"{instead}{loop}")
    assert np.isnan(stored_error(edited_shader(shader_of, STORED, edit))).all()


def test_two_simdgroups_over_an_edge(cooperative: HostShader) -> None:
    x = halves(3, 40, 32)
    found = cooperative.run("edge", {"x": as_rows(x)}, (40, 1))["y"]
    expected = x.astype(float) @ halves(1, 16, 32).T.astype(float) + 100 * np.arange(16)
    np.testing.assert_allclose(found, expected, atol=1e-3)


def test_cooperative_operands(shader_of: Callable[..., HostShader]) -> None:
    a, b = halves(1, 16, 32), halves(2, 32, 32)
    shader = shader_of(
        *("cooperative_inputs.metal", compute("inputs", WEIGHTS, Y)),
        build=HostBuild(system=(26, 3)),
        outputs={"y": 1024},
        weights=np.concatenate([a.ravel(), b.ravel()]),
    )
    found = shader.run("inputs", {}, (1, 1))["y"].reshape(2, 16, 32)
    np.testing.assert_allclose(found[0], a.astype(float) @ b.T.astype(float), atol=1e-5)
    np.testing.assert_allclose(found[1], a.astype(float) @ b.astype(float), atol=1e-5)


DIVERGENT = "    if (lane < 40) multiplication.run(rows, right, sums);\n    sums.store"

ENDINGS = {
    "divergent": (
        *(EDGE, "    multiplication.run(rows, right, sums);\n    sums.store", DIVERGENT),
        r"40 are at matmul2d.run \(line \d+\), 24 have returned",
    ),
    "overwritten": (
        *(
            LAYER,
            "    simdgroup_barrier(mem_flags::mem_threadgroup);\n    rows[lane]",
            "    rows[lane]",
        ),
        "is written while other threads still read it: a barrier has to stand between",
    ),
    "tile": (LAYER, "rows, extents", "rows + 1, extents", "threadgroup memory, which has 4096"),
    "operand": (EDGE, "(x, dextents<int, 2>(32, 40", "(x, dextents<int, 2>(32, 41", '"x", which'),
    "destination": (EDGE, "2>(16, 40)", "2>(16, 64)", 'of buffer "y", which has 2560'),
    "scope": (EDGE, "simdgroups<2>", "simdgroups<4>", "for 4 simdgroups, the threadgroup has 2"),
    "transpose": (
        *(EDGE, "false, true, false,\n", "false, false, false,\n"),
        "k = 32, the left tensor 32 and the right one 16",
    ),
}
"""An edit, and with which words it ends the run."""


@pytest.mark.parametrize("case", ENDINGS)
def test_what_ends_a_run(case: str, shader_of: Callable[..., HostShader]) -> None:
    entry, before, after, message = ENDINGS[case]
    edits = [(before, after)]
    if case == "transpose":  # extents that the compiler does not know
        edits += [("right = tensor(w, extents<int, 32, 16>());\n    auto result",
                   "right = tensor(w, dextents<int, 2>(32, 16));\n    auto result")]  # fmt: skip
    shader = edited_shader(shader_of, entry, *edits)
    with pytest.raises(RejectedShader, match=message):
        shader.run(entry.name, {"x": as_rows(halves(3, 40, 32))}, (40, 1))
