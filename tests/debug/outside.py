"""Small networks of the transformers library, as factories that `convert` takes."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from tests.outside.onnx_exports import NETWORKS


def made(name: str) -> tuple[nn.Module, tuple[Tensor, ...]]:
    """A network and inputs of the sizes that its export has."""
    network = NETWORKS[name]
    torch.manual_seed(0)
    return network.build().eval(), network.inputs(network.exported)


def vit() -> tuple[nn.Module, tuple[Tensor, ...]]:
    return made("vit")


def bert() -> tuple[nn.Module, tuple[Tensor, ...]]:
    return made("bert")


def convnext() -> tuple[nn.Module, tuple[Tensor, ...]]:
    return made("convnext")


def segformer() -> tuple[nn.Module, tuple[Tensor, ...]]:
    return made("segformer")


def swin2sr() -> tuple[nn.Module, tuple[Tensor, ...]]:
    return made("swin2sr")
