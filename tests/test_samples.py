"""The samples, from source to verdict, in both precisions and at several sizes."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from metal4conv import layout, load
from metal4conv.frontends.toolkit import quiet
from metal4conv.layout.document import TensorLayout
from metal4conv.verify.golden import read_golden
from tests.conftest import SAMPLES, Done, sample

SIZES = {
    "upscaler": ["-i", "color:1x3xhxw", "--dim", "h=16..96@45", "--dim", "w=16..128@60"],
    "ambient_occlusion": [
        *("-i", "depth:1x1xhxw", "-i", "normals:1x3xhxw::-1..1"),
        *("--dim", "h=64..128/8@96", "--dim", "w=64..160/8@120"),
    ],
    "neural_material": ["-i", "latents:nx8::0..1", "--dim", "n=64..4096@256"],
    "animation_blend": ["--dim", "batch=1..64@8"],
    "denoiser": ["--dim", "h=16..96/4@44", "--dim", "w=16..128/4@60"],
}
OUTPUTS = {
    "upscaler": {"upscaled": (1, 3, "2*h", "2*w")},
    "ambient_occlusion": {"occlusion": (1, 1, "h", "w")},
    "neural_material": {"base_color": ("n", 3), "normal": ("n", 3)},
    "animation_blend": {"pose": ("batch", 16, 4)},
    "denoiser": {"denoised": (1, 3, "h", "w")},
}


@pytest.mark.parametrize("precision", ["float16", "float32"])
@pytest.mark.parametrize("name", SIZES)
def test_sample(name: str, precision: str, tmp_path: Path, metal4conv: Callable[..., Done]) -> None:
    outputs = [item for output in OUTPUTS[name] for item in ("--output", output)]
    arguments = [*sample(name), *SIZES[name], *outputs, "--precision", precision, "-o", tmp_path]
    done = metal4conv("convert", *arguments, "-q")
    assert (done.code, done.stdout, done.stderr) == (0, "", ""), done.stderr
    package = tmp_path / f"{name}.mlpackage"
    done = metal4conv("verify", package, "--json")
    report = json.loads(done.stdout)
    assert done.code == 0
    assert report["verdict"] == "agrees"
    assert len(report["cases"]) == 3
    assert len({json.dumps(case["dimensions"]) for case in report["cases"]}) == 3
    manifest = layout(package)
    assert {row.name: row.coreml.shape for row in manifest.outputs} == OUTPUTS[name]
    assert {row.coreml.dtype for row in manifest.tensors} == {precision}
    on_the_emulator(metal4conv, package, list(manifest.outputs), cases=3)
    fixed = [f"--dim={key}={size}" for key, size in manifest.defaults.items()]
    done = metal4conv("reshape", package, *fixed, "-o", tmp_path / "fixed", "-q")
    assert (done.code, done.stderr) == (0, "")
    on_the_emulator(metal4conv, tmp_path / "fixed" / package.name, list(manifest.outputs), cases=1)


def on_the_emulator(
    metal4conv: Callable[..., Done], package: Path, outputs: list[TensorLayout], cases: int
) -> None:
    """The package agrees with its golden vectors, with both backings, and breaks no rule."""
    done = metal4conv("verify", package, "--on", "emulator", "--backing", "both", "--json")
    report = json.loads(done.stdout)
    assert (done.code, report["verdict"], report["findings"]) == (0, "agrees", [])
    labels = [f"case{n} ({way})" for n in range(cases) for way in ("device", "buffer")]
    assert [case["label"] for case in report["cases"]] == labels
    for row in report["metal"]["reflection"]:
        assert row["index"] == row["expected_index"]
        assert row["dimensions"] == row["expected_dimensions"]
    assert [row["name"] for row in report["outputs"]] == [row.name for row in outputs]


def test_one_input_has_its_own_dtype(tmp_path: Path, metal4conv: Callable[..., Done]) -> None:
    spec = ["-i", "pose_a::float32", "-i", "phase::float16:0..1"]
    done = metal4conv("convert", *sample("animation_blend"), *spec, "-o", tmp_path, "-q")
    assert (done.code, done.stderr) == (0, "")
    package = tmp_path / "animation_blend.mlpackage"
    dtypes = {row.name: row.coreml.dtype for row in layout(package).tensors}
    assert dtypes.pop("pose_a") == "float32"
    assert set(dtypes.values()) == {"float16"}
    assert metal4conv("verify", package, "-q").code == 0


def test_wrong_weights_do_not_verify(tmp_path: Path, metal4conv: Callable[..., Done]) -> None:
    arguments = [*sample("neural_material"), *SIZES["neural_material"], "-o", tmp_path, "-q"]
    assert metal4conv("convert", *arguments).code == 0
    package = tmp_path / "neural_material.mlpackage"
    factory = f"{SAMPLES / 'neural_material.py'}:neural_material"
    untrained = ["--against", factory, *SIZES["neural_material"]]
    done = metal4conv("verify", package, *untrained, "-q")
    assert done.code == 1
    assert "DIFFERS" in done.stdout


def test_exported_program_and_torchscript_give_the_same(
    tmp_path: Path, metal4conv: Callable[..., Done], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(SAMPLES))
    from upscaler import upscaler  # type: ignore[import-not-found]  # found through sys.path

    module, (color,) = upscaler()
    module.load_state_dict(load_file(SAMPLES / "upscaler.safetensors"))
    h, w = torch.export.Dim("h", min=16, max=96), torch.export.Dim("w", min=16, max=128)
    with quiet():
        program = torch.export.export(module, (color,), dynamic_shapes={"color": {2: h, 3: w}})
        torch.export.save(program, tmp_path / "exported.pt2")
        torch.jit.trace(module, color).save(tmp_path / "traced.pt")
    sizes = ["--dim", "h=16..96@45", "--dim", "w=16..128@60"]
    shape = ["-i", "color:1x3xhxw"]
    for source, extra in (("exported.pt2", []), ("traced.pt", shape)):
        done = metal4conv("convert", tmp_path / source, *extra, *sizes, "-o", tmp_path, "-q")
        assert (done.code, done.stderr) == (0, "")
        assert metal4conv("verify", tmp_path / f"{Path(source).stem}.mlpackage", "-q").code == 0
    first, second = (
        read_golden(tmp_path / f"{n}.golden.safetensors") for n in ("exported", "traced")
    )
    for one, other in zip(first.cases, second.cases, strict=True):
        assert one.dimensions == other.dimensions
        np.testing.assert_array_equal(one.inputs["color"], other.inputs["color"])
        results = [
            load(tmp_path / f"{name}.mlpackage").predict(one.inputs)["output"]
            for name in ("exported", "traced")
        ]
        np.testing.assert_array_equal(*results)


def test_ranges_of_an_exported_program_are_taken_over(
    tmp_path: Path, metal4conv: Callable[..., Done]
) -> None:
    class Doubled(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
            return {"twice": torch.cat([x, x], dim=2)}

    k = torch.export.Dim("k", min=2, max=8)
    with quiet():
        program = torch.export.export(
            Doubled(), (torch.zeros(1, 1, 24, 4),), dynamic_shapes={"x": {2: 8 * k}}
        )
        torch.export.save(program, tmp_path / "net.pt2")
    done = metal4conv("convert", tmp_path / "net.pt2", "-o", tmp_path, "--json")
    assert done.code == 0
    document = json.loads(done.stdout)
    assert document["layout"]["dimensions"] == {
        "h": {"min": 16, "max": 64, "default": 24, "step": 8}
    }
    assert document["layout"]["tensors"][1]["coreml"]["shape"] == [1, 1, "2*h", 4]
