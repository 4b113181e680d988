"""Threads of the stand-in: barriers, what is not visible without one, and who has to come."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from metal4conv.errors import RejectedShader
from metal4conv.shader.compiler import HostBuild
from metal4conv.shader.document import EntryPoint
from metal4conv.shader.host import HostShader
from tests.shader.pieces import MSL, POINT, TILE, buffer, builtin, compute

X, Y = buffer("input", "x"), buffer("output", "y")
INDEX = builtin("thread_index_in_threadgroup")
SIMDGROUP = builtin("simdgroup_index_in_threadgroup")
PORTS = {"inputs": {"x": 1}, "outputs": {"y": 4}}

EXCHANGE = compute("exchange", X, Y, TILE, POINT, INDEX, threads=64, tile_bytes=256)
APART = compute("apart", X, Y, TILE, POINT, INDEX, SIMDGROUP, threads=64, tile_bytes=256)
BOUNDS = compute("bounds", X, Y, POINT, threads=64)

QUICK = HostBuild(unoptimised=True)
BARRIER = "    threadgroup_barrier(mem_flags::mem_threadgroup);\n"


@pytest.fixture(scope="module")
def threads(shader_of: Callable[..., HostShader]) -> HostShader:
    """The file as it is."""
    return shader_of("threads.metal", EXCHANGE, APART, BOUNDS, **PORTS)


def edited(
    make: Callable[..., HostShader], entry: EntryPoint, before: str, after: str, count: int = 1
) -> HostShader:
    """One function, with the first `count` of some words replaced."""
    text = (MSL / "threads.metal").read_text()
    assert text.count(before) >= count
    name = f"threads_edited\n{text.replace(before, after, count)}"
    return make(name, entry, build=QUICK, **PORTS)


def column(count: int = 128) -> np.ndarray:
    """The numbers from 1 on, one a point."""
    return np.arange(1, count + 1, dtype=np.float32)[:, None]


def neighbours(shader: HostShader) -> np.ndarray:
    """What `exchange` wrote: before, next, previous, after."""
    return shader.run("exchange", {"x": column()}, (16, 8))["y"].T


def test_barriers_make_writes_visible(threads: HostShader) -> None:
    before, following, previous, after = neighbours(threads)
    groups = column()[:, 0].reshape(2, 64)
    # threadgroup memory holds nothing when a threadgroup begins
    assert np.isnan(before).all()
    assert following.tolist() == np.roll(groups, -1, 1).ravel().tolist()
    assert previous.tolist() == np.roll(groups, 1, 1).ravel().tolist()
    assert set(after) == {-1}


def test_what_is_read_without_a_barrier(shader_of: Callable[..., HostShader]) -> None:
    _, following, previous, _ = neighbours(edited(shader_of, EXCHANGE, BARRIER, ""))
    assert np.isnan(following).sum() == 2 * 63
    assert np.isnan(previous).sum() == 2


def test_what_is_overwritten_without_a_barrier(shader_of: Callable[..., HostShader]) -> None:
    before = f"{BARRIER}    tile[index] = -1.0f;"
    shader = edited(shader_of, EXCHANGE, before, "    tile[index] = -1.0f;")
    _, following, previous, _ = neighbours(shader)
    # the order of threads is reversed after the barrier, so that the next one was faster
    assert (following == -1).sum() == 2 * 63
    assert (previous == -1).sum() == 2


def test_simdgroups_do_not_wait_for_one_another(threads: HostShader) -> None:
    found = threads.run("apart", {"x": column(64)}, (64, 1))["y"][:, 0]
    assert found[:32].tolist() == list(range(32, 0, -1))
    assert np.isnan(found[32:]).all()


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        (BARRIER, f"    if (index < 8) {BARRIER.strip()}", r"56 are at threadgroup_barrier"),
        (BARRIER, "    if (index > 2) return;\n" + BARRIER, r"3 are at .*, 61 have returned"),
        (
            BARRIER,
            f"    if (index < 32) {BARRIER.strip()}\n"
            "    else simdgroup_barrier(mem_flags::mem_none);\n",
            r"wait for one another|are at",
        ),
    ],
    ids=["some", "returned", "kinds"],
)
def test_threads_that_do_not_come(
    before: str, after: str, message: str, shader_of: Callable[..., HostShader]
) -> None:
    with pytest.raises(RejectedShader, match="threads wait for one another forever") as caught:
        neighbours(edited(shader_of, EXCHANGE, before, after))
    caught.match(message)


def test_reading_beyond_a_buffer_gives_nothing(threads: HostShader) -> None:
    found = threads.run("bounds", {"x": column(64)}, (64, 1))["y"]
    assert np.isnan(found[0, 0])
    assert np.isnan(found[-1, 1])
    assert found[1:, 0].tolist() == column(63)[:, 0].tolist()


@pytest.mark.parametrize(
    ("place", "message"),
    [
        ("y[point * 4 + 4]", 'beyond the end of buffer "output y"'),
        ("y[-1 - int(point)]", 'before the start of buffer "output y"'),
    ],
)
def test_writing_beyond_a_buffer_is_found(
    place: str, message: str, shader_of: Callable[..., HostShader]
) -> None:
    rest = " = x[point + 1]"
    shader = edited(shader_of, BOUNDS, f"y[point * 4 + 1]{rest}", f"{place}{rest}")
    with pytest.raises(RejectedShader, match=message):
        shader.run("bounds", {"x": column(64)}, (64, 1))


def test_the_result_does_not_depend_on_processors(threads: HostShader) -> None:
    x = column(64 * 300)
    runs = [threads.run("exchange", {"x": x}, (64, 300), threads=count)["y"] for count in (1, 2, 7)]
    for other in runs[1:]:
        np.testing.assert_array_equal(other, runs[0])


def test_variables_that_no_stack_holds(shader_of: Callable[..., HostShader]) -> None:
    big = "float kept[60000];\n    for (int i = 0; i < 60000; ++i) kept[i] = x[i % 64];\n    "
    shader = edited(
        shader_of,
        BOUNDS,
        "    y[point * 4] = x[int(point) - 1]",
        f"    {big}y[point * 4] = kept[point]",
    )
    with pytest.raises(RejectedShader, match="stack frame size"):
        shader.run("bounds", {"x": column(64)}, (64, 1))
