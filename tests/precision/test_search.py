"""The estimate beside real runs, and searches on programs of coremltools' builder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from metal4conv.execute.interpreter import Executor
from metal4conv.mil.package import read_package
from metal4conv.precision.ranking import rank
from metal4conv.precision.search import Search, Trial, open_search
from metal4conv.precision.tolerance import Wanted
from tests.mil.foreign import save, tensor, toolkit


def drifting(x: Any) -> Any:
    """Layers with exact operations between them, a sum with two ends, and a cancellation."""
    _, mb, _ = toolkit()
    random = np.random.default_rng(0)
    stream = x
    for index in range(6):
        weight = random.standard_normal((16, 16)).astype(np.float32) / 4
        y = mb.linear(x=stream, weight=weight, name=f"linear{index}")
        y = mb.relu(x=mb.reshape(x=y, shape=[4, 16], name=f"view{index}"), name=f"relu{index}")
        stream = mb.add(x=stream, y=mb.tanh(x=y, name=f"tanh{index}"), name=f"add{index}")
    large = mb.add(x=stream, y=np.float32(300), name="large")
    mean = mb.reduce_mean(x=large, axes=[-1], keep_dims=True, name="mean")
    return mb.tanh(x=mb.sub(x=large, y=mean, name="difference"), name="y")


def opened(folder: Path, body: Any, shape: tuple[int, ...], wanted: Wanted, scale: float) -> Search:
    """A search on a float32 program, which is its own source."""
    package = read_package(save(folder, body, [tensor(shape)]))
    executor = Executor.from_package(package)
    random = np.random.default_rng(5)
    trials = []
    for number in range(2):
        inputs = {"x": (scale * random.standard_normal(shape)).astype(np.float32)}
        trials.append(Trial(f"case {number}", inputs, executor.predict(inputs)))
    search, findings = open_search(package, trials, (), wanted)
    assert not findings
    return search


def test_the_estimate_is_near_what_runs_give(tmp_path: Path) -> None:
    """For nothing kept, and along the ranking, within a factor of 6 of the mean square error."""
    search = opened(tmp_path, drifting, (4, 16), Wanted(60.0), 1.0)
    model = search.model(0)
    kept: set[int] = set()
    for move in [None, *rank(model, ())[:4]]:
        kept |= move.nodes if move else set()
        estimate, found = model.error(kept), search.run(kept, 0).ratio
        assert estimate / 6 < found < estimate * 6
    assert found < 1


def test_the_ranking_adds_up(tmp_path: Path) -> None:
    search = opened(tmp_path, drifting, (4, 16), Wanted(60.0), 1.0)
    model = search.model(0)
    kept: set[int] = set()
    before = model.error(kept)
    for move in rank(model, ()):
        assert move.nodes
        assert not move.nodes & kept
        kept |= move.nodes
        assert move.left == pytest.approx(model.error(kept), rel=1e-6, abs=1e-9)
        assert move.left <= before * (1 + 1e-9)
        before = move.left
    assert kept == {number for number, node in enumerate(search.nodes) if node.eligible}
    first = {search.nodes[number].name for number in rank(model, ())[0].nodes}
    assert "difference" in first


def test_no_operation_is_kept_in_vain(tmp_path: Path) -> None:
    """Without any one of those that the search chose, the tolerance does not hold."""
    search = opened(tmp_path, drifting, (4, 16), Wanted(60.0), 1.0)
    search.choose()
    assert {"large", "difference"} <= set(search.names)
    assert all(search.run(search.kept, case).holds for case in range(2))
    for number in search.kept:
        fewer = search.kept - {number}
        assert not all(search.run(fewer, case).holds for case in range(2))


def growing(x: Any) -> Any:
    """A loop that doubles numbers beyond float16, and what brings them back."""
    _, mb, _ = toolkit()
    last = mb.while_loop(
        _cond=lambda n, y: mb.less(x=n, y=20, name="more"),
        _body=lambda n, y: (
            mb.add(x=n, y=1, name="next"),
            mb.mul(x=y, y=np.float32(2), name="double"),
        ),
        loop_vars=(0, mb.relu(x=x, name="start")),
        name="loop",
    )[1]
    y = mb.mul(x=last, y=np.float32(2.0**-20), name="back")
    for index in range(4):
        y = mb.tanh(x=mb.add(x=y, y=np.float32(0.3), name=f"shift{index}"), name=f"y{index}")
    return y


def test_a_loop_is_kept_as_a_whole(tmp_path: Path) -> None:
    search = opened(tmp_path, growing, (4,), Wanted(50.0), 1.0)
    search.choose()
    assert {"double", "back"} <= set(search.names)
    assert not {"y0", "y1", "more", "next", "loop"} & set(search.names)
    assert search.reason_of("double").startswith('of "double" within it: its result reaches')
    assert search.holds
    assert all(search.run(search.kept, case).holds for case in range(2))


def masked(x: Any) -> Any:
    """A mask of finfo.min that hides only some keys: -inf does as well."""
    _, mb, _ = toolkit()
    mask = np.where(np.arange(8) < 5, 0, np.finfo(np.float32).min).astype(np.float32)
    scores = mb.add(x=x, y=mb.expand_dims(x=mb.identity(x=mask, name="m"), axes=[0], name="e"))
    return mb.softmax(x=scores, axis=-1, name="weights")


def test_a_harmless_mask_keeps_nothing(tmp_path: Path) -> None:
    search = opened(tmp_path, masked, (3, 8), Wanted(50.0), 1.0)
    search.choose()
    assert search.names == ()
    assert search.run((), 0).holds


def sparse(x: Any) -> Any:
    """A mask that the input decides: rows may be hidden altogether."""
    _, mb, _ = toolkit()
    hidden = mb.cast(x=mb.less(x=x, y=np.float32(0), name="negative"), dtype="fp32", name="h")
    mask = mb.mul(x=hidden, y=np.finfo(np.float32).min, name="mask")
    scores = mb.add(x=mb.tanh(x=x, name="t"), y=mask, name="scores")
    return mb.softmax(x=scores, axis=-1, name="weights")


def test_a_mask_that_hides_a_row_keeps_it(tmp_path: Path) -> None:
    search = opened(tmp_path, sparse, (40, 3), Wanted(50.0), 1.0)
    search.choose()
    assert set(search.names) == {"mask", "scores", "weights"}
    assert "constant -3.4e+38" in search.reason_of("mask")
    assert "-3.4e+38" in search.reason_of("weights")
    assert "t" not in search.names


def test_runs_are_counted(tmp_path: Path) -> None:
    search = opened(tmp_path, drifting, (4, 16), Wanted(60.0), 1.0)
    assert search.runs == 2
    search.choose()
    assert 4 < search.runs <= 28


def normalized(x: Any) -> Any:
    """A normalization of large numbers, which is one operation."""
    _, mb, _ = toolkit()
    y = mb.layer_norm(x=x, axes=[-1], epsilon=np.float32(1e-5), name="norm")
    return mb.tanh(x=y, name="y")


@pytest.mark.parametrize(("scale", "names"), [(1.0, ()), (300.0, ("norm",))])
def test_insides_that_only_a_device_shows(
    tmp_path: Path, scale: float, names: tuple[str, ...]
) -> None:
    """The executor sums in float32; a device may not, so the operation is kept all the same."""
    search = opened(tmp_path, normalized, (4, 64), Wanted(50.0), scale)
    search.choose()
    assert search.names == names
    if names:
        assert "64 squares" in search.reason_of("norm")
        assert "for the variance" in search.reason_of("norm")
