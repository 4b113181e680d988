"""Networks of other projects with seeded random weights: full width, at least four layers."""

from __future__ import annotations

import os
from typing import Any

import torch
from torch import Tensor, nn

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["USE_TF"] = "0"


class Wrapped(nn.Module):
    """A transformers model that takes named tensors and gives some of its outputs."""

    def __init__(self, model: nn.Module, outputs: tuple[str, ...]) -> None:
        super().__init__()
        self.model = model
        self.outputs = outputs

    def results(self, **inputs: Tensor) -> dict[str, Tensor]:
        found = self.model(**inputs)
        return {name: found[name] for name in self.outputs}


class OnPixels(Wrapped):
    def forward(self, pixel_values: Tensor) -> dict[str, Tensor]:
        return self.results(pixel_values=pixel_values)


class OnTokens(Wrapped):
    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> dict[str, Tensor]:
        return self.results(input_ids=input_ids, attention_mask=attention_mask)


def lively(model: nn.Module) -> nn.Module:
    """Random weights such that the outputs vary: initial ones leave layer scales near 0."""
    for name, parameter in model.named_parameters():
        if name.endswith(("layer_scale_parameter", "logit_scale")):
            nn.init.ones_(parameter)
        if name.endswith("bias"):
            nn.init.normal_(parameter, std=0.02)
    return model.eval()


def transformers() -> Any:
    import transformers as module

    torch.manual_seed(0)
    return module


def vit() -> tuple[nn.Module, tuple[Tensor, ...]]:
    made = transformers()
    config = made.ViTConfig(num_hidden_layers=4)
    model = made.ViTModel(config, add_pooling_layer=False)
    return OnPixels(lively(model), ("last_hidden_state",)), (torch.rand(1, 3, 224, 224),)


def bert() -> tuple[nn.Module, tuple[Tensor, ...]]:
    made = transformers()
    model = made.BertModel(made.BertConfig(num_hidden_layers=4))
    tokens = torch.ones(1, 16, dtype=torch.int64)
    return OnTokens(lively(model), ("last_hidden_state", "pooler_output")), (tokens, tokens)


def convnext() -> tuple[nn.Module, tuple[Tensor, ...]]:
    made = transformers()
    model = made.ConvNextModel(made.ConvNextConfig())
    outputs = ("last_hidden_state", "pooler_output")
    return OnPixels(lively(model), outputs), (torch.rand(1, 3, 224, 224),)


def segformer() -> tuple[nn.Module, tuple[Tensor, ...]]:
    made = transformers()
    model = made.SegformerForSemanticSegmentation(made.SegformerConfig())
    return OnPixels(lively(model), ("logits",)), (torch.rand(1, 3, 256, 256),)


def swin2sr() -> tuple[nn.Module, tuple[Tensor, ...]]:
    made = transformers()
    config = made.Swin2SRConfig(depths=[2, 2, 2, 2], embed_dim=180, num_heads=[6, 6, 6, 6])
    model = made.Swin2SRForImageSuperResolution(config)
    return OnPixels(lively(model), ("reconstruction",)), (torch.rand(1, 3, 64, 64),)
