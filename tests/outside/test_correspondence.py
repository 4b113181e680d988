"""Networks of other projects: every value that is said to correspond does, and most operations
have one.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.conftest import SAMPLES
from tests.frontends.correspondence import TOLERANCES, assert_corresponds
from tests.frontends.helpers import source

pytest.importorskip("transformers", reason="installed by make test-slow")
pytest.importorskip("onnxscript", reason="installed by make test-slow")
pytest.importorskip("tf2onnx", reason="installed by make test-slow")

from tests.outside.onnx_exports import NETWORKS, export  # needs transformers
from tests.outside.tf2onnx_exports import SHAPES

TORCH = Path(__file__).with_name("networks.py")
TOKENS = ("input_ids:1xt:int64:0..30521", "attention_mask:1xt:int64:1..1")
INPUTS = {"vit": (), "bert": TOKENS, "convnext": (), "segformer": (), "swin2sr": ()}

SAVE = """
import sys
import keras
from tests.outside.tf2onnx_exports import BUILD, SETTLED, SHAPES, settle
keras.utils.set_random_seed(0)
network = BUILD[sys.argv[1]](SHAPES[sys.argv[1]])
if sys.argv[1] in SETTLED:
    settle(network, SHAPES[sys.argv[1]])
network.save(sys.argv[2])
"""


@pytest.mark.slow
@pytest.mark.parametrize("precision", TOLERANCES)
@pytest.mark.parametrize("name", INPUTS)
def test_exported_program(name: str, precision: str, tmp_path: Path) -> None:
    dims = ("t=4..128@16",) if name == "bert" else ()
    opened = source(f"{TORCH}:{name}", INPUTS[name], dims)
    assert_corresponds(opened, tmp_path, precision)


@pytest.mark.slow
@pytest.mark.parametrize(("exporter", "opset"), [("trace", 20), ("dynamo", 23)])
@pytest.mark.parametrize("name", NETWORKS)
def test_onnx_export(name: str, exporter: str, opset: int, tmp_path: Path) -> None:
    network, file = NETWORKS[name], tmp_path / "net.onnx"
    export(name, exporter, opset, False, file)
    opened = source(file)
    arrays = [item.numpy() for item in network.inputs(network.exported)]
    inputs = dict(zip((item.name for item in opened.inputs), arrays, strict=True))
    for precision in TOLERANCES:
        assert_corresponds(opened, tmp_path / precision, precision, inputs)


@pytest.mark.slow
@pytest.mark.parametrize("name", SHAPES)
def test_keras(name: str, tmp_path: Path) -> None:
    file = tmp_path / "net.keras"
    quiet = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "KERAS_BACKEND": "tensorflow"}
    command = [sys.executable, "-c", SAVE, name, str(file)]
    done = subprocess.run(command, capture_output=True, text=True, env=quiet)
    assert done.returncode == 0, done.stderr[-2000:]
    opened = source(file)
    (item,) = opened.inputs
    high = 255 if len(SHAPES[name]) == 4 else 1  # pictures
    array = np.random.default_rng(0).random(SHAPES[name]) * high
    assert_corresponds(opened, tmp_path, inputs={item.name: array.astype(np.float32)})


SAMPLE_SIZES = {
    "upscaler": (("color:1x3xhxw",), ("h=16..96@45", "w=16..128@60")),
    "ambient_occlusion": (
        ("depth:1x1xhxw", "normals:1x3xhxw::-1..1"),
        ("h=64..128/8@96", "w=64..160/8@120"),
    ),
    "neural_material": (("latents:nx8::0..1",), ("n=64..4096@256",)),
    "animation_blend": ((), ("batch=1..64@8",)),
    "denoiser": ((), ("h=16..96/4@44", "w=16..128/4@60")),
}


@pytest.mark.slow
@pytest.mark.parametrize("precision", TOLERANCES)
@pytest.mark.parametrize("name", SAMPLE_SIZES)
def test_sample(name: str, precision: str, tmp_path: Path) -> None:
    weights: Path | None
    text, weights = f"{SAMPLES / name}.py:{name}", SAMPLES / f"{name}.safetensors"
    if name == "animation_blend":
        text, weights = str(SAMPLES / name), None
    elif name == "denoiser":
        text, weights = str(SAMPLES / "denoiser.onnx"), None
    opened = source(text, *SAMPLE_SIZES[name], weights=weights)
    assert_corresponds(opened, tmp_path, precision, at_least=0.95)
