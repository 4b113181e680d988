"""What goes in and comes out is what the package declares, against numbers worked by hand."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import metal4conv
from metal4conv.errors import UnsupportedModel, UsageError
from metal4conv.frontends.toolkit import quiet, without_bars
from metal4conv.mil.package import read_package
from metal4conv.mil.program import TensorType
from tests.conftest import Done
from tests.mil.foreign import from_torch, save, tensor, toolkit

DOUBLE, INT8 = 65600, 131080
"""Element types of FeatureTypes.proto that coremltools does not write itself."""


def changed(path: Path, change: Callable[[Any], object]) -> Path:
    """The package, its description changed by a function."""
    spec = read_package(path).spec
    change(spec.description)
    (path / "Data/com.apple.CoreML/model.mlmodel").write_bytes(spec.SerializeToString())
    return path


def doubled(folder: Path, shape: tuple[int, ...] = (2,), dtype: str = "fp32") -> Path:
    """A package that gives twice its input x."""
    _, mb, _ = toolkit()
    two = {"fp32": np.float32, "fp16": np.float16, "int32": np.int32}[dtype](2)
    return save(folder, lambda x: mb.mul(x=x, y=two, name="y"), [tensor(shape, dtype)])


class Sum(torch.nn.Module):
    def forward(self, x: torch.Tensor, z: torch.Tensor) -> torch.Tensor:
        return x + z


@pytest.fixture(scope="module")
def optional(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """x + z, where z is 7 unless it is given."""
    ct, _, _ = toolkit()
    return from_torch(
        tmp_path_factory.mktemp("optional"),
        Sum(),
        [torch.zeros(2, 3)] * 2,
        inputs=[
            ct.TensorType("x", shape=(2, 3)),
            ct.TensorType("z", shape=(2, 3), default_value=np.full((2, 3), 7, np.float32)),
        ],
        outputs=[ct.TensorType("y")],
    )


def test_an_optional_input_has_its_default(optional: Path) -> None:
    (x, z) = read_package(optional).interface().inputs
    assert (x.optional, x.default) == (False, None)
    assert (z.optional, z.default) == (True, 7)
    executor = metal4conv.load(optional)
    given = np.arange(6, dtype=np.float32).reshape(2, 3)
    assert executor.predict({"x": given})["y"].tolist() == [[7, 8, 9], [10, 11, 12]]
    found = executor.predict({"x": given, "z": -given})["y"]
    assert found.tolist() == [[0, 0, 0], [0, 0, 0]]
    with pytest.raises(UsageError, match=r'input "x" is missing: expected float32\[2, 3\]'):
        executor.predict({"z": given})


@pytest.fixture(scope="module", params=["string", "int64"])
def classifier(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three numbers as probabilities of labels, texts or whole numbers."""
    ct, mb, _ = toolkit()
    labels = ["cat", "dog", "fox"] if request.param == "string" else [10, -20, 2**40]
    return save(
        tmp_path_factory.mktemp(request.param),
        lambda x: mb.mul(x=x, y=np.float32(1), name="p"),
        [tensor((1, 3))],
        classifier_config=ct.ClassifierConfig(labels),
    )


def test_a_classifier_gives_label_and_probabilities(classifier: Path) -> None:
    kind = read_package(classifier).interface().outputs[0].kind
    labels = ["cat", "dog", "fox"] if kind == "string" else [10, -20, 2**40]
    found = metal4conv.load(classifier).predict({"x": [[0.25, 0.125, 0.625]]})
    assert found == {
        "classLabel": labels[2],
        "classLabel_probs": dict(zip(labels, [0.25, 0.125, 0.625], strict=True)),
    }
    assert type(found["classLabel"]) is type(labels[0])


def test_coremltools_predicts_labels(classifier: Path) -> None:
    ct, _, _ = toolkit()
    metal4conv.enable_predict()
    try:
        found = ct.models.MLModel(str(classifier)).predict({"x": np.eye(3, dtype=np.float32)[:1]})
    finally:
        metal4conv.disable_predict()
    assert found["classLabel"] in ("cat", 10)
    assert list(found["classLabel_probs"].values()) == [1, 0, 0]


def test_commands_name_what_is_no_tensor(
    classifier: Path, tmp_path: Path, metal4conv: Callable[..., Done]
) -> None:
    np.savez(tmp_path / "x.npz", x=np.zeros((1, 3), np.float32))
    done = metal4conv("verify", classifier, "--input-npz", tmp_path / "x.npz")
    assert done.code == 3
    assert 'output "classLabel" is of kind' in done.stderr
    done = metal4conv("reshape", classifier, "-i", "x:1xn", "--dim", "n=3..4", "-o", tmp_path)
    assert done.code == 3
    assert 'cannot be given other sizes: output "classLabel" is of kind' in done.stderr
    done = metal4conv("inspect", classifier)
    assert done.code == 0
    assert "classLabel_probs: dictionary" in done.stdout
    done = metal4conv("layout", classifier)
    assert done.code == 1
    assert 'output "classLabel_probs" is of kind dictionary, no tensor' in done.stdout + done.stderr


def test_a_label_that_the_program_does_not_give(tmp_path: Path) -> None:
    path = changed(
        doubled(tmp_path), lambda description: description.output[0].type.stringType.SetInParent()
    )
    with pytest.raises(UnsupportedModel, match='output "y" is declared as string, but the program'):
        metal4conv.load(path).predict({"x": [1, 2]})


@pytest.mark.parametrize(("field", "kind"), [("int64Type", int), ("doubleType", float)])
def test_features_that_are_one_number(field: str, kind: type, tmp_path: Path) -> None:
    def change(description: Any) -> None:
        getattr(description.input[0].type, field).SetInParent()
        getattr(description.output[0].type, field).SetInParent()

    executor = metal4conv.load(changed(doubled(tmp_path, (1,)), change))
    for given in (3, np.int32(3), np.array([3])):
        found = executor.predict({"x": given})["y"]
        assert found == 6
        assert type(found) is kind


@pytest.mark.parametrize("dtype", ["fp32", "int32"])
def test_elements_as_the_description_has_them(dtype: str, tmp_path: Path) -> None:
    """The description counts, whatever the program computes in."""
    wanted = DOUBLE if dtype == "fp32" else INT8

    def change(description: Any) -> None:
        description.input[0].type.multiArrayType.dataType = wanted
        description.output[0].type.multiArrayType.dataType = wanted

    executor = metal4conv.load(changed(doubled(tmp_path, dtype=dtype), change))
    name = "float64" if dtype == "fp32" else "int8"
    assert executor.inputs == {"x": TensorType(name, (2,))}
    assert executor.outputs == {"y": TensorType(name, (2,))}
    found = executor.predict({"x": [3, -4]})["y"]
    assert (found.dtype.name, found.tolist()) == (name, [6, -8])


def test_a_number_comes_as_an_array_of_one(tmp_path: Path) -> None:
    _, mb, _ = toolkit()
    path = save(
        tmp_path,
        lambda x: mb.reduce_sum(x=x, axes=[0], keep_dims=False, name="y"),
        [tensor((2,))],
    )
    found = metal4conv.load(path).predict({"x": [1, 2]})["y"]
    assert (found.shape, found.tolist()) == ((1,), [3])


@pytest.mark.parametrize(
    ("dtype", "given", "message"),
    [
        ("int32", np.zeros(2, np.float32), 'input "x" has dtype float32, expected int32'),
        ("int32", [2**31, 0], "holds values from 0 to 2147483648, which int32 cannot hold"),
        ("int32", [1, [2]], r'input "x" cannot be read as an array: .*; expected int32\[2\]'),
        ("int32", None, r'input "x" cannot be read as an array: NoneType; expected int32\[2\]'),
        ("fp32", ["a", "b"], 'input "x" has dtype <U1, expected float32'),
        ("fp32", np.zeros(2, complex), 'input "x" has dtype complex128, expected float32'),
        ("fp32", np.zeros((1, 2)), r'input "x" has 2 dimensions \(1, 2\), expected 1'),
        ("fp32", np.zeros(3), 'input "x", dimension 0: size 3, expected 2'),
    ],
)
def test_what_does_not_fit(dtype: str, given: Any, message: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=message):
        metal4conv.load(doubled(tmp_path, dtype=dtype)).predict({"x": given})


@pytest.fixture(scope="module")
def stateful(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sum of all x so far."""
    _, mb, types = toolkit()

    def body(x: Any, total: Any) -> Any:
        added = mb.add(x=mb.read_state(input=total), y=x)
        return mb.mul(x=mb.coreml_update_state(state=total, value=added), y=np.float16(1), name="y")

    state = mb.StateTensorSpec((2,), types.fp16)
    return save(tmp_path_factory.mktemp("stateful"), body, [tensor((2,), "fp16"), state])


@pytest.mark.parametrize(
    ("state", "message"),
    [
        ({"sum": np.zeros(2, np.float16)}, r'no state "sum"(.|\n)*total'),
        ({}, r'state "total" must be an array of shape \(2,\) and dtype float16, found nothing'),
        ({"total": [0, 0]}, "found a value of type list"),
        ({"total": np.zeros(2)}, r"found float64 \(2,\)"),
        ({"total": np.zeros((1, 2), np.float16)}, r"found float16 \(1, 2\)"),
        ({"total": np.broadcast_to(np.float16(0), 2)}, "that can be written to"),
    ],
)
def test_states_that_do_not_fit(state: dict[str, Any], message: str, stateful: Path) -> None:
    with pytest.raises(UsageError, match=message):
        metal4conv.load(stateful).predict({"x": [1, 2]}, state)


def test_a_run_that_is_refused_leaves_the_state(stateful: Path) -> None:
    executor = metal4conv.load(stateful)
    state = executor.make_state()
    held = state["total"]
    executor.predict({"x": [1, 2]}, state)
    with pytest.raises(UsageError):
        executor.predict({"x": [1, 2, 3]}, state)
    assert state["total"] is held  # updated in place
    assert held.tolist() == [1, 2]


def test_functions_with_features_of_their_own(stateful: Path, tmp_path: Path) -> None:
    ct, _, _ = toolkit()
    (tmp_path / "plain").mkdir()
    several = ct.utils.MultiFunctionDescriptor()
    several.add_function(str(stateful), src_function_name="main", target_function_name="sum")
    several.add_function(
        str(doubled(tmp_path / "plain", (4,))),
        src_function_name="main",
        target_function_name="double",
    )
    several.default_function_name = "double"
    path = tmp_path / "several.mlpackage"
    with quiet(), without_bars():
        ct.utils.save_multifunction(several, str(path))
    plain, kept = metal4conv.load(path), metal4conv.load(path, function="sum")
    assert (plain.inputs, plain.states) == ({"x": TensorType("float32", (4,))}, {})
    assert kept.inputs == {"x": TensorType("float16", (2,))}
    assert kept.states == {"total": TensorType("float16", (2,))}
    assert plain.predict({"x": [1, 2, 3, 4]})["y"].tolist() == [2, 4, 6, 8]
    state = kept.make_state()
    for times in (1, 2, 3):
        assert kept.predict({"x": [1, 2]}, state)["y"].tolist() == [times, 2 * times]


def test_inspect_names_the_functions(
    stateful: Path, tmp_path: Path, metal4conv: Callable[..., Done]
) -> None:
    ct, _, _ = toolkit()
    several = ct.utils.MultiFunctionDescriptor()
    for name in ("sum", "again"):
        several.add_function(str(stateful), src_function_name="main", target_function_name=name)
    several.default_function_name = "sum"
    path = tmp_path / "several.mlpackage"
    with quiet(), without_bars():
        ct.utils.save_multifunction(several, str(path))
    done = metal4conv("inspect", path)
    assert done.code == 0
    assert "again, sum; shown is sum" in done.stdout
    assert "total: float16[2]" in done.stdout
    done = metal4conv("reshape", path, "-i", "x:4", "-o", tmp_path / "new")
    assert done.code == 3
    assert 'cannot be given other sizes: it has a state "total"' in done.stderr
