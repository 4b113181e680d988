"""Small networks of other projects, exported to ONNX by both of PyTorch's exporters."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from tests.outside.networks import OnPixels, OnTokens, lively, transformers

Sizes = Mapping[str, int]


@dataclass(frozen=True)
class Network:
    """A network, its inputs for some sizes, and which axes these sizes are."""

    build: Callable[[], nn.Module]
    inputs: Callable[[Sizes], tuple[Tensor, ...]]
    names: tuple[str, ...]
    axes: tuple[Mapping[int, str], ...]
    exported: Sizes
    """The sizes that the exporter sees."""
    ranges: Mapping[str, str] = field(default_factory=dict)
    """For `--dim`; none where the sizes are fixed."""
    others: tuple[Sizes, ...] = ()
    """The sizes to verify a dynamic export at, the smallest first."""


class Perceptron(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(16, 32)
        self.norm = nn.LayerNorm(32)
        self.second = nn.Linear(32, 8)

    def forward(self, x: Tensor) -> Tensor:
        return self.second(nn.functional.gelu(self.norm(self.first(x))))


class Convolutions(nn.Module):
    """An encoder and a decoder whose ways are joined at the encoder's size."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 8, 3, padding=1)
        self.norm = nn.BatchNorm2d(8)
        self.pool = nn.MaxPool2d(2)
        self.up = nn.ConvTranspose2d(8, 8, 2, stride=2)
        self.joined = nn.Conv2d(16, 4, 3, padding=1)
        self.head = nn.Linear(4, 5)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        wide = torch.relu(self.norm(self.first(x)))
        deep = self.up(self.pool(wide))
        size = wide.shape[-2:]
        deep = nn.functional.interpolate(deep, size=size, mode="bilinear", align_corners=False)
        found = self.joined(torch.cat([wide, deep], 1))
        return found, self.head(nn.functional.adaptive_avg_pool2d(found, 1).flatten(1))


class Decoder(nn.Module):
    """A block of a language model: positions, causal attention, a view of packed heads."""

    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(50, 32)
        self.norm = nn.LayerNorm(32)
        self.packed = nn.Linear(32, 96)
        self.out = nn.Linear(32, 32)

    def forward(self, ids: Tensor) -> Tensor:
        x = self.words(ids)
        batch, length, width = x.shape
        x = x + torch.arange(length, device=x.device).float()[None, :, None] / 10
        heads = self.packed(self.norm(x)).view(batch, length, 3, 4, 8).permute(2, 0, 3, 1, 4)
        query, key, value = heads.unbind(0)
        scores = query @ key.transpose(-1, -2) / 8**0.5
        places = torch.arange(length, device=x.device)
        hidden = places[None, :] > places[:, None]
        found = scores.masked_fill(hidden, -torch.inf).softmax(-1) @ value
        return x + self.out(found.transpose(1, 2).reshape(batch, length, width))


class Recurrent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(8, 16, 2, batch_first=True, bidirectional=True)
        self.gru = nn.GRU(32, 8, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.gru(self.lstm(x)[0])[0]


def vit() -> nn.Module:
    made = transformers()
    config = made.ViTConfig(
        hidden_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=96,
        image_size=32,
        patch_size=8,
        attn_implementation="eager",
    )
    return OnPixels(lively(made.ViTModel(config, add_pooling_layer=False)), ("last_hidden_state",))


def bert(attention: str = "eager") -> nn.Module:
    made = transformers()
    config = made.BertConfig(
        vocab_size=100,
        hidden_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=96,
        max_position_embeddings=64,
        attn_implementation=attention,
    )
    return OnTokens(lively(made.BertModel(config)), ("last_hidden_state", "pooler_output"))


def bert_fused() -> nn.Module:
    return bert("sdpa")


def convnext() -> nn.Module:
    made = transformers()
    config = made.ConvNextConfig(hidden_sizes=[8, 16, 24, 32], depths=[1, 1, 2, 1])
    outputs = ("last_hidden_state", "pooler_output")
    return OnPixels(lively(made.ConvNextModel(config)), outputs)


def segformer() -> nn.Module:
    made = transformers()
    config = made.SegformerConfig(
        hidden_sizes=[8, 16, 24, 32],
        num_attention_heads=[1, 2, 3, 4],
        depths=[1, 1, 1, 1],
        decoder_hidden_size=32,
        num_labels=5,
    )
    return OnPixels(lively(made.SegformerForSemanticSegmentation(config)), ("logits",))


def swin2sr() -> nn.Module:
    made = transformers()
    config = made.Swin2SRConfig(
        image_size=16, depths=[2, 2], embed_dim=24, num_heads=[2, 2], window_size=4
    )
    return OnPixels(lively(made.Swin2SRForImageSuperResolution(config)), ("reconstruction",))


def pixels(sizes: Sizes) -> tuple[Tensor, ...]:
    return (torch.rand(1, 3, sizes["h"], sizes["w"], generator=torch.Generator().manual_seed(1)),)


def row(width: int) -> Callable[[Sizes], tuple[Tensor, ...]]:
    def inputs(sizes: Sizes) -> tuple[Tensor, ...]:
        return (torch.randn(1, sizes["t"], width, generator=torch.Generator().manual_seed(1)),)

    return inputs


def tokens(sizes: Sizes) -> tuple[Tensor, ...]:
    return (torch.arange(sizes["t"]).reshape(1, -1) * 7 % 50,)


def masked_tokens(sizes: Sizes) -> tuple[Tensor, ...]:
    mask = torch.ones(1, sizes["t"], dtype=torch.int64)
    mask[:, 5:] = 0
    return (*tokens(sizes), mask)


LENGTHS = tuple({"t": size} for size in (2, 3, 5, 16, 33))
IMAGE = ({2: "h", 3: "w"},)


def images(step: int, exported: int, largest: int) -> dict[str, Any]:
    """Fields of a network on images whose sizes are multiples of a step."""
    return {
        "inputs": pixels,
        "names": ("pixel_values",),
        "axes": IMAGE,
        "exported": {"h": exported, "w": exported + step},
        "ranges": dict.fromkeys(("h", "w"), f"{step}..{largest}/{step}@{exported}"),
        "others": tuple(
            {"h": step * h, "w": step * w} for h, w in ((1, 1), (1, 2), (3, 2), (2, 4), (3, 5))
        ),
    }


NETWORKS = {
    "perceptron": Network(
        Perceptron, row(16), ("x",), ({1: "t"},), {"t": 7}, {"t": "2..64@7"}, LENGTHS
    ),
    "convolutions": Network(Convolutions, **images(2, 16, 64)),
    "decoder": Network(Decoder, tokens, ("ids",), ({1: "t"},), {"t": 7}, {"t": "2..64@7"}, LENGTHS),
    "recurrent": Network(
        Recurrent, row(8), ("x",), ({1: "t"},), {"t": 7}, {"t": "2..64@7"}, LENGTHS
    ),
    "bert": Network(
        bert,
        masked_tokens,
        ("input_ids", "attention_mask"),
        ({1: "t"}, {1: "t"}),
        {"t": 7},
        {"t": "2..64@7"},
        LENGTHS,
    ),
    "bert_fused": Network(
        bert_fused,
        masked_tokens,
        ("input_ids", "attention_mask"),
        ({1: "t"}, {1: "t"}),
        {"t": 7},
        {"t": "2..64@7"},
        LENGTHS,
    ),
    "vit": Network(vit, pixels, ("pixel_values",), IMAGE, {"h": 32, "w": 32}),
    "convnext": Network(convnext, **images(32, 64, 160)),
    "segformer": Network(segformer, **images(32, 64, 160)),
    "swin2sr": Network(swin2sr, **images(4, 16, 40)),
}


def export(name: str, exporter: str, opset: int, is_dynamic: bool, file: Path) -> None:
    """Writes a network as ONNX; what the exporters say on their way is dropped."""
    network = NETWORKS[name]
    torch.manual_seed(0)
    model = network.build().eval()
    given = network.inputs(network.exported)
    options: dict[str, Any] = {"dynamo": exporter == "dynamo", "verbose": False}
    if exporter == "dynamo":
        options["external_data"] = False
    if is_dynamic and exporter == "dynamo":
        shapes = [dict.fromkeys(axes, torch.export.Dim.DYNAMIC) for axes in network.axes]
        options["dynamic_shapes"] = tuple(shapes)
    elif is_dynamic:
        options["dynamic_axes"] = dict(zip(network.names, network.axes, strict=True))
    quiet = io.StringIO()
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(quiet):
            warnings.simplefilter("ignore")
            torch.onnx.export(
                model,
                given,
                str(file),
                opset_version=opset,
                input_names=list(network.names),
                **options,
            )
    finally:
        logging.disable(logging.NOTSET)
