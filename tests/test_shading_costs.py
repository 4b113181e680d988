"""What `shade` says of a network's rounding."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from metal4conv.shader.network import (
    Assign,
    Call,
    Element,
    Linear,
    Network,
    Pass,
    Piece,
    PointProgram,
    Port,
    Vector,
)
from metal4conv.shading_costs import image_size, overflows, storage_costs
from metal4conv.verify.golden import GoldenCase


def layer() -> Network:
    """y = relu(w · x), with a weight that float16 rounds."""
    x, product, y = Vector("x", 4), Vector("product", 3), Vector("y", 3)
    weight = np.random.default_rng(0).normal(size=(3, 4)).astype(np.float32)
    steps = (
        Linear(product, x, weight, "layer"),
        Assign(y, (Piece(0, 3, Call("relu", (Element(product),))),), "y"),
    )
    ports = [Port(name, "float32", (8, width), (1,)) for name, width in (("x", 4), ("y", 3))]
    only = Pass(PointProgram((x,), steps, (y,)), ("x",), ("y",))
    return Network("net", (ports[0],), (ports[1],), (only,))


def case_of(network: Network, wrong: float) -> GoldenCase:
    """A case whose source gives `wrong` more than the network does."""
    x = np.random.default_rng(1).normal(size=(8, 4)).astype(np.float32)
    weight = network.program.linears[0].weight
    return GoldenCase({"x": x}, {}, {"y": np.maximum(x @ weight.T, 0) + np.float32(wrong)})


def test_a_wrong_network_is_not_taken_for_rounding() -> None:
    """Its error once made the tolerance of `verify` as wide as itself."""
    network = layer()
    [right] = storage_costs(network, "float16", [case_of(network, 0)]).rounding
    [wrong] = storage_costs(network, "float16", [case_of(network, 0.5)]).rounding
    assert 0 < wrong.largest < 0.01
    np.testing.assert_allclose(wrong.largest, right.largest, rtol=0.05)


def test_overflow_is_told_and_widens_no_tolerance() -> None:
    network = layer()
    x = np.full((8, 4), 1e6, np.float32)
    expected = np.maximum(x @ network.program.linears[0].weight.T, 0)
    case = GoldenCase({"x": x}, {}, {"y": expected})
    costs = storage_costs(network, "float16", [case])
    [found] = overflows(costs)
    assert (found.code, found.where) == ("shader-overflow", "y")
    assert not overflows(storage_costs(network, "float32", [case]))
    [row] = costs.rounding
    assert row.largest == 0


def test_the_size_of_a_picture_is_not_that_of_an_input_for_all_pixels() -> None:
    """The first input was asked, which may be one row for all pixels."""
    network = layer()
    time = Port("time", "float32", (1, 2), (1,), uniform=True)
    picture = Port("picture", "float32", (1, 3, 5, 7), (1,))
    arrays = {"time": np.zeros((1, 2)), "picture": np.zeros((1, 3, 5, 7))}
    case = GoldenCase(arrays)
    assert image_size(replace(network, inputs=(time, picture)), case) == (7, 5)
