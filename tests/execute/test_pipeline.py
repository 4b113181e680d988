"""Pipelines that coremltools makes of its own models, against numbers worked by hand."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import metal4conv
from metal4conv.errors import DamagedFile, Metal4ConvError, UnsupportedModel, UsageError
from metal4conv.mil.package import read_package
from metal4conv.mil.program import TensorType
from tests.conftest import Done
from tests.mil.foreign import converted, from_torch, pipeline, tensor, toolkit

UPPER = np.triu(np.ones((4, 4), np.float32))
"""Running sums, as a matrix."""
X = np.array([[1, 2, 3, 4]], np.float32)


def sums(value: Any, name: str, dtype: type = np.float32) -> Any:
    """Running sums of four numbers, cut from eight so that the weight lies in the file."""
    _, mb, _ = toolkit()
    both = mb.matmul(x=value, y=mb.const(val=np.concatenate([UPPER, UPPER], 1).astype(dtype)))
    return mb.slice_by_size(x=both, begin=[0, 0], size=[1, 4], name=name)


def first() -> Any:
    """The model from x to h."""
    return converted(lambda x: sums(x, "h"), [tensor((1, 4))])


def second() -> Any:
    """The model from h to y."""
    return converted(lambda h: sums(h, "y"), [tensor((1, 4))])


def half() -> Any:
    """The same in float16."""
    return converted(lambda h: sums(h, "y", np.float16), [tensor((1, 4), "fp16")])


def labelled() -> Any:
    """A classifier of h."""
    ct, mb, _ = toolkit()
    return converted(
        lambda h: mb.softmax(x=h, axis=-1, name="p"),
        [tensor((1, 4))],
        classifier_config=ct.ClassifierConfig(["a", "b", "c", "d"]),
        pass_pipeline=ct.PassPipeline.DEFAULT,
    )


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Running sums of running sums."""
    return pipeline(tmp_path_factory.mktemp("two"), first(), second())


@pytest.fixture
def copied(two: Path, tmp_path: Path) -> Path:
    """A copy to change."""
    return Path(shutil.copytree(two, tmp_path / "copied.mlpackage"))


def rewrite(package: Path, change: Callable[[Any], object]) -> Path:
    """The package, its model changed by a function."""
    spec = read_package(package).spec
    change(spec)
    (package / "Data/com.apple.CoreML/model.mlmodel").write_bytes(spec.SerializeToString())
    return package


def test_models_run_in_a_row(two: Path) -> None:
    assert len(list(two.rglob("*weight.bin"))) == 2
    executor = metal4conv.load(two)
    assert executor.inputs == {"x": TensorType("float32", (1, 4))}
    assert executor.outputs == {"y": TensorType("float32", (1, 4))}
    assert (executor.states, executor.make_state()) == ({}, {})
    found = executor.predict({"x": X})
    assert list(found) == ["y"]
    assert found["y"].dtype == np.float32
    assert found["y"].tolist() == [[1, 4, 10, 20]]
    assert metal4conv.load(two, function="main").predict({"x": X})["y"].tolist() == [[1, 4, 10, 20]]


def test_a_pipeline_inside_a_pipeline(two: Path, copied: Path) -> None:
    def wrap(spec: Any) -> None:
        inner = type(spec)()
        inner.CopyFrom(spec)
        spec.pipeline.ClearField("models")
        spec.pipeline.models.add().CopyFrom(inner)

    executor = metal4conv.load(rewrite(copied, wrap))
    assert executor.predict({"x": X})["y"].tolist() == [[1, 4, 10, 20]]


def test_a_later_model_takes_what_the_app_gives(tmp_path: Path) -> None:
    _, mb, _ = toolkit()
    both = converted(lambda h, x: mb.sub(x=h, y=x, name="y"), [tensor((1, 4)), tensor((1, 4))])
    executor = metal4conv.load(pipeline(tmp_path, first(), both))
    assert executor.predict({"x": X})["y"].tolist() == [[0, 1, 3, 6]]


def test_between_models_of_different_precision(tmp_path: Path) -> None:
    path = pipeline(tmp_path, first(), half())
    found = metal4conv.load(path).predict({"x": X})["y"]
    assert found.dtype == np.float16
    assert found.tolist() == [[1, 4, 10, 20]]


def test_a_pipeline_that_declares_another_dtype(copied: Path) -> None:
    def change(spec: Any) -> None:
        spec.description.output[0].type.multiArrayType.dataType = 65600  # double

    found = metal4conv.load(rewrite(copied, change)).predict({"x": X})["y"]
    assert found.dtype == np.float64
    assert found.tolist() == [[1, 4, 10, 20]]


@pytest.mark.parametrize("kind", ["pipeline", "pipelineClassifier"])
def test_a_classifier_at_the_end(kind: str, tmp_path: Path) -> None:
    path = pipeline(tmp_path, first(), labelled())
    if kind == "pipelineClassifier":

        def change(spec: Any) -> None:
            held = type(spec.pipeline)()
            held.CopyFrom(spec.pipeline)
            spec.pipelineClassifier.pipeline.CopyFrom(held)

        rewrite(path, change)
    found = metal4conv.load(path).predict({"x": X})
    powers = np.exp(np.array([1, 3, 6, 10], np.float64) - 10)
    assert set(found) == {"classLabel", "classLabel_probs"}
    assert found["classLabel"] == "d"
    assert list(found["classLabel_probs"]) == ["a", "b", "c", "d"]
    np.testing.assert_allclose(
        list(found["classLabel_probs"].values()), powers / powers.sum(), rtol=1e-5
    )


def test_pictures_between_models(tmp_path: Path) -> None:
    """The picture between them has whole numbers from 0 to 255, in an order both agree on."""
    ct, _, _ = toolkit()

    class Scale(torch.nn.Module):
        def __init__(self, factors: Sequence[float]) -> None:
            super().__init__()
            self.factors = torch.tensor(factors).reshape(1, -1, 1, 1)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x * self.factors

    shape = (1, 3, 2, 2)
    models = []
    for name, source, target, layout, factors in (
        ("one", "x", "h", "RGB", (0.25, 1.0, 10.0)),
        ("two", "h", "y", "BGR", (2.0, 1.0, 1.0)),  # blue twice
    ):
        (tmp_path / name).mkdir()
        is_last = target == "y"
        outputs = [
            ct.TensorType(target)
            if is_last
            else ct.ImageType(name=target, color_layout=ct.colorlayout.RGB)
        ]
        inputs = [ct.ImageType(source, shape=shape, color_layout=ct.colorlayout[layout])]
        path = from_torch(
            tmp_path / name, Scale(factors), [torch.zeros(shape)], inputs=inputs, outputs=outputs
        )
        models.append(ct.models.MLModel(str(path), skip_model_load=True))
    path = pipeline(tmp_path, *models)

    def restore(spec: Any) -> None:  # make_pipeline gives it the order of the next model's input
        spec.pipeline.models[0].description.output[0].type.imageType.colorSpace = 20  # RGB

    executor = metal4conv.load(rewrite(path, restore))
    found = executor.predict({"x": Image.new("RGB", (2, 2), (10, 20, 30))})["y"]
    assert found.shape == shape
    # red 2.5 becomes 3, blue 300 becomes 255; the second takes blue, green, red
    assert found[0, :, 0, 0].tolist() == [510, 20, 3]
    tensor_given = np.broadcast_to(np.array([10, 20, 30]).reshape(1, 3, 1, 1), shape)
    np.testing.assert_array_equal(executor.predict({"x": tensor_given})["y"], found)


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({"h": X}, 'the package has no input "h"'),
        ({}, r'input "x" is missing: expected float32\[1, 4\]'),
        ({"x": X[:, :3]}, 'input "x", dimension 1: size 3, expected 4'),
        ({"x": X[0]}, r'input "x" has 1 dimensions \(4,\), expected 2'),
    ],
)
def test_inputs_that_do_not_fit(inputs: dict[str, Any], message: str, two: Path) -> None:
    with pytest.raises(UsageError, match=message):
        metal4conv.load(two).predict(inputs)


def test_no_functions(two: Path) -> None:
    with pytest.raises(UsageError, match='is a pipeline, it has no function "other"'):
        metal4conv.load(two, function="other")


def test_an_error_says_in_which_model(tmp_path: Path) -> None:
    _, mb, _ = toolkit()
    whole = converted(lambda h: mb.add(x=h, y=np.int32(1), name="y"), [tensor((1, 4), "int32")])
    executor = metal4conv.load(pipeline(tmp_path, first(), whole))
    with pytest.raises(UsageError, match='input "h" has dtype float32, expected int32') as caught:
        executor.predict({"x": X})
    assert "in model 2 of the pipeline" in str(caught.value)


def neural_network(spec: Any) -> None:
    spec.pipeline.models[1].neuralNetwork.SetInParent()


def no_models(spec: Any) -> None:
    spec.pipeline.ClearField("models")


def nobody_gives(spec: Any) -> None:
    del spec.pipeline.models[0]


def no_output(spec: Any) -> None:
    spec.description.output[0].name = "z"


def another_kind(spec: Any) -> None:
    image = spec.description.input[0].type.imageType
    image.width, image.height, image.colorSpace = 4, 4, 20


def lost_state(spec: Any) -> None:
    array = spec.description.state.add(name="s").type.stateType.arrayType
    array.dataType = 65552
    array.shape.append(4)


def no_weights(spec: Any) -> None:
    for operation in (
        spec.pipeline.models[1]
        .mlProgram.functions["main"]
        .block_specializations["CoreML8"]
        .operations
    ):
        if operation.type != "const":
            continue
        if operation.attributes["val"].WhichOneof("value") == "blobFileValue":
            operation.attributes["val"].blobFileValue.fileName = "@model_path/weights/7-weight.bin"


@pytest.mark.parametrize(
    ("change", "kind", "message"),
    [
        (neural_network, UnsupportedModel, "model 2 of 2 is a neuralNetwork, not an ML Program"),
        (no_models, DamagedFile, "holds a pipeline without models"),
        (nobody_gives, DamagedFile, 'model 1 of the pipeline takes "h", which neither'),
        (no_output, DamagedFile, 'no model of the pipeline gives its output "z"'),
        (
            another_kind,
            UnsupportedModel,
            '"x" is given as image, but model 1 of the pipeline takes it as ten',
        ),
        (lost_state, DamagedFile, 'no model of the pipeline has its state "s"'),
        (no_weights, DamagedFile, r"weights/7-weight\.bin(.|\n)*in model 2 of the pipeline"),
    ],
)
def test_pipelines_that_do_not_hold_together(
    change: Callable[[Any], object], kind: type[Metal4ConvError], message: str, copied: Path
) -> None:
    with pytest.raises(kind, match=message):
        metal4conv.load(rewrite(copied, change))


def accumulated() -> Any:
    """A model that adds up all h that it was given, and says so twice over."""
    _, mb, types = toolkit()

    def body(h: Any, total: Any) -> Any:
        added = mb.add(x=mb.read_state(input=total), y=h)
        held = mb.coreml_update_state(state=total, value=added)
        return mb.mul(x=held, y=np.float16(2), name="y")

    return converted(body, [tensor((1, 4), "fp16"), mb.StateTensorSpec((1, 4), types.fp16)])


def declared_state(spec: Any) -> None:
    state = spec.pipeline.models[1].description.state[0]
    spec.description.state.add().CopyFrom(state)


def test_a_state_in_a_pipeline(tmp_path: Path) -> None:
    path = pipeline(tmp_path, first(), accumulated())
    assert not read_package(path).spec.description.state
    with pytest.raises(UnsupportedModel, match=r'state "total".*the pipeline does not declare'):
        metal4conv.load(path)
    executor = metal4conv.load(rewrite(path, declared_state))
    assert executor.states == {"total": TensorType("float16", (1, 4))}
    state = executor.make_state()
    assert executor.predict({"x": X}, state)["y"].tolist() == [[2, 6, 12, 20]]
    assert executor.predict({"x": X}, state)["y"].tolist() == [[4, 12, 24, 40]]
    assert state["total"].tolist() == [[2, 6, 12, 20]]
    assert executor.predict({"x": X})["y"].tolist() == [[2, 6, 12, 20]]  # starts at zeros
    list(executor.trace({"x": X}, state))
    assert state["total"].tolist() == [[3, 9, 18, 30]]
    with pytest.raises(UsageError, match='no state "sum"'):
        executor.predict({"x": X}, {"sum": state["total"]})


def test_a_trace_has_the_operations_of_all_models(two: Path) -> None:
    seen = [(operation.type, arrays) for operation, arrays in metal4conv.load(two).trace({"x": X})]
    products = [next(iter(arrays.values())) for kind, arrays in seen if kind == "matmul"]
    assert [product[0, :4].tolist() for product in products] == [[1, 3, 6, 10], [1, 4, 10, 20]]


def test_inspect_shows_each_model(two: Path, metal4conv: Callable[..., Done]) -> None:
    done = metal4conv("inspect", two)
    assert done.code == 0
    assert "pipeline of 2 models" in done.stdout
    for text in ("model 1", "h: float32[1, 4]", "model 2", "y: float32[1, 4]", "matmul"):
        assert text in done.stdout


@pytest.mark.parametrize("command", [["layout"], ["verify"], ["reshape", "-i", "x:1xn"]])
def test_commands_that_look_at_one_program(
    command: list[str], two: Path, metal4conv: Callable[..., Done]
) -> None:
    done = metal4conv(*command, two)
    assert done.code == 3
    assert "holds a pipeline of several models, not one ML Program" in done.stderr


def test_coremltools_predicts(two: Path) -> None:
    ct, _, _ = toolkit()
    metal4conv.enable_predict()
    try:
        found = ct.models.MLModel(str(two)).predict({"x": X})
        assert found["y"].tolist() == [[1, 4, 10, 20]]
    finally:
        metal4conv.disable_predict()
