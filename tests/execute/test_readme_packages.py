"""The examples of README's section on packages from elsewhere, run as they stand there."""

from __future__ import annotations

import doctest
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from metal4conv.frontends.toolkit import quiet, without_bars
from tests.mil.foreign import save, tensor, toolkit

README = Path(__file__).parents[2] / "README.md"


def colors(folder: Path) -> Path:
    """A classifier: each channel's share of all light in a picture."""
    ct, mb, _ = toolkit()
    shape = (1, 3, 24, 32)

    def body(picture: Any) -> Any:
        light = mb.reduce_sum(x=picture, axes=[2, 3], keep_dims=False)
        everything = mb.reduce_sum(x=light, axes=[1], keep_dims=True)
        return mb.real_div(x=light, y=everything, name="share")

    return save(
        folder,
        body,
        [tensor(shape)],
        inputs=[ct.ImageType("picture", shape=shape)],
        classifier_config=ct.ClassifierConfig(["red", "green", "blue"]),
    )


def total(folder: Path) -> Path:
    """The sum of all x so far."""
    _, mb, types = toolkit()

    def body(x: Any, total: Any) -> Any:
        added = mb.add(x=mb.read_state(input=total), y=x)
        held = mb.coreml_update_state(state=total, value=added)
        return mb.mul(x=held, y=np.float16(1), name="y")

    return save(folder, body, [tensor((2,), "fp16"), mb.StateTensorSpec((2,), types.fp16)])


def scaled(folder: Path, factor: float) -> Path:
    """The factor times x."""
    _, mb, _ = toolkit()
    folder.mkdir()
    return save(folder, lambda x: mb.mul(x=x, y=np.float32(factor), name="y"), [tensor((2,))])


def several(folder: Path) -> Path:
    """Functions that give half of x, and twice x."""
    ct, _, _ = toolkit()
    described = ct.utils.MultiFunctionDescriptor()
    for name, factor in (("half", 0.5), ("double", 2)):
        path = str(scaled(folder / name, factor))
        described.add_function(path, src_function_name="main", target_function_name=name)
    described.default_function_name = "double"
    target = folder / "several.mlpackage"
    with quiet(), without_bars():
        ct.utils.save_multifunction(described, str(target))
    return target


def test_examples(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for make in (colors, total, several):
        folder = tmp_path / make.__name__
        folder.mkdir()
        make(folder).rename(tmp_path / f"{make.__name__}.mlpackage")
    monkeypatch.chdir(tmp_path)
    text = README.read_text("utf-8").split("<!-- packages -->")[1].split("<!-- end packages -->")[0]
    examples = doctest.DocTestParser().get_doctest(
        text.replace("```", ""), {}, "README.md", str(README), 0
    )
    result = doctest.DocTestRunner(verbose=False).run(examples)
    assert result.failed == 0
    assert result.attempted == 10
