"""What is written can be read by coremltools, and is the same each time."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import uuid
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import metal4conv
from metal4conv.frontends.toolkit import quiet
from metal4conv.mil.package import read_package
from metal4conv.mil.writer import manifest_text, set_metadata, write_package
from tests.conftest import tree_hash
from tests.layout.packages import PackageBuilder, classifier, upscaler
from tests.mil.foreign import converted, tensor, toolkit

WEIGHT = np.arange(64, dtype=np.float32).reshape(16, 4)


@pytest.fixture(scope="module")
def model() -> Any:
    """A model of coremltools with one weight in a file."""

    def body(x: Any) -> Any:
        _, mb, _ = toolkit()
        return mb.matmul(x=x, y=mb.const(val=WEIGHT), name="y")

    return converted(body, [tensor((1, 16))])


def written(folder: Path, model: Any) -> Path:
    """The model as our writer writes it; its weights are copied, since the writer moves them."""
    weights = folder / "weights"
    weights.mkdir(parents=True)
    for file in Path(model.weights_dir).glob("*.bin"):
        (weights / file.name).write_bytes(file.read_bytes())
    write_package(folder / "net.mlpackage", model.get_spec(), weights)
    assert list(weights.iterdir()) == []
    return folder / "net.mlpackage"


def read_back(path: Path) -> Any:
    """What coremltools reads."""
    ct, _, _ = toolkit()
    with quiet():
        return ct.models.MLModel(str(path), skip_model_load=True)


def test_coremltools_reads_it(model: Any, tmp_path: Path) -> None:
    path = written(tmp_path, model)
    again = read_back(path)
    assert again.get_spec() == model.get_spec()
    found = {file.name: file.read_bytes() for file in Path(again.weights_dir).iterdir()}
    expected = {file.name: file.read_bytes() for file in Path(model.weights_dir).iterdir()}
    assert list(found) == ["weight.bin"]
    assert found == expected


def test_coremltools_saves_it_again(model: Any, tmp_path: Path) -> None:
    path = written(tmp_path, model)
    with quiet():
        read_back(path).save(str(tmp_path / "again.mlpackage"))
    x = np.eye(16, dtype=np.float32)[3:4]
    for package in (path, tmp_path / "again.mlpackage"):
        np.testing.assert_array_equal(metal4conv.load(package).predict({"x": x})["y"], WEIGHT[3:4])


@pytest.mark.parametrize("make", [classifier, upscaler], ids=lambda make: make.__name__)
def test_coremltools_reads_packages_made_by_hand(make: Any, tmp_path: Path) -> None:
    build: PackageBuilder = make()
    package = build.write(tmp_path / "net.mlpackage")
    assert read_back(package.path).get_spec() == build.spec == package.spec


def test_the_same_model_gives_the_same_bytes(model: Any, tmp_path: Path) -> None:
    first, second = (written(tmp_path / name, model) for name in ("first", "second"))
    assert tree_hash(first) == tree_hash(second)
    files = sorted(str(file.relative_to(first)) for file in first.rglob("*") if file.is_file())
    assert files == [
        "Data/com.apple.CoreML/model.mlmodel",
        "Data/com.apple.CoreML/weights/weight.bin",
        "Manifest.json",
    ]


def test_the_order_of_filling_a_map_does_not_matter(tmp_path: Path) -> None:
    keys = [f"key{number}" for number in range(50)]
    for name, order in (("up", keys), ("down", keys[::-1])):
        build = classifier()
        for key in order:
            build.metadata(key, f"value of {key}")
        build.write(tmp_path / name)
    assert tree_hash(tmp_path / "up") == tree_hash(tmp_path / "down")


PROGRAM = """
import sys
from pathlib import Path
from tests.layout.packages import classifier

build = classifier()
for key in {f"key{number}" for number in range(50)}:
    build.metadata(key, key)
build.write(Path(sys.argv[1]))
"""


def test_another_process_and_hash_seed_give_the_same_bytes(tmp_path: Path) -> None:
    for seed in ("1", "2"):
        root = Path(__file__).parents[2]
        environment = {**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": str(root)}
        command = [sys.executable, "-c", PROGRAM, str(tmp_path / seed)]
        subprocess.run(command, env=environment, check=True)
    assert tree_hash(tmp_path / "1") == tree_hash(tmp_path / "2")


def test_a_model_without_weights(tmp_path: Path) -> None:
    build = classifier()
    write_package(tmp_path / "net.mlpackage", build.spec, None)
    assert read_back(tmp_path / "net.mlpackage").get_spec() == build.spec
    assert read_package(tmp_path / "net.mlpackage").weight_files() == ()


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    build = classifier()
    write_package(tmp_path / "net.mlpackage", build.spec, None)
    before = tree_hash(tmp_path)
    with pytest.raises(FileExistsError):
        write_package(tmp_path / "net.mlpackage", upscaler().spec, None)
    assert tree_hash(tmp_path) == before


def test_the_manifest_names_both_items_by_valid_identifiers() -> None:
    manifest = json.loads(manifest_text())
    entries = manifest["itemInfoEntries"]
    assert {item["path"] for item in entries.values()} == {
        "com.apple.CoreML/model.mlmodel",
        "com.apple.CoreML/weights",
    }
    for identifier in entries:
        assert str(uuid.UUID(identifier)).upper() == identifier
    root = entries[manifest["rootModelIdentifier"]]
    assert root["path"] == "com.apple.CoreML/model.mlmodel"
    assert manifest["fileFormatVersion"] == "1.0.0"


def test_metadata_is_replaced() -> None:
    build = classifier()
    build.metadata("com.github.apple.coremltools.conversion_date", "2025-01-01")
    set_metadata(build.spec, {"b": "2", "a": "1"}, description="sorts")
    assert dict(build.spec.description.metadata.userDefined) == {"a": "1", "b": "2"}
    assert build.spec.description.metadata.shortDescription == "sorts"
    set_metadata(build.spec, {})
    assert dict(build.spec.description.metadata.userDefined) == {}
    assert build.spec.description.metadata.shortDescription == "sorts"
