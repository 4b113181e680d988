"""The networks of the frames: layout manifests without packages."""

from __future__ import annotations

from dataclasses import replace

from metal4conv.layout.document import LayoutManifest
from metal4conv.mil.program import Dimension
from tests.layout.manifests import manifest_with, upscaler

SIZES = {"h": Dimension(16, None, 720), "w": Dimension(16, None, 1280)}

NETWORKS: dict[str, LayoutManifest] = {
    "upscaler": upscaler(),
    "stateful": manifest_with(
        [
            ("color", "input", "float16", (1, 3, "h", "w")),
            ("upscaled", "output", "float16", (1, 3, "2*h", "2*w")),
        ],
        SIZES,
        name="stateful",
        states=("history",),
    ),
    "temporal": manifest_with(
        [
            ("color", "input", "float16", (1, 3, "h", "w")),
            ("history", "input", "float16", (1, 3, "2*h", "2*w")),
            ("upscaled", "output", "float16", (1, 3, "2*h", "2*w")),
        ],
        SIZES,
        name="temporal",
    ),
    "denoiser": replace(
        manifest_with(
            [
                ("noisy", "input", "float16", (1, 3, "h", "w")),
                ("denoised", "output", "float16", (1, 3, "h", "w")),
            ],
            SIZES,
            name="denoiser",
        ),
        estimated_bytes="64*h*w",
    ),
    "occlusion": manifest_with(
        [
            ("geometry", "input", "float16", (1, 4, "h", "w")),
            ("occlusion", "output", "float16", (1, 1, "h", "w")),
        ],
        SIZES,
        name="occlusion",
    ),
    "classifier": manifest_with(
        [("x", "input", "float32", (1, 10)), ("y", "output", "float32", (1, 7))],
        name="classifier",
    ),
}
