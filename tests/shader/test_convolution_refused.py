"""Networks over images that are no shader: what is said of them; and paddings that are folded."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from metal4conv.errors import UnsupportedModel
from metal4conv.shader.reading import read_network
from tests.shader.convolution_networks import Parts, conv
from tests.shader.networks import converted, seeded

REFUSED = {
    "stride": (nn.Conv2d(3, 4, 3, stride=2, padding=1), "strides"),
    "dilation": (nn.Conv2d(3, 4, 3, dilation=2, padding=2), "dilations"),
    "groups": (nn.Conv2d(4, 4, 3, padding=1, groups=4), "groups"),
    "valid": (nn.Conv2d(3, 4, 3), "changes the size"),
    "even": (nn.Conv2d(3, 4, 4, padding=2), "odd"),
    "channels": (nn.Conv2d(3, 256, 3, padding=1), "128 channels"),
    "pool": (nn.Sequential(conv(3, 4), nn.MaxPool2d(2)), "max_pool"),
    "average": (nn.Sequential(conv(3, 4), nn.AdaptiveAvgPool2d(1)), "reduce_mean|avg_pool"),
    "upsample": (nn.Sequential(conv(3, 4), nn.Upsample(scale_factor=2)), "upsample"),
    "transposed": (nn.ConvTranspose2d(3, 4, 2, stride=2), "conv_transpose"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused(name):
    module, words = REFUSED[name]
    first = next(layer for layer in module.modules() if hasattr(layer, "in_channels"))
    function = converted(module.eval(), torch.zeros(1, first.in_channels, 8, 8)).function
    with pytest.raises(UnsupportedModel, match=words) as raised:
        read_network(function, "net")
    assert raised.value.hint
    assert raised.value.where


def test_a_batch_is_refused():
    function = converted(conv(3, 4).eval(), torch.zeros(2, 3, 8, 8)).function
    with pytest.raises(UnsupportedModel, match=r"expected \(1, channels, height, width\)"):
        read_network(function, "net")


REFLECTED = nn.Conv2d(3, 4, 3, padding=1, padding_mode="reflect")


def test_a_padding_that_is_not_zero_is_named():
    function = converted(REFLECTED.eval(), torch.zeros(1, 3, 8, 8)).function
    with pytest.raises(UnsupportedModel, match='in mode "reflect"') as raised:
        read_network(function, "net")
    assert raised.value.where == ("pad (pad)",)


PADDINGS = {
    # what pads the image (left, right, top, bottom), the convolution's own, how it moves
    "all around": ((1, 1, 1, 1), "valid", (1, 1)),
    "left and below": ((2, 0, 0, 2), "valid", (0, 2)),
    "some of each": ((0, 0, 1, 1), (0, 1), (1, 1)),
}


@pytest.mark.parametrize("name", PADDINGS)
def test_zeros_around_an_image_are_the_convolutions_own(name):
    around, own, padding = PADDINGS[name]

    def forward(self: Parts, image: torch.Tensor) -> torch.Tensor:
        return self.layer(functional.pad(image, around))

    module = seeded(lambda: Parts(forward, layer=nn.Conv2d(3, 4, 3, padding=own)))
    found = converted(module, torch.zeros(1, 3, 6, 5))
    inputs = found.draw()
    with torch.no_grad():
        exact = module(*map(torch.from_numpy, inputs.values())).numpy()
    (got,) = found.evaluated(inputs).values()
    np.testing.assert_allclose(got, exact, atol=1e-5)
    (only,) = found.network.passes
    assert only.convolution is not None
    assert only.convolution.padding == padding


def test_a_padding_that_others_read_stays():
    def forward(self: Parts, image: torch.Tensor) -> torch.Tensor:
        padded = functional.pad(image, (1, 1, 1, 1))
        return self.layer(padded) + padded[:, :, 1:-1, 1:-1]

    function = converted(Parts(forward, layer=nn.Conv2d(3, 3, 3)), torch.zeros(1, 3, 6, 5)).function
    with pytest.raises(UnsupportedModel, match="pads axis"):
        read_network(function, "net")
