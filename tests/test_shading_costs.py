"""What `shade` says of a network's rounding."""

from __future__ import annotations

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
from metal4conv.shading_costs import overflows, rounding_of
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
    [right] = rounding_of(network, "float16", [case_of(network, 0)])
    [wrong] = rounding_of(network, "float16", [case_of(network, 0.5)])
    assert 0 < wrong.largest < 0.01
    np.testing.assert_allclose(wrong.largest, right.largest, rtol=0.05)


def test_overflow_is_told_and_widens_no_tolerance() -> None:
    network = layer()
    x = np.full((8, 4), 1e6, np.float32)
    expected = np.maximum(x @ network.program.linears[0].weight.T, 0)
    case = GoldenCase({"x": x}, {}, {"y": expected})
    [found] = overflows(network, "float16", [case])
    assert (found.code, found.where) == ("shader-overflow", "y")
    assert not overflows(network, "float32", [case])
    [row] = rounding_of(network, "float16", [case])
    assert row.largest == 0
