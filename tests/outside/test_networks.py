"""Networks of other projects convert and verify, in both precisions."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import Done

pytest.importorskip("transformers", reason="installed by make test-slow")

NETWORKS = Path(__file__).with_name("networks.py")
INPUTS = {
    "vit": [],
    "bert": [
        *("-i", "input_ids:1xt:int64:0..30521", "-i", "attention_mask:1xt:int64:1..1"),
        *("--dim", "t=4..128@16"),
    ],
    "convnext": [],
    "segformer": [],
    "swin2sr": [],
}


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["float32", "float16"])
@pytest.mark.parametrize("name", INPUTS)
def test_network(
    name: str, precision: str, tmp_path: Path, metal4conv: Callable[..., Done]
) -> None:
    source = [f"{NETWORKS}:{name}", *INPUTS[name], "--precision", precision]
    done = metal4conv("convert", *source, "-o", tmp_path, "-q")
    assert (done.code, done.stdout) == (0, ""), done.stderr
    done = metal4conv("verify", tmp_path / f"{name}.mlpackage", "--json")
    report = json.loads(done.stdout)
    assert done.code == 0, report["outputs"]
    assert report["verdict"] == "agrees"
    if precision == "float32":
        # relative to the output's magnitude: 1e-4 of it is 80 dB
        assert all(row["psnr"] is None or row["psnr"] > 80 for row in report["outputs"])
